"""Where a student's teacher comes from: handed over, loaded, or trained in its fold."""

import contextlib
import copy
from pathlib import Path

import numpy as np
import torch
from sklearn.base import clone
from skorch.utils import multi_indexing
from torch import nn
from torch.utils.data import Dataset, Subset

from ..models.wrapped import unwrap
from ..pretraining.registered import registered
from .stage import GCMAEPretraining
from .start import StartFrom
from .states import load_model
from .teachers import trained_head

__all__ = ["given_teacher", "held_out", "planned_teacher", "trained_teacher"]

_CHANNELS = ("chs_info", "ch_names")


def given_teacher(teacher) -> nn.Module | None:
    """The teacher as it was handed over; None if it is still to be trained.

    Raises
    ------
    TypeError
        If it is nothing that can be a teacher.
    ValueError
        If it has no trained head.
    """
    if isinstance(teacher, str | Path):
        return trained_head(load_model(teacher), teacher)
    if isinstance(teacher, nn.Module):
        return trained_head(unwrap(teacher), "the teacher")
    if not hasattr(teacher, "get_params"):
        raise TypeError(
            "teacher must be an EEGClassifier, a module or a folder, got "
            f"{type(teacher).__name__}"
        )
    if not getattr(teacher, "initialized_", False):
        return None
    return trained_head(unwrap(teacher.module_), "the teacher")


def _arguments(teacher, student) -> dict:
    """What an unfitted teacher's module is told beside its own parameters."""
    if isinstance(teacher.module, nn.Module):
        return {}
    given, inherited = teacher.get_params_for("module"), {}
    if given.get("n_outputs") is None:  # a fold may lack a class
        inherited["n_outputs"] = student.n_outputs
    if all(given.get(name) is None for name in _CHANNELS):
        config = student._braindecode_init_kwargs
        inherited |= {n: config[n] for n in _CHANNELS if config[n] is not None}
    return {**inherited, "sfreq": given.get("sfreq") or student.sfreq}


def planned_teacher(teacher, net, student) -> nn.Module:
    """An unfitted teacher's model, to be looked at before it or any other is trained.

    Raises
    ------
    ValueError
        If it does not fit the model that a pretraining in the same net will make.
    """
    module = teacher.module
    if not isinstance(module, nn.Module):
        arguments = {
            "n_outputs": student.n_outputs,
            "n_times": student.n_times,
            **teacher.get_params_for("module"),
            **_arguments(teacher, student),
        }
        if not any(arguments.get(name) is not None for name in _CHANNELS):
            arguments.setdefault("n_chans", student.n_chans)
        module = registered(module)(**arguments)
    module, stage = unwrap(module), _stage(net)
    pretrained = None if stage is None else stage.planned_teacher(net)
    if pretrained is not None:
        _start(module, pretrained, student)
    return module


def _start(module, teacher, student) -> StartFrom:
    """Weights of a pretraining: of its teacher, or of its student for a like model."""
    first, second = StartFrom(teacher), StartFrom(student)
    try:
        first.network_for(module)
    except ValueError:
        with contextlib.suppress(ValueError):
            second.network_for(module)
            return second
        raise
    return first


def trained_teacher(teacher, net, student, X, y):
    """Fit a clone of the unfitted teacher on the student's training data.

    What the student is validated on stays held out from its teacher, too.
    """
    X, y = _training_part(net, X, y)
    teacher = clone(teacher)
    inherited = _arguments(teacher, student)
    teacher.set_params(**{f"module__{k}": v for k, v in inherited.items()})
    stage = _stage(net)
    if stage is not None and stage.teacher_ is not None:
        start = _start(planned_teacher(teacher, net, student), stage.teacher_, student)
        callbacks = teacher.callbacks
        callbacks = [] if isinstance(callbacks, str) else list(callbacks or [])
        teacher.set_params(callbacks=[*callbacks, ("start", start)])
    return teacher.fit(X, y) or teacher  # EEGRegressor.fit returns None


def _stage(net) -> GCMAEPretraining | None:
    """The pretraining of the same net."""
    stages = [c for _, c in net.callbacks_ if isinstance(c, GCMAEPretraining)]
    return stages[0] if stages else None


def _parts(net, X, y) -> tuple:
    """Training and validation, as ``fit`` will split them; None without a split.

    The net's splitter is asked on a copy, and numpy's numbers are put back.
    """
    if net.train_split is None:
        return None, None
    state, splitter = np.random.get_state(), net.train_split
    try:
        net.train_split = copy.deepcopy(splitter)
        with torch.random.fork_rng(devices=[]):
            return net.get_split_datasets(X, y)
    finally:
        net.train_split = splitter
        np.random.set_state(state)


def _taken(X, rows):
    """Some of the windows of ``fit``, of whatever type they are."""
    if isinstance(X, Dataset):
        return Subset(X, rows.tolist())
    return X[rows] if hasattr(X, "get_data") else multi_indexing(X, rows)


def _training_part(net, X, y):
    train, _ = _parts(net, X, y)
    if not isinstance(train, Subset):
        return X, y
    rows = np.asarray(train.indices)
    return _taken(X, rows), None if y is None else multi_indexing(np.asarray(y), rows)


def held_out(net, X, y):
    """The windows of ``fit`` that the net will be validated on; None without."""
    known = isinstance(X, np.ndarray | torch.Tensor | Dataset)
    if not (known or hasattr(X, "get_data")):
        return None  # of a dict of inputs nothing is known
    _, valid = _parts(net, X, y)
    if valid is None or not len(valid):
        return None
    if isinstance(valid, Subset):
        return _taken(X, np.asarray(valid.indices))
    # A set apart (predefined_split), of which skorch keeps the array.
    return valid.X if hasattr(valid, "X") else valid
