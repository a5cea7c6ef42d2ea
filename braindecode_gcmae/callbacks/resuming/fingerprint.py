"""What a run is, as text that is the same in every process.

No addresses, no order of a set, and nothing of where, how fast and how loudly it runs.
"""

import functools
import inspect
import os
import re
from pathlib import Path
from reprlib import recursive_repr
from types import FunctionType, MethodType

import mne
import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback
from skorch.helper import SliceDataset
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Subset, TensorDataset

from ...models import CheckpointError
from ...models.wrapped import unwrap
from ...pretraining import UnlabelledWindows
from ...pretraining.processes import n_processes
from ...warning import warn
from ..cuda_graph import CudaGraph
from ..describe import (
    ADDRESS,
    attributes_of,
    checkpoint_digest,
    describe,
    describe_function,
)
from ..randomness import known_numbers
from .sketch import alike, short, tell_values

__all__ = ["check_run", "fingerprint", "is_known"]

_READ = 16  # windows that are read of a data set on disk
_WHOLE = 1 << 26  # bytes of an array of which every one is looked at
_FEW = 4  # values along each axis of a window of a larger one
_SHORT = 40  # characters that are told as they are
_OTHER_FOLDER = (
    "one folder is for one run. Give this one a new folder; in a cross-validation or a "
    "grid search give each fit its own, or leave ResumableCheckpoint out"
)
_PACKAGES = {"braindecode", "braindecode_gcmae", "skorch", "sklearn", "torch"}
_LOGGERS = "skorch.callbacks.logging"
_TRAINED = ("module", "criterion", "teacher", "student")
_SIZES = ("batch_size", "iterator_train__batch_size")
_HOW = {
    *("accelerator", "compile", "device", "predict_nonlinearity", "use_caching"),
    *("torch_load_kwargs", "unwrap_after_train", "verbose", "warm_start"),
    # loaders
    *("multiprocessing_context", "num_workers", "persistent_workers", "pin_memory"),
    *("pin_memory_device", "prefetch_factor", "timeout"),
    # places that callbacks write to
    *("dirname", "event_name", "f_criterion", "f_history", "f_optimizer", "f_params"),
    *("f_pickle", "fn_prefix", "folder", "sink"),
}


# ------------------------------------------------------------------------------- runs
def fingerprint(net, X, y, callbacks: list) -> dict[str, dict[str, str]]:
    """Tell a run from every other, by data, parameters and callbacks.

    Windows augmented at random are the same ones each time, and no random state is
    another afterwards.

    Parameters
    ----------
    net : NeuralNet
    X, y : as in ``fit``
        Labels, and what is in memory of the windows, count in full (of large arrays a
        few values of each window), but for rounding; of those on disk a few are read.
    callbacks : list of (str, Callback)

    Returns
    -------
    dict
        ``"run"``: what makes another run of it; ``"foreign"``: callbacks of users,
        of which nobody knows whether they train or only watch. Both by name.
    """
    with known_numbers():
        return _fingerprint(net, X, y, callbacks)


def _fingerprint(net, X, y, callbacks: list) -> dict[str, dict[str, str]]:
    data = {"data": X, "labels": y, **getattr(net, "fit_metadata_", {})}
    if isinstance(X, UnlabelledWindows):
        data["groups"] = X.ids
    told = {name: _told(value) for name, value in data.items() if value is not None}
    run = {name: short(text) for name, text in told.items()}
    run.update({name: _short(_told(v)) for name, v in _settings(net).items()})
    run.pop("max_epochs", None)  # a run may be prolonged
    run["sizes of the module"] = _short(_told(_sizes(unwrap(net.module_))))
    foreign: dict[str, str] = {}
    for name, callback in callbacks:
        if not _only_tells(callback):
            part = run if is_known(type(callback)) else foreign
            part[f"callbacks__{name}"] = _short(_told(callback))
    return {"run": run, "foreign": foreign}


def check_run(file, saved: dict | None, here: dict) -> None:
    """Refuse to go on with another run than the one that a file was written in.

    Parameters
    ----------
    file : Path
    saved, here : dict
        Fingerprints; None where an earlier version wrote none.

    Raises
    ------
    CheckpointError
        Naming what differs.

    Warns
    -----
    UserWarning
        If callbacks differ of which it is not known whether they train.
    """
    if saved is None:
        raise CheckpointError(
            f"{file} was written by an earlier version, which did not note the run it "
            f"is of: {_OTHER_FOLDER}"
        )
    if not all(_is_text(saved.get(part)) for part in ("run", "foreign")):
        raise CheckpointError(f"{file} is damaged: it does not tell its run")
    differ = _differences(saved["run"], here["run"])
    if differ:
        raise CheckpointError(
            f"{file} does not fit this run, it is of another one. They differ in "
            f"{differ}: {_OTHER_FOLDER}"
        )
    differ = _differences(saved["foreign"], here["foreign"])
    if differ:
        warn(
            f"{file} was written with other callbacks: {differ}. If they only watch, "
            "all is well; if they shape the training, this is another run and needs "
            "another folder"
        )


def _is_text(part) -> bool:
    return isinstance(part, dict) and all(
        isinstance(text, str) for pair in part.items() for text in pair
    )


def _differences(there: dict[str, str], here: dict[str, str]) -> str:
    """Names of what differs, with the values where they are short; "" if nothing."""
    names = [*here, *(name for name in there if name not in here)]
    pairs = [(name, there.get(name), here.get(name)) for name in names]
    return ", ".join(_difference(*pair) for pair in pairs if not alike(*pair[1:]))


def _difference(name: str, there: str | None, here: str | None) -> str:
    one, two = ("not given" if text is None else text for text in (there, here))
    if one[:1] == "#" or two[:1] == "#":
        return name
    return f"{name} ({one:.60} there, {two:.60} here)"


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else short(text)


def _settings(net) -> dict:
    """Parameters of a net that make its training what it is."""
    given = {}
    for name, value in _what(net.get_params(deep=False)).items():
        if name.startswith(("callbacks", "compile", "iterator_valid")):
            continue
        if name in _TRAINED and isinstance(value, nn.Module):
            value = _architecture(unwrap(value))
        elif name in _SIZES and isinstance(value, int):
            value *= n_processes(net)  # other processes may go on, with their share
        given[name] = value
    return given


def _architecture(module: nn.Module) -> list:
    """A module without the weights that it starts from.

    It is trained in place, or made anew without a seed by the script that goes on.
    """
    fixed = next(module.parameters(), None) is None  # class weights of a criterion
    arguments = getattr(module, "_braindecode_init_kwargs", {})
    told = re.sub(r"weights=\w+", "", repr(module))  # our models tell a digest
    return [type(module), told, arguments, *([module] if fixed else [])]


def _sizes(module: nn.Module) -> dict:
    tensors = module.state_dict().items()
    # A lazy one has no size before the first step.
    return {k: v.shape for k, v in tensors if torch.is_tensor(v) and not is_lazy(v)}


def _what(given: dict) -> dict:
    """Parameters of what is done, without those of where and how."""
    return {
        name: given[name]
        for name in sorted(given, key=str)
        if not str(name).startswith("_") and str(name).split("__")[-1] not in _HOW
    }


# -------------------------------------------------------------------------- callbacks
def _root(thing) -> str:
    return (getattr(thing, "__module__", None) or "").split(".")[0]


def is_known(cls: type) -> bool:
    """Whether a class is of a package that marks what is noted, or derived of one."""
    return any(_root(c) in _PACKAGES for c in cls.__mro__ if c is not Callback)


def _only_tells(callback) -> bool:
    """Whether it is one of skorch's loggers, or changes only how fast a step is."""
    kinds = type(callback).__mro__
    return CudaGraph in kinds or any(cls.__module__ == _LOGGERS for cls in kinds)


def _parameters(thing) -> dict:
    """What a callback or another object was given, not what it has noted since."""
    held = attributes_of(thing) or {}
    given = {k: v for k, v in held.items() if not k.endswith("_")}
    if not is_known(type(thing)):  # others do not mark what they note
        names = inspect.signature(type(thing).__init__).parameters
        given = {k: v for k, v in given.items() if k in names}
    return _what(given)


# ------------------------------------------------------------------------------- text
def _told(value) -> str:
    try:
        return ADDRESS.sub("", _tell(value))
    except Exception:  # what cannot be told may still be trained on
        return type(value).__qualname__


def _tell(value) -> str:
    """As :func:`describe`, but the same in every process, and little is read."""
    for kind, tell in _WAYS:
        if isinstance(value, kind):
            return tell(value)
    if isinstance(value, NeuralNet) and not value.initialized_:
        told = {**_settings(value), "callbacks": value.callbacks}
        return f"{type(value).__name__}({_told(told)})"
    sized = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if sized and not hasattr(value, "to_numpy"):  # pandas is told whole
        return _tell_dataset(value)
    return _tell_object(value) if _tells_an_address(value) else describe(value)


def _tells_an_address(value) -> bool:
    """Whether the ``repr`` of an object only tells where it is."""
    plain = attributes_of(value) is not None and not hasattr(value, "get_params")
    return plain and bool(ADDRESS.search(repr(value)))


@recursive_repr()
def _tell_object(value) -> str:
    return f"{describe(type(value))}({_told(_parameters(value))})"


def _tell_callback(callback: Callback) -> str:
    return describe(type(callback)) if _only_tells(callback) else _tell_object(callback)


def _tell_function(function: FunctionType) -> str:
    if _root(function) in _PACKAGES:  # whose versions differ in their code
        return f"{function.__module__}.{function.__qualname__}"
    return describe_function(function, _told)


def _tell_dict(given: dict) -> str:
    return f"{{{', '.join(f'{k}: {_told(v)}' for k, v in _what(given).items())}}}"


def _tell_list(values) -> str:
    return f"[{', '.join(map(_told, values))}]"


def _tell_path(path: str | Path) -> str:
    """A checkpoint by what it holds: it may be moved. Any other text as it is.

    A folder that is not there yet is the same one when it is.
    """
    found = checkpoint_digest(path) if os.path.isdir(path) else None
    return found or repr(str(path))


# ------------------------------------------------------------------------------- data
def _rows(n: int) -> list[int]:
    """Some of n windows, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, _READ)).round().astype(int)).tolist()


def _few(shape) -> tuple:
    """Slices that take a few values along each axis."""
    return tuple(slice(None, None, max(1, n // _FEW)) for n in shape)


def _tell_array(x) -> str:
    if x.nbytes <= _WHOLE:
        return tell_values(x)
    parts = [x[_rows(len(x))]]
    if not isinstance(x, np.memmap):  # which would be read from disk
        parts.append(x[(slice(None), *_few(x.shape[1:]))])
    return f"{tuple(x.shape)}{[tell_values(part) for part in parts]}"


def _tell_epochs(x: mne.BaseEpochs) -> str:
    if x.preload:
        data = x.get_data(copy=False)
    else:
        x.drop_bad(verbose=False)  # as fit does by reading them
        data = x.get_data(item=_rows(len(x)), copy=False, verbose=False)
    return f"{_tell_array(x.events)}{_tell_array(data)}"


def _tell_dataset(x) -> str:
    read = [x[i] for i in _rows(len(x))]
    if isinstance(x, UnlabelledWindows):
        read = [item["x"] for item, _ in read]  # groups have a part of their own
    return f"{len(x)}{_told(_in_memory(x))}{_told(read)}"


def _in_memory(x) -> list:
    """What is known of every window without reading it.

    A few windows that are read can be the same in two folds.
    """
    if isinstance(x, Subset):
        return [np.asarray(x.indices), *_in_memory(x.dataset)]
    if isinstance(x, SliceDataset):
        return [x.idx, np.asarray(x.indices_), *_in_memory(x.dataset)]
    if isinstance(x, UnlabelledWindows):
        return _of_sources(x.sources)
    if isinstance(x, TensorDataset):
        return list(x.tensors)
    if hasattr(x, "datasets"):
        return [_in_memory(part) for part in x.datasets]
    columns = [getattr(x, name, None) for name in ("crop_inds", "X", "y")]
    told = [c for c in columns if isinstance(c, list | np.ndarray | torch.Tensor)]
    description = getattr(x, "description", None)
    if hasattr(description, "to_json"):
        told.append(description.to_json(default_handler=str))
    return told


def _of_sources(sources: list) -> list:
    told: list = []
    recordings: dict = {}  # by address, for this call: parts share their recording
    for source in sources:
        if source.in_memory:
            few = _few(source.shape)
            told.append(np.stack([source[i][few] for i in range(len(source))]))
            continue
        while (inner := _inside(source)) is not None:
            told.append(np.asarray(source.rows))
            source = inner
        number, _ = recordings.setdefault(id(source), (len(recordings), source))
        told.append(number)
    return told + [_in_memory(source.dataset) for _, source in recordings.values()]


def _inside(source):
    """What a part of a recording, or a reordered one, is made of."""
    return getattr(source, "whole", getattr(source, "source", None))


_WAYS = (
    (np.generic, lambda number: repr(number.item())),
    (np.ndarray | torch.Tensor, _tell_array),
    (mne.BaseEpochs, _tell_epochs),
    (Callback, _tell_callback),
    (dict, _tell_dict),
    (list | tuple, _tell_list),
    (functools.partial, lambda p: f"partial{_told([p.func, p.args, p.keywords])}"),
    (FunctionType, _tell_function),
    (MethodType, lambda m: f"{_told(m.__self__)}.{m.__name__}"),
    (str | Path, _tell_path),
    (nn.Module | type, describe),
)
