"""Which net or cap a list of names belongs to, where the names are no 10-05 names.

One name alone does not tell. "C3" is a place of the 10-05 system, and another one on
each of BioSemi's caps of 128, 160 and 256; "E36" is C3 on EGI's net of 128, F3 on
that of 256 and POz on that of 64. A whole list does tell, by where its channels were
measured, or else by which names it has.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from braindecode_gcmae.montage.geometry import MANY, angles, laid_over, on_a_head
from braindecode_gcmae.montage.names import canonical_name, net_label, table

# HydroCel nets and the number by which recorders name the reference, which is at Cz.
REFERENCE = {"hydrocel64": 65, "hydrocel": 129, "hydrocel256": 257}
BIOSEMI = ("biosemi128", "biosemi160", "biosemi256")
# BioSemi's names on a cap whose size they do not tell: they mean no place at all.
SOME_BIOSEMI = "biosemi"
TITLES = {
    "hydrocel64": "the HydroCel-64 net",
    "hydrocel": "the HydroCel-128 net",
    "hydrocel256": "the HydroCel-256 net",
} | {stem: f"BioSemi's cap of {stem[7:]}" for stem in BIOSEMI}
# Degrees, median over the channels. Picks of MNE's templates of a net, with 3 mm of
# noise and laid over its table, come within 9.7; those of HydroCel-32 not below 18.
_FITS = 12.0
_EXACT = 2.0  # degrees: of few channels, which are not moved; those of a table itself
# What is recorded beside the scalp. The last lines are whole words: other names may
# begin with them.
_BESIDE = re.compile(
    r"""(?<![a-z\d]) (?:
    [a-z]* (?:eog|ecg|ekg|emg|flow)
    | resp|thor|abd|snor|puls|plet|ppg|gsr|eda|exg|stim|trig|status|photic|burst|suppr
    | (?:
        [lr]oc | [hv]eo[a-z]? | e[12]\W+[am][12] | chin[lr]? | [lr]?leg[lr]?
        | s[ap]o2 | h\.?r | temp(?:erature)? | erg | ana | aux | sti | ibi
        | event | marker
    ) \d* (?![a-z\d])
    )""",
    re.IGNORECASE | re.VERBOSE,
)
_EYES = {"E1", "E2"}  # as sleep laboratories name them
_POL = re.compile(r"\s*pol\s", re.IGNORECASE)  # what Nihon Kohden puts before names
_COMPLETE = 0.9  # of a cap's channels, where names alone are to tell its size


class Key(NamedTuple):
    """What an electrode's name means: one label of one system of names."""

    system: str  # the stem of a table, "biosemi" or, for a free name, ""
    label: str


def is_biosemi(net: str | None) -> bool:
    """Whether these are names of a BioSemi cap, be its size known or not."""
    return net == SOME_BIOSEMI or net in BIOSEMI


def key_of(name: str, net: str | None) -> Key:
    """Return what a name means in a list that belongs to this net (None: to none)."""
    label = net_label(name)
    if label is not None and net in REFERENCE:
        if label in table(net):
            return Key(net, label)
        if label == f"E{REFERENCE[net]}":
            return Key("ten_five", "Cz")
    if label in table(BIOSEMI[-1]) and is_biosemi(net):
        return Key(str(net), str(label))
    name = canonical_name(name)
    if name in table("ten_five"):
        return Key("ten_five", name)
    known = name in table("hydrocel") and not is_biosemi(net)
    return Key("hydrocel" if known else "", name)


def keys_of(names: Sequence[str], net: str | None) -> list[Key]:
    """Return what the names of a list mean, which belongs to this net."""
    return [
        Key("", name.strip()) if free else key_of(name, net)
        for name, free in zip(names, _no_electrodes(names), strict=True)
    ]


def beside_the_scalp(names: Sequence[str]) -> np.ndarray:
    """Say which names of a list are those of eyes, muscles, breath, ..., bool (N,)."""
    named = [bool(_BESIDE.search(name)) for name in names]
    return np.array(named, dtype=bool) | _eyes(names)


def _no_electrodes(names: Sequence[str]) -> np.ndarray:
    """Say which names look like those of electrodes and are none, beside the others."""
    return _eyes(names) | _intracranial(names)


def _labels(names: Sequence[str], without: np.ndarray) -> list[str | None]:
    """Return what the names spell on nets and caps, None for those to leave out."""
    listed = zip(names, without, strict=True)
    return [None if its else net_label(name) for name, its in listed]


def _eyes(names: Sequence[str]) -> np.ndarray:
    """Say which names are E1 and E2 of a sleep recording, no numbers of a net.

    They are alone among names of the 10-05 system; Cz is the reference of a net, too.
    """
    contacts = _intracranial(names)
    labels = _labels(names, contacts)
    numbers = {x for x in labels if x is not None and x.startswith("E")}
    if not numbers or not numbers <= _EYES or _speak_biosemi(names, labels):
        return np.zeros(len(names), dtype=bool)
    eyes = np.array([x in numbers for x in labels], dtype=bool)
    others = [n for n, its in zip(names, eyes | contacts, strict=True) if not its]
    sites = {canonical_name(name) for name in others} - {"Cz"}
    return eyes & (not sites.isdisjoint(table("ten_five")))


def _intracranial(names: Sequence[str]) -> np.ndarray:
    """Say which names are contacts within the brain: "POL F1" beside "EEG C3-Ref"."""
    scalp = any(name.lstrip().lower().startswith("eeg") for name in names)
    return np.array([scalp and bool(_POL.match(name)) for name in names], dtype=bool)


def place_of(key: Key) -> np.ndarray:
    """Return the tabulated position of a key (3,), NaN if there is none."""
    unknown = np.full(3, np.nan)
    if key.system in ("", SOME_BIOSEMI):
        return unknown
    return table(key.system).get(key.label, unknown)


def only_biosemi(label: str | None) -> bool:
    """Whether BioSemi's caps use this label, and neither 10-05 nor EGI do."""
    there = label in table(BIOSEMI[-1]) and label not in table("ten_five")
    return there and not str(label).startswith("E")


def net_of(names: Sequence[str], measured: np.ndarray) -> str | None:
    """Recognise the net that a list of names belongs to.

    Parameters
    ----------
    names : list of str
        Of the channels of one recording.
    measured : ndarray (N, 3)
        Metres, NaN rows where unknown.

    Returns
    -------
    str or None
        The stem of a table; "biosemi" for names of a BioSemi cap of unknown size;
        None if the names are those of no net, or were measured on none that we know.
    """
    labels = _labels(names, _no_electrodes(names))
    known = np.array([x is not None for x in labels], dtype=bool) & on_a_head(measured)
    if _speak_biosemi(names, labels):
        there = {x for x in labels if x is not None and x in table(BIOSEMI[-1])}
        found = _fitting(BIOSEMI, labels, measured, known, there)
        if not found and known.sum() < MANY:
            found = _complete(there)
        return found or SOME_BIOSEMI
    numbers = {x for x in labels if x is not None and x.startswith("E")}
    if numbers:
        known &= np.array([x in numbers for x in labels], dtype=bool)
        found = _fitting(tuple(REFERENCE), labels, measured, known, numbers)
        return found if found or known.sum() >= MANY else _of_numbers(numbers)
    if known.sum() >= MANY and all(x in table("ten_five") for x in labels):
        # A part of a BioSemi cap that happens to have names of the 10-05 system only
        there = {x for x in labels if x is not None}
        found = _fitting(("ten_five", *BIOSEMI), labels, measured, known, there)
        return found if is_biosemi(found) else None
    return None


def _speak_biosemi(names: Sequence[str], labels: list[str | None]) -> bool:
    """Whether more names are BioSemi's alone than are none of BioSemi's.

    A list of 10-20 names with a "D1" for something else stays what it is, and so do
    the sources and detectors, S1 and D1, of optical recordings.
    """
    only = sum(only_biosemi(label) for label in labels)
    others = [n for n, label in zip(names, labels, strict=True) if label is None]
    return only > sum(not _BESIDE.search(name) for name in others)


def _fitting(
    nets: tuple[str, ...],
    labels: list[str | None],
    measured: np.ndarray,
    known: np.ndarray,
    there: set[str],
) -> str | None:
    """Return the net on which all labels are, nearest to where they were measured."""
    best, smallest = None, np.inf
    for net in nets:
        places = table(net)
        if not there <= {*places, f"E{REFERENCE.get(net)}"}:
            continue
        rows = [i for i in np.flatnonzero(known) if labels[i] in places]
        if not rows:
            continue
        tabulated = np.array([places[str(labels[i])] for i in rows])
        off = np.median(angles(tabulated, measured[rows]))
        many = len(rows) >= MANY
        moved = laid_over(measured[rows], tabulated) if many else measured[rows]
        rest = np.median(angles(tabulated, moved))
        # Of two that fit, the one that need not be turned: sectors of caps look alike
        score = rest + off / 4
        if rest <= (_FITS if many else _EXACT) and score < smallest:
            best, smallest = net, score
    return best


def _complete(there: set[str]) -> str | None:
    """Return the smallest cap that has all of these names, if nearly all are there."""
    for net in BIOSEMI:
        if there <= set(table(net)):
            return net if len(there) >= _COMPLETE * len(table(net)) else None
    return None


def _of_numbers(numbers: set[str]) -> str:
    """Return the net of EGI whose numbers these are, as far as numbers tell."""
    if any(int(number[1:]) > REFERENCE["hydrocel"] for number in numbers):
        return "hydrocel256"
    return "hydrocel64" if numbers - {"E65"} == set(table("hydrocel64")) else "hydrocel"
