"""Windows that are there twice."""

from hashlib import blake2b

import numpy as np
from torch.utils.data import Subset

from .data import UnlabelledWindows

__all__ = ["without_twins"]


def without_twins(windows: UnlabelledWindows, others: UnlabelledWindows):
    """Leave out windows that are also among the others, sample by sample.

    Recordings that are read from disk are not compared.

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
    known = set(_digests(others)) - {None}
    kept = [i for i, digest in enumerate(_digests(windows)) if digest not in known]
    n_twins = len(windows) - len(kept)
    if not n_twins:
        return windows, 0
    if not kept:
        return None, n_twins
    return UnlabelledWindows(Subset(windows, kept), windows.ids[kept]), n_twins


def _digests(windows: UnlabelledWindows) -> list:
    """Sixteen bytes of each window's content; None where it would have to be read."""
    out: list = []
    for source in windows.sources:
        if source.in_memory:
            contents = (np.ascontiguousarray(source[i]) for i in range(len(source)))
            out += [blake2b(x, digest_size=16).digest() for x in contents]
        else:
            out += [None] * len(source)
    return out
