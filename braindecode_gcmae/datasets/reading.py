"""Recordings on disk in any format MNE reads: only headers are read up front."""

import re
import warnings
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import mne
import numpy as np
from braindecode.datasets import BaseConcatDataset, RawDataset

from braindecode_gcmae.montage import electrode_positions, match_electrodes
from braindecode_gcmae.montage.evidence import measured_positions
from braindecode_gcmae.montage.nets import beside_the_scalp
from braindecode_gcmae.warning import warn

# One file of each recording: BrainVision's data and EEGLAB's .fdt follow theirs.
_EXTENSIONS = tuple(".edf .bdf .gdf .vhdr .set .fif .fif.gz .cnt .mff .raw".split())
_FIF = re.compile(r"\.fif(\.gz)?$", re.IGNORECASE)
_SUBJECT = r"sub-([A-Za-z0-9]+)"
_SESSION, _RUN = r"ses-([A-Za-z0-9]+)", r"run-([A-Za-z0-9]+)"
_NOBODY = {"", "0", "x", "anonymous", "anonymized", "anonymised", "unknown", "n/a"}
_NOT_RAW = {"epo", "eve", "ave", "cov", "fwd", "inv", "ica", "proj", "trans", "src"}
_HBN_SUBJECT = r"(NDAR[A-Za-z0-9]+)"
_EMBARC_SUBJECT = r"((?:CU|MG|TX|UM)\d{4})"


def _recording_files(root):
    """Recordings below a folder, in order, one path each; no BIDS derivatives."""
    root, found = Path(root), []
    for path in sorted(root.rglob("*")):
        other = {"derivatives", "sourcedata"} & set(path.relative_to(root).parts)
        if _is_recording(path) and not _is_derived(path) and not other:
            found.append(path)
    return [path for path in found if not _continues(path)]


def _is_recording(path):
    return path.name.lower().endswith(_EXTENSIONS)


def _is_derived(path):
    """FIF files of epochs, averages, ..., by what MNE's names end in."""
    stem, is_fif = _FIF.subn("", path.name)
    words = re.split("[_-]", re.sub(r"-\d+$", "", stem))
    return bool(is_fif) and words[-1] in _NOT_RAW


def _continues(path):
    """FIF recordings beyond 2 GB go on in -1.fif or split-02: MNE follows by itself."""
    stem, is_fif = _FIF.subn("", path.name)
    first = re.sub(r"-\d+$", "", stem)
    first = re.sub(r"split-\d+", "split-01", first)
    there = path.with_name(first + path.name[len(stem) :])
    return bool(is_fif) and there != path and there.is_file()


def _subject_of(path, pattern, raw):
    """Whose recording: from the path, else from the header; None if neither tells."""
    hits = re.findall(pattern, Path(path).as_posix())
    if hits:
        return hits[-1]
    return subject_of_header(raw)


def subject_of_header(raw):
    """Who a header says it was; None for the placeholders of anonymised files."""
    who = str((raw.info["subject_info"] or {}).get("his_id") or "").strip()
    return None if who.lower() in _NOBODY else who


def _entities(path):
    """Session and run of a file that is named as in BIDS."""
    found = {}
    for name, pattern in (("session", _SESSION), ("run", _RUN)):
        hits = re.findall(pattern, Path(path).as_posix())
        if hits:
            found[name] = hits[-1]
    return found


def channel_types(recording):
    """Types of the channels as MNE has them; none of a file of annotations alone."""
    return recording.get_channel_types() if recording.ch_names else []


def require_eeg(recording, name):
    """Refuse a recording without EEG by its name, and by what it holds instead."""
    kinds = sorted(set(channel_types(recording)))
    if "eeg" not in kinds:
        held = f"only {', '.join(kinds)}" if kinds else "nor any other"
        raise ValueError(f"{name} has no channel of type EEG, {held}")


def _require_end(raw):
    """Refuse a file that ends amid its data: MNE notices when it reads that far."""
    try:
        raw[:1, raw.n_times - 1 :]
    except Exception as error:
        raise ValueError("it ends in the middle of its data") from error


def _called(recording):
    files = [file for file in getattr(recording, "filenames", ()) if file]
    return f"the recording {files[0]}" if files else "the recording"


def eeg_only(recording, channels):
    """EEG channels alone, with positions where names tell; no Raw is loaded."""
    require_eeg(recording, _called(recording))
    typed = zip(recording.ch_names, channel_types(recording), strict=True)
    recording = _picked(recording, [name for name, kind in typed if kind == "eeg"])
    recording = _without_others(recording)
    places = _places(recording)  # of all: names of a net mean a place as a whole list
    if channels is not None:
        rows = match_electrodes(channels, recording.info["chs"])
        recording = _picked(recording, [recording.ch_names[row] for row in rows])
    if places is None:
        return recording
    if channels is None:
        _say_unplaced(recording.ch_names, places)
    places = {name: places[name] for name in recording.ch_names if name in places}
    montage = mne.channels.make_dig_montage(places, coord_frame="head")
    return recording.copy().set_montage(montage, on_missing="ignore", verbose="ERROR")


def _picked(recording, names):
    if names == recording.ch_names:
        return recording
    recording = recording.copy()
    if isinstance(recording, mne.BaseEpochs):
        recording.load_data()  # MNE picks in memory only
    return recording.pick(names)


def _without_others(recording):
    """The same without what has the type EEG, as EDF often gives it to all channels."""
    beside = beside_the_scalp(recording.ch_names)
    if not beside.any() or beside.all():
        return recording
    named = list(zip(recording.ch_names, beside, strict=True))
    warn(
        f"{[name for name, other in named if other]} have the type EEG and the names "
        "of something else: they are left out. Set their types, or rename them"
    )
    return _picked(recording, [name for name, other in named if not other])


def _places(recording):
    """Positions by name, measured or else of the names; None if all are measured."""
    channels = recording.info["chs"]
    places = measured_positions(channels)
    known = np.isfinite(places).all(axis=1)
    if known.all():
        return None
    places[~known] = electrode_positions(channels)[~known]
    named = zip(recording.ch_names, places, strict=True)
    return {name: place for name, place in named if np.isfinite(place).all()}


def _say_unplaced(names, places):
    lost = [name for name in names if name not in places]
    if 0 < len(lost) < len(names) / 2:
        warnings.warn(
            f"{lost} are kept as electrodes without a place: neither their names nor "
            "'loc' tell one. Set their types if they are none",
            stacklevel=1,  # one place for all callers: Python says it once for a cap
        )


def lazily(raw, file, cache):
    """The same recording, read from disk on demand, if need be from a FIF copy."""
    if not raw.preload or cache is None:
        return raw
    stamp = f"{file.resolve()} {file.stat().st_mtime_ns}".encode()
    copy = Path(cache) / f"{file.stem}_{zlib.crc32(stamp):08x}_raw.fif"
    if not copy.is_file():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=copy.parent) as folder:
            whole = Path(folder, copy.name)
            raw.save(whole, fmt="single", verbose=False)
            # The first file last: once it is there, all of them are.
            for piece in sorted(Path(folder).iterdir(), key=lambda p: p == whole):
                piece.replace(copy.with_name(piece.name))
    return mne.io.read_raw_fif(copy, verbose="ERROR")


def read_recordings(paths, *, channels=None, cache=None, subject_pattern=_SUBJECT):
    """Open recordings in any format of ``mne.io.read_raw``; the signal stays on disk.

    Parameters
    ----------
    paths : path | list of path
        Files, or folders that are searched with all their subfolders.
    channels : list of str | None
        Electrodes to keep, by name or position; None: all EEG channels.
    cache : path | None
        Folder for FIF copies of recordings that MNE can only read whole (EEGLAB
        .set files with the data inside): written once, read lazily ever after.
    subject_pattern : str
        Regular expression whose first group is the subject in a file's path;
        else the header's subject id is used.

    Returns
    -------
    BaseConcatDataset of RawDataset
        ``description`` holds ``path`` and, where known, ``subject`` (not the
        placeholder of an anonymised file), ``session`` and ``run``. Electrodes
        without measured positions get those of their names.

    Raises
    ------
    FileNotFoundError
        If a path does not exist or holds no recording.
    ValueError
        If a file that was named cannot be read, is cut off or holds no EEG; of a folder
        such files are left out, with a warning.
    """
    paths = [paths] if isinstance(paths, str | Path) else list(paths)
    files = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
        # A MFF recording is itself a folder.
        one = path.is_file() or _is_recording(path)
        here = [path] if one else _recording_files(path)
        if not here:
            raise FileNotFoundError(
                f"{path} holds no recording: none of {', '.join(_EXTENSIONS)}."
            )
        files += here
    named = set(map(Path, paths))
    return _opened(files, named, channels, cache, subject_pattern)


def _opened(files, named, channels, cache, subject_pattern):
    """The recordings; those that cannot be read are left out, or refused if named."""
    parts, n_whole, unreadable = [], 0, []
    for file in files:
        try:
            raw = mne.io.read_raw(file, preload=False, verbose="ERROR")
            require_eeg(raw, "it")
            _require_end(raw)
        except Exception as error:
            if file in named:
                raise ValueError(f"{file} cannot be read: {error}") from error
            unreadable.append(f"{file} ({error})")
            continue
        raw = lazily(raw, file, cache)
        n_whole += raw.preload
        description = {"path": str(file), **_entities(file)}
        subject = _subject_of(file, subject_pattern, raw)
        if subject is not None:
            description["subject"] = subject
        parts.append(RawDataset(eeg_only(raw, channels), description))
    if unreadable:
        warn(
            f"{len(unreadable)} of {len(files)} files cannot be read and are left out: "
            f"{'; '.join(unreadable[:3])}"
        )
    if not parts:
        raise ValueError("none of the files can be read")
    if n_whole:
        warn(
            f"{n_whole} of {len(files)} recordings hold their data inside a file that "
            "MNE reads whole and are now in memory: give cache=, a folder for copies "
            "that can be read window by window."
        )
    return BaseConcatDataset(parts)


def without_reference(raw, channels):
    """E1 to E128 of an EGI net without the flat reference, if nobody named others."""
    egi = [name for name in raw.ch_names if re.fullmatch(r"E\d+", name)]
    if channels is None and 0 < len(egi) < len(raw.ch_names):
        return raw.copy().pick(egi)
    return raw


def read_hbn(
    root, tasks=("RestingState",), *, subjects=None, channels=None, cache=None
):
    """Healthy Brain Network, 128-channel EGI, from its BIDS releases on this disk.

    Parameters
    ----------
    root : path
        A BIDS release (ds005505 and on; 2025 EEG Foundation Challenge), or any
        folder of recordings whose paths carry the task and a subject NDAR.... The
        older ``mat_format`` files are in no format that MNE reads.
    tasks : str | sequence of str | None
        For instance ``"RestingState"``, ``"surroundSupp"``,
        ``"contrastChangeDetection"``, ``"DespicableMe"``; None: all.
    subjects : sequence of str | None
        ``"NDARAC904DMU"``, ...; None: all.
    channels : list of str | None
        Electrodes to keep: E-numbers or 10-05 names, by position. None: E1 to
        E128; the flat reference Cz is left out.
    cache : path | None
        As in ``read_recordings``.

    Returns
    -------
    BaseConcatDataset of RawDataset

    Raises
    ------
    FileNotFoundError
        If nothing fits.
    ValueError
        If no file can be read; others are left out with a warning.

    References
    ----------
    Alexander et al. 2017, https://doi.org/10.1038/sdata.2017.181.
    """
    described = {}
    tasks = [tasks] if isinstance(tasks, str) else tasks
    for file in _recording_files(root):
        words = re.split(r"[^A-Za-z0-9]+", file.relative_to(root).as_posix())
        hits = re.findall(_HBN_SUBJECT, file.as_posix())
        task = next((task for task in tasks or () if task in words), None)
        wanted = subjects is None or (hits and hits[-1] in subjects)
        if wanted and (tasks is None or task is not None):
            described[file] = {} if task is None else {"task": task}
    if not described:
        raise FileNotFoundError(
            f"{root} holds no recording of tasks {tasks} and subjects {subjects}."
        )
    dataset = _opened(list(described), set(), channels, cache, _HBN_SUBJECT)
    for part in dataset.datasets:
        part.raw = without_reference(part.raw, channels)
        part.set_description(described[Path(part.description["path"])])
    return dataset


def read_embarc(root, *, channels=None, cache=None):
    """EMBARC resting EEG from local files (a data-use agreement guards them).

    Four sites recorded with different amplifiers and caps: give ``channels``, for
    instance ``montage_preset("embarc-31")``, to have the same electrodes from all.

    Parameters
    ----------
    root : path
        Folder of the files as the NIMH Data Archive delivers them, in any format
        of ``mne.io.read_raw``; the subject (CU0011, MG0002, TX0003, UM0004) stands
        in the path.
    channels : list of str | None
        Electrodes to keep, by name or position; None: all.
    cache : path | None
        As in ``read_recordings``.

    Returns
    -------
    BaseConcatDataset of RawDataset
        ``description`` holds ``path``, ``subject`` and ``site``.

    References
    ----------
    Trivedi et al. 2016, https://doi.org/10.1016/j.jpsychires.2016.03.001.
    """
    dataset = read_recordings(
        root, channels=channels, cache=cache, subject_pattern=_EMBARC_SUBJECT
    )
    for part in dataset.datasets:
        subject = part.description.get("subject")
        if subject is not None:
            part.set_description({"site": subject[:2]})
    return dataset
