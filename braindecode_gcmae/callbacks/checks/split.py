"""What a net will be trained on and validated on, asked before it is."""

import copy
import inspect

import mne
import numpy as np
import torch
from skorch.helper import SliceDataset
from skorch.utils import multi_indexing
from torch.utils.data import Dataset, Subset

from ..randomness import unmoved_randomness

__all__ = [
    "has_windows",
    "held_out",
    "left_after",
    "parts",
    "taken",
    "told_of_parts",
    "told_people",
    "training_part",
]

_IN_MEMORY = np.ndarray | torch.Tensor | mne.BaseEpochs


def has_windows(X) -> bool:
    """Whether windows can be looked at: of dicts of inputs nothing is known."""
    if isinstance(X, Dataset):
        return len(X) > 0 and not isinstance(X[0][0], dict)
    return isinstance(X, _IN_MEMORY | SliceDataset)


def training_part(net, X, y) -> tuple:
    """The windows of ``fit`` that the net will be trained on.

    Returns
    -------
    X, y
        As they were given, or what the net's splitter made of them.
    rows : ndarray, slice or None
        Which of the windows they are; None if the splitter made data sets of its own.
    """
    whole, train, _ = parts(net, X, y)
    rows = _rows(train, whole)
    if rows is None:
        return train, None if y is None else getattr(train, "y", None), None
    if train is whole:
        return X, y, slice(None)
    return taken(X, rows), None if y is None else np.asarray(y)[rows], rows


def told_of_parts(teacher, net, rows) -> dict:
    """Subjects and groups of the windows (rows) that a teacher is trained on.

    Of data sets that a splitter made nobody knows whose they are.
    """
    if rows is None:
        return {}
    given = getattr(net, "fit_metadata_", {})  # of a GCMAEClassifier
    known = inspect.signature(teacher.fit).parameters
    names = [n for n in ("subjects", "groups") if n in known]
    return {n: np.asarray(given[n])[rows] for n in names if given.get(n) is not None}


def left_after(X, y, rows, without) -> tuple:
    """What :func:`training_part` gave, without some of its rows (None: all of it)."""
    if without is None:
        return X, y, rows
    stay = np.delete(np.arange(len(X)), without)
    rows = stay if isinstance(rows, slice) else rows[stay]
    return taken(X, stay), None if y is None else np.asarray(y)[stay], rows


def held_out(net, X, y):
    """The windows of ``fit`` that the net will be validated on; None without."""
    if not has_windows(X):
        return None
    whole, _, valid = parts(net, X, y)
    if valid is None or not len(valid):
        return None
    rows = _rows(valid, whole)
    if rows is not None:
        return taken(X, rows)
    # A set apart (predefined_split), of which skorch keeps the array.
    return valid.X if hasattr(valid, "X") else valid


def parts(net, X, y) -> tuple:
    """All, training and validation data, as ``fit`` will split them.

    A copy of the net's splitter is asked, which may count or draw, and random numbers
    are put back.
    """
    splitter = net.train_split
    if splitter is None:
        return X, X, None
    whole = net.get_dataset(X, y)
    try:
        net.train_split = _copied(splitter)
        with unmoved_randomness():
            return whole, *net.get_split_datasets(whole, y)
    finally:
        net.train_split = splitter


def _copied(splitter):
    """A copy with the data sets themselves (predefined_split).

    They may be large, or open files, and windows on disk are known by their data set.
    """
    held = getattr(splitter, "keywords", {}).values()
    return copy.deepcopy(splitter, {id(v): v for v in held if isinstance(v, Dataset)})


def _rows(part, whole) -> np.ndarray | None:
    """Which of all windows a part holds; None if it is no choice of them."""
    if part is whole:
        return np.arange(len(whole))
    if not isinstance(part, Subset):
        return None
    rows = _rows(part.dataset, whole)
    return None if rows is None else rows[np.asarray(part.indices)]


def taken(X, rows: np.ndarray):
    """Some of the windows of ``fit``, of whatever type they are."""
    if isinstance(X, Dataset):
        return Subset(X, rows.tolist())
    return X[rows] if hasattr(X, "get_data") else multi_indexing(X, rows)


def told_people(net):
    """Whose the windows of ``fit`` are, if a GCMAEClassifier was told; else None."""
    told = getattr(net, "fit_metadata_", {})
    ids = told.get("subjects")
    return told.get("groups") if ids is None else ids
