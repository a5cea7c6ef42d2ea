"""What is known of where an electrode is: its name, its measurement, which counts."""

import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from braindecode_gcmae.montage.geometry import (
    CENTRE,
    MANY,
    angles,
    far_away,
    laid_over,
    on_a_head,
)
from braindecode_gcmae.montage.names import net_label, table
from braindecode_gcmae.montage.nets import (
    REFERENCE,
    SOME_BIOSEMI,
    TITLES,
    Key,
    is_biosemi,
    key_of,
    keys_of,
    net_of,
    place_of,
)

__all__ = [
    "CENTRE",
    "CONTRADICTION",
    "Evidence",
    "angles",
    "as_list",
    "contradicted",
    "measured_positions",
    "name_of",
    "placed",
    "warn_doubts",
    "warn_units",
    "weigh",
]

# Degrees at the centre of the head. Of MNE's templates that use the names of a table,
# the spherical ones are farthest from it, 29.7; nets that merely share names reach 170.
CONTRADICTION = 30.0
_BIPOLAR = 5  # FIFFV_COIL_EEG_BIPOLAR


def as_list(channels: Iterable, argument: str) -> list:
    """Check that ``channels`` is a sequence of names or of chs_info entries."""
    if isinstance(channels, (str, dict)):
        raise TypeError(
            f"{argument} must be a list of names or of chs_info entries, got "
            f"{channels!r}; a preset is turned into names by montage_preset(...)"
        )
    return list(channels)


def name_of(channel: str | Mapping) -> str:
    """Return the name of an electrode as it is spelled.

    Parameters
    ----------
    channel : str or dict
        A name, or a ``chs_info`` entry.
    """
    if isinstance(channel, str):
        return channel
    try:
        return channel["ch_name"]
    except (KeyError, TypeError, IndexError):
        raise TypeError(
            "an electrode is a name or a chs_info entry with 'ch_name', "
            f"got {channel!r}"
        ) from None


def _measured(channel: str | Mapping) -> np.ndarray:
    """Return the position stored in a chs_info entry, NaN if there is none."""
    unknown = np.full(3, np.nan)
    if isinstance(channel, str) or channel.get("loc") is None:
        return unknown
    if channel.get("coil_type") == _BIPOLAR:
        return unknown  # a difference of two electrodes stands where its anode does
    loc = channel["loc"]
    loc = np.asarray(loc, dtype=float).ravel()[:3]
    if loc.size < 3 or not np.isfinite(loc).all() or not loc.any():
        return unknown  # MNE writes NaN where it does not know, others write zeros
    return loc


def _stored_positions(channels: list) -> np.ndarray:
    return np.array([_measured(c) for c in channels], dtype=float).reshape(-1, 3)


def measured_positions(channels: list) -> np.ndarray:
    """Return the positions in ``loc`` (N, 3), NaN where there is none.

    Nor where it is in other units than metres.
    """
    stored = _stored_positions(channels)
    return np.where(far_away(stored)[:, None], np.nan, stored)


def contradicted(
    systems: list[str], tabulated: np.ndarray, measured: np.ndarray
) -> np.ndarray:
    """Say which names the measurements contradict.

    Those are names whose place is more than ``CONTRADICTION`` from the measured one.
    Where that holds for most of the names that a cap shares with a table, the cap does
    not use that table's names at all, and chance agreement of the others is none:
    HydroCel-32 has an E7, too. A cap as a whole may be measured in another frame than
    the head's: then its names agree once it is moved there.

    Parameters
    ----------
    systems : list of str
        Whose names they are: of each channel of one recording the stem of a table.
    tabulated, measured : ndarray (N, 3)
        Metres, NaN rows where unknown.

    Returns
    -------
    ndarray of bool (N,)
        False where the place or the measurement is unknown, or no point of a head.
    """
    off = angles(tabulated, measured)
    off[~on_a_head(measured)] = np.nan
    both = np.flatnonzero(np.isfinite(off))
    if both.size >= MANY and off[both].max() > CONTRADICTION:
        moved = laid_over(measured[both], tabulated[both])
        rest = angles(tabulated[both], moved)
        if np.median(rest) < CONTRADICTION / 2:
            off[both] = np.minimum(off[both], rest)
    wrong = off > CONTRADICTION
    for system in set(systems):
        listed = np.array([other == system for other in systems], dtype=bool)
        shared = listed & np.isfinite(off)
        if shared.sum() >= MANY and wrong[shared].mean() > 0.5:
            wrong |= shared
    return wrong


class Evidence(NamedTuple):
    """The channels of one recording and what is known of where they are."""

    channels: list
    names: list[str]  # as spelled
    positions: np.ndarray  # (N, 3): those that count
    tabulated: np.ndarray  # (N, 3)
    measured: np.ndarray  # (N, 3)
    wrong: np.ndarray  # (N,): the name is contradicted
    keys: list[Key]  # what the names mean
    net: str | None  # that the list was recognised to belong to


def weigh(channels: list, cap: Evidence | None = None) -> Evidence:
    """Weigh names against measurements: a name counts that is not contradicted.

    What a name means depends on the list that it is in (:func:`net_of`). A list of
    electrodes that are wanted of a ``cap`` may be in the language of that cap.
    """
    names = [name_of(channel) for channel in channels]
    measured = measured_positions(channels)
    net = net_of(names, measured)
    keys = keys_of(names, net)
    if cap is not None:
        keys = _as_the_cap_says(keys, names, measured, cap)
    tabulated = np.array([place_of(key) for key in keys], dtype=float).reshape(-1, 3)
    wrong = contradicted([key.system for key in keys], tabulated, measured)
    use_measured = wrong | np.isnan(tabulated).any(1)
    positions = np.where(use_measured[:, None], measured, tabulated)
    return Evidence(channels, names, positions, tabulated, measured, wrong, keys, net)


def _as_the_cap_says(
    keys: list[Key], names: list[str], measured: np.ndarray, cap: Evidence
) -> list[Key]:
    """Return the keys of wanted electrodes, some of them in the language of a cap.

    Who asks an EGI net for a number without a place has read it there, and so has who
    asks a BioSemi cap for "D19". "C3" is a place first, unless all names are labels of
    that cap and one of them is nothing else. A free name of the cap is its channel.
    """
    named = zip(cap.names, cap.keys, strict=True)
    free = {name: key for name, key in named if not key.system}
    bare = np.isnan(measured).any(1)
    takes = bare & _meant_as_the_caps(names, cap)
    out = []
    for name, key, take, lone in zip(names, keys, takes, bare, strict=True):
        if take:
            key = key_of(name, cap.net)
        elif lone and name in free:
            key = free[name]
        elif lone and key.system == SOME_BIOSEMI:
            key = key_of(name, None)  # on another cap, or beside names of 10-05
        out.append(key)
    return out


def _meant_as_the_caps(names: list[str], cap: Evidence) -> np.ndarray:
    """Say which names, given without a place, are meant as labels of a cap."""
    labels = [net_label(name) for name in names]
    if is_biosemi(cap.net):
        return _of_this_biosemi(names, labels, cap)
    if cap.net is None:
        return np.zeros(len(names), dtype=bool)
    numbers = {x for x in labels if x is not None and x.startswith("E")}
    if not numbers <= {*table(cap.net), f"E{REFERENCE[cap.net]}"}:
        return np.zeros(len(names), dtype=bool)  # another net's: one language a list
    return np.array([x in numbers for x in labels], dtype=bool)


def _of_this_biosemi(
    names: list[str], labels: list[str | None], cap: Evidence
) -> np.ndarray:
    """Say which names are labels of a BioSemi cap and meant as such."""
    held = {key.label for key in cap.keys if key.system == cap.net}
    held |= set() if cap.net == SOME_BIOSEMI else set(table(str(cap.net)))
    theirs = np.array([x in held for x in labels], dtype=bool)
    alone = theirs & [x not in table("ten_five") for x in labels]
    others = [n for n, its in zip(names, theirs, strict=True) if not its]
    throughout = alone.any() and not any(
        key_of(name, None).system == "ten_five" for name in others
    )
    return theirs if throughout else alone


def placed(channels: list) -> list:
    """Return channels that keep their places when the list is cut.

    The names of a net mean a place as a whole list. Those that were not measured get
    the position that the list gives them.
    """
    cap = weigh(channels)
    if cap.net in (None, "hydrocel"):
        return channels  # what one of these names means needs no list
    out = []
    for channel, key, loc, position in zip(
        channels, cap.keys, cap.measured, cap.positions, strict=True
    ):
        if (
            key.system == cap.net
            and np.isnan(loc).any()
            and np.isfinite(position).all()
        ):
            entry = {"kind": "eeg"} | (
                {} if isinstance(channel, str) else dict(channel)
            )
            loc = np.r_[position, np.zeros(9)]
            channel = entry | {"ch_name": name_of(channel), "loc": loc}
        out.append(channel)
    return out


def _some(names: list[str]) -> str:
    return f"{names[:3]}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def warn_units(evidence: Evidence) -> None:
    """Say once for all channels whose positions are in other units than metres."""
    stored = _stored_positions(evidence.channels)
    far = np.flatnonzero(far_away(stored))
    if len(far):
        warnings.warn(
            f"positions of {_some([evidence.names[i] for i in far])} are no metres: "
            f"{stored[far[0]].round(3).tolist()}. They are taken as unknown",
            UserWarning,
            stacklevel=1,
        )


def warn_doubts(evidence: Evidence) -> None:
    """Say once for all channels whose names their measurements contradict.

    And once for all that have names of a BioSemi cap of unknown size, and no place, and
    once for all whose positions are no metres.
    """
    lost = [n for n, w in zip(evidence.names, evidence.wrong, strict=True) if w]
    if lost:
        net = TITLES.get(evidence.net or "", TITLES["hydrocel"])
        warnings.warn(
            f"{len(lost)} of {len(evidence.names)} channels were not measured where "
            f"their names are, in the 10-05 system or on {net}: {_some(lost)}. "
            "What was measured counts: these names place and find no electrode. Rename "
            "such channels, or remove their 'loc' if the names are right",
            UserWarning,
            stacklevel=1,  # one place for all callers: Python says it once for a cap
        )
    warn_units(evidence)
    unknown = np.isnan(evidence.positions).any(1)
    lost = [
        name
        for name, key, nowhere in zip(
            evidence.names, evidence.keys, unknown, strict=True
        )
        if nowhere and key.system == SOME_BIOSEMI
    ]
    if lost:
        warnings.warn(
            f"{len(lost)} of {len(evidence.names)} channels have names of BioSemi's "
            "caps, which are other places on each size of cap, and they are too few to "
            f"tell the size: {_some(lost)}. They have no position. Set a montage "
            "(raw.set_montage('biosemi32')), or rename them to 10-05 names",
            UserWarning,
            stacklevel=1,
        )
