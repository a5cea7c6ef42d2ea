"""Simulated cohorts: they share nobody, and are what intervals and tests count."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from benchmarks import cohorts
from benchmarks.demonstration.data import simulated

GAINS = {"scratch": 0.0, "pretrained": 0.02, "distilled": -0.01, "both": 0.03}


def rows(n_cohorts=4, people=(1, 2, 3), study="stages", gains=GAINS):
    """Each cohort's gain is its own; within a cohort everybody gains alike."""
    found = []
    for cohort in range(n_cohorts):
        own = [
            {
                "study": study,
                "cohort": str(cohort),
                "method": method,
                "start": str(start),
                "person": str(person),
                "score": str(0.6 + person / 100 + gain * (1 + cohort)),
                "agreement": "0.5",
                "seconds": "1",
                "code": "c0de",
            }
            for method, gain in {**gains, **dict.fromkeys(cohorts.OTHERS, 0.1)}.items()
            for start in (cohorts.STARTS if method in gains else (0,))
            for person in people
        ]
        found += [{"n_rows": str(len(own)), **row} for row in own]
    return found


def with_beside(study):
    return dict.fromkeys(["scratch", *cohorts.PLANNED[study], *cohorts.BESIDE], 0.0)


def test_cohorts_share_nobody_and_a_seed_is_the_same_people_again():
    few = {"n_people": 2, "n_pool": 1, "n_trials": 2}
    first, again, other = (simulated(seed=seed, **few) for seed in (1000, 1000, 1001))
    np.testing.assert_array_equal(first.X, again.X)
    for row in range(len(first.X)):
        assert not (first.X[row] == other.X).all((1, 2)).any()
    assert not (simulated(**few).X[0] == first.X).all((1, 2)).any()


def test_a_larger_pool_leaves_people_with_labels_as_they_are():
    small, large = (
        simulated(seed=1000, n_people=2, n_pool=n, n_trials=2) for n in (1, 3)
    )
    people = small.rows(small.people)
    np.testing.assert_array_equal(small.X[people], large.X[large.rows(large.people)])
    assert small.split(3) == large.split(3)


def test_students_differ_in_the_stages_that_their_name_says():
    stages = {
        name: (variant.objective, variant.terms, variant.pool)
        for name, variant in cohorts.STUDENTS.items()
    }
    assert stages == {
        "scratch": (None, None, False),
        "pretrained": ("joint", None, False),
        "distilled": (None, {}, False),
        "both": ("joint", {}, False),
    }
    assert set(cohorts.PLANNED["stages"]) == set(stages) - {"scratch"}


def test_intervals_and_tests_count_cohorts_not_people():
    lines = list(cohorts.table("stages", rows()))
    shown = {line.split(" | ")[0][2:]: line for line in lines}
    gaps = 0.03 * np.arange(1, 5)
    half = stats.t.ppf(0.975, 3) * stats.sem(gaps)
    low, high = 100 * (gaps.mean() - half), 100 * (gaps.mean() + half)
    assert f"| +7.5 | {low:+.1f} to {high:+.1f} | 4 of 4 | " in shown["both"]
    assert "| 0 of 4 |" in shown["distilled"]
    # Four cohorts of one sign: 2 of 16 patterns are as far out; thrice, for Holm.
    for name in cohorts.PLANNED["stages"]:
        assert shown[name].endswith("| 0.375 |")
    many = cohorts.table("stages", rows(people=range(30)))
    gaps = [[line.split("|")[5:] for line in of] for of in (lines[2:], list(many)[2:])]
    assert gaps[0] == gaps[1]


def test_studies_are_not_mixed_and_both_are_drawn(tmp_path):
    asked = dict.fromkeys(["scratch", *cohorts.PLANNED["pool"], "true labels of 40"], 0)
    of_pool = rows(n_cohorts=3, study="pool", gains=asked)
    text = cohorts.tables(rows(3) + of_pool)
    # Three cohorts of one sign, 2 of 8 patterns, times six comparisons.
    assert "for the 6 planned comparisons of all studies: pretrained 1.000; " in text
    assert "| teacher, pretrained v. from scratch | +0.0 | +0.0 to +0.0 |" in text
    assert text.index("stages, 3 cohorts") < text.index("pool, 3 cohorts")
    assert text.count("| true labels of 40 |") == 1
    assert cohorts.by_cohort(of_pool, "score")["scratch"].shape == (3,)
    long = rows(3, study="longer", gains=with_beside("longer"))
    text = cohorts.tables(rows(3) + of_pool + long)
    assert "for the 8 planned comparisons of all studies" in text
    assert "| soft labels x5 of 160, 3x epochs v. scratch, 3x epochs | +0.0 |" in text
    gains = {"scratch": 0, cohorts.FRESH: 0.01, cohorts.PLANNED["chain"][0]: 0.03}
    chain = rows(3, study="chain", gains=gains)
    text = cohorts.tables(rows(3) + of_pool + long + chain)
    assert "for the 10 planned comparisons of all studies" in text
    # Gains are times 1, 2 and 3 in the three cohorts.
    assert f"Planned in 'chain': {cohorts.PLANNED['chain'][0]} v. " in text
    assert f"{cohorts.FRESH} +4.0 (-1.0 to +9.0)." in text
    pooled = f"| {cohorts.FRESH} v. scratch, in 'longer' and 'chain' | +1.0 |"
    assert pooled in text  # 0 in three cohorts; 1, 2 and 3 in the others
    assert text.count(f"| {cohorts.FRESH} |") == 2  # planned, and beside the chain
    cohorts.figure(rows() + of_pool + long + chain, tmp_path / "cohorts.png")
    assert (tmp_path / "cohorts.png").stat().st_size > 10_000


def test_finished_cells_are_skipped_and_two_states_of_the_code_refused(
    tmp_path, monkeypatch
):
    path, made = tmp_path / "cohorts.csv", []

    def study(cohort):
        made.append(cohort)
        same = {"method": "scratch", "start": 0, "score": 0.5, "agreement": 0.5}
        return [{"person": person, **same} for person in (1, 2)]

    monkeypatch.setattr(cohorts, "STUDIES", {"stages": study, "pool": study})
    monkeypatch.setattr(cohorts, "code_digest", lambda: "old")
    cohorts.run("stages", [0], path)
    cohorts.run("stages", [0, 1], path)
    cohorts.run("pool", [0], path)
    assert made == [0, 1, 0]
    assert len(cohorts.read(path)) == 6
    order = ["--first", "3", "--cohorts", "4", "--shard", "1/2", "--out", str(path)]
    monkeypatch.setattr(cohorts, "markdown", lambda rows: "")
    monkeypatch.setattr(cohorts, "figure", lambda rows, path: None)
    cohorts.main(["--study", "pool", *order])
    assert made == [0, 1, 0, 4, 6]
    monkeypatch.setattr(cohorts, "code_digest", lambda: "new")
    cohorts.run("stages", [2], path)
    with pytest.raises(ValueError, match="several states of the code.*new.*old"):
        cohorts.read(path)


def test_each_size_of_the_pool_is_asked_about_and_its_labels_stay_hidden(monkeypatch):
    monkeypatch.setattr(cohorts, "POOLS", (1, 3))
    monkeypatch.setattr(cohorts, "PLANNED", {"pool": ("asked about 1", "about 3")})
    monkeypatch.setattr(cohorts, "N_TOLD", 2)
    monkeypatch.setattr(cohorts, "taught", lambda shown: Says())
    asked, true = [], []

    class Says:
        def predict(self, X):
            return np.zeros(len(X), int)

    def few(n_people, n_pool, seed):
        return simulated(n_people=n_people, n_pool=n_pool, n_trials=2, seed=seed)

    def student(shown, teacher, variant, start):
        if variant.pool:
            assert variant.terms == {}
            people = set(shown.study.person[shown.unlabelled].tolist())
            asked.append((start, people))
            assert (shown.study.y[shown.unlabelled] == -1).all()
        return Says()

    def net(shown, module, title, epochs):
        def fit(X, y):
            true.append((epochs, len(X), set(y.tolist())))
            return Says()

        return SimpleNamespace(fit=fit)

    monkeypatch.setattr(cohorts, "simulated", few)
    monkeypatch.setattr(cohorts, "student", student)
    monkeypatch.setattr(cohorts.Demonstration, "_net", net)
    found = list(cohorts.pool(0))
    assert asked == [(s, p) for s in cohorts.STARTS for p in ({21}, {21, 22, 23})]
    # 10 people with labels and 2 more, on as many windows as 25 epochs of twice ten.
    assert true == [(42, 24, {0, 1})] * 2
    assert {row["method"] for row in found} == {
        *("scratch", "asked about 1", "about 3", "true labels of 40"),
        *cohorts.OTHERS,
    }


def test_what_the_teacher_says_is_taken_for_labels_of_the_pool_alone(monkeypatch):
    few = simulated(n_people=4, n_pool=2, n_trials=2, seed=1003)

    class Says:
        def predict(self, X):
            return np.full(len(X), 7)

    given = []
    monkeypatch.setattr(cohorts, "simulated", lambda n_pool, seed: few)
    monkeypatch.setattr(cohorts, "taught", lambda shown: Says())
    monkeypatch.setattr(cohorts, "student", lambda *asked: Says())
    monkeypatch.setattr(
        cohorts,
        "with_more_labels",
        lambda shown, y, start, n: given.append(y) or Says(),
    )
    found = list(cohorts.pseudo(3))
    assert {row["method"] for row in found} >= {"scratch", *cohorts.PLANNED["pseudo"]}
    for y in given:
        np.testing.assert_array_equal(y == 7, few.y == -1)
    assert len(given) == 2 and (few.y[few.rows(few.pool)] == -1).all()


def test_a_long_study_trains_longer_and_weighs_the_teacher_more(monkeypatch):
    few = simulated(n_people=4, n_pool=2, n_trials=2, seed=1003)
    asked = []

    class Says:
        def predict(self, X):
            return np.full(len(X), 7)

    def student(shown, teacher, variant, start):
        asked.append((variant.terms, variant.pool, shown.settings.student_epochs))
        return Says()

    def told(shown, y, start, n_people):
        asked.append((int((y == 7).sum()), n_people, shown.settings.student_epochs))
        np.testing.assert_array_equal(y == 7, few.y == -1)
        return Says()

    monkeypatch.setattr(cohorts, "simulated", lambda n_pool, seed: few)
    monkeypatch.setattr(cohorts, "taught", lambda shown: Says())
    monkeypatch.setattr(cohorts, "student", student)
    monkeypatch.setattr(cohorts, "with_more_labels", told)
    found = list(cohorts.longer(3))
    beside = cohorts.ALONE, cohorts.NO_POOL
    names = {"scratch", *cohorts.PLANNED["longer"], *beside, *cohorts.OTHERS}
    assert {row["method"] for row in found} == names
    none = {"gtd_weight": 0.0, "lsp_weight": 0.0, "gcrd_weight": 0.0}
    soft = {"kd_weight": 5.0, **none}
    once = [(None, False, 25), (None, False, 75), (soft, False, 75), (soft, True, 75)]
    assert asked == 2 * [*once, ((few.y == -1).sum(), 160, 100)]


def test_the_chain_begins_with_weights_that_saw_nobody_of_the_test(monkeypatch):
    few = simulated(n_people=4, n_pool=2, n_trials=2, seed=1003)
    asked, seen = [], []

    class Says:
        def predict(self, X):
            return np.zeros(len(X), int)

    def pretrain(shown, folder, objective):
        rows = np.r_[shown.labelled, shown.unlabelled]
        seen.append((folder, set(shown.study.person[rows])))
        assert objective == "joint" and shown.settings.pretraining_epochs == 4
        assert not seen[-1][1] & set(shown.study.person[shown.test])

    def student(shown, teacher, variant, start, folder=None):
        asked.append((variant.objective, shown.settings.student_epochs, folder))
        return Says()

    monkeypatch.setattr(cohorts, "simulated", lambda n_pool, seed: few)
    monkeypatch.setattr(cohorts, "taught", lambda shown: Says())
    monkeypatch.setattr(cohorts, "student", student)
    monkeypatch.setattr(cohorts.Demonstration, "pretrain", pretrain)
    found = list(cohorts.chain(3))
    ((folder, _),) = seen
    once = [(None, 25, None), (None, 75, folder), ("joint", 75, folder)]
    assert asked == 2 * once
    names = {"scratch", cohorts.FRESH, *cohorts.PLANNED["chain"], *cohorts.OTHERS}
    assert {row["method"] for row in found} == names


def test_students_get_the_pretraining_and_teacher_of_their_own_cohort(monkeypatch):
    made, trained = [], []

    class Shown:
        def __init__(self, study, seed, settings):
            made.append((study.asked, seed, settings))
            self.study = study
            self.X, self.test = np.zeros((2, 2, 1)), [0, 1]
            self.test_people, self.scores, self.folder = [5], [], None

        def linear(self, electrodes):
            probability = np.eye(2)[[0, 1] if len(electrodes) == 1 else [0, 0]]
            self.scores.append(SimpleNamespace(probability=probability))

        def pretrain(self, folder, objective):
            assert objective == "joint"
            self.folder = folder

        def teach(self, folder):
            assert folder == self.folder
            self.teacher = SimpleNamespace(predict=lambda X: np.ones(len(X), int))

    def simulated(**asked):
        y, person = np.array([0, 1]), np.array([5, 5])
        return SimpleNamespace(kept=[0], names="ab", y=y, person=person, asked=asked)

    def student(shown, teacher, variant, start, folder):
        assert folder == shown.folder
        assert teacher is shown.teacher
        trained.append((variant, start))
        return SimpleNamespace(predict=lambda X: np.zeros(len(X), int))

    monkeypatch.setattr(cohorts, "Demonstration", Shown)
    monkeypatch.setattr(cohorts, "student", student)
    monkeypatch.setattr(cohorts, "simulated", simulated)
    found = {row["method"]: row for row in cohorts.stages(7)}
    assert made == [({"seed": 1007}, 7, cohorts.SETTINGS)]
    assert trained == [
        (variant, start)
        for variant in cohorts.STUDENTS.values()
        for start in cohorts.STARTS
    ]
    # (right, as the teacher): the teacher says 1 of both, eight electrodes are right.
    shown = {name: (row["score"], row["agreement"]) for name, row in found.items()}
    half, one, none = "0.500000", "1.000000", "0.000000"
    assert shown["teacher"] == (half, one)
    assert shown["TS+LR, 8 electrodes"] == (one, half)
    assert shown["TS+LR, 64 electrodes"] == (half, none)
    assert shown["scratch"] == (half, none)
