"""Arguments of a model: which values are valid, and which win when one is loaded."""

import inspect
import math
import warnings
from collections import Counter
from collections.abc import (
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    Sequence,
    Set,
    ValuesView,
)
from numbers import Integral, Real

from ..graph import FreeGraph
from ..montage import match_electrodes, name_of, require_positions
from ..montage.evidence import placed
from ..warning import warn
from .checkpoint import CheckpointError

__all__ = [
    "check_arguments",
    "check_channel_names",
    "check_counts",
    "check_known",
    "is_tied",
    "plain",
    "plain_arguments",
    "refuse_unplaced",
    "same_nodes",
    "supersede",
]

_CHANNEL_ARGUMENTS = ("n_chans", "chs_info", "ch_names")
_TIME_ARGUMENTS = ("n_times", "input_window_seconds", "sfreq")
_LISTS = ("chs_info", "ch_names", "electrodes")
_PARTS = ("features", "graph", "encoder", "readout")
_INTEGERS = {
    "n_chans": (1, 1024),
    "n_outputs": (1, 100_000),
    "n_times": (1, 10_000_000),
    "emb_dim": (1, 4096),
    "depth": (0, 64),
    "n_heads": (1, 256),
    "order": (1, 64),
    "n_bands": (1, 512),
    "n_filters": (1, 256),
    "position_degree": (0, 12),
}
_NUMBERS = {
    "sfreq": (1e-3, 1e6),
    "f_min": (1e-6, 1e6),
    "f_max": (1e-6, 1e6),
    "segment_seconds": (1e-3, 3600),
    "drop_prob": (0, 1),
    "electrode_dropout": (0, 1),
    "segment_dropout": (0, 1),
}
_LARGEST = 1 << 28  # numbers in one part of a model: 1 GB


def _check_number(name: str, value, low: float, high: float, integer: bool) -> None:
    number = isinstance(value, Integral if integer else Real) and not isinstance(
        value, bool
    )
    if not number or not math.isfinite(value) or not low <= value <= high:
        kind = "an integer" if integer else "a number"
        raise ValueError(
            f"{name} must be {kind} between {low:g} and {high:g}, got {value!r:.60}"
        )


def plain(value):
    """An argument without numpy, pandas or torch in it: what a configuration holds.

    Searches and tables hand over their own numbers and arrays of names.
    """
    if isinstance(value, list | tuple | KeysView | ValuesView):
        return [plain(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value


def plain_arguments(given: dict) -> dict:
    """Arguments as a configuration holds them, lists of channels as lists.

    Raises
    ------
    TypeError
        If channels or electrodes have no order, can be read only once, or are not what
        the argument takes: an ``mne.Info``, or names as ``chs_info``.
    """
    return {
        name: _channel_list(name, value) if name in _LISTS else plain(value)
        for name, value in given.items()
    }


def _channel_list(name: str, value):
    """Names or entries of channels as a list; what is no list at all as it is."""
    value = plain(value)
    if isinstance(value, Set):
        raise TypeError(f"{name} is a {type(value).__name__}, whose order is not known")
    if isinstance(value, Iterator):
        kind = type(value).__name__
        raise TypeError(f"{name} is a {kind}, which is read only once: give a list")
    if name == "chs_info" and _is_no_chs_info(value):
        raise TypeError(
            "chs_info must be a list of dict, info['chs'] of an mne.Info, got "
            f"{_first_line(value)}; give names as ch_names="
        )
    listed = isinstance(value, str | Mapping) or not isinstance(value, Iterable)
    return value if listed else [plain(item) for item in value]


def _first_line(value) -> str:
    return f"{value!r:.60}".partition("\n")[0]


def _is_no_chs_info(value) -> bool:
    if isinstance(value, str | Mapping):
        return True
    return isinstance(value, Sequence) and any(isinstance(item, str) for item in value)


def check_arguments(**arguments) -> None:
    """Refuse sizes that no model has, before memory is asked for.

    Parameters
    ----------
    **arguments
        All numbers a model is built from, by the names of its arguments; ``None`` is
        not checked.

    Raises
    ------
    ValueError
        If one is no number in its range, or together they make a part of the model
        larger than 2**28 numbers.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    for bounds, integer in ((_INTEGERS, True), (_NUMBERS, False)):
        for name in bounds.keys() & given.keys():
            _check_number(name, given[name], *bounds[name], integer)
    moments = given.get("second_moments", True)
    if not isinstance(moments, bool):
        raise ValueError(f"second_moments must be True or False, got {moments!r:.60}")
    for part, size in _sizes(given).items():
        if size > _LARGEST:
            raise ValueError(
                f"{part} make a model with a part of {size:.1e} numbers, the largest "
                f"allowed is {_LARGEST:.1e}: use smaller ones"
            )


def _sizes(a: dict) -> dict[str, float]:
    """Upper estimates of how many numbers the parts of a model hold."""
    basis = (a["position_degree"] + 1) ** 2
    segment = min(a["segment_seconds"] * a["sfreq"], a["n_times"])
    lines = max(a["f_max"] - a["f_min"], 0.0) * a["segment_seconds"] + 1
    features = max(a["n_bands"] * a["n_filters"] + lines, basis)
    return {
        "emb_dim, depth and order": a["emb_dim"] ** 2 * a["depth"] * max(8, a["order"]),
        "segment_seconds, sfreq and f_max": 2 * segment * lines,
        "n_bands, n_filters and emb_dim": features * a["emb_dim"],
        "n_filters and position_degree": a["n_filters"] * basis**2,
        "n_outputs, n_chans, emb_dim and position_degree": (
            a["emb_dim"] * max(a["n_chans"], basis) + basis**2
        )
        * a.get("n_outputs", 1),
    }


def check_counts(config: dict) -> None:
    """Refuse lists of channels that no cap has, before they are looked at.

    Raises
    ------
    ValueError
        If a list of channels or electrodes is too long.
    """
    for name in ("chs_info", "ch_names", "electrodes"):
        channels = config.get(name)
        if isinstance(channels, list | tuple) and channels:
            bounds = _INTEGERS["n_chans"]
            _check_number(f"the length of {name}", len(channels), *bounds, integer=True)


def check_known(config: dict, cls: type) -> None:
    """Refuse a configuration with arguments that a class has not.

    Raises
    ------
    CheckpointError
        If there are any.
    """
    signature = inspect.signature(cls).parameters
    unknown = sorted(config.keys() - signature.keys(), key=str)
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in signature.values()):
        raise CheckpointError(
            f"{cls.__name__} has no argument "
            f"{', '.join(f'{str(name)!r:.60}' for name in unknown[:5])}: a "
            "checkpoint of another model or version?"
        )


def check_channel_names(names: list[str]) -> None:
    """Refuse channels of which two carry one name.

    Raises
    ------
    TypeError
        If a name is no string.
    ValueError
        If a name occurs twice.
    """
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"a channel's name must be a string, got {name!r:.60}")
    # Exact spelling: "Fp1-A1" and "Fp1-A2" are two channels, though one electrode.
    twice = sorted(name for name, n in Counter(names).items() if n > 1 and name)
    if twice:
        raise ValueError(f"duplicate channels: {twice}; rename or drop one of each")


def supersede(saved: dict, given: dict) -> dict:
    """The saved arguments of a model, with those of the caller in their place.

    The caller's channels, and the caller's rate or length, replace the saved ones as
    a whole. ``electrodes`` are kept where the caller's channels have them all, by name
    or, of caps with other names, by position. Those of a model that is tied to them
    must all be there, and in their order.

    Raises
    ------
    CheckpointError
        If a model is tied to electrodes that the caller's channels lack.

    Warns
    -----
    UserWarning
        If the caller's channels have some of the electrodes and lack others.
    """
    config = {**saved, **given}
    moved = any(given.get(name) is not None for name in _CHANNEL_ARGUMENTS)
    if moved:
        for name in _CHANNEL_ARGUMENTS:
            config[name] = given.get(name)
    asked, kept = "electrodes" in given, saved.get("electrodes")
    if (moved or asked) and is_tied(*(config.get(name) for name in _PARTS)):
        config["electrodes"] = _tied_nodes(saved, config, asked)
    elif moved and not asked and kept is not None:
        config["electrodes"] = _kept(kept, config["chs_info"] or config["ch_names"])
    if any(given.get(name) is not None for name in _TIME_ARGUMENTS):
        config.update(_window(saved, given))
    return config


def _rows(electrodes: list, channels: list) -> list[int]:
    """As ``match_electrodes``; who builds the model has looked at its channels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return match_electrodes(electrodes, channels)


def _have(channels: list, electrodes: list[str]) -> bool:
    """Whether channels hold these electrodes, each in a row of its own."""
    try:
        return len(_rows(electrodes, channels)) == len(electrodes)
    except ValueError:
        return False


def _kept(electrodes: list[str], channels: list | None) -> list[str] | None:
    """The saved electrodes where channels have them all, else none."""
    if not channels or _have(channels, electrodes):
        return electrodes if channels else None
    found: dict[int, str] = {}  # of two on one channel the first
    for name in electrodes:
        if _have(channels, [name]):
            found.setdefault(_rows([name], channels)[0], name)
    rest = list(found.values())
    if not rest:  # another cap, on which all channels are meant
        warn(
            f"none of the saved electrodes {electrodes} is among the channels: all "
            f"{len(channels)} channels become electrodes, at places that the weights "
            "may never have seen"
        )
    else:
        lost = [name for name in electrodes if name not in rest]
        warn(
            f"the saved electrodes {lost} are not among the channels, so all "
            f"{len(channels)} channels become electrodes of the loaded model. To go on "
            f"without them give electrodes={rest}; or let the lost ones be channels, "
            "whose samples are NaN"
        )
    return None


def is_tied(*parts) -> bool:
    """Whether a class among parts of a model has weights for one montage alone.

    It says so itself, by a class attribute ``tied = True``.
    """
    return any(
        isinstance(part, type)
        and (issubclass(part, FreeGraph) or getattr(part, "tied", False))
        for part in parts
    )


def same_nodes(first: list, second: list) -> bool:
    """Whether two lists of names or chs_info entries are one list of electrodes."""
    if [name_of(c) for c in first] == [name_of(c) for c in second]:
        return True
    try:
        return _rows(first, second) == list(range(len(second)))
    except ValueError:
        return False


def _nodes(config: dict) -> list | None:
    """The channels that are nodes in a configuration; None if they have no names."""
    channels = config.get("chs_info") or config.get("ch_names")
    if not channels:
        return None
    electrodes, channels = config.get("electrodes"), placed(channels)
    if electrodes is None:
        return channels
    return [channels[row] for row in _rows(electrodes, channels)]


def _tied_nodes(saved: dict, config: dict, asked: bool) -> list[str] | None:
    """The electrodes of a model that is tied to those of its checkpoint.

    ``asked``: the caller has named electrodes, which must be the same.
    """
    before = _nodes(saved)
    channels = config.get("chs_info") or config.get("ch_names")
    if before is None or not channels:
        # Nothing to tell them by, but their number.
        return config.get("electrodes") if asked else None
    names = [name_of(channel) for channel in before]
    tied = f"the model is tied to its electrodes {names}, in this order"
    if asked:
        if not same_nodes(before, _nodes(config) or []):
            raise CheckpointError(f"{tied}: leave electrodes out, or give just these")
        return config.get("electrodes")
    if same_nodes(before, channels):
        return None
    try:
        rows = _rows(before, channels)
    except ValueError as error:
        raise CheckpointError(f"{tied}, and the channels lack some: {error}") from error
    return [name_of(channels[row]) for row in rows]


def _window(saved: dict, given: dict) -> dict:
    """Sampling rate and window length; the length in seconds outlives a new rate."""
    n_times, seconds, sfreq = (saved.get(name) for name in _TIME_ARGUMENTS)
    if sfreq is None and n_times and seconds:
        sfreq = n_times / seconds
    if seconds is None and n_times and sfreq:
        seconds = n_times / sfreq
    time = {name: given.get(name) for name in _TIME_ARGUMENTS}
    known = sum(value is not None for value in time.values())
    if known == 1 and time["sfreq"] is None:
        time["sfreq"] = sfreq
    elif known == 1 and seconds is not None:
        time["n_times"] = round(seconds * time["sfreq"])
    return time


def refuse_unplaced(channels: list | int, electrodes: list[str] | None) -> None:
    """Say that a geometric graph needs positions, and whose are unknown."""
    if isinstance(channels, int):
        raise ValueError(
            "graph=GeometricGraph needs electrode positions: pass chs_info or ch_names"
        )
    if electrodes is not None:
        rows = match_electrodes(electrodes, channels)
        channels = placed(channels)
        channels = [channels[row] for row in rows]
    require_positions(channels, "graph=GeometricGraph")
