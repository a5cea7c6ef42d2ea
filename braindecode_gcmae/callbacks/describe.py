"""Telling representations: two callbacks that differ must not look alike.

MOABB identifies a pipeline by ``repr(get_params())``, so weights and data have to show
up in it, as hashes.
"""

import functools
import hashlib
import inspect
import json
import os
import re
from contextvars import ContextVar
from pathlib import Path
from reprlib import recursive_repr
from types import CodeType, FunctionType, MemberDescriptorType, MethodType

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNet
from torch import nn

from ..models import CheckpointError
from ..models.checkpoint import config_digest, read_checkpoint, weights_digest
from .randomness import known_numbers

__all__ = [
    "ADDRESS",
    "DescribedCallback",
    "attributes_of",
    "checkpoint_digest",
    "describe",
    "describe_function",
    "digest",
]

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_WITHIN: ContextVar[frozenset] = ContextVar("within", default=frozenset())
_OF_ANY_MODULE = set(vars(nn.Module()))


def digest(data: bytes) -> str:
    """Tell bytes apart, in twelve letters."""
    return hashlib.sha1(data).hexdigest()[:12]


def _describe_array(x: np.ndarray) -> str:
    # The bytes of an object array are addresses, of another process another.
    plain = repr(x.tolist()).encode() if x.dtype.hasobject else None
    data = np.ascontiguousarray(x).tobytes() if plain is None else plain
    return f"array{x.shape}{x.dtype}[{digest(data)}]"


def describe_function(function: FunctionType, tell=None) -> str:
    """Name, and hash of code, defaults and closure: every lambda has the same name.

    ``tell`` describes the values in it; default :func:`describe`. What the code calls
    or reads of its module is told by name alone.
    """
    within = _WITHIN.get()
    name = f"{function.__module__}.{function.__qualname__}"
    if id(function) in within:  # it calls itself
        return name
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    held = [function.__defaults__, function.__kwdefaults__, cells]
    token = _WITHIN.set(within | {id(function)})
    try:
        told = _describe_code(function.__code__) + (tell or describe)(held)
    finally:
        _WITHIN.reset(token)
    return f"{name}[{digest(told.encode())}]"


def _describe_code(code: CodeType) -> str:
    inner = [c for c in code.co_consts if isinstance(c, CodeType)]
    plain = [c for c in code.co_consts if not isinstance(c, CodeType)]
    # The order of a set's strings is another in every process.
    plain = [sorted(map(repr, c)) if isinstance(c, frozenset) else c for c in plain]
    told = f"{code.co_code.hex()}{code.co_names}{plain}"
    return told + "".join(map(_describe_code, inner))


def checkpoint_digest(path: str | Path) -> str | None:
    """Weights and configuration of a checkpoint, wherever it lies; None without."""
    try:
        config, state = read_checkpoint(path)
    except CheckpointError:
        return None
    told = json.dumps(config, sort_keys=True)
    return f"checkpoint[{weights_digest(state)[:12]} {digest(told.encode())}]"


def _describe_folder(path: Path) -> str:
    """A checkpoint's path with the hash of its weights: folders are overwritten."""
    try:
        _, state = read_checkpoint(path)
    except CheckpointError:
        return repr(str(path))
    return f"{str(path)!r}[{weights_digest(state)[:12]}]"


def _describe_dataset(x) -> str:
    """Type, length, what is said of its recordings, and a few windows.

    Recordings filtered or aligned otherwise have the same length and description.
    """
    told = getattr(x, "description", None)
    text = told.to_json(default_handler=str) if hasattr(told, "to_json") else ""
    text += _describe_windows(x)
    return f"{type(x).__name__}[{len(x)}][{digest(text.encode())}]"


def _describe_windows(x) -> str:
    """The first, the middle and the last, as they are when augmented alike."""
    rows = {0, len(x) // 2, len(x) - 1} if len(x) else set()
    try:
        with known_numbers():
            items = [x[row] for row in sorted(rows)]
        return describe([i[0] if isinstance(i, tuple) else i for i in items])
    except Exception:  # whatever has a length comes here
        return ""


def _describe_net(net) -> str:
    if getattr(net, "initialized_", False):
        return f"{type(net).__name__}({describe(net.module_)})"
    # skorch lists private sets, too, whose order is another in every process.
    parameters = sorted(net.get_params(deep=False).items())
    told = ", ".join(f"{k}={describe(v)}" for k, v in parameters if k[0] != "_")
    return f"{type(net).__name__}({told})"


@recursive_repr()
def _describe_module(module: nn.Module) -> str:
    """Weights, and what is done with them."""
    told = weights_digest(module.state_dict())[:12]
    if hasattr(module, "get_config"):
        told += f" {config_digest(module)[:12]}"
    else:
        held = {k: v for k, v in vars(module).items() if k not in _OF_ANY_MODULE}
        held.update(module.named_children())
        told += f" {digest(_describe_attributes(held).encode())}" if held else ""
    return f"{type(module).__name__}[{told}]"


@recursive_repr()
def _describe_object(value) -> str:
    """Its ``repr`` and, if that only tells where it is, what it holds."""
    text = repr(value)
    plain = ADDRESS.sub("", text)
    held = attributes_of(value)
    if plain == text or held is None:
        return plain
    return plain + _describe_attributes(held)


def attributes_of(value) -> dict | None:
    """Attributes of an object, those in slots too; None if it cannot have any."""
    named = [
        name
        for cls in type(value).__mro__
        for name, slot in vars(cls).items()
        if "__slots__" in vars(cls) and isinstance(slot, MemberDescriptorType)
    ]
    if not named and not hasattr(value, "__dict__"):
        return None
    filled = {name: getattr(value, name) for name in named if hasattr(value, name)}
    return {**filled, **getattr(value, "__dict__", {})}


def _describe_attributes(held: dict) -> str:
    """By name; without those that are noted in use, which end in an underscore."""
    told = []
    for name in sorted(held):
        if not name.endswith("_"):
            try:
                text = describe(held[name])
            except Exception:  # foreign objects may hold anything
                text = type(held[name]).__qualname__
            told.append(f"{name}: {text}")
    return f"{{{', '.join(told)}}}"


def describe(value) -> str:
    """A ``repr`` that tells weights, data and code apart by a hash.

    Parameters
    ----------
    value : object
        Modules and fitted nets are described by their weights and settings, unfitted
        nets by their parameters, arrays by their content, functions by their code,
        checkpoint folders by path and weights, data sets by length, description and a
        few windows, objects without a ``repr`` of their own by their attributes.
    """
    if isinstance(value, nn.Module):
        return _describe_module(value)
    if isinstance(value, torch.Tensor):
        return f"tensor{tuple(value.shape)}[{weights_digest({'': value})[:12]}]"
    if isinstance(value, np.ndarray):
        return _describe_array(value)
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "get_params"):  # scikit-learn
        return _describe_net(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(describe, value))}]"
    if isinstance(value, set | frozenset):
        return f"set{sorted(map(describe, value))}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {describe(v)}' for k, v in value.items())}}}"
    if isinstance(value, functools.partial):
        return f"partial{describe([value.func, value.args, value.keywords])}"
    if isinstance(value, FunctionType):
        return describe_function(value)
    if isinstance(value, MethodType):
        return f"{describe(value.__self__)}.{value.__name__}"
    if isinstance(value, str | Path):
        # Path.is_dir raises where a text is too long for a path.
        return _describe_folder(Path(value)) if os.path.isdir(value) else repr(value)
    if hasattr(value, "get_data") and hasattr(value, "info"):  # mne.Epochs
        return f"{type(value).__name__}{describe(value.get_data(copy=False))}"
    if hasattr(value, "to_numpy"):  # pandas
        return _describe_array(value.to_numpy())
    if hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        return _describe_dataset(value)
    return _describe_object(value)


class DescribedCallback:
    """``__repr__`` and ``__sklearn_clone__`` of this package's callbacks.

    A clone shares what the callback was given by reference: scikit-learn's own would
    return a fitted teacher unfitted, and copy the data. Unfitted estimators alone are
    cloned: what is set on one must not reach the user's. skorch does not set what is
    deeper than a callback (``callbacks__distil__teacher__lr``): a grid is over several
    unfitted teachers instead, ``{"callbacks__distil__teacher": [one, another]}``. Of
    fitted ones it is over the models, ``[one.module_, another.module_]``, or over whole
    callbacks: a search clones the candidates themselves.
    """

    def _arguments(self) -> list[str]:
        """By name, also those that a derived class hands on as ``**arguments``."""
        names: list[str] = []
        for cls in type(self).__mro__:
            if "__init__" in vars(cls):
                _, *given = inspect.signature(vars(cls)["__init__"]).parameters.values()
                names += [p.name for p in given if p.kind not in _ANY_NUMBER]
                if not any(p.kind is p.VAR_KEYWORD for p in given):
                    break
        return list(dict.fromkeys(names))

    def __repr__(self) -> str:
        told = (f"{name}={describe(getattr(self, name))}" for name in self._arguments())
        return f"{type(self).__name__}({', '.join(told)})"

    def __sklearn_clone__(self):
        given = {name: getattr(self, name) for name in self._arguments()}
        return type(self)(**{name: _own(value) for name, value in given.items()})


def _own(value):
    """The value itself, or a clone of an unfitted net, also in a list."""
    if isinstance(value, list | tuple):
        return type(value)(map(_own, value))
    unfitted = isinstance(value, NeuralNet) and not value.initialized_
    return clone(value) if unfitted else value
