"""Unlabelled windows from arrays, Epochs or lazy data sets, with subject ids."""

import copy
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import cached_property

import mne
import numpy as np
import pandas as pd
import torch
from skorch.helper import SliceDataset
from torch.utils.data import Dataset, Sampler, Subset, TensorDataset

from ..alignment.columns import subject_column
from ..features.look import check_windows, same_rate
from ..masking import counter_uniform
from ..montage import MATCH_TOLERANCE, electrode_positions
from ..montage.evidence import weigh
from ..montage.recording import (
    marked_bad,
    other_than_eeg,
    recording_info,
    recording_rate,
)
from ..warning import warn

__all__ = [
    "CounterShuffle",
    "UnlabelledWindows",
    "are_apart",
    "check_windows",
    "collate_windows",
    "subject_codes",
    "subject_ids",
    "subject_text",
]


def subject_ids(source, n: int) -> np.ndarray | None:
    """Subject of each window, from metadata or descriptions; None if unknown."""
    metadata = getattr(source, "metadata", None)
    column = None if metadata is None else subject_column(metadata)
    if column is not None:
        return metadata[column].to_numpy()
    description = getattr(source, "description", None)
    if description is None or hasattr(source, "datasets"):
        return None
    column = subject_column(description.index)
    if column is None:
        return None
    return np.repeat(np.array(description[column], dtype=object), n)


class _Source:
    """Windows of one recording: ``channels``, ``sfreq``, ``ids``, ``shape``."""

    channels = None
    in_memory = False

    @cached_property
    def positions(self) -> np.ndarray:
        """Where its channels are, (C, 3) metres."""
        return electrode_positions(self.channels).astype(np.float32)


class _ArraySource(_Source):
    """Windows in memory."""

    in_memory = True

    def __init__(self, x, channels=None, sfreq=None, ids=None, bad=()):
        self.x, self.channels, self.sfreq, self.ids = x, channels, sfreq, ids
        names = None if channels is None else [c["ch_name"] for c in channels]
        check_windows(x, names, bad)
        self.shape = x.shape[1:]

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return np.asarray(self.x[i], dtype=np.float32)


class _LazySource(_Source):
    """One windowed recording of braindecode; nothing is read until it is asked for."""

    def __init__(self, dataset):
        self.dataset = dataset
        info = recording_info(dataset)
        self.channels = None if info is None else info["chs"]
        self.sfreq = recording_rate(dataset)
        names = None if info is None else list(info["ch_names"])
        # Of what is marked bad, or is no EEG, nothing is read: a missing electrode.
        others = other_than_eeg(info, names or ())
        if others.any():
            warn(
                f"{[names[i] for i in np.flatnonzero(others)]} are no EEG: pretraining "
                "takes them for missing electrodes, and a net that is trained with "
                "labels for electrodes. Leave them out (pick('eeg')) before windows "
                "are cut"
            )
        self.bad = np.flatnonzero(marked_bad(info, names or ()) | others)
        seen = self._with_signal()
        check_windows(seen[None], names, self.bad)
        self.shape = seen.shape
        self.ids = subject_ids(dataset, len(dataset))

    def __len__(self):
        return len(self.dataset)

    def _with_signal(self, n_looks: int = 8) -> np.ndarray:
        """A window in which something moves, if there is one among a few: recordings
        may begin or end in zeros.
        """
        for i in dict.fromkeys(np.linspace(0, len(self) - 1, n_looks).astype(int)):
            x = self[int(i)]
            finite = x[np.isfinite(x).all(-1)] if x.ndim == 2 else x
            if finite.size and finite.std(-1).max() > 0:
                return x
        return self[0]

    def __getitem__(self, i):
        x = np.asarray(self.dataset[i][0], dtype=np.float32)
        if len(self.bad):
            x = x.copy()  # it may be the dataset's own
            x[self.bad] = np.nan
        return x


class _PartSource(_Source):
    """Some windows of a recording, as a fold of a cross-validation holds them."""

    def __init__(self, whole, rows):
        self.whole, self.rows, self.in_memory = whole, rows, whole.in_memory
        self.channels, self.sfreq, self.shape = whole.channels, whole.sfreq, whole.shape
        self.ids = None if whole.ids is None else whole.ids[rows]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.whole[int(self.rows[i])]


def _of_people(source, ids: np.ndarray):
    """The same recording with others' names at its windows."""
    out = copy.copy(source)
    out.ids = ids
    return out


def _part(whole, rows) -> list:
    """Selected windows in the order given; each run of one recording is a source."""
    sources = _sources(whole)
    ends = np.cumsum([len(source) for source in sources])
    rows = np.arange(ends[-1])[rows]  # slices, masks, negative numbers
    recording = np.searchsorted(ends, rows, side="right")
    runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(recording)) + 1)
    parts = []
    for run in runs:
        if len(run):
            r = int(recording[run[0]])
            parts.append(
                _PartSource(sources[r], rows[run] - (ends[r] - len(sources[r])))
            )
    return parts


def _sources(x) -> list:
    """Flatten what a user may hand over into recordings."""
    if isinstance(x, UnlabelledWindows):
        return x.sources
    if isinstance(x, Subset):
        return _part(x.dataset, x.indices)
    if isinstance(x, SliceDataset):
        return _part(x.dataset, x.indices_)
    if isinstance(x, mne.BaseEpochs):
        # Bad channels keep their rows: they may be bad in some recordings only.
        picks = mne.pick_types(x.info, eeg=True, exclude=[])
        if not len(picks):
            raise ValueError(f"none of the channels {x.ch_names} is of type EEG")
        data = x.get_data(units="uV", picks=picks)
        bad = np.flatnonzero(marked_bad(x.info, [x.ch_names[p] for p in picks]))
        data[:, bad] = np.nan
        channels, ids = [x.info["chs"][p] for p in picks], subject_ids(x, len(x))
        return [_ArraySource(data, channels, x.info["sfreq"], ids, bad)]
    if isinstance(x, np.ndarray):
        return [_ArraySource(x)]
    if isinstance(x, torch.Tensor):
        return [_ArraySource(x.detach().cpu().numpy())]
    if type(x) is TensorDataset:  # derived ones may change what they hold
        return _sources(x.tensors[0])
    if hasattr(x, "datasets"):
        return [source for part in x.datasets for source in _sources(part)]
    if isinstance(x, Dataset):
        return [_LazySource(x)] if len(x) else []
    if isinstance(x, list | tuple):
        return [source for part in x for source in _sources(part)]
    raise TypeError(
        "windows must be an array (n, n_chans, n_times) in µV, mne.Epochs, a windowed "
        f"braindecode dataset, or a list of these; got {type(x).__name__}"
    )


class UnlabelledWindows(Dataset):
    """Windows with their number, their subject and, for mixed montages, positions.

    Parameters
    ----------
    x : ndarray, mne.Epochs, braindecode dataset, UnlabelledWindows or a list of these
        Epochs are converted to µV; everything else is taken to be in µV.
    groups : array, optional
        Subject of each window; default from Epochs' metadata or descriptions. The same
        id is the same subject everywhere.

    Attributes
    ----------
    channels : list of dict or None
        ``chs_info`` shared by all recordings; None if unknown or mixed.
    mixed : bool
        Whether montages differ, so that items carry positions.
    sfreq : float or None
    n_chans, n_times : int
    groups : ndarray of int
        -1 = unknown.

    Raises
    ------
    TypeError, ValueError
        If the windows cannot be used, or recordings do not fit together.
    """

    def __init__(self, x, groups=None):
        self._take(_sources(x))
        if groups is not None:
            groups = np.asarray(groups, dtype=object)
            if groups.shape != (len(self),):
                raise ValueError(
                    f"groups must name the subject of each of the {len(self)} windows, "
                    f"got shape {groups.shape}"
                )
            # Noted where they are looked for when these windows are handed on.
            shares = np.split(groups, self.ends[:-1])
            self.sources = list(map(_of_people, self.sources, shares))
        known = [
            np.full(len(s), None, dtype=object) if s.ids is None else s.ids
            for s in self.sources
        ]
        self.ids = np.concatenate([np.asarray(ids, dtype=object) for ids in known])
        self.groups = subject_codes(self.ids, {})

    def one_cap(self):
        """The first recording, if the channels of all are the same electrodes."""
        caps = {_montage(source) for source in self.sources}
        if len(caps) > 1 or _elsewhere(self.sources):
            raise ValueError(
                "the recordings are from several caps: give those of one at a time"
            )
        return self.sources[0]

    def _take(self, sources: list) -> None:
        """Check that recordings fit together."""
        self.sources = sources
        if not self.sources or not sum(map(len, self.sources)):
            raise ValueError("there are no windows to learn from")
        self.ends = np.cumsum([len(source) for source in self.sources])
        first = self.sources[0]
        lengths = {source.shape[1] for source in self.sources}
        rates = {source.sfreq for source in self.sources} - {None}
        one_rate = all(same_rate(rate, min(rates)) for rate in rates)
        if len(lengths) > 1 or not one_rate:
            raise ValueError(
                f"recordings differ in window length (samples: {sorted(lengths)}) or "
                f"sampling rate (Hz: {sorted(rates)}): resample and cut them alike"
            )
        counts = {source.shape[0] for source in self.sources}
        montages = {_montage(s) for s in self.sources if s.channels is not None}
        self.mixed = len(counts) > 1 or len(montages) > 1 or _elsewhere(self.sources)
        if self.mixed and any(source.channels is None for source in self.sources):
            raise ValueError(
                "recordings have different channels, and some are arrays without "
                "names: use mne.Epochs or braindecode datasets with positions"
            )
        named = [s.channels for s in self.sources if s.channels is not None]
        self.channels = None if self.mixed or not named else named[0]
        self.sfreq = min(rates) if rates else None
        self.n_chans = max(counts)
        self.n_times = first.shape[1]

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: int):
        index = int(index)
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}")
        part = bisect_right(self.ends, index)
        source = self.sources[part]
        start = int(self.ends[part]) - len(source)
        item = {"x": source[index - start], "index": index}
        item["group"] = int(self.groups[index])
        if self.mixed:
            item["pos"], item["width"] = source.positions, self.n_chans
        return item, 0


def subject_codes(ids: np.ndarray, known: dict[str, int]) -> np.ndarray:
    """Subjects as numbers, in order of appearance; None and NaN (unknown) are -1.

    Those that are ``known`` have their numbers; it takes in the others.
    """
    unknown = [i is None or i is pd.NA or i != i for i in ids]  # NaN != NaN
    return np.array(
        [
            -1 if un else known.setdefault(subject_text(i), len(known))
            for i, un in zip(ids, unknown, strict=True)
        ],
        dtype=np.int64,
    )


def subject_text(value) -> str:
    """A subject as text; 1.0 is 1, as pandas makes floats of integers with gaps."""
    whole = isinstance(value, float | np.floating) and float(value).is_integer()
    return str(int(value)) if whole else str(value)


def _montage(source) -> tuple:
    return tuple(channel["ch_name"] for channel in source.channels)


def _elsewhere(sources: list) -> bool:
    """Whether one name is at several places: free names of several caps."""
    caps = {id(s.channels): s.channels for s in sources if s.channels is not None}
    if len(caps) < 2:
        return False
    first, *others = (weigh(list(cap)).positions for cap in caps.values())
    return any(_gap(first, other) > MATCH_TOLERANCE for other in others)


def are_apart(first: list, second: list) -> bool:
    """Whether, of channels of the same names, some are known to be elsewhere."""
    here, there = weigh(list(first)).positions, weigh(list(second)).positions
    return _gap(here, there) > MATCH_TOLERANCE


def _gap(here: np.ndarray, there: np.ndarray) -> float:
    """Largest distance in metres between places (N, 3) that both are known."""
    return float(np.nan_to_num(np.linalg.norm(here - there, axis=1)).max())


def collate_windows(items: list) -> tuple[dict, torch.Tensor]:
    """Batch windows, padding channels where montages differ.

    Parameters
    ----------
    items : list of (dict, int)
        Items of :class:`UnlabelledWindows`.

    Returns
    -------
    dict of Tensor
        ``x`` (B, C, T), ``index`` (B,), ``group`` (B,), and for mixed montages
        ``pos`` (B, C, 3) and ``ch_mask`` (B, C).
    Tensor, shape (B,)
        Placeholder targets.
    """
    inputs = [item[0] for item in items]
    batch = {
        "index": torch.tensor([i["index"] for i in inputs]),
        "group": torch.tensor([i["group"] for i in inputs]),
    }
    targets = torch.zeros(len(items), dtype=torch.long)
    if "pos" not in inputs[0]:
        batch["x"] = torch.from_numpy(np.stack([i["x"] for i in inputs]))
        return batch, targets
    # As wide as the widest montage of all: masks do not depend on batch-mates.
    n_chans = max(max(len(i["x"]), i.get("width", 0)) for i in inputs)
    x = torch.zeros(len(inputs), n_chans, inputs[0]["x"].shape[1])
    pos = torch.zeros(len(inputs), n_chans, 3)
    mask = torch.zeros(len(inputs), n_chans, dtype=torch.bool)
    for row, item in enumerate(inputs):
        n = len(item["x"])
        x[row, :n] = torch.from_numpy(item["x"])
        pos[row, :n] = torch.from_numpy(item["pos"])
        mask[row, :n] = True
    return {**batch, "x": x, "pos": pos, "ch_mask": mask}, targets


class CounterShuffle(Sampler):
    """A permutation that depends on (seed, epoch) alone, not on any random state.

    Parameters
    ----------
    n : int
        Number of windows.
    seed : int
    epoch : callable
        Gives the number of the current epoch.
    start : callable, optional
        Gives how many of its windows were already seen.
    """

    _STREAM = 1 << 20  # apart from the streams of masks and noise

    def __init__(
        self,
        n: int,
        seed: int,
        epoch: Callable[[], int],
        start: Callable[[], int] = int,
    ):
        self.n, self.seed, self.epoch, self.start = n, seed, epoch, start

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        index = torch.arange(self.n)
        noise = counter_uniform(self.seed, self.epoch(), index, self._STREAM, (2,))
        # Two draws: 24 bits alone would tie among millions of windows.
        key = noise[:, 0].double() + noise[:, 1].double() * 2.0**-24
        order = key.argsort(stable=True).tolist()
        return iter(order[self.start() :])
