"""Positions of electrodes, and which row of a recording holds which electrode."""

from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import numpy as np

from braindecode_gcmae.montage.names import canonical_name, table

# Metres: half of what separates neighbours on a 64-electrode cap.
MATCH_TOLERANCE = 0.015
_COINCIDENT = 1e-4  # metres: two electrodes cannot be this close
_FIFFV_EEG_CH = 2


def _as_list(channels: Iterable, argument: str) -> list:
    """Check that ``channels`` is a sequence of names or of chs_info entries."""
    if isinstance(channels, (str, dict)):
        raise TypeError(
            f"{argument} must be a list of names or of chs_info entries, got "
            f"{channels!r}; a preset is turned into names by montage_preset(...)"
        )
    return list(channels)


def _name(channel: str | Mapping) -> str:
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
    loc = None if isinstance(channel, str) else channel.get("loc")
    if loc is None:
        return unknown
    loc = np.asarray(loc, dtype=float).ravel()[:3]
    if loc.size < 3 or not np.isfinite(loc).all() or not loc.any():
        return unknown  # MNE writes NaN where it does not know, others write zeros
    return loc


def _tabulated(channel: str | Mapping) -> np.ndarray:
    name = canonical_name(_name(channel))
    position = table("ten_five").get(name)
    if position is None:
        position = table("hydrocel").get(name)
    return np.full(3, np.nan) if position is None else position


def electrode_positions(channels: Iterable, *, prefer: str = "name") -> np.ndarray:
    """Return where the electrodes are, as far as names or measurements tell.

    Parameters
    ----------
    channels : list of str or of dict
        Names, or chs_info entries (``ch_name``, optionally ``loc`` in metres).
    prefer : {"name", "loc"}
        What counts where both are known: the tabulated position of the name (the same
        for every recording; the default) or the measured ``loc[:3]``.

    Returns
    -------
    ndarray (N, 3)
        Metres in the head frame; NaN rows where nothing is known. A ``loc`` that is
        absent, not finite or all zero counts as unknown.
    """
    if prefer not in ("name", "loc"):
        raise ValueError(f"prefer must be 'name' or 'loc', got {prefer!r}")
    sources = [_tabulated, _measured] if prefer == "name" else [_measured, _tabulated]
    rows = []
    for channel in _as_list(channels, "channels"):
        first, second = (source(channel) for source in sources)
        rows.append(second if np.isnan(first).any() else first)
    return np.array(rows, dtype=float).reshape(-1, 3)


def require_positions(channels: Iterable, purpose: str) -> np.ndarray:
    """Return the positions, or say which electrodes lack one or share one.

    Parameters
    ----------
    channels : list of str or of dict
        Names or chs_info entries.
    purpose : str
        What needs the positions, for the error message.

    Returns
    -------
    ndarray (N, 3)
        Metres in the head frame, finite and distinct.

    Raises
    ------
    ValueError
        If a position is unknown or two electrodes coincide.
    """
    channels = _as_list(channels, "channels")
    positions = electrode_positions(channels)
    names = [_name(channel) for channel in channels]
    lost = [n for n, p in zip(names, positions, strict=True) if np.isnan(p).any()]
    if lost:
        raise ValueError(
            f"{purpose} needs electrode positions, and those of {lost} are unknown: "
            "rename them to 10-05 names or give chs_info entries with a valid 'loc'"
        )
    close = _distances(positions, positions) < _COINCIDENT
    pairs = [(names[i], names[j]) for i, j in np.argwhere(np.triu(close, 1))]
    if pairs:
        raise ValueError(
            f"{purpose} needs distinct electrode positions, and these coincide: {pairs}"
        )
    return positions


def make_chs_info(names: Iterable[str]) -> list[dict]:
    """Describe electrodes the way braindecode's ``chs_info`` does.

    Parameters
    ----------
    names : list of str
        Names in the order of the channels; kept as they are spelled.

    Returns
    -------
    list of dict
        ``ch_name``, ``kind="eeg"`` and ``loc`` (12,): the position in metres followed
        by zeros, or all NaN where the name has no known position.

    Raises
    ------
    ValueError
        If a name occurs twice.
    """
    names = [_name(name) for name in _as_list(names, "names")]
    _refuse_duplicates(names, "names")
    chs_info = []
    for name, position in zip(names, electrode_positions(names), strict=True):
        known = np.isfinite(position).all()
        loc = np.r_[position, np.zeros(9)] if known else np.full(12, np.nan)
        chs_info.append({"ch_name": name, "kind": "eeg", "loc": loc})
    return chs_info


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (n, m); infinite where one is unknown."""
    gaps = np.linalg.norm(first[:, None, :] - second[None, :, :], axis=-1)
    return np.where(np.isnan(gaps), np.inf, gaps)


def _refuse_duplicates(names: list[str], argument: str) -> None:
    counts = Counter(canonical_name(name) for name in names)
    twice = [name for name in names if counts[canonical_name(name)] > 1]
    if twice:
        raise ValueError(f"duplicate electrodes in {argument}: {twice}")


def nearest_electrodes(
    positions: np.ndarray, chs_info: Iterable
) -> tuple[np.ndarray, np.ndarray]:
    """Return the electrode nearest to each position.

    Parameters
    ----------
    positions : array (n, 3)
        Metres in the head frame; NaN rows where unknown.
    chs_info : list of dict or of str
        The electrodes to choose from.

    Returns
    -------
    rows : ndarray of int (n,)
        Row in ``chs_info``, -1 where no distance is known.
    distances : ndarray (n,)
        Metres, infinite where unknown.
    """
    positions = np.asarray(positions, dtype=float).reshape(-1, 3)
    candidates = electrode_positions(chs_info)
    if len(candidates) == 0:
        return np.full(len(positions), -1), np.full(len(positions), np.inf)
    gaps = _distances(positions, candidates)
    rows, distances = gaps.argmin(axis=1), gaps.min(axis=1)
    return np.where(np.isfinite(distances), rows, -1), distances


def _is_eeg(channel: str | Mapping) -> bool:
    kind = "eeg" if isinstance(channel, str) else channel.get("kind", "eeg")
    return kind == _FIFFV_EEG_CH or str(kind).lower() == "eeg"


def _match_by_name(name: str, there: list[str]) -> int:
    """Return the row that carries this name, -1 if there is none."""
    if there.count(name) == 1:  # as spelled: also tells "Fp1-A1" from "Fp1-A2"
        return there.index(name)
    key = canonical_name(name).lower()
    rows = [i for i, other in enumerate(there) if canonical_name(other).lower() == key]
    if len(rows) > 1:
        raise ValueError(
            f"electrode {name!r} occurs {len(rows)} times among the channels: "
            f"{[there[i] for i in rows]}; keep or rename one of them"
        )
    return rows[0] if rows else -1


def _match_by_position(
    name: str, position: np.ndarray, chs_info: list, tolerance: float
) -> int:
    """Return the row within ``tolerance`` of ``position``, -1 if there is none."""
    gaps = _distances(position[None], electrode_positions(chs_info))[0]
    if canonical_name(name) in table("ten_five"):
        # Two different 10-05 names are two different places, however close.
        labels = [canonical_name(_name(channel)) for channel in chs_info]
        gaps[[label in table("ten_five") for label in labels]] = np.inf
    gaps[[not _is_eeg(channel) for channel in chs_info]] = np.inf
    if not gaps.size or gaps.min() > tolerance:
        return -1
    rows = np.flatnonzero(gaps < gaps.min() + _COINCIDENT)
    if len(rows) > 1:
        raise ValueError(
            f"electrode {name!r} is matched by position, and these channels coincide "
            f"there: {[_name(chs_info[i]) for i in rows]}"
        )
    return int(rows[0])


def _advice(name: str, position: np.ndarray, chs_info: list) -> str:
    there = [_name(channel) for channel in chs_info]
    keys = {canonical_name(other).lower(): other for other in there}
    similar = get_close_matches(canonical_name(name).lower(), keys, n=1, cutoff=0.5)
    hints = [f"similar name {keys[key]!r}" for key in similar]
    (row,), (gap,) = nearest_electrodes(position, chs_info)
    if row >= 0:
        hints.append(f"nearest by position {there[row]!r}, {1e3 * gap:.0f} mm away")
    return f"{name!r} ({'; '.join(hints) or 'nothing similar, position unknown'})"


def match_electrodes(
    names: Iterable[str], chs_info: Iterable, *, tolerance: float = MATCH_TOLERANCE
) -> list[int]:
    """Find electrodes among the channels of a recording: which row is which.

    An electrode is found by its name or an alias of it (:func:`canonical_name`), else
    by position: the nearest EEG channel within ``tolerance``, where at least one of the
    two is no 10-05 name (EGI numbers, free names with a measured ``loc``). A name wins
    over ``loc``.

    Parameters
    ----------
    names : list of str or of dict
        The electrodes wanted: names, or chs_info entries.
    chs_info : list of dict or of str
        The channels of the recording, in their order.
    tolerance : float
        Metres.

    Returns
    -------
    list of int
        One row of ``chs_info`` for each name, in the order of ``names``.

    Raises
    ------
    ValueError
        If an electrode is unknown, asked for twice, ambiguous among the channels, or
        if two of them fall on one channel. The message names it and the nearest one.
    """
    wanted, chs_info = _as_list(names, "names"), _as_list(chs_info, "chs_info")
    names = [_name(electrode) for electrode in wanted]
    there = [_name(channel) for channel in chs_info]
    if not names:
        raise ValueError("names is empty: at least one electrode is needed")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be a distance in metres, got {tolerance!r}")
    _refuse_duplicates(names, "names")
    rows, unknown, positions = [], [], electrode_positions(wanted)
    for name, position in zip(names, positions, strict=True):
        row = _match_by_name(name, there)
        if row < 0:
            row = _match_by_position(name, position, chs_info, tolerance)
        if row < 0:
            unknown.append(_advice(name, position, chs_info))
        rows.append(row)
    if unknown:
        raise ValueError(
            f"unknown electrodes, not among the {len(there)} channels: "
            f"{', '.join(unknown)}; matching by position used a tolerance of "
            f"{1e3 * tolerance:.0f} mm"
        )
    shared = {r: [n for n, o in zip(names, rows, strict=True) if o == r] for r in rows}
    for row, group in shared.items():
        if len(group) > 1:
            raise ValueError(f"electrodes {group} fall on one channel, {there[row]!r}")
    return rows


def retained_and_removed(
    kept: Iterable[str], channels: Iterable, *, tolerance: float = MATCH_TOLERANCE
) -> tuple[list[int], list[int]]:
    """Split the channels of a recording into those kept and the others.

    Parameters
    ----------
    kept : list of str or of dict
        The electrodes to keep.
    channels : list of str or of dict
        The channels of the recording.
    tolerance : float
        Metres, as in :func:`match_electrodes`.

    Returns
    -------
    retained : list of int
        Rows of the kept electrodes, in the order of ``kept``.
    removed : list of int
        All other rows, ascending.
    """
    channels = _as_list(channels, "channels")
    retained = match_electrodes(kept, channels, tolerance=tolerance)
    gone = set(range(len(channels))) - set(retained)
    return retained, sorted(gone)
