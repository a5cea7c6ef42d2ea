"""What holds windows: arrays, Epochs, braindecode datasets; which are one recording."""

import copy
import warnings

import numpy as np

from braindecode_gcmae.alignment.columns import subject_column

__all__ = [
    "as_windows",
    "map_dataset",
    "map_epochs",
    "recording_columns",
    "split_recordings",
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


def split_recordings(groups, n_windows):
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
        if any(item is None or item != item for item in items):
            raise ValueError(f"groups are missing (None or NaN) at window {row}")
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
    names = [] if table is None else list(groups_from or ())
    if "subject" in names and "subject" not in table.columns:
        who = subject_column(table.columns)
        names = [who if name == "subject" else name for name in names]
        if who is None and any(name in table.columns for name in names):
            shared = [name for name in names if name in table.columns]
            warnings.warn(
                f"the columns {list(table.columns)} do not say whose windows these "
                f"are: those of different people that agree in {shared} are "
                "aligned together. Name the column in groups_from",
                UserWarning,
                stacklevel=2,
            )
    found = [name for name in names if name in table.columns]
    if not found:
        return None
    # A recording without a run or session is one; without a subject it is nobody's.
    whole = dict.fromkeys(found[1:], "")
    return table[found].astype(object).fillna(whole).to_numpy(dtype=object)


def map_epochs(epochs, align, *, keep_bads):
    """Return Epochs whose EEG channels are aligned, everything else as it was.

    Parameters
    ----------
    epochs : mne.Epochs
    align : callable
        Of windows (B, N, T) in volts, names and Hz; channels marked bad are NaN.
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
    import mne

    data = epochs.copy().load_data().get_data(copy=True)
    # All of them, so that a bad electrode is still known by its name.
    picks = mne.pick_types(epochs.info, eeg=True, exclude=[])
    names = [epochs.ch_names[i] for i in picks]
    bad = np.array([name in epochs.info["bads"] for name in names], dtype=bool)
    if bad.all():
        raise ValueError("these Epochs have no good EEG channel to align")
    windows = as_windows(data[:, picks])
    windows[:, bad] = np.nan  # what is missing takes no part in the whitening
    aligned = align(windows, names, epochs.info["sfreq"])
    if keep_bads:
        aligned[:, bad] = data[:, picks[bad]]
    data[:, picks] = aligned
    return mne.EpochsArray(
        data,
        epochs.info,
        events=epochs.events,
        tmin=epochs.tmin,
        event_id=epochs.event_id,
        metadata=epochs.metadata,
        selection=epochs.selection,
        drop_log=epochs.drop_log,
        proj=False,
        on_missing="ignore",  # a fold may have no window of some class
        verbose="error",
    )


def map_dataset(dataset, groups, find_map):
    """Return a dataset with each recording's map appended to its transform.

    Parameters
    ----------
    dataset : braindecode dataset of windows
    groups : array (n_datasets,) or (n_datasets, k), optional
        Which recording each of its parts belongs to. Default each to its own.
    find_map : callable
        Of windows (B, N, T) and their label; returns a ``ChannelMap``.

    Raises
    ------
    TypeError
        If the dataset is not cut into windows.
    """
    parts = list(dataset.datasets)
    if not all(hasattr(part, "crop_inds") for part in parts):
        raise TypeError(
            "a braindecode dataset must be cut into windows before it is aligned "
            "(create_windows_from_events, create_fixed_length_windows)"
        )
    if groups is None:
        groups = np.arange(len(parts))
    aligned = [copy.copy(part) for part in parts]
    for label, rows in split_recordings(groups, len(parts)):
        windows = [parts[r][i][0] for r in rows for i in range(len(parts[r]))]
        found = find_map(as_windows(np.stack(windows)), label)
        for row in rows:
            aligned[row].transform = copy.copy(found)
            aligned[row].transform.before = parts[row].transform
    return type(dataset)(aligned)
