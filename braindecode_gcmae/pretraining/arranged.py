"""Windows in the order of a model's channels, by name."""

import copy

import numpy as np
from torch import nn

from ..montage import canonical_name, electrode_positions
from .data import UnlabelledWindows

__all__ = [
    "arranged",
    "channel_names",
    "check_rate",
    "for_model",
]


class _Reordered:
    """A recording with its channels in another order."""

    def __init__(self, source, rows: list[int]):
        self.source, self.rows = source, rows
        self.channels = [source.channels[row] for row in rows]
        self.sfreq, self.ids = source.sfreq, source.ids
        self.in_memory = source.in_memory
        self.shape = (len(rows), source.shape[1])
        self.positions = source.positions[rows]

    def __len__(self):
        return len(self.source)

    def __getitem__(self, i):
        return self.source[i][self.rows]


def channel_names(channels) -> list[str] | None:
    """Canonical names of ``chs_info`` entries or of names; None if unknown."""
    if channels is None or isinstance(channels, int):
        return None
    names = [c if isinstance(c, str) else c.get("ch_name") for c in channels]
    if None in names:
        return None
    canonical = [canonical_name(name) for name in names]
    # E129 is the reference, Cz, of EGI's net of 128 and an electrode of that of 256
    return canonical if len(set(canonical)) == len(names) else names


def arranged(windows: UnlabelledWindows, *orders: list[str] | None):
    """Give the windows as a model takes them.

    Channels with the names of one of the orders are put into it. Others, of which it is
    known where they are, keep their order and carry their positions. Of those without
    known names the order is taken on trust.

    Parameters
    ----------
    windows : UnlabelledWindows
    *orders : list of str
        Canonical names of a model's channels, of its electrodes, ...; None is no order.

    Returns
    -------
    UnlabelledWindows
    """
    known = [order for order in orders if order]
    own = channel_names(windows.channels)
    if windows.mixed or own is None or not known or own in known:
        return windows
    for order in known:
        if sorted(order) == sorted(own):
            rows = [own.index(name) for name in order]
            return _with(windows, [_Reordered(s, rows) for s in windows.sources])
    if not np.isfinite(electrode_positions(windows.channels)).all(1).any():
        return windows
    return _with(windows, windows.sources, mixed=True)


def _with(windows, sources: list, mixed: bool = False):
    """The same windows from other sources; ``mixed`` ones carry positions."""
    out = copy.copy(windows)
    named = [s.channels for s in sources if s.channels is not None]
    if mixed and len(named) < len(sources):
        raise ValueError(
            "recordings have other channels than the model, and some are arrays "
            "without names: use mne.Epochs or braindecode datasets with positions"
        )
    out.sources, out.mixed = sources, mixed
    out.channels = None if mixed else named[0]
    return out


def check_rate(windows: UnlabelledWindows, sfreq: float) -> None:
    """Refuse windows of another sampling rate than a model's."""
    if windows.sfreq is not None and not np.isclose(windows.sfreq, sfreq):
        raise ValueError(
            f"the windows have {windows.sfreq:g} Hz, the model was built for "
            f"{sfreq:g} Hz: resample them, or build it (from_pretrained, too) with "
            f"sfreq={windows.sfreq:g}"
        )


def for_model(windows: UnlabelledWindows, model: nn.Module) -> UnlabelledWindows:
    """Windows as a student or teacher takes them; see :func:`arranged`.

    Raises
    ------
    ValueError
        If they have another sampling rate.
    """
    check_rate(windows, model.sfreq)
    names = channel_names(model.input_channels())
    if names is None:
        return windows
    nodes = [names[int(row)] for row in model.network.rows]
    return arranged(windows, names, nodes)
