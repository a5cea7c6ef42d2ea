"""Are the channels of windows those of a model, which takes them by row?"""

from types import SimpleNamespace

import mne
import numpy as np
from skorch.helper import SliceDataset
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from ...features.look import check_scale
from ...montage.recording import marked_bad, recording_info, recording_rate
from ...pretraining import UnlabelledWindows
from ...pretraining.arranged import channel_names, check_rate, for_model
from ...warning import warn

__all__ = [
    "check_channels",
    "check_order",
    "first_item",
    "has_other_length",
    "refuse_others",
    "refuse_sparse",
    "warn_of_bads",
    "warn_of_windows",
]

_SHORT_LIST = 32  # names that are told
_LOOKS = 4  # at windows that are to be predicted: they may be on disk


def refuse_others(epochs: mne.BaseEpochs, model: nn.Module) -> None:
    """Refuse Epochs with channels that are no EEG: a net takes all that there are.

    Raises
    ------
    ValueError
        If the model was built for others, or for these, by name.
    """
    kinds = zip(epochs.ch_names, epochs.get_channel_types(), strict=True)
    others = [name for name, kind in kinds if kind != "eeg"]
    if not others:
        return
    own = set(channel_names(model.input_channels()) or ())
    inferred = bool(own & set(channel_names(others)))
    if len(others) == len(epochs.ch_names):
        raise ValueError(
            f"the Epochs have no channel of type EEG, but "
            f"{sorted(set(epochs.get_channel_types()))}: a net takes EEG in µV "
            "(current source densities, in V/m², are none)"
        )
    counts = (model.n_chans, model.network.n_nodes)
    if inferred or len(epochs.ch_names) not in counts:
        anew = ", with a net that is made anew" if inferred else ""
        raise ValueError(
            f"the Epochs have channels that are no EEG, {others}, and a net takes all "
            f"that there are: use epochs.pick('eeg'){anew}"
        )


def refuse_sparse(x, student: nn.Module) -> None:
    """Refuse windows of the student's electrodes alone, of which a teacher needs more.

    Raises
    ------
    ValueError
        With how to train on them without the teacher.
    """
    if isinstance(x, mne.BaseEpochs):
        n_channels = len(mne.pick_types(x.info, eeg=True, exclude=[]))
    elif isinstance(x, np.ndarray | Tensor) and x.ndim == 3:
        n_channels = x.shape[1]
    elif isinstance(x, Dataset | SliceDataset) and len(x):
        first, *more = first_item(x)
        if isinstance(first, dict) or len(more) > 2:  # positions come with the windows
            return
        n_channels = len(first)
    else:
        return
    if n_channels == student.network.n_nodes < student.n_chans:
        raise ValueError(
            f"the windows hold the student's {n_channels} electrodes alone, and the "
            f"teacher sees {student.n_chans} channels. To go on with labels alone, as "
            "for a new wearer, train a copy of the model without the teacher: "
            "EEGClassifier(copy.deepcopy(net.module_), ...)"
        )


def warn_of_bads(x) -> bool:
    """Say which channels of Epochs or a dataset are marked bad, and data still.

    Pretraining and alignment take them for missing; a net takes what it is given.
    Returns whether there are any.
    """
    if isinstance(x, mne.BaseEpochs):
        eeg = {x.ch_names[i] for i in mne.pick_types(x.info, eeg=True, exclude=[])}
        bads = [name for name in x.info["bads"] if name in eeg]
        seen = x[:1].get_data(picks=bads)[0] if bads and len(x) else np.empty((0, 1))
        used = {n for n, row in zip(bads, seen, strict=False) if np.isfinite(row).all()}
    else:
        used = set().union(*map(_used_although_bad, getattr(x, "datasets", [x])))
    if used:
        warn(
            f"{sorted(used)} are marked bad, and a net takes all channels as they are: "
            "align the windows (RecordingAlignment), which makes bad channels missing, "
            "or set them to NaN"
        )
    return bool(used)


def _used_although_bad(part) -> set[str]:
    """Of one recording of a dataset."""
    info = recording_info(part)
    if info is None or not info["bads"] or not len(part):
        return set()
    names, seen = info["ch_names"], np.asarray(part[0][0])
    bad = marked_bad(info, names)
    if seen.ndim != 2 or len(seen) != len(names) or not bad.any():
        return set()
    return {names[i] for i in np.flatnonzero(bad & np.isfinite(seen).all(1))}


def warn_of_windows(x, model: nn.Module, said: frozenset) -> frozenset:
    """Warn of what is to be predicted, by its first windows, as ``fit`` would.

    Parameters
    ----------
    x : array, Epochs or dataset
        Not empty.
    model : GCMAEStudent or GCMAETeacher
    said : frozenset
        What was returned before: it is not said again.

    Returns
    -------
    frozenset
        What was found, orders of magnitude among it.

    Warns
    -----
    UserWarning
        If windows look like volts, have another length than the model's and no rate
        that could be compared, or channels are marked bad and data still.
    """
    found = set()
    if "bads" not in said and warn_of_bads(x):
        found.add("bads")
    if "length" not in said and has_other_length(x, model):
        found.add("length")
        seconds = model.n_times / model.sfreq
        warn(
            f"the windows have {x.shape[2]} samples, the model was built for "
            f"{model.n_times} ({seconds:g} s at {model.sfreq:g} Hz): have they another "
            "sampling rate? Resample them; longer ones at this rate are welcome"
        )
    spread = _spread(x)
    moving = spread[np.isfinite(spread) & (spread > 0)]
    if moving.size:
        magnitude = round(float(np.log10(np.median(moving))))
        if magnitude not in said:
            found.add(magnitude)
            check_scale(spread)
    return frozenset(found)


def has_other_length(x, model: nn.Module) -> bool:
    """Whether windows of an array, whose rate is not known, are not the model's."""
    return getattr(x, "ndim", 0) == 3 and x.shape[2] != model.n_times


def _spread(x) -> np.ndarray:
    """Standard deviations of the channels of a few windows."""
    if isinstance(x, mne.BaseEpochs):
        picks = mne.pick_types(x.info, eeg=True, exclude=[])
        few = x[:_LOOKS].get_data(picks=picks, units="uV")
    elif isinstance(x, SliceDataset):
        few = [x.dataset[int(i)][0] for i in x.indices_[:_LOOKS]]
    elif isinstance(x, Dataset):
        few = [x[i][0] for i in range(min(len(x), _LOOKS))]
    else:
        few = x[:: max(1, len(x) // _LOOKS)]
    spreads = [np.empty(0)]
    for window in few:
        if isinstance(window, Tensor):
            window = window.detach().float().cpu().numpy()
        if getattr(window, "ndim", 0) == 2 and window.dtype.kind in "fiu":
            known = window[np.isfinite(window).all(-1)]
            spreads.append(known.std(-1, dtype=np.float64).ravel())
    return np.concatenate(spreads)


def check_order(windows: UnlabelledWindows, model: nn.Module) -> None:
    """Refuse windows that a net would take by row, and that are in another order.

    Raises
    ------
    ValueError
        If the names of their channels are known and are others than the model's, or in
        another order, or if they have another sampling rate.
    """
    for_model(windows, model)  # the rate
    _check_names([channel_names(source.channels) for source in windows.sources], model)


def check_channels(x, model: nn.Module) -> None:
    """The same of what is to be predicted, without a look at its signal.

    Windows that were lost are predicted, too.

    Parameters
    ----------
    x : Epochs or dataset
    model : GCMAEStudent or GCMAETeacher

    Raises
    ------
    ValueError
        As in :func:`check_order`, and if Epochs have channels that are no EEG.
    """
    if isinstance(x, mne.BaseEpochs):
        refuse_others(x, model)
        picks = mne.pick_types(x.info, eeg=True, exclude=[])
        known = [([x.ch_names[pick] for pick in picks] or None, x.info["sfreq"])]
        placed = False
    elif isinstance(first_item(x)[0], dict):
        return  # of these nothing is known
    else:
        known = _recordings(x, np.arange(len(x)))
        placed = len(first_item(x)) > 3  # positions come with the windows
    for _, sfreq in known:
        check_rate(SimpleNamespace(sfreq=sfreq), model.sfreq)
    if not placed:
        _check_names([channel_names(names) for names, _ in known], model)


def first_item(x: Dataset | SliceDataset) -> tuple:
    """All that a data set gives with its first window."""
    return x.dataset[int(x.indices_[0])] if isinstance(x, SliceDataset) else x[0]


def _recordings(x: Dataset, rows: np.ndarray) -> list[tuple]:
    """Names and sampling rate of the recordings that some windows are from."""
    if isinstance(x, Subset | SliceDataset):
        chosen = x.indices if isinstance(x, Subset) else x.indices_
        return _recordings(x.dataset, np.arange(len(x.dataset))[chosen][rows])
    if not hasattr(x, "datasets"):
        info = recording_info(x)
        return [(None if info is None else info["ch_names"], recording_rate(x))]
    found, start = [], 0
    for part in x.datasets:
        inside = rows[(rows >= start) & (rows < start + len(part))] - start
        found += _recordings(part, inside) if len(inside) else []
        start += len(part)
    return found


def _check_names(orders: list, model: nn.Module) -> None:
    """Refuse names, of recording after recording, that are not the model's by row."""
    expected = channel_names(model.input_channels())
    if expected is None:  # then all recordings are to be as the first
        known = [orders[0]]
    else:
        known = [expected, [expected[int(row)] for row in model.network.rows]]
    given = next((o for o in orders if o is not None and o not in known), None)
    if given is None or known == [None]:
        return
    raise ValueError(
        "the windows' channels are not those of the model in its order, and a net "
        f"takes them by row: {_what_differs(given, known)}"
    )


def _what_differs(given: list, known: list) -> str:
    """The first difference to the channels that are nearest, and what to do."""
    # Of a cap with the few electrodes alone, the few are meant.
    expected = min(known, key=lambda names: len(set(names) ^ set(given)))
    if sorted(given) == sorted(expected):
        if len(expected) > _SHORT_LIST:
            return "use epochs.reorder_channels with the names in the model's order"
        return f"use epochs.reorder_channels({list(expected)})"
    lost = [name for name in expected if name not in given]
    if lost and set(given) < set(expected):
        return (
            f"there is no {', '.join(lost[:_SHORT_LIST])}. Add what is missing as "
            "channels whose samples are NaN"
        )
    off = [(g, e) for g, e in zip(given, expected, strict=False) if g != e]
    first = off[0] if off else (f"{len(given)} channels", f"{len(expected)} channels")
    return (
        f"first difference {first[0]!r}, expected {first[1]!r}. Pick the model's "
        "channels (epochs.pick), or build the model for these"
    )
