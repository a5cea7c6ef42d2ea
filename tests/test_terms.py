"""The study of distillation terms: what differs, and that people are paired."""

from types import SimpleNamespace

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


def test_variants_differ_in_their_terms_and_in_the_pool_alone():
    plain = {name: terms.VARIANTS[name] for name in terms.NAMES}
    assert plain == {
        "soft labels": {"gtd_weight": 0.0},
        "GTD": {"kd_weight": 0.0},
        "both": {},
    }
    for name, given in plain.items():
        assert terms.VARIANTS[f"{name}, pool"] == given
    assert terms.VARIANTS["none"] is None


def test_the_pool_is_asked_where_the_name_says_so(monkeypatch):
    import braindecode_gcmae

    asked = []

    class Listening:
        def __init__(self, teacher, **arguments):
            asked.append(arguments["unlabelled"])

    monkeypatch.setattr(braindecode_gcmae, "TopologyDistillation", Listening)
    monkeypatch.setattr(
        braindecode_gcmae, "GCMAEStudent", lambda **arguments: SimpleNamespace()
    )
    net = SimpleNamespace(fit=lambda X, y: None)
    shown = SimpleNamespace(
        seed=0,
        X={"pool": "windows", "labelled": "own"},
        labelled="labelled",
        unlabelled="pool",
        settings=SimpleNamespace(student_epochs=1),
        study=SimpleNamespace(few=["C3"], y={"labelled": [0]}),
        _signal=dict,
        _net=lambda *given: net,
    )
    for variant in terms.VARIANTS:
        terms.student(shown, None, variant, 0)
    assert asked == [None] * 3 + ["windows"] * 3


def test_the_table_pairs_people_over_seeds_and_starts():
    text = terms.markdown(rows(0.03))
    assert "2 seeds, 6 people; the teacher is right on 75.0 %" in text
    assert text.count("| +3.0 | +3.0 to +3.0 |") == 6
    scores = terms.by_person(rows(0.0), "score")
    assert scores["none"][4] == pytest.approx(0.54)
