"""HBN through EEGDash itself, on recordings that lie in its folder already."""

import sys

import mne_bids
import numpy as np
import pytest
from test_datasets_unlabelled import make_raw
from tiny import pretrainer

from braindecode_gcmae.datasets import fetch_hbn, unlabelled_windows
from braindecode_gcmae.montage import montage_preset

NAMES = [*montage_preset("egi-128"), "Cz"]
SUBJECTS = ["NDARAA111", "NDARBB222"]
# A subject of the challenge's small part, which EEGDash checks by name.
MINI = "NDARAC904DMU"


def write(root, subject, task, seed):
    path = mne_bids.BIDSPath(subject=subject, task=task, root=root, datatype="eeg")
    raw = make_raw(NAMES, 100.0, 6, seed=seed, positions=False)
    options = {"allow_preload": True, "format": "EDF", "verbose": "ERROR"}
    mne_bids.write_raw_bids(raw, path, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("eegdash")
    for i, subject in enumerate(SUBJECTS):
        for task in ("RestingState", "surroundSupp"):
            write(root / "ds005505", subject, task, seed=i)
    write(root / "EEG2025r1mini", MINI, "RestingState", seed=2)
    return root


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nobody is asked for anything."""
    import socket

    def refuse(*arguments, **keywords):
        raise AssertionError("a server was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_a_release_comes_with_its_electrodes_tasks_and_subjects(folder):
    rest = fetch_hbn(folder, "R1", download=False)
    assert sorted(rest.description["subject"]) == SUBJECTS
    assert set(rest.description["task"]) == {"RestingState"}
    for part in rest.datasets:
        assert part.raw.ch_names == NAMES[:128] and not part.raw.preload
        seed = SUBJECTS.index(part.description["subject"])
        expected = make_raw(NAMES, 100.0, 6, seed=seed).get_data(units="µV")[:128]
        found = part.raw.get_data(units="µV")[:, : expected.shape[1]]
        np.testing.assert_allclose(found, expected, atol=0.05)
    assert len(fetch_hbn(folder, "ds005505", None, download=False).datasets) == 4


def test_subjects_tasks_and_electrodes_are_chosen(folder):
    (part,) = fetch_hbn(
        folder,
        tasks="surroundSupp",
        subjects=SUBJECTS[1:],
        channels=["F3", "F4"],
        download=False,
    ).datasets
    assert part.description["task"] == "surroundSupp" and len(part.raw.ch_names) == 2
    assert "age" not in part.description  # unknown, not "NaN years"


def test_the_challenge_has_files_of_its_own(folder):
    (part,) = fetch_hbn(
        folder, "R1", challenge=True, mini=True, subjects=[MINI], download=False
    ).datasets
    assert part.description["subject"] == MINI and len(part.raw.ch_names) == 128


def test_a_pretrainer_learns_from_it_with_whose_it_is(folder):
    windows = unlabelled_windows(fetch_hbn(folder, download=False), 1.6)
    X, _, _, positions = windows[0]
    assert X.shape == (128, 160) and np.isfinite(positions).all()
    net = pretrainer(
        electrodes=montage_preset("egi-128")[:4],
        ch_names=None,
        max_epochs=1,
        batch_size=3,
    )
    net.fit(windows)
    assert np.isfinite(net.history[-1]["train_loss"])
    assert net.teacher_.network.n_nodes == 128
    assert set(net.joint_.queue.groups.tolist()) >= {0, 1}


def test_what_is_not_there_is_named(folder):
    with pytest.raises(FileNotFoundError, match="symbolSearch.*download=False"):
        fetch_hbn(folder, tasks=["symbolSearch"], download=False)
    with pytest.raises(ValueError, match="R11.*'R12'"):
        fetch_hbn(folder, "R12")
    with pytest.raises(ValueError, match="release must be one of.*'ds005505'"):
        fetch_hbn(folder, "ds005505", challenge=True)


def test_a_damaged_recording_does_not_stop_a_release_of_eegdash(tmp_path):
    for i, subject in enumerate(SUBJECTS):
        write(tmp_path / "ds005505", subject, "RestingState", seed=i)
    (damaged,) = (tmp_path / "ds005505").rglob("*NDARBB222*.edf")
    damaged.write_bytes(b"")
    with pytest.warns(UserWarning, match=f"1 of 2 files cannot.*{damaged.name}"):
        found = fetch_hbn(tmp_path, download=False)
    assert list(found.description["subject"]) == SUBJECTS[:1]
    with pytest.raises(ValueError, match="Unknown|unknown|nowhere"):
        fetch_hbn(tmp_path, channels=["nowhere"], download=False)


def test_without_eegdash_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "eegdash", None)
    with pytest.raises(ImportError, match=r"braindecode-gcmae\[hbn\].*read_hbn"):
        fetch_hbn(folder)
