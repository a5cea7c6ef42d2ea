"""Names of electrodes: canonical spelling, tabulated positions, presets."""

import csv
import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import numpy as np

_RENAMED = {"t3": "T7", "t4": "T8", "t5": "P7", "t6": "P8", "o9": "I1", "o10": "I2"}
_VERTEX = {"vref": "Cz", "e129": "Cz", "eref": "Cz", "vertexreference": "Cz"}
_EDGES = re.compile(r"^[\s.]+|[\s.]+$")
_PREFIX = re.compile(r"^(eeg[\s:_\-]*|pol\s+)", re.IGNORECASE)
# Common references only: "Fp1-F7" is a bipolar derivation, not the electrode Fp1.
_REFERENCE = re.compile(
    r"[\s:_\-]+(ref\d*|le|re|ler|cle|ar|avg|ave|average|car|lm|linked|"
    r"(?P<ear>a1|a2|m1|m2|a1/?a2|\(?a1\+a2\)?(/2)?))$",
    re.IGNORECASE,
)
_EGI = re.compile(r"^e\s*0*([1-9]\d*)$", re.IGNORECASE)
_EAR = re.compile(r"^[am][12]$", re.IGNORECASE)
_LAST = {"E": 257}  # 32 of any other letter
_NET = re.compile(r"^([a-h])\s*0*([1-9]\d?\d?)$", re.IGNORECASE)


@cache
def table(stem: str) -> Mapping[str, np.ndarray]:
    """Read one table of ``data/`` as a read-only mapping of name to position."""
    text = files("braindecode_gcmae").joinpath("data", f"{stem}.csv").read_text("utf-8")
    table = {}
    for row in csv.DictReader(text.splitlines()):
        position = np.array([float(row[axis]) for axis in "xyz"])
        position.flags.writeable = False  # one cached copy serves every caller
        table[row["name"]] = position
    return MappingProxyType(table)


def _load_presets() -> Mapping[str, tuple[str, ...]]:
    groups = json.loads(
        files("braindecode_gcmae").joinpath("data/presets.json").read_text()
    )
    presets = {name: tuple(text.split()) for name, text in groups.items()}
    # HydroCel, and its halves by stride in file order: rows 1, 3, ... and 1, 5, ...
    for name, first, step in [("egi-128", 1, 1), ("hbn-64", 2, 2), ("hbn-32", 2, 4)]:
        presets[name] = tuple(f"E{number}" for number in range(first, 129, step))
    return MappingProxyType(presets)


# Name to electrodes. The generic ones are nested (4 in 8 in 16 in 19, 32 and 64).
PRESETS = _load_presets()
_SHORT = {"64": "10-10-64", "32": "10-10-32", "19": "10-20-19", "16": "10-20-16"}
_SHORT |= {"8": "10-20-8", "4": "10-20-4", "128": "egi-128"}


@cache
def _ten_five_by_key() -> dict[str, str]:
    return {name.lower(): name for name in table("ten_five")} | _RENAMED | _VERTEX


def _lookup(name: str) -> str | None:
    """Return the canonical label of a bare name, or None if it is no known one."""
    known = _ten_five_by_key().get(name.lower())
    if known is not None:
        return known
    egi = _EGI.match(name)
    if egi and f"E{egi[1]}" in table("hydrocel"):
        return f"E{egi[1]}"
    return None


@cache
def _canonical(name: str) -> str:
    spellings = _spellings(name)
    known = (_lookup(spelling) for spelling in spellings)
    return next((label for label in known if label is not None), spellings[0])


def _spellings(name: str) -> list[str]:
    """Return a name without its edges, then without a prefix, then a reference."""
    bare = _EDGES.sub("", name)
    prefixless = _PREFIX.sub("", bare)
    reference = _REFERENCE.search(prefixless)
    start = prefixless[: reference.start()] if reference else prefixless
    if reference and reference["ear"] and (_EGI.match(start) or _EAR.match(start)):
        # "E1-M2" of a sleep recording is an eye, no number of a net, and "A1-A2" a
        # derivation between the ears
        start = prefixless
    shorter = (prefixless, start)
    return [bare, *(_EDGES.sub("", spelling) for spelling in shorter)]


@cache
def net_label(name: str) -> str | None:
    """Return the label of BioSemi's caps or EGI's nets that a name spells, if any.

    A letter from A to H and a number up to 32, or E and one up to 257. It may also be
    a name of the 10-05 system: "C3" is both.
    """
    for spelling in _spellings(name):
        found = _NET.match(spelling)
        if found:
            letter, number = found[1].upper(), int(found[2])
            return f"{letter}{number}" if number <= _LAST.get(letter, 32) else None
    return None


def canonical_name(name: str) -> str:
    """Spell an electrode's name the way the 10-05 system does.

    Case, surrounding blanks and dots, a leading "EEG", a trailing common reference
    and other names of a site (T3, T4, T5, T6, O9, O10) are resolved: "Fc5." is "FC5",
    "EEG FP1-REF" is "Fp1", "T3" is "T7", "O9" is "I1", "e036" is "E36", "VREF" is "Cz".
    A name that is neither 10-05 nor E1..E128 is returned without its surrounding blanks
    and dots. This is about one name alone: that of a BioSemi cap or of another EGI net,
    an eye ("E1") or a contact within the brain ("POL F1") is told by its whole list
    (:func:`match_electrodes`).

    Parameters
    ----------
    name : str
        The name as found in a recording.

    Returns
    -------
    str
        The canonical name.

    Raises
    ------
    TypeError
        If ``name`` is not a string.

    References
    ----------
    Oostenveld & Praamstra 2001, DOI 10.1016/S1388-2457(00)00527-7.
    """
    if not isinstance(name, str):
        raise TypeError(f"an electrode's name must be a string, got {name!r}")
    return _canonical(str(name))


def standard_positions() -> dict[str, np.ndarray]:
    """Return the 10-05 positions: name to (3,) metres in the head frame.

    Returns
    -------
    dict of str to ndarray (3,)
        A new dict of read-only arrays; x points to the right ear, y to the nose.
    """
    return dict(table("ten_five"))


def montage_preset(name: str | int) -> list[str]:
    """Return the electrodes of a preset.

    Parameters
    ----------
    name : str or int
        "10-10-64", "10-10-32", "10-20-19", "10-20-16", "10-20-8", "10-20-4" and
        "egi-128", or their number of electrodes alone; "motor-8", "headband-8",
        "no-central-16" and "rim-4", small sets at different places, for studying where
        electrodes matter; "embarc-54", "-31", "-24", "-12", "-8", "hbn-64" and
        "hbn-32", those of the method's experiments (METHOD A.3).

    Returns
    -------
    list of str
        A new list of names.

    Raises
    ------
    ValueError
        If there is no such preset; names all presets and the nearest.

    Examples
    --------
    >>> from braindecode_gcmae import montage_preset
    >>> montage_preset("motor-8")
    ['F3', 'F4', 'C3', 'Cz', 'C4', 'P3', 'Pz', 'P4']
    """
    key = str(name).strip().lower()
    key = _SHORT.get(key, key)
    if key in PRESETS:
        return list(PRESETS[key])
    similar = get_close_matches(key, PRESETS, n=1, cutoff=0.3)
    hint = f", did you mean {similar[0]!r}?" if similar else ""
    raise ValueError(f"no montage preset {name!r}{hint}; there are {sorted(PRESETS)}")
