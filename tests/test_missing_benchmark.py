"""Electrodes fail as they are said to, and peers get them back as MNE would."""

from types import SimpleNamespace

import mne
import numpy as np
import pytest

from benchmarks import missing
from benchmarks.electrodes import BOTH_16
from braindecode_gcmae import RecordingAlignment
from braindecode_gcmae.montage import electrode_positions, make_chs_info

POSITIONS = np.array(electrode_positions(list(BOTH_16)))


def windows(n=12, n_times=200, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(16, 16)) + 3 * np.eye(16)
    return (mixing @ rng.normal(size=(n, 16, n_times)) * 5).astype(np.float32)


@pytest.mark.parametrize("n", missing.DROPPED)
def test_electrodes_fail_where_they_are_said_to(n):
    front, left = (missing.failing(p, n, POSITIONS, [0]) for p in ("front", "left"))
    assert len(set(front)) == len(set(left)) == n
    kept = np.setdiff1d(np.arange(16), front)
    if n:
        assert POSITIONS[front, 1].min() >= POSITIONS[kept, 1].max()
        first = {BOTH_16[row] for row in left}
        assert first <= set("Fp1 F7 F3 T7 C3 P3 O1 Cz Pz".split())


def test_random_failures_are_anothers_for_another_person_and_the_same_again():
    draws = [missing.failing("random", 4, POSITIONS, [0, 0, p, 4]) for p in (1, 2, 1)]
    assert np.array_equal(draws[0], draws[2]) and not np.array_equal(*draws[:2])


def test_splines_are_those_of_mne():
    X, lost = windows(3), np.array([1, 6, 9])
    info = mne.create_info(list(BOTH_16), 80.0, "eeg")
    for channel, ours in zip(info["chs"], make_chs_info(list(BOTH_16)), strict=True):
        channel["loc"][:3] = ours["loc"][:3]
    epochs = mne.EpochsArray(X.astype(float), info, verbose=False)
    epochs.info["bads"] = [BOTH_16[row] for row in lost]
    epochs.interpolate_bads(origin=POSITIONS.mean(0), verbose=False)
    ours = missing.splined(X, lost, POSITIONS)
    np.testing.assert_allclose(ours, epochs.get_data(copy=False), rtol=1e-4, atol=1e-3)


def test_what_is_left_is_aligned_as_if_the_rest_had_never_been():
    X, lost = windows(), np.array([0, 5])
    one = np.zeros(len(X), int)
    left = np.setdiff1d(np.arange(16), lost)
    alone = RecordingAlignment().transform(X[:, left], groups=one)
    ours = missing.repaired(X, one, lost, "missing", POSITIONS)
    assert np.isnan(ours[:, lost]).all()
    np.testing.assert_allclose(ours[:, left], alone, rtol=1e-3, atol=1e-3)
    zeros = missing.repaired(X, one, lost, "zeros", POSITIONS)
    assert (zeros[:, lost] == 0).all()
    assert np.isfinite(missing.repaired(X, one, lost, "splines", POSITIONS)).all()


def test_a_loss_is_a_difference_of_the_same_people():
    rows = [
        {"data": "d", "seed": seed, "fold": 0, "network": "EEGNet", "repair": "zeros"}
        | {"pattern": "random", "dropped": n, "person": person, "score": score}
        for person, n, seed, score in [
            (1, 0, 0, 0.8),
            (1, 0, 1, 0.6),
            (1, 4, 0, 0.5),
            (2, 0, 0, 0.9),
            (2, 4, 0, 0.8),
        ]
    ]
    numbers = missing.by_person(rows)["d", "EEGNet, zeros"]["random"]
    assert missing.losses(numbers) == pytest.approx([0.2, 0.1])


def test_finished_networks_are_skipped_and_a_new_one_is_run_alone(
    tmp_path, monkeypatch
):
    people = list(range(10))
    study = SimpleNamespace(name="tiny", people=people)
    monkeypatch.setattr(missing, "load", lambda *given: study)
    asked = []

    def fold_rows(study, fold, test, seed, networks):
        asked.append(tuple(networks))
        for name in networks:
            values = study.name, seed, fold, name, "missing", "left", 0, test[0], "0.5"
            values += (missing.code_digest() if name == "new" else "",)
            yield dict(zip(missing.COLUMNS, values, strict=True))

    monkeypatch.setattr(missing, "fold_rows", fold_rows)
    path = tmp_path / "rows.csv"
    monkeypatch.setattr(missing, "NETWORKS", {"old": {}})
    missing.run("tiny", 1, path)
    monkeypatch.setattr(missing, "NETWORKS", {"old": {}, "new": {}})
    missing.run("tiny", 1, path)
    missing.run("tiny", 1, path)
    assert asked == [("old",)] * 5 + [("new",)] * 5
    assert len(missing.read(path)) == 10
    monkeypatch.setattr(missing, "code_digest", lambda: "other")
    missing.run("tiny", 1, path)
    assert asked[10:] == [("new",)] * 5, "of another state of the code"
    assert len(missing.read(path)) == 10


def test_the_lead_that_is_lost_is_told_where_there_is_a_lead():
    numbers = {0: {1: 0.7, 2: 0.8, 3: 0.6}, 4: {1: 0.6, 2: 0.75, 3: 0.55}}
    assert missing.lead_lost(numbers) == pytest.approx(0.2 / 0.6)
    assert missing.lead_lost({0: {1: 0.4, 2: 0.6}, 4: {1: 0.4, 2: 0.5}}) is None


def test_networks_have_one_order_whatever_was_run_first():
    """So that in every panel of the figure a colour is the same network."""
    base = {"seed": 0, "pattern": "left", "dropped": 0, "person": 1, "score": 0.5}
    peers = [("EEGNet", "splines"), ("EEGNet", "zeros"), ("student", "missing")]
    rows = [
        {"data": data, "network": network, "repair": repair, **base}
        for data, names in (("a", peers), ("b", peers[::-1]))
        for network, repair in names
    ]
    found = list(missing.by_person(rows))
    wanted = ["student", "EEGNet, zeros", "EEGNet, splines"]
    assert found == [(data, name) for data in "ab" for name in wanted]


def test_a_student_trained_without_the_failed_electrodes_never_sees_them(monkeypatch):
    rng = np.random.default_rng(0)
    people, raw = [1, 2, 3], windows(18)
    person = np.repeat(people, 6)
    study = SimpleNamespace(
        name="tiny",
        people=people,
        y=rng.integers(0, 2, 18),
        recording=person,
        kept=list(range(16)),
        chs_info=make_chs_info(list(BOTH_16)),
        rows=lambda some: np.flatnonzero(np.isin(person, list(some))),
    )
    seen = []

    def trained(name, study, X, rows, seed, kept=None):
        seen.append((kept, X.shape, sorted(set(person[rows]))))
        return SimpleNamespace(predict=lambda X: np.zeros(len(X), int))

    monkeypatch.setattr(missing, "trained", trained)
    rows = list(missing.retrained_rows(study, 0, [3], 0, raw, POSITIONS))
    assert {row["dropped"] for row in rows} == {0, missing.QUARTER}
    assert len(rows) == 2 * len(missing.PATTERNS)
    for kept, shape, trained_on in seen:
        assert shape == (18, len(kept), 200) and trained_on == [1, 2]
    lost = [set(range(16)) - set(kept) for kept, *_ in seen]
    wanted = [missing.failing(p, 4, POSITIONS, [0, 0, 3, 4]) for p in missing.PATTERNS]
    assert lost[0] == set() and sorted(map(sorted, lost[1:])) == sorted(
        map(list, wanted)
    )
