"""Recordings to windows: the only module of the harness that needs MNE."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from benchmarks.electrodes import SETS
from benchmarks.protocol import LABELLED, POOL, TASKS, Windows, cache_folder

log = logging.getLogger(__name__)
FOLDER = Path("MNE-eegbci-data/files/eegmmidb/1.0.0")


def recording(root, person, run):
    """Give the path of one recording."""
    return Path(root) / FOLDER / f"S{person:03d}" / f"S{person:03d}R{run:02d}.edf"


def read_sexes(root):
    """Read ``participants.tsv``: person to 1 (female) or 0 (male)."""
    lines = (Path(root) / "participants.tsv").read_text().splitlines()
    cells = [line.split("\t") for line in lines[1:] if line.strip()]
    return {int(cell[0].split("-")[1]): int(cell[1] == "F") for cell in cells}


def read_windows(path, task):
    """Cut one recording into windows.

    Returns
    -------
    X : array (B, N, T)
        Band-passed and resampled windows, µV. Windows that reach into the zeros
        at the end of some files are left out.
    y : array (B,)
        Classes, as ``task.events`` gives them.
    raw : mne.io.Raw
        For its channel names and positions.
    """
    import mne

    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    mne.datasets.eegbci.standardize(raw)
    try:
        montage = mne.channels.make_standard_montage("colin27_1005")
    except ValueError:  # the name before MNE 1.13
        montage = mne.channels.make_standard_montage("standard_1005")
    raw.set_montage(montage, verbose="error")
    alive = np.flatnonzero(np.any(raw.get_data() != 0, axis=0))
    end = alive[-1] / raw.info["sfreq"]
    onsets = [
        (note["onset"], task.events[note["description"]])
        for note in raw.annotations
        if note["description"] in task.events and note["onset"] + task.tmax <= end
    ]
    raw.filter(*task.band, verbose="error")
    raw.resample(task.sfreq, verbose="error")
    signal = 1e6 * raw.get_data()
    n = round((task.tmax - task.tmin) * task.sfreq)
    starts = [round((onset + task.tmin) * task.sfreq) for onset, _ in onsets]
    keep = [i for i, start in enumerate(starts) if start + n <= signal.shape[1]]
    X = np.stack([signal[:, starts[i] : starts[i] + n] for i in keep])
    return X, np.array([onsets[i][1] for i in keep]), raw


def spline_matrices(ch_names, positions):
    """Spherical splines from each electrode set to all electrodes, float32."""
    from mne.channels.interpolation import _make_interpolation_matrix

    out = {}
    for kept in SETS.values():
        if kept is None:
            continue
        own = [ch_names.index(name) for name in kept]
        matrix = _make_interpolation_matrix(positions[own], positions)
        matrix[own] = np.eye(len(own))
        out[",".join(kept)] = matrix.astype(np.float32)
    return out


def prepare(root=None, task="left-right"):
    """Read all recordings of a task.

    Parameters
    ----------
    root : path, optional
        The folder that holds ``MNE-eegbci-data``; else ``MNE_DATA``.
    task : str
        A key of ``TASKS``.

    Raises
    ------
    FileNotFoundError
        If there are no recordings.
    """
    task = TASKS[task]
    root = root or os.environ.get("MNE_DATA", "")
    paths = [
        (person, recording(root, person, run))
        for person in sorted(LABELLED + POOL)
        for run in task.runs
    ]
    paths = [(person, path) for person, path in paths if path.exists()]
    if not paths:
        raise FileNotFoundError(f"no recordings in {root!r}: point MNE_DATA at them")
    sexes = read_sexes(root) if -1 in task.events.values() else {}
    parts = []
    for person, path in paths:
        X, y, raw = read_windows(path, task)
        if sexes:
            y = np.full(len(y), sexes[person])
        parts.append((X.astype(np.float16), y, np.full(len(y), person)))
        log.info("%s: %d windows", path.name, len(y))
    names = tuple(raw.ch_names)
    positions = np.array([channel["loc"][:3] for channel in raw.info["chs"]])
    X, y, person = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Windows(
        X, y, person, names, positions, task, spline_matrices(names, positions)
    )


def load_or_prepare(task, root=None, path=None):
    """Give a task's windows: from ``path``, from the cache, or from the recordings."""
    if path is None:
        path = cache_folder() / f"{task}-v1.npz"
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        prepare(root, task).save(path)
    windows = Windows.load(path)
    if windows.task.name != task:
        raise ValueError(f"{path.name} holds task {windows.task.name!r}, not {task!r}")
    return windows
