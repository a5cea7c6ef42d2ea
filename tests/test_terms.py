"""The study of distillation terms: what differs, and that people are paired."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import terms


def rows(gain, seeds=(0, 1)):
    return [
        {
            "data": "simulated",
            "seed": str(seed),
            "start": str(start),
            "variant": variant,
            "person": str(person),
            "score": str(0.5 + person / 100 + (gain if variant != "none" else 0.0)),
            "agreement": "0.6",
            "teacher": "0.75",
            "code": "c0de",
        }
        for seed in seeds
        for start in terms.STARTS
        for variant in terms.VARIANTS
        for person in range(6)
    ]


def test_variants_differ_in_one_thing_at_a_time():
    weights = ("kd_weight", "gtd_weight", "lsp_weight", "gcrd_weight")
    given = {
        name: tuple(variant.terms[w] for w in weights)
        for name, variant in terms.DISTILLATION.items()
    }
    assert given == {
        "soft labels": (1, 0, 0, 0),
        "GTD": (0, 1, 0, 0),
        "both": (1, 1, 0, 0),
        "LSP": (0, 0, 1, 0),
        "G-CRD": (0, 0, 0, 1),
        "soft labels, pool": (1, 0, 0, 0),
        "GTD, pool": (0, 1, 0, 0),
        "both, pool": (1, 1, 0, 0),
    }
    for name, variant in terms.VARIANTS.items():
        assert variant.pool == ("pool" in name), name
        assert bool(variant.cross_fit) == name.endswith("cross-fitted"), name
    *alone, last = terms.PRETRAINING.values()
    assert [variant.terms for variant in alone] == [None] * 4
    assert last == terms.Variant(terms.TERMS["both"], objective="joint")
    assert terms.VARIANTS["none"] == terms.Variant()


class Shown:
    """What the study asks of a demonstration, without any training."""

    def __init__(self, study=None, seed=0, settings=None):
        self.seed, self.test_people = seed, (0, 1)
        self.X = {"pool": "windows", "labelled": "own"}
        self.labelled, self.unlabelled = "labelled", "pool"
        self.settings = SimpleNamespace(student_epochs=1)
        labelled = {"y": {"labelled": [0]}, "person": {"labelled": [5]}}
        self.study = SimpleNamespace(few=["C3"], **labelled)
        self.pretrained = []

    _signal = dict

    def _net(self, *given):
        return SimpleNamespace(fit=lambda X, y, subjects: given)

    def pretrain(self, folder, objective):
        self.pretrained.append(objective)


def test_the_pool_is_asked_where_the_name_says_so(monkeypatch):
    import braindecode_gcmae

    asked, folds = [], []

    class Listening:
        def __init__(self, teacher, **arguments):
            asked.append(arguments["unlabelled"])
            folds.append((teacher, arguments.get("cross_fit", 0)))

    class Student:
        def __init__(self, **arguments):
            pass

        @classmethod
        def from_pretrained(cls, folder, n_outputs):
            return cls()

    monkeypatch.setattr(braindecode_gcmae, "TopologyDistillation", Listening)
    monkeypatch.setattr(braindecode_gcmae, "GCMAEStudent", Student)
    monkeypatch.setattr(terms, "untaught", lambda shown: "untaught")
    for variant in terms.VARIANTS.values():
        terms.student(Shown(), None, variant, 0, "folder")
    pools = [None] * 5 + ["windows"] * 3, [None, "windows"], [None]
    assert asked == sum(pools, [])
    assert folds == [(None, 0)] * 8 + [("untaught", 5)] * 2 + [(None, 0)]


def test_variants_of_one_objective_share_its_pretraining(monkeypatch):
    shown, met = Shown(), []
    test = np.arange(4)
    shown.X, shown.test = np.zeros((4, 2, 3)), test
    shown.study = SimpleNamespace(
        name="simulated", kept=[0], y=test % 2, person=np.array([0, 0, 1, 1])
    )
    net = SimpleNamespace(predict=lambda X: np.zeros(len(X), int))
    monkeypatch.setattr(terms, "Demonstration", lambda *given: shown)
    monkeypatch.setattr(terms, "taught", lambda shown: net)

    def student(shown, teacher, variant, start, folder):
        met.append((variant.objective, start))
        return net

    monkeypatch.setattr(terms, "student", student)
    wanted = ["none", "joint", "contrast", "joint, then both terms"]
    found = list(terms.seed_rows(shown.study, 0, wanted))
    assert shown.pretrained == ["joint", "contrast"]
    order = [None, "joint", "joint", "contrast"]
    assert met == [(objective, start) for objective in order for start in (0, 1)]
    assert len(found) == 4 * 2 * 2
    assert {row["score"] for row in found} == {"0.500000"}


def test_a_seed_is_asked_only_for_variants_that_it_lacks(tmp_path, monkeypatch):
    path, asked = tmp_path / "terms.csv", []
    monkeypatch.setattr(terms, "code_digest", lambda: "c0de")
    there = [row for row in rows(0.0) if row["variant"] != "LSP" or row["seed"] == "1"]
    terms.write(path, there, terms.COLUMNS)

    def seed_rows(study, seed, wanted):
        asked.append((seed, wanted))
        return [row for row in rows(0.0) if row["variant"] in wanted]

    monkeypatch.setattr(terms, "seed_rows", seed_rows)
    terms.run(None, 2, path)
    assert asked == [(0, ["LSP"])]


def test_the_tables_pair_people_over_seeds_and_starts():
    text = terms.markdown(rows(0.03))
    assert "2 seeds, 6 people; the teacher is right on 75.0 %" in text
    assert text.count("| +3.0 | +3.0 to +3.0 |") == len(terms.VARIANTS) - 1
    assert text.count("| none |") == len(terms.FAMILIES)
    scores = terms.by_person(rows(0.0), "score")
    assert scores["none"][4] == pytest.approx(0.54)


def test_planned_comparisons_are_made_on_the_later_seeds_alone():
    assert "Planned" not in terms.markdown(rows(0.03, seeds=(0, 3)))
    later, earlier = rows(0.02, seeds=(4,)), rows(0.08, seeds=(0,))
    text = terms.markdown(earlier + later)
    planned, rest = text.split("## Planned comparisons")[1].split("## distillation")
    assert "1 seeds, 6 people" in planned and "2 seeds, 6 people" in rest
    assert planned.count("| +2.0 | +2.0 to +2.0 |") == len(terms.PLANNED)
    assert rest.count("| +5.0 | +5.0 to +5.0 |") == len(terms.VARIANTS) - 1
