"""What a recording says of itself: its channels, its rate, which windows are kept."""

import mne
import numpy as np
from skorch.helper import SliceDataset
from torch.utils.data import Subset

__all__ = [
    "joined_epochs",
    "kept_epochs",
    "marked_bad",
    "other_than_eeg",
    "recording_info",
    "recording_rate",
    "signal_of_recordings",
]


def recording_info(part):
    """``mne.Info`` of one recording of a braindecode dataset, None without any."""
    for name in ("raw", "windows"):
        info = getattr(getattr(part, name, None), "info", None)
        if info is not None:
            return info
    return None


def recording_rate(part) -> float | None:
    """Sampling rate in Hz at which a recording's windows are read, if it is known."""
    # A transform may resample what is read: datasets.ToMicrovolts says to what.
    rate = getattr(getattr(part, "transform", None), "target_rate", None)
    info = recording_info(part)
    if rate is None and info is not None:
        rate = info["sfreq"]
    return None if rate is None else float(rate)


def signal_of_recordings(dataset) -> dict:
    """``chs_info`` and ``sfreq`` of a data set, where its recordings agree in them."""
    while isinstance(dataset, Subset | SliceDataset):
        dataset = dataset.dataset
    parts = getattr(dataset, "datasets", [dataset])
    infos, rates = map(recording_info, parts), {recording_rate(part) for part in parts}
    caps = {None if i is None else tuple(i["ch_names"]): i for i in infos}
    told = {}
    if len(rates) == 1 and None not in rates:
        told["sfreq"] = rates.pop()
    names, info = caps.popitem()
    # A transform may have picked some of the channels.
    if names is not None and not caps and len(dataset[0][0]) == len(names):
        told["chs_info"] = info["chs"]
    return told


def marked_bad(info, names) -> np.ndarray:
    """Which of the named channels are marked bad, (N,) of bool; without info none."""
    bads = () if info is None else info["bads"]
    return np.array([name in bads for name in names], dtype=bool)


def other_than_eeg(info, names) -> np.ndarray:
    """Which of the named channels are EOG, stimuli, ..., (N,) of bool.

    Without info none; of a recording that has no channel of type EEG none either.
    """
    if info is None:
        return np.zeros(len(names), dtype=bool)
    kinds = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    other = np.array([kinds.get(name, "eeg") != "eeg" for name in names], dtype=bool)
    return other & ~other.all()


def kept_epochs(x):
    """Epochs as they are when they are read: mne drops the bad ones only then.

    Before, their number is not known. Those of the user are left as they are, and
    anything else is returned.
    """
    x = joined_epochs(x)
    if not isinstance(x, mne.BaseEpochs) or x.preload:
        return x
    x = x.copy()  # the signal is not copied
    x.drop_bad(verbose=False)  # MNE 1.11 returns None where nothing is left to do
    return x


def joined_epochs(x):
    """Epochs again of the list of windows that scikit-learn's splits make of them.

    Anything else is returned, such as a list of recordings.
    """
    if not isinstance(x, list) or not all(isinstance(e, mne.BaseEpochs) for e in x):
        return x
    if len(set(map(_kind, x))) != 1 or any(len(e.events) != 1 for e in x):
        return x
    called = sorted({pair for window in x for pair in window.event_id.items()})
    event_id = dict(called)
    if len(event_id) < len(called):  # a name that means several events
        return x
    import pandas as pd

    # Not mne.concatenate_epochs: each window has a log of all those that it is one of,
    # and 2,500 of them take a minute.
    data = np.concatenate([window.get_data(copy=False) for window in x])
    events = np.concatenate([window.events for window in x])
    if len(np.unique(events[:, 0])) < len(events):  # they are of several recordings
        events[:, 0] = np.arange(len(events))
    told = x[0].metadata is not None
    return mne.EpochsArray(
        data,
        x[0].info,
        events=events,
        tmin=x[0].tmin,
        event_id=event_id,
        metadata=pd.concat([e.metadata for e in x]) if told else None,
        proj=False,
        on_missing="ignore",
        verbose="error",
    )


def _kind(epochs) -> tuple:
    """What is alike in windows of the same Epochs."""
    info, told = epochs.info, epochs.metadata is not None
    when = info["sfreq"], epochs.tmin, len(epochs.times), told
    return *info["ch_names"], *info["bads"], *when
