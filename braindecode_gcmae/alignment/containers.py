"""What holds windows: arrays, Epochs, braindecode datasets; which are one recording."""

import copy

import mne
import numpy as np
import pandas as pd
from skorch.helper import SliceDataset
from torch.utils.data import Subset

from braindecode_gcmae.alignment.columns import named_column
from braindecode_gcmae.montage.nets import beside_the_scalp
from braindecode_gcmae.montage.recording import (
    marked_bad,
    other_than_eeg,
    recording_info,
)
from braindecode_gcmae.warning import warn

__all__ = [
    "as_windows",
    "map_dataset",
    "map_epochs",
    "recording_columns",
    "refuse_parts",
    "refuse_uncut",
    "split_recordings",
    "warn_of_no_recordings",
]


def as_windows(X):
    """Check that X is a real array (B, N, T) and make it floating point."""
    try:
        x = np.asarray(X)
    except ValueError as error:
        raise ValueError(f"windows of different shapes: {error}") from None
    if x.dtype.kind not in "fiu":
        raise TypeError(
            "X must be a real array (n, n_chans, n_times), mne.Epochs, a braindecode "
            f"dataset of windows or a list of them, got {type(X).__name__} ({x.dtype})"
        )
    if x.ndim != 3 or 0 in x.shape:
        raise ValueError(
            "X must have the shape (n, n_chans, n_times), none of them 0, "
            f"got {x.shape}"
        )
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def refuse_uncut(x):
    """Refuse what MNE has and holds no windows: Raw, Evoked, ..."""
    info = getattr(x, "info", None)
    if isinstance(info, mne.Info) and not isinstance(x, mne.BaseEpochs):
        raise TypeError(
            f"windows are needed, a {type(x).__name__} is none: cut it, e.g. with "
            "mne.make_fixed_length_epochs(raw, duration=2.0)"
        )


def refuse_parts(x, groups):
    """Refuse a part of a dataset: which of its windows are one recording is lost."""
    if isinstance(x, Subset) or (isinstance(x, SliceDataset) and groups is None):
        raise TypeError(
            f"a {type(x).__name__} does not tell whose windows it has: align the "
            "dataset before it is split, or give an array and groups="
        )


def split_recordings(groups, n_windows, what="window"):
    """Yield the label and the rows of each recording, in order of appearance."""
    if groups is None:
        yield None, np.arange(n_windows)
        return
    groups = np.asarray(groups)
    if groups.ndim not in (1, 2) or len(groups) != n_windows:
        raise ValueError(
            f"groups must tell the recording of each of {n_windows} windows, got the "
            f"shape {groups.shape}"
        )
    labels = [tuple(row) if groups.ndim == 2 else row for row in groups.tolist()]
    rows = {}
    for row, label in enumerate(labels):
        items = label if isinstance(label, tuple) else (label,)
        if any(item is None or item is pd.NA or item != item for item in items):
            raise ValueError(
                f"groups are missing (None or NaN) at {what} {row}: {label!r} does not "
                "say whose recording this is"
            )
        rows.setdefault(label, []).append(row)
    for label, members in rows.items():
        yield label, np.array(members)


def recording_columns(table, groups_from):
    """Return the columns of a table that tell recordings apart, None without any.

    Parameters
    ----------
    table : DataFrame or None
        Metadata of Epochs or descriptions of a dataset.
    groups_from : sequence of str or None
        Names of columns, as far as they exist.

    Returns
    -------
    ndarray of object (B, k) or None

    Warns
    -----
    UserWarning
        If a subject is asked for, and no column says whose the windows are.
    """
    names = list(groups_from or ())
    if table is None or not names:
        return None
    columns = {name: named_column(name, table.columns) for name in names}
    found = [column for column in columns.values() if column is not None]
    if found and columns.get("subject", "") is None:
        warn(
            f"the columns {list(table.columns)} do not say whose windows these "
            f"are: those of different people that agree in {found} are "
            "aligned together. Name the column in groups_from"
        )
    # Of Epochs cut by unlabelled_windows, and of read_recordings: files tell apart what
    # their names do not.
    file = next((name for name in ("recording", "path") if name in table.columns), None)
    parts = [c for n, c in columns.items() if n in ("session", "run") and c is not None]
    if file and not any(table[column].notna().any() for column in parts):
        found.append(file)
    if not found:
        return None
    # A recording without a run or session is one; without a subject it is nobody's,
    # unless its file is known.
    whole = dict.fromkeys(found if file in found else found[1:], "")
    return table[found].astype(object).fillna(whole).to_numpy(dtype=object)


def warn_of_no_recordings(table, groups_from):
    """Say that nothing in the metadata of Epochs tells their recordings apart.

    Without metadata they are one, as most Epochs are; so they are with
    ``groups_from=()``.
    """
    if table is not None and len(table.columns) and groups_from:
        warn(
            f"none of {list(groups_from)} is among the columns {list(table.columns)} "
            "of the metadata: all windows are aligned as one recording. If they are "
            "not, name the column in groups_from; if they are, set groups_from=()"
        )


def map_epochs(epochs, align, *, keep_bads):
    """Return Epochs whose EEG channels are aligned, everything else as it was.

    Parameters
    ----------
    epochs : mne.Epochs
    align : callable
        Of windows (B, N, T) in volts, their ``chs_info`` and Hz; channels marked bad
        are NaN.
    keep_bads : bool
        Whether these come out as they came, instead of as NaN.

    Returns
    -------
    mne.EpochsArray

    Raises
    ------
    ValueError
        If no EEG channel is good.
    """
    data = epochs.get_data(copy=True)
    # All of them, so that a bad electrode is still known by its name.
    picks = mne.pick_types(epochs.info, eeg=True, exclude=[])
    names = [epochs.ch_names[i] for i in picks]
    bad = marked_bad(epochs.info, names)
    if not len(picks):
        kinds = sorted(set(epochs.get_channel_types()))
        raise ValueError(
            f"these Epochs have no channel of type EEG, but {kinds}: use "
            "epochs.set_channel_types"
        )
    if bad.all():
        raise ValueError("these Epochs have no good EEG channel to align")
    beside = beside_the_scalp(names) & ~bad
    if beside.any() and not beside[~bad].all():
        warn(
            f"{[names[i] for i in np.flatnonzero(beside)]} have the type EEG and the "
            "names of something else: they are aligned as electrodes. Set their types "
            "(epochs.set_channel_types), or rename them"
        )
    windows = as_windows(data[:, picks])
    windows[:, bad] = np.nan  # what is missing takes no part in the whitening
    channels = [epochs.info["chs"][i] for i in picks]
    aligned = align(windows, channels, epochs.info["sfreq"])
    if keep_bads:
        aligned[:, bad] = data[:, picks[bad]]
    data[:, picks] = aligned
    out = mne.EpochsArray(
        data,
        epochs.info,
        events=epochs.events,
        tmin=epochs.tmin,
        event_id=epochs.event_id,
        metadata=epochs.metadata,
        selection=epochs.selection,
        drop_log=epochs.drop_log,
        proj=False,
        raw_sfreq=epochs._raw_sfreq,  # the rate that events and annotations count by
        on_missing="ignore",  # a fold may have no window of some class
        verbose="error",
    )
    out.baseline = epochs.baseline  # a mean of zero stays one
    if epochs.annotations is not None:
        out.set_annotations(epochs.annotations, on_missing="ignore")
    return out


class _AlignedWindow:
    """Transform of a dataset's windows (N, T): theirs, then the recording's map.

    Channels ``left_out`` of the map go into it as NaN, and so they come out, but for
    those that are ``as_they_came``.
    """

    def __init__(self, before, found, left_out, as_they_came):
        self.before, self.found = before, found
        self.left_out, self.as_they_came = left_out, as_they_came
        # Who reads windows asks their transform for the rate that they come out at.
        self.target_rate = getattr(before, "target_rate", None)

    def __call__(self, x):
        x = np.asarray(x if self.before is None else self.before(x))
        out = self.found(without(x, self.left_out))
        out[self.as_they_came] = x[self.as_they_came]
        return out


def without(x, left_out):
    """The window (N, T) in floating point, NaN where a channel is left out (N,)."""
    x = x if x.dtype.kind == "f" else x.astype(np.float64)
    nothing = x.dtype.type(np.nan)
    return np.where(left_out[:, None], nothing, x) if left_out.any() else x


def _channels_of_recording(parts, n_chans):
    """``chs_info`` whose names all parts of a recording share, None without any."""
    infos = [info for part in parts if (info := recording_info(part))]
    known = {tuple(info["ch_names"]) for info in infos}
    if len(known) > 1:
        first, second = sorted(known)[:2]
        raise ValueError(
            f"parts of one recording have different channels, {list(first)} and "
            f"{list(second)}: name in groups_from what tells the recordings apart"
        )
    channels = list(infos[0]["chs"]) if infos else []
    return channels if len(channels) == n_chans else None


def map_dataset(dataset, groups, find_map, *, keep_bads):
    """Return a dataset with each recording's map appended to its transform.

    Parameters
    ----------
    dataset : braindecode dataset of windows
    groups : array (n_datasets,) or (n_datasets, k), optional
        Which recording each of its parts belongs to. Default each to its own.
    find_map : callable
        Of windows (B, N, T), their label and the ``chs_info`` of their channels, if
        known; channels that are bad or no EEG are NaN. Returns a ``ChannelMap``.
    keep_bads : bool
        Whether channels marked bad come out as they came, instead of as NaN.

    Raises
    ------
    TypeError
        If the dataset is not cut into windows.
    ValueError
        If parts of one recording have different channels, or each part is one window
        and nobody says whose.
    """
    parts = list(dataset.datasets)
    if not all(hasattr(part, "crop_inds") for part in parts):
        raise TypeError(
            "a braindecode dataset must be cut into windows before it is aligned "
            "(create_windows_from_events, create_fixed_length_windows)"
        )
    if groups is None:
        if len(parts) > 1 and all(len(part) == 1 for part in parts):
            raise ValueError(
                f"the dataset has {len(parts)} parts of one window each, and no "
                "description says whose they are: each window would be a recording of "
                "its own. Say it, as by dataset.set_description({'subject': [...]})"
            )
        groups = np.arange(len(parts))
    aligned = [copy.copy(part) for part in parts]
    for label, rows in split_recordings(groups, len(parts), "part"):
        members = [parts[r] for r in rows]
        n_chans = len(members[0][0][0])
        channels = _channels_of_recording(members, n_chans)
        names = None if channels is None else [c["ch_name"] for c in channels]
        masks = [_masks(part, names, n_chans) for part in members]
        windows = [
            without(np.asarray(part[i][0]), bad | other)
            for part, (bad, other) in zip(members, masks, strict=True)
            for i in range(len(part))
        ]
        found = find_map(as_windows(np.stack(windows)), label, channels)
        for row, (bad, other) in zip(rows, masks, strict=True):
            aligned[row].transform = _AlignedWindow(
                parts[row].transform,
                found,
                bad | other,
                bad | other if keep_bads else other,
            )
    return type(dataset)(aligned)


def _masks(part, names, n_chans):
    """Which channels of a part are marked bad, and which are no EEG, (N,) each."""
    if names is None:
        return np.zeros(n_chans, dtype=bool), np.zeros(n_chans, dtype=bool)
    info = recording_info(part)
    return marked_bad(info, names), other_than_eeg(info, names)
