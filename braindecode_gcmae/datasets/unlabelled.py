"""Large unlabelled collections, read window by window when a window is asked for."""

import copy
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from braindecode.datasets import (
    BaseConcatDataset,
    EEGWindowsDataset,
    RawDataset,
    RecordDataset,
    WindowsDataset,
)
from braindecode.preprocessing import create_fixed_length_windows
from scipy.signal import resample_poly

from braindecode_gcmae.alignment.columns import subject_column
from braindecode_gcmae.datasets.reading import (
    channel_types,
    eeg_only,
    read_recordings,
    subject_of_header,
)
from braindecode_gcmae.features.look import same_rate
from braindecode_gcmae.warning import warn

# What EEGLAB and BrainVision write where a recording was cut or paused.
_CUTS = ("boundary", "new segment/")


class ToMicrovolts:
    """Transform of a window: volts to µV, to a common rate and length.

    Parameters
    ----------
    source_rate, target_rate : float
        Sampling rates in Hz; where they differ, polyphase resampling of the window
        (no delay; samples stay on their instants).
    n_times : int
        Samples of the result.
    span : tuple of int | None
        Samples (start, stop) to take out of what is read; None: all.
    """

    def __init__(self, source_rate, target_rate, n_times, span=None):
        self.source_rate = source_rate
        self.target_rate = target_rate
        self.n_times = n_times
        self.span = span

    def __repr__(self):
        return (
            f"ToMicrovolts({self.source_rate:g} Hz -> {self.target_rate:g} Hz, "
            f"{self.n_times} samples)"
        )

    def __call__(self, X):
        X = np.asarray(X, dtype=np.float64)[..., slice(*(self.span or (None,)))] * 1e6
        if self.source_rate != self.target_rate:
            ratio = Fraction(self.target_rate / self.source_rate).limit_denominator(
                1000
            )
            X = resample_poly(
                X, ratio.numerator, ratio.denominator, axis=-1, padtype="line"
            )
            if X.shape[-1] < self.n_times:  # a fraction of a sample was lost
                X = np.pad(X, ((0, 0), (0, self.n_times - X.shape[-1])), mode="edge")
        return X[..., : self.n_times].astype(np.float32)


def _as_parts(data):
    """Raw data sets or Epochs out of whatever the user has."""
    if isinstance(data, BaseConcatDataset):
        return list(data.datasets)
    if isinstance(data, RecordDataset | mne.BaseEpochs):
        return [data]
    if isinstance(data, mne.io.BaseRaw):
        subject = subject_of_header(data)
        return [RawDataset(data, {"subject": subject} if subject else {})]
    if isinstance(data, str | Path):
        folder = Path(data)
        if (folder / "dataset_description.json").is_file():
            return _bids_parts(folder)
        return list(read_recordings(data).datasets)
    if isinstance(data, Iterable):
        return [part for item in data for part in _as_parts(item)]
    raise TypeError(
        "expected a braindecode dataset, mne Raw or Epochs, a path or a list of them, "
        f"got {type(data).__name__}."
    )


def _bids_parts(root):
    from braindecode.datasets import BIDSDataset

    parts = list(BIDSDataset(root, datatypes="eeg", on_ch_mismatch="rename").datasets)
    kept, others = [], []
    for part in parts:
        (kept if "eeg" in channel_types(part.raw) else others).append(part)
    if not kept:
        raise FileNotFoundError(f"the BIDS data set {root} holds no EEG recording.")
    if others:
        files = [str(part.raw.filenames[0]) for part in others[:3]]
        warn(
            f"{len(others)} of {len(parts)} files have no channel of type EEG and are "
            f"left out: {'; '.join(files)}"
        )
    return kept


def _window_raw(part, seconds, stride, sfreq):
    raw = eeg_only(part.raw, None)
    native = raw.info["sfreq"]
    length = round(seconds * native)
    if raw.n_times < length:
        return None
    description = {} if part.description is None else part.description
    again = RawDataset(raw, description, part.target_name)
    (windows,) = create_fixed_length_windows(
        BaseConcatDataset([again]),
        window_size_samples=length,
        window_stride_samples=max(1, round(stride * native)),
        on_last_window="drop",
    ).datasets
    rate = sfreq or native
    windows.transform = ToMicrovolts(native, rate, round(seconds * rate))
    return [_without_bad_spans(windows)]


def _without_bad_spans(windows):
    """The same without windows that touch a stretch annotated as bad, or span a cut."""
    raw, marks = windows.raw, windows.raw.annotations
    what = [mark.lower() for mark in marks.description]
    bad = np.array([mark.startswith("bad") for mark in what], dtype=bool)
    cut = np.array([mark in _CUTS for mark in what], dtype=bool)
    if not (bad | cut).any():
        return windows
    first = (marks.onset - raw.first_time) * raw.info["sfreq"]
    last = first + marks.duration * raw.info["sfreq"]
    start = windows.metadata["i_start_in_trial"].to_numpy()[:, None]
    stop = windows.metadata["i_stop_in_trial"].to_numpy()[:, None]
    touched = bad & (start < np.maximum(last, first + 1)) & (stop > first)
    # EEGLAB's cuts lie between two samples, and last as long as what is gone.
    after = np.ceil(np.round(first, 3))
    kept = ~(touched | (cut & (start < after) & (stop > after))).any(1)
    out = EEGWindowsDataset(
        raw,
        windows.metadata[kept].reset_index(drop=True),
        windows.description,
        windows.transform,
    )
    return out


def _window_epochs(epochs, seconds, stride, sfreq, number):
    """Each epoch is cut like a recording; whose it is comes from its metadata."""
    epochs = epochs.copy()
    epochs.drop_bad()  # MNE 1.11 returns None where nothing is left to do
    epochs = eeg_only(epochs, None)
    native = epochs.info["sfreq"]
    length, step = round(seconds * native), max(1, round(stride * native))
    rate, parts = sfreq or native, []
    recordings = [(told, epochs[rows]) for told, rows in _recordings(epochs, number)]
    for start in range(0, len(epochs.times) - length + 1, step):
        for told, own in recordings:
            cut = copy.copy(own)  # the data are shared
            with mne.utils.use_log_level("ERROR"):
                cut.metadata = pd.DataFrame(
                    {
                        "i_window_in_trial": start // step,
                        "i_start_in_trial": start,
                        "i_stop_in_trial": start + length,
                        "target": -1,
                    },
                    index=range(len(cut)),
                )
            part, span = WindowsDataset(cut, dict(told)), (start, start + length)
            part.transform = ToMicrovolts(native, rate, round(seconds * rate), span)
            parts.append(part)
    return parts or None


def _recordings(epochs, number):
    """What tells the recordings in Epochs apart, and the rows of each.

    Epochs without subjects are one, wherever in a trial a window is from.
    """
    metadata = epochs.metadata
    column = None if metadata is None else subject_column(metadata)
    if column is None:
        return [({"recording": number}, np.arange(len(epochs)))]
    columns = {column: "subject"}
    columns |= {name: name for name in ("session", "run") if name in metadata}
    table = metadata[list(columns)].rename(columns=columns)
    found = table.groupby(list(table), sort=False, dropna=False).indices
    return [(table.iloc[rows[0]].to_dict(), rows) for rows in found.values()]


def _to_one_rate(windows):
    """Give all windows the rate and length of the first, whose rate is theirs, too."""
    first = windows[0].transform
    rates = {part.transform.target_rate for part in windows}
    if not all(same_rate(rate, first.target_rate) for rate in rates):
        raise ValueError(
            f"recordings have different sampling rates {sorted(rates)} Hz: give sfreq."
        )
    for part in windows:
        part.transform.target_rate = first.target_rate
        part.transform.n_times = first.n_times


def unlabelled_windows(data, window_seconds=4.0, overlap_seconds=0.0, *, sfreq=None):
    """Cut recordings into windows in µV that are read from disk when asked for.

    Parameters
    ----------
    data : BaseConcatDataset | Raw | Epochs | path | list of these
        For instance ``MOABBDataset``, ``BIDSDataset``, ``EEGDashDataset``,
        ``read_hbn(...)``, a BIDS root, files, or a mixture: montages and sampling
        rates may differ.
    window_seconds, overlap_seconds : float
        Length of a window and how much the next one repeats of it.
    sfreq : float | None
        Common sampling rate in Hz, reached window by window; None: as recorded.

    Returns
    -------
    BaseConcatDataset
        Items ``(X, y, crop_inds, ch_pos)``, X (N, T) float32 in µV, y = -1 where
        the recording has no target, positions in metres: a batch of different
        montages needs ``pad_channels_collate``. ``description`` keeps what it held,
        ``subject`` first of all.

    Raises
    ------
    ValueError
        If no recording is as long as a window, one has no EEG, rates differ without
        ``sfreq``, or a length makes no sense. Shorter recordings, and files of a folder
        without EEG, are left out with a warning; without one, windows that touch a
        stretch annotated as bad or span a cut (EEGLAB's "boundary", BrainVision's new
        segments).
    """
    if not 0 <= overlap_seconds < window_seconds:
        raise ValueError(
            "overlap_seconds must lie in [0, window_seconds), got "
            f"{overlap_seconds} and {window_seconds} s."
        )
    kept, short = [], []
    stride = window_seconds - overlap_seconds
    for number, part in enumerate(_as_parts(data)):
        if isinstance(part, mne.BaseEpochs):
            windows = _window_epochs(part, window_seconds, stride, sfreq, number)
        elif hasattr(part, "raw") and hasattr(part, "target_name"):
            windows = _window_raw(part, window_seconds, stride, sfreq)
        else:
            raise TypeError(
                f"{type(part).__name__} is already cut into windows: give recordings."
            )
        windows = [one for one in windows or () if len(one)]
        if not windows:
            short.append(part)
            continue
        kept += windows
    if not kept:
        raise ValueError(
            f"no recording is {window_seconds} s long (without bad stretches)."
        )
    if short:
        warn(
            f"{len(short)} of {len(short) + len(kept)} recordings are shorter than "
            f"{window_seconds} s, or bad stretches leave no such window: left out."
        )
    _to_one_rate(kept)
    return BaseConcatDataset(kept).set_return_ch_pos(True)
