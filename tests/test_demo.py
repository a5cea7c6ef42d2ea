"""The demonstration: honest splits, one alignment, clear words for missing data."""

import csv

import numpy as np
import pytest
from scipy import linalg, stats

from benchmarks import demo
from benchmarks.demonstration import data, report, stages

NAMES = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()


def make_study(n_people=6, n_pool=2, n_trials=6):
    from braindecode_gcmae import SimulatedEEG

    source = SimulatedEEG(
        NAMES, n_people + n_pool, n_trials=n_trials, sfreq=80.0, trial_seconds=2.0
    )
    X, y, person = source.windows()
    people = list(range(1, n_people + 1))
    run = np.zeros_like(person)
    return data.Study(
        "simulated", "test", X, y, person, run, source.chs_info, 80.0, people
    )


@pytest.fixture(scope="module")
def study():
    return make_study()


def test_unknown_data_names_the_choices(capsys):
    assert demo.main(["--data", "sleep"]) == 2
    message = capsys.readouterr().err
    assert "'sleep'" in message
    assert "DATA=simulated" in message
    assert "DATA=physionet" in message


def test_missing_recordings_say_what_to_do(capsys, monkeypatch, tmp_path):
    from braindecode_gcmae import datasets

    def nothing(*args, **kwargs):
        raise FileNotFoundError("S001R04.edf is not here")

    monkeypatch.setattr(datasets, "physionet_subjects", lambda *a, **k: [])
    monkeypatch.setattr(datasets, "windows_from_physionet", nothing)
    assert demo.main(["--data", "physionet", "--output", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "S001R04.edf" in message
    assert "MNE_DATA=" in message
    assert "make demo\n" in message
    assert list(tmp_path.iterdir()) == []


def test_nobody_is_trained_and_tested_on(study):
    for seed in range(6):
        train, test = study.split(seed)
        assert not set(train) & set(test)
        assert not set(study.pool) & set(train + test)
        assert sorted(train + test) == study.people


def test_pairs_of_seeds_test_everybody_once(study):
    for pair in range(3):
        tested = study.split(2 * pair)[1] + study.split(2 * pair + 1)[1]
        assert sorted(tested) == study.people
    assert study.split(0) != study.split(2)


def test_labels_of_the_pool_are_gone(study):
    pool = study.rows(study.pool)
    assert len(pool) == 12
    assert (study.y[pool] == -1).all()
    assert set(study.y[study.rows(study.people)]) == {0, 1}


def test_student_sees_what_its_own_cap_gives(study):
    from braindecode_gcmae import RecordingAlignment

    own = RecordingAlignment().transform(study.X[:, study.kept], groups=study.recording)
    assert np.array_equal(study.aligned()[:, study.kept], own)


def test_log_covariances_are_logarithms(study):
    F = stages.log_covariances(study, [8, 9, 10], shrinkage=0.0)
    full = np.zeros((3, 3))
    i, j = np.triu_indices(3)
    full[i, j] = full[j, i] = F[0] / np.where(i == j, 1.0, np.sqrt(2.0))
    # one person's covariances average to the identity: aligned
    own = study.rows([1])
    mean = np.zeros((3, 3))
    for row in own:
        log = np.zeros((3, 3))
        log[i, j] = log[j, i] = F[row] / np.where(i == j, 1.0, np.sqrt(2.0))
        mean += linalg.expm(log) / len(own)
    assert np.allclose(mean, np.eye(3), atol=0.02)
    assert np.allclose(linalg.logm(linalg.expm(full)), full)


def test_interval_is_the_t_test_s():
    values = np.array([0.5, 0.62, 0.44, 0.71, 0.6])
    mean, low, high = report.interval(values)
    found = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((found.low, found.high))
    assert np.isnan(report.interval([0.5])[1:]).all()


def test_pairs_are_people_not_windows_or_seeds():
    rows = [
        {"method": method, "n_electrodes": 8, "person": person, "score": score}
        for method, scores in (
            ("student, scratch", [(1, 0.4), (1, 0.6), (2, 0.5)]),
            ("student, both", [(1, 0.6), (1, 0.6), (2, 0.7)]),
        )
        for person, score in scores
    ]
    assert report.per_person(rows, "student, scratch") == {1: 0.5, 2: 0.5}
    text = report.paired(rows)
    assert "over 2 people: +15.0 points" in text
    assert "better for 2, worse for 0" in text


def test_all_stages_run_and_a_seed_is_run_once(study, tmp_path, monkeypatch):
    settings = stages.Settings(1, 1, 1, 8, teacher={"emb_dim": 16, "depth": 1})
    record = tmp_path / "kept" / "demo.csv"
    rows = demo.run(study, output=tmp_path, settings=settings, record=record)
    methods = {(row["method"], row["n_electrodes"]) for row in rows}
    assert methods == {
        ("tangent space + LR", 8),
        ("tangent space + LR", 19),
        ("teacher", 19),
        ("EEGNet", 8),
        *((f"student, {n}", 8) for n in ("scratch", "pretrained", "distilled", "both")),
    }
    assert len(rows) == len(methods) * 3
    assert all(row["n_windows"] == 6 for row in rows)
    shares = [float(row["agreement"]) for row in rows if row["method"] == "teacher"]
    assert shares == [1.0] * 3
    assert all(0 <= float(row["agreement"]) <= 1 for row in rows)
    for name in ("accuracy", "graph", "reconstruction", "pretraining"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    with open(tmp_path / "scores.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)
    assert "paired over 3 people" in record.with_suffix(".md").read_text()

    def never(*args):
        raise AssertionError("a finished seed was run again")

    monkeypatch.setattr(stages.Demonstration, "run", never)
    again = demo.run(study, output=tmp_path, settings=settings, record=record)
    assert len(again) == len(rows)
    # other settings are another study
    other = stages.Settings(1, 1, 2, 8)
    assert report.read_rows(record, demo.configuration(study, other)) == []
