"""Positions of electrodes, and which row of a recording holds which electrode."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import numpy as np

from braindecode_gcmae.montage.evidence import (
    CONTRADICTION,
    Evidence,
    angles,
    as_list,
    name_of,
    warn_doubts,
    warn_units,
    weigh,
)
from braindecode_gcmae.montage.geometry import MANY
from braindecode_gcmae.montage.names import canonical_name
from braindecode_gcmae.montage.nets import Key, is_biosemi

# Metres: half of what separates neighbours on a 64-electrode cap.
MATCH_TOLERANCE = 0.015
_COINCIDENT = 1e-4  # metres: two electrodes cannot be this close
_FIFFV_EEG_CH = 2


def electrode_positions(channels: Iterable, *, prefer: str = "name") -> np.ndarray:
    """Return where the electrodes are, as far as names or measurements tell.

    Parameters
    ----------
    channels : list of str or of dict
        Names, or chs_info entries (``ch_name``, optionally ``loc`` in metres).
    prefer : {"name", "loc"}
        What counts where both are known: the tabulated position of the name (the same
        for every recording; the default) or the measured ``loc[:3]``. A name that is
        contradicted by its ``loc`` never counts. A list of names of an EGI net of 64,
        128 or 256, or of a BioSemi cap of 128, 160 or 256, has the positions of that
        net: it is recognised by where its channels were measured, else by its names.

    Returns
    -------
    ndarray (N, 3)
        Metres in the head frame; NaN rows where nothing is known. A ``loc`` that is
        absent, not finite, all zero, in other units than metres or that of a bipolar
        channel counts as unknown.

    Warns
    -----
    UserWarning
        If names are contradicted: more than 30 degrees, at the centre of the head,
        from where the channels were measured. If a ``loc`` is in other units. If names
        are BioSemi's (A1, A2, ...) and
        tell no size of cap, as on the caps of 32 and 64: they have no position then.
    """
    if prefer not in ("name", "loc"):
        raise ValueError(f"prefer must be 'name' or 'loc', got {prefer!r}")
    channels = as_list(channels, "channels")
    evidence = weigh(channels)
    if prefer == "name":
        warn_doubts(evidence)
        return evidence.positions
    warn_units(evidence)
    unknown = np.isnan(evidence.measured).any(1)
    return np.where(unknown[:, None], evidence.tabulated, evidence.measured)


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
    channels = as_list(channels, "channels")
    positions = electrode_positions(channels)
    names = [name_of(channel) for channel in channels]
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
    evidence = weigh([name_of(name) for name in as_list(names, "names")])
    _refuse_duplicates(evidence, "names")
    warn_doubts(evidence)
    chs_info = []
    for name, position in zip(evidence.names, evidence.positions, strict=True):
        known = np.isfinite(position).all()
        loc = np.r_[position, np.zeros(9)] if known else np.full(12, np.nan)
        chs_info.append({"ch_name": name, "kind": "eeg", "loc": loc})
    return chs_info


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (n, m); infinite where one is unknown."""
    gaps = np.linalg.norm(first[:, None, :] - second[None, :, :], axis=-1)
    return np.where(np.isnan(gaps), np.inf, gaps)


def _refuse_duplicates(electrodes: Evidence, argument: str) -> None:
    counts = Counter(electrodes.keys)
    named = zip(electrodes.names, electrodes.keys, strict=True)
    twice = [name for name, key in named if counts[key] > 1]
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
    return _nearest(positions, electrode_positions(chs_info))


def _nearest(
    positions: np.ndarray, candidates: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if len(candidates) == 0:
        return np.full(len(positions), -1), np.full(len(positions), np.inf)
    gaps = _distances(positions, candidates)
    rows, distances = gaps.argmin(axis=1), gaps.min(axis=1)
    return np.where(np.isfinite(distances), rows, -1), distances


def _is_eeg(channel: str | Mapping) -> bool:
    kind = "eeg" if isinstance(channel, str) else channel.get("kind", "eeg")
    return kind == _FIFFV_EEG_CH or str(kind).lower() == "eeg"


def _folded(key: Key) -> str:
    return key.label.lower()


def _match_by_name(row: int, wanted: Evidence, cap: Evidence) -> int:
    """Return the row of ``cap`` that carries the wanted name, -1 if there is none."""
    name, there = wanted.names[row], cap.names
    usable = _means_the_same(row, wanted, cap)
    if there.count(name) == 1 and usable[there.index(name)]:
        return there.index(name)  # as spelled: also tells "Fp1-A1" from "Fp1-A2"
    label = _folded(wanted.keys[row])
    alike = [_folded(key) == label for key in cap.keys]
    rows = np.flatnonzero(usable & np.array(alike, dtype=bool))
    if len(rows) > 1:
        raise ValueError(
            f"electrode {name!r} occurs {len(rows)} times among the channels: "
            f"{[there[i] for i in rows]}; keep or rename one of them"
        )
    return int(rows[0]) if len(rows) else -1


def _means_the_same(row: int, wanted: Evidence, cap: Evidence) -> np.ndarray:
    """Say for which channels one name means one place in both lists.

    That is a name of one system. A contradicted one is worth nothing. But a channel of
    any cap is found by its own chs_info entry. And a number ("E39"), given without a
    place, is that of the cap itself, also where we do not know its net: who asks has
    read it there. "C3" is a place first.
    """
    system = wanted.keys[row].system
    same = np.array([key.system == system for key in cap.keys], dtype=bool)
    same &= ~(wanted.wrong[row] | cap.wrong)
    same |= _is_its_entry(row, wanted, cap)
    name, bare = wanted.names[row], np.isnan(wanted.measured[row]).any()
    if bare and cap.net is None and re.fullmatch(r"E\d+", name):
        return same | np.array([other == name for other in cap.names])
    return same


def _is_its_entry(row: int, wanted: Evidence, cap: Evidence) -> np.ndarray:
    """Say of which channels this may be the chs_info entry, if the names agree.

    Both are in one direction, and nearer to each other than to the place that the name
    would mean in the list that it was given in.
    """
    two = wanted.net is not None and cap.net is not None and wanted.net != cap.net
    if two and np.isfinite(wanted.measured).all(1).sum() >= MANY:
        return np.zeros(len(cap.names), dtype=bool)  # nets that were told apart
    unknown = np.isnan(cap.measured).any(1)
    theirs = np.where(unknown[:, None], cap.positions, cap.measured)
    apart = angles(wanted.measured[row], theirs)  # NaN, hence False: unknown
    off = angles(wanted.tabulated[row], wanted.measured[row])
    nearer = np.isnan(off) | (apart <= off)
    return (apart <= CONTRADICTION) & nearer


def _ten_five(electrodes: Evidence) -> np.ndarray:
    """Say which electrodes have a 10-05 name that counts."""
    listed = [key.system == "ten_five" for key in electrodes.keys]
    return np.array(listed, dtype=bool) & ~electrodes.wrong


def _match_by_position(
    row: int, wanted: Evidence, cap: Evidence, tolerance: float
) -> int:
    """Return the row of ``cap`` within ``tolerance``, -1 if there is none."""
    gaps = _distances(wanted.positions[[row]], cap.positions)[0]
    if _ten_five(wanted)[row]:
        # Two different 10-05 names are two different places, however close.
        gaps[_ten_five(cap)] = np.inf
    gaps[[not _is_eeg(channel) for channel in cap.channels]] = np.inf
    if not gaps.size or gaps.min() > tolerance:
        return -1
    nearest = int(gaps.argmin())
    beside = _distances(cap.positions[[nearest]], cap.positions)[0]
    rows = np.flatnonzero((beside < _COINCIDENT) & (gaps <= tolerance))
    if len(rows) > 1:
        raise ValueError(
            f"electrode {wanted.names[row]!r} is matched by position, and these "
            f"channels coincide there: {[cap.names[i] for i in rows]}"
        )
    return nearest


def _advice(name: str, position: np.ndarray, cap: Evidence) -> str:
    rows = zip(cap.names, cap.keys, cap.wrong, strict=True)
    keys = {
        _folded(key): other
        for other, key, wrong in rows
        if not wrong and key.system in ("", "ten_five", "hydrocel")
    }
    similar = get_close_matches(canonical_name(name).lower(), keys, n=1, cutoff=0.5)
    hints = [f"similar name {keys[key]!r}" for key in similar]
    if name in cap.names:
        own = cap.names.index(name)
        if cap.wrong[own]:
            hints.append("the channel of this name was measured elsewhere")
        elif is_biosemi(cap.keys[own].system):
            hints.append("the cap's own channel of this name is another place")
    (row,), (gap,) = _nearest(position[None], cap.positions)
    if row >= 0:
        hints.append(f"nearest by position {cap.names[row]!r}, {1e3 * gap:.0f} mm away")
    return f"{name!r} ({'; '.join(hints) or 'nothing similar, position unknown'})"


def match_electrodes(
    names: Iterable[str], chs_info: Iterable, *, tolerance: float = MATCH_TOLERANCE
) -> list[int]:
    """Find electrodes among the channels of a recording: which row is which.

    An electrode is found by its name or an alias of it
    (:func:`~braindecode_gcmae.montage.canonical_name`), else by position: the
    nearest EEG channel within ``tolerance``, where at least one of the two is no 10-05
    name (EGI numbers, free names with a measured ``loc``). A name wins over ``loc``,
    unless the two contradict each other
    (:func:`~braindecode_gcmae.montage.electrode_positions`): such a channel
    is found by position, or by its own chs_info entry.

    Names of EGI's nets and BioSemi's caps mean nothing on another net. Given without
    a ``loc``, a number of an EGI net ("E39") is that of the cap where it has it, and so
    is a label that only BioSemi uses ("D19"). "C3" asked of a BioSemi cap is the place
    C3 of 10-05, unless all names are labels of the cap and one is BioSemi's alone:
    ``["C3", "D19"]`` are two channels of that cap, ``["C3", "Pz"]`` are two places.

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

    Warns
    -----
    UserWarning
        If names of channels are contradicted, or are BioSemi's and have no position.
    """
    cap = weigh(as_list(chs_info, "chs_info"))
    warn_doubts(cap)
    return find_rows(names, cap, tolerance)


def find_rows(
    names: Iterable, cap: Evidence, tolerance: float = MATCH_TOLERANCE
) -> list[int]:
    """Find electrodes as ``match_electrodes`` does, without a warning."""
    wanted = weigh(as_list(names, "names"), cap)
    names, there = wanted.names, cap.names
    if not names:
        raise ValueError("names is empty: at least one electrode is needed")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be a distance in metres, got {tolerance!r}")
    _refuse_duplicates(wanted, "names")
    rows, unknown = [], []
    for i, (name, position) in enumerate(zip(names, wanted.positions, strict=True)):
        row = _match_by_name(i, wanted, cap)
        if row < 0:
            row = _match_by_position(i, wanted, cap, tolerance)
        if row < 0:
            unknown.append(_advice(name, position, cap))
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
        Metres, as in :func:`~braindecode_gcmae.match_electrodes`.

    Returns
    -------
    retained : list of int
        Rows of the kept electrodes, in the order of ``kept``.
    removed : list of int
        All other rows, ascending.
    """
    channels = as_list(channels, "channels")
    retained = match_electrodes(kept, channels, tolerance=tolerance)
    gone = set(range(len(channels))) - set(retained)
    return retained, sorted(gone)
