"""What is known of where an electrode is: its name, its measurement, which counts."""

import warnings
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from braindecode_gcmae.montage.names import canonical_name, table

CENTRE = np.array([0.0, 0.015, 0.044])  # metres: of the sphere fitted to 10-10
# Degrees at that centre. Of MNE's templates that use the names of a table, the
# spherical ones are farthest from it, 29.7; nets that merely share names reach 170.
CONTRADICTION = 30.0
_ON_A_HEAD = (0.03, 0.2)  # metres from the centre; beyond, ``loc`` tells no direction
_BIPOLAR = 5  # FIFFV_COIL_EEG_BIPOLAR
_MANY = 8  # channels: fewer may come to fit by chance once they are shifted and turned


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


def _tabulated(channel: str | Mapping) -> np.ndarray:
    name = canonical_name(name_of(channel))
    position = table("ten_five").get(name)
    if position is None:
        position = table("hydrocel").get(name)
    return np.full(3, np.nan) if position is None else position


def measured_positions(channels: list) -> np.ndarray:
    """Return the positions in ``loc`` (N, 3), NaN where there is none."""
    return np.array([_measured(c) for c in channels], dtype=float).reshape(-1, 3)


def tabulated_positions(channels: list) -> np.ndarray:
    """Return the positions of the names (N, 3), NaN where a name has none."""
    return np.array([_tabulated(c) for c in channels], dtype=float).reshape(-1, 3)


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the angles at the centre of the head, in degrees; NaN where unknown.

    Not millimetres: the heads of templates differ in radius by up to 31 mm.
    """
    a, b = first - CENTRE, second - CENTRE
    across = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.rad2deg(np.arctan2(across, (a * b).sum(-1)))


def _laid_over(cap: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shift, turn and scale a cap (N, 3) to where another one is (least squares)."""
    mine, theirs = cap - cap.mean(0), other - other.mean(0)
    u, stretch, v = np.linalg.svd(mine.T @ theirs)
    stretch, v = stretch.copy(), v.copy()
    if np.linalg.det(u @ v) < 0:  # a head is not its mirror image
        stretch[-1], v[-1] = -stretch[-1], -v[-1]
    scale = stretch.sum() / max((mine**2).sum(), np.finfo(float).tiny)
    return scale * mine @ u @ v + other.mean(0)


def contradicted(
    names: list[str], tabulated: np.ndarray, measured: np.ndarray
) -> np.ndarray:
    """Say which names the measurements contradict.

    Those are names whose place is more than ``CONTRADICTION`` from the measured one.
    Where that holds for most of the names that a cap shares with a table, the cap does
    not use that table's names at all, and chance agreement of the others is none:
    HydroCel-256 has an E7, too, and BioSemi-128 a C4. A cap as a whole may be measured
    in another frame than the head's: then its names agree once it is moved there.

    Parameters
    ----------
    names : list of str
        Of the channels of one recording.
    tabulated, measured : ndarray (N, 3)
        Metres, NaN rows where unknown.

    Returns
    -------
    ndarray of bool (N,)
        False where the place or the measurement is unknown, or no point of a head.
    """
    radius = np.linalg.norm(measured - CENTRE, axis=1)
    off = angles(tabulated, measured)
    off[~((radius > _ON_A_HEAD[0]) & (radius < _ON_A_HEAD[1]))] = np.nan
    both = np.flatnonzero(np.isfinite(off))
    if both.size >= _MANY and off[both].max() > CONTRADICTION:
        moved = _laid_over(measured[both], tabulated[both])
        rest = angles(tabulated[both], moved)
        if np.median(rest) < CONTRADICTION / 2:
            off[both] = np.minimum(off[both], rest)
    wrong = off > CONTRADICTION
    names = [canonical_name(name) for name in names]
    for system in ("ten_five", "hydrocel"):
        listed = np.array([name in table(system) for name in names], dtype=bool)
        shared = listed & np.isfinite(off)
        if shared.sum() >= _MANY and wrong[shared].mean() > 0.5:
            wrong |= shared
    return wrong


class Evidence(NamedTuple):
    """The channels of one recording and what is known of where they are."""

    channels: list
    names: list[str]  # as spelled
    positions: np.ndarray  # (N, 3): those that count
    measured: np.ndarray  # (N, 3)
    wrong: np.ndarray  # (N,): the name is contradicted


def weigh(channels: list) -> Evidence:
    """Weigh names against measurements: a name counts that is not contradicted."""
    names = [name_of(channel) for channel in channels]
    tabulated, measured = tabulated_positions(channels), measured_positions(channels)
    wrong = contradicted(names, tabulated, measured)
    use_measured = wrong | np.isnan(tabulated).any(1)
    positions = np.where(use_measured[:, None], measured, tabulated)
    return Evidence(channels, names, positions, measured, wrong)


def warn_contradicted(evidence: Evidence) -> None:
    """Say once for all channels whose names their measurements contradict."""
    lost = [n for n, w in zip(evidence.names, evidence.wrong, strict=True) if w]
    if not lost:
        return
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    warnings.warn(
        f"{len(lost)} of {len(evidence.names)} channels were not measured where their "
        f"names are, in the 10-05 system or on the HydroCel-128 net: {lost[:3]}{more}. "
        "What was measured counts: these names place and find no electrode. Rename "
        "such channels, or remove their 'loc' if the names are right",
        UserWarning,
        stacklevel=1,  # one place for all callers: Python says it once for a cap
    )
