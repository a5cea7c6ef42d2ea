"""Windows that are there twice."""

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
from torch.utils.data import Subset

from .data import UnlabelledWindows, subject_text

__all__ = ["not_compared", "without_twins"]

_MEMORY = 0  # no object is there


def without_twins(windows: UnlabelledWindows, others: UnlabelledWindows):
    """Leave out windows that are also among the others.

    What is in memory is compared sample by sample. Recordings that are read from disk
    are not read for it: twins are the same window of the same data set.

    Parameters
    ----------
    windows, others : UnlabelledWindows

    Returns
    -------
    UnlabelledWindows or None
        Itself, if it holds no twin; None if it holds nothing else.
    int
        How many were left out.
    """
    known = set(_contents(others))
    kept = [i for i, content in enumerate(_contents(windows)) if content not in known]
    n_twins = len(windows) - len(kept)
    if not n_twins:
        return windows, 0
    if not kept:
        return None, n_twins
    return UnlabelledWindows(Subset(windows, kept)), n_twins


def not_compared(windows: UnlabelledWindows, others: UnlabelledWindows) -> int:
    """How many windows may be twins of others, and :func:`without_twins` cannot tell.

    Their recording is none of the others', and the people are not known to be others.
    """
    places, people = map(set, zip(*_whereabouts(others), strict=True))
    found = Counter(_whereabouts(windows))
    return sum(
        count
        for (place, person), count in found.items()
        if place not in places and (person in people or None in {person, *people})
    )


def _contents(windows: UnlabelledWindows) -> Iterator:
    """Sixteen bytes of each window, or its place where it would have to be read."""
    for source in windows.sources:
        recording, rows = _recording(source)
        if recording == _MEMORY:
            contents = (np.ascontiguousarray(source[i]) for i in range(len(source)))
            yield from (blake2b(x, digest_size=16).digest() for x in contents)
        else:
            yield from ((recording, row) for row in rows.tolist())


def _whereabouts(windows: UnlabelledWindows) -> Iterator[tuple]:
    """Recording and person of each window; None for somebody unknown."""
    known = zip(windows.ids, windows.groups >= 0, strict=True)
    people = iter([subject_text(person) if told else None for person, told in known])
    for source in windows.sources:
        recording, rows = _recording(source)
        yield from ((recording, next(people)) for _ in rows)


def _recording(source) -> tuple[int, np.ndarray]:
    """Where a source's windows are: in memory, or which of which data set."""
    rows = np.arange(len(source))
    if source.in_memory:
        return _MEMORY, rows
    while not hasattr(source, "dataset"):
        if hasattr(source, "whole"):
            source, rows = source.whole, source.rows[rows]
        else:  # its channels were put into another order
            source = source.source
    return id(source.dataset), rows
