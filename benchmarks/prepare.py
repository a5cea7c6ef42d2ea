"""Recordings to windows: the only module of the harness that needs MNE."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from benchmarks.electrodes import SETS
from benchmarks.protocol import LABELLED, POOL, PROTOCOL, TASKS, Windows, cache_folder

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


def channels(root, person, task):
    """Names and positions (N, 3) of the electrodes, in the recordings' order."""
    import mne

    from braindecode_gcmae.montage import canonical_name, electrode_positions

    run = next(run for run in task.runs if recording(root, person, run).exists())
    raw = mne.io.read_raw_edf(recording(root, person, run), verbose="error")
    names = tuple(canonical_name(name) for name in raw.ch_names)
    return names, electrode_positions(list(names))


def read_windows(path, task):
    """Cut one recording into windows.

    Returns
    -------
    X : array (B, N, T)
        Band-passed and resampled windows, µV. The zeros at the end of some files
        are cut off, and windows that would reach into them left out.
    y : array (B,)
        Classes, as ``task.events`` gives them.
    """
    import mne

    raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
    alive = np.flatnonzero(np.any(raw.get_data() != 0, axis=0))
    raw.crop(tmax=raw.times[alive[-1]])
    raw.filter(*task.band, verbose="error")
    raw.resample(task.sfreq, verbose="error")
    signal = 1e6 * raw.get_data()
    n = round((task.tmax - task.tmin) * task.sfreq)
    X, y = [], []
    for note in raw.annotations:
        start = round((note["onset"] + task.tmin) * task.sfreq)
        if note["description"] in task.events and start + n <= signal.shape[1]:
            X.append(signal[:, start : start + n])
            y.append(task.events[note["description"]])
    return np.stack(X), np.array(y)


def spline_matrix(positions, known, wanted):
    """MNE's spherical splines (Perrin 1989) from some electrodes to others.

    About the centre of all ``positions``: (wanted, known), by rows.
    """
    from mne.channels.interpolation import _make_interpolation_matrix

    centred = positions - np.mean(positions, 0)
    return _make_interpolation_matrix(centred[known], centred[wanted])


def spline_matrices(ch_names, positions):
    """Spherical splines from each electrode set to all electrodes, float32."""
    out = {}
    for kept in SETS.values():
        if kept is None:
            continue
        own = [ch_names.index(name) for name in kept]
        matrix = spline_matrix(positions, own, np.arange(len(positions)))
        matrix[own] = np.eye(len(own))
        out[",".join(kept)] = matrix.astype(np.float32)
    return out


def read_person(root, person, task):
    """Windows and classes of one person; none where there is no recording.

    The fist task is read by the package's own reader; ours reads the rest spans too.
    """
    runs = [run for run in task.runs if recording(root, person, run).exists()]
    if not runs:
        return None
    if set(task.events) == {"T1", "T2"} and len(set(task.events.values())) == 2:
        from braindecode_gcmae.datasets import windows_from_physionet

        span = {"tmin": task.tmin, "tmax": task.tmax}
        band = {"fmin": task.band[0], "fmax": task.band[1], "resample": task.sfreq}
        found = windows_from_physionet(person, runs, root=root, **span, **band)
        return found.X, found.y
    parts = [read_windows(recording(root, person, run), task) for run in runs]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


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
    sexes = read_sexes(root) if -1 in task.events.values() else {}
    parts = []
    for person in sorted(LABELLED + POOL):
        found = read_person(root, person, task)
        if found is None:
            continue
        X, y = found
        y = np.full(len(y), sexes[person]) if sexes else y
        parts.append((X.astype(np.float16), y, np.full(len(y), person)))
        log.info("person %d: %d windows", person, len(y))
    if not parts:
        raise FileNotFoundError(f"no recordings in {root!r}: point MNE_DATA at them")
    X, y, person = (np.concatenate(part) for part in zip(*parts, strict=True))
    names, positions = channels(root, int(person[0]), task)
    splines = spline_matrices(names, positions)
    return Windows(X, y, person, names, positions, task, splines)


def load_or_prepare(task, root=None, path=None):
    """Give a task's windows: from ``path``, from the cache, or from the recordings."""
    if path is None:
        path = cache_folder() / f"{task}-v{PROTOCOL}.npz"
    path = Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        prepare(root, task).save(path)
    windows = Windows.load(path)
    if windows.task.name != task:
        raise ValueError(f"{path.name} holds task {windows.task.name!r}, not {task!r}")
    return windows
