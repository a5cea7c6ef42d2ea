"""Real recordings: left v. right fist from PhysioNet, as plain arrays."""

import os
from dataclasses import dataclass
from pathlib import Path

import mne
import numpy as np

from braindecode_gcmae.montage import canonical_name, make_chs_info

_FOLDER = Path("MNE-eegbci-data", "files", "eegmmidb", "1.0.0")
_RATE = 160.0  # Hz, of all subjects but 88
_FISTS, _FISTS_OR_FEET = (3, 4, 7, 8, 11, 12), (5, 6, 9, 10, 13, 14)


@dataclass(frozen=True)
class Windows:
    """Windows of several people.

    Attributes
    ----------
    X : (B, N, T) float32 array in µV
    y : (B,) int array, 0 for T1 and 1 for T2
    subject, run : (B,) int arrays
    chs_info : list of dict with names and positions
    sfreq : float in Hz
    """

    X: np.ndarray
    y: np.ndarray
    subject: np.ndarray
    run: np.ndarray
    chs_info: list
    sfreq: float


def _root(root):
    if root is not None:
        return Path(root)
    found = mne.get_config("MNE_DATASETS_EEGBCI_PATH") or mne.get_config("MNE_DATA")
    return Path(found) if found else Path.home() / "mne_data"


def _local(root, subject, run):
    return root / _FOLDER / f"S{subject:03d}" / f"S{subject:03d}R{run:02d}.edf"


def physionet_subjects(runs=(4, 8, 12), *, root=None):
    """Subjects all of whose ``runs`` are on this disk.

    Parameters
    ----------
    runs : sequence of int
        Runs that must be there.
    root : path | None
        Folder that holds ``MNE-eegbci-data``; None: MNE's own settings
        (``MNE_DATASETS_EEGBCI_PATH``, then ``MNE_DATA``, then ``~/mne_data``).

    Returns
    -------
    list of int
        Without subject 88, who was recorded at another rate.
    """
    root = _root(root)
    return [
        subject
        for subject in range(1, 110)
        if subject != 88 and all(_local(root, subject, run).is_file() for run in runs)
    ]


def _find(root, subject, run):
    """Path of one recording, downloaded by MNE if it is not there."""
    path = _local(root, subject, run)
    if path.is_file():
        return path
    try:
        os.makedirs(root, exist_ok=True)
        (path,) = mne.datasets.eegbci.load_data(
            subject, run, path=root, update_path=False, verbose="ERROR"
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise FileNotFoundError(
            f"{path.name} of PhysioNet's motor imagery recordings (eegmmidb) is not "
            f"below {root} and could not be downloaded ({type(error).__name__}). Set "
            f"MNE_DATA to a folder that holds {_FOLDER.as_posix()}/{path.parent.name}/"
            f"{path.name}, or ask for subjects and runs that are there "
            "(physionet_subjects lists them)."
        ) from error
    return Path(path)


def _read(path, fmin, fmax, resample):
    """Raw with clean names, without the zeros some files end in, filtered."""
    raw = mne.io.read_raw_edf(path, preload=True, verbose="ERROR")
    raw.rename_channels({name: canonical_name(name) for name in raw.ch_names})
    alive = np.flatnonzero(raw.get_data().any(axis=0))
    if not alive.size:
        raise ValueError(f"{path.name} holds nothing but zeros.")
    raw.crop(tmax=raw.times[alive[-1]])
    if fmin is not None or fmax is not None:
        raw.filter(fmin, fmax, verbose="ERROR")
    if resample is not None and resample != raw.info["sfreq"]:
        raw.resample(resample, verbose="ERROR")
    return raw


def _cut(raw, tmin, tmax):
    """Windows (B, N, T) in µV around T1 and T2, and y; the end is exclusive."""
    events, _ = mne.events_from_annotations(raw, {"T1": 0, "T2": 1}, verbose="ERROR")
    sfreq = raw.info["sfreq"]
    n_times = round((tmax - tmin) * sfreq)
    starts = events[:, 0] - raw.first_samp + round(tmin * sfreq)
    whole = (starts >= 0) & (starts + n_times <= raw.n_times)
    if not whole.any():
        raise ValueError(
            f"{Path(raw.filenames[0]).name} holds no complete window of {tmin} to "
            f"{tmax} s after T1 or T2."
        )
    data = raw.get_data(units="µV").astype(np.float32)
    X = [data[:, start : start + n_times] for start in starts[whole]]
    return np.stack(X), events[whole, 2]


def _check(runs, tmin, tmax, fmin, fmax, resample):
    for kind in (_FISTS, _FISTS_OR_FEET):
        if runs and set(runs) <= set(kind):
            break
    else:
        raise ValueError(
            f"runs must be some of {_FISTS} (left v. right fist) or some of "
            f"{_FISTS_OR_FEET} (both fists v. both feet), not a mixture, got {runs}: "
            "T1 and T2 mean different things in them."
        )
    if not tmin < tmax:
        raise ValueError(f"tmin must come before tmax, got {tmin} and {tmax} s.")
    if fmin is not None and fmax is not None and not fmin < fmax:
        raise ValueError(f"fmin must lie below fmax, got {fmin} and {fmax} Hz.")
    if resample is not None and fmax is not None and fmax > resample / 2:
        raise ValueError(
            f"resample to {resample} Hz keeps nothing above {resample / 2} Hz, but "
            f"fmax is {fmax} Hz: lower fmax or raise resample."
        )


def windows_from_physionet(
    subjects,
    runs=(4, 8, 12),
    *,
    tmin=0.5,
    tmax=4.0,
    fmin=4.0,
    fmax=38.0,
    resample=None,
    root=None,
):
    """Windows after the cue of PhysioNet's EEG Motor Movement/Imagery data set.

    The target lights up on one side, so the first half second carries eye
    movements that a forehead electrode picks up: the default window omits it.

    Parameters
    ----------
    subjects : int | sequence of int
        From 1 to 109.
    runs : sequence of int
        Default: imagined left (y = 0) or right (y = 1) fist.
    tmin, tmax : float
        Seconds after the cue; the end is exclusive.
    fmin, fmax : float | None
        Band-pass in Hz, applied to the whole run by MNE's zero-phase FIR filter.
    resample : float | None
        New sampling rate in Hz; None: 160 as recorded.
    root : path | None
        As in ``physionet_subjects``.

    Returns
    -------
    Windows
        In the order of ``subjects`` and ``runs``.

    Raises
    ------
    FileNotFoundError
        If a file is neither on disk nor to be had.
    ValueError
        If recordings have different rates (subject 88: 128 Hz) and ``resample``
        is not given, or if an argument makes no sense.

    References
    ----------
    Schalk et al. 2004, https://doi.org/10.1109/TBME.2004.827072.
    """
    subjects = [int(subject) for subject in np.atleast_1d(subjects)]
    runs = [int(run) for run in np.atleast_1d(runs)]
    _check(runs, tmin, tmax, fmin, fmax, resample)
    unknown = [subject for subject in subjects if not 1 <= subject <= 109]
    if unknown or not subjects:
        raise ValueError(
            f"subjects must be some of 1 to 109, got {unknown or subjects}"
        )
    root, parts, names = _root(root), [], None
    for subject in subjects:
        for run in runs:
            path = _find(root, subject, run)
            native = mne.io.read_raw_edf(path, verbose="ERROR").info["sfreq"]
            if resample is None and native != _RATE:
                raise ValueError(
                    f"subject {subject} was recorded at {native:g} Hz ({path.name}), "
                    f"the data set at {_RATE:g} Hz: leave this subject out or give "
                    "resample."
                )
            raw = _read(path, fmin, fmax, resample)
            names = names or raw.ch_names
            X, y = _cut(raw.pick(names), tmin, tmax)
            parts.append((X, y, np.full(len(y), subject), np.full(len(y), run)))
    X, y, subject, run = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Windows(X, y, subject, run, make_chs_info(names), float(resample or _RATE))
