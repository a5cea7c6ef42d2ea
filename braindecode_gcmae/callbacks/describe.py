"""Telling representations: two callbacks that differ must not look alike.

MOABB identifies a pipeline by ``repr(get_params())``, so weights and data have to show
up in it, as hashes.
"""

import hashlib
import inspect

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import nn

from ..models.checkpoint import weights_digest

__all__ = ["DescribedCallback", "describe"]


def _array_digest(x: np.ndarray) -> str:
    return hashlib.sha1(np.ascontiguousarray(x).tobytes()).hexdigest()[:12]


def describe(value) -> str:
    """A ``repr`` that tells weights and data apart by a hash.

    Parameters
    ----------
    value : object
        Modules and fitted nets are described by their weights, unfitted nets by their
        parameters, arrays by their content, data sets by type and length.
    """
    if isinstance(value, nn.Module):
        return f"{type(value).__name__}[{weights_digest(value.state_dict())[:12]}]"
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        return f"array{value.shape}[{_array_digest(value)}]"
    if isinstance(value, BaseEstimator) or hasattr(value, "module"):
        if getattr(value, "initialized_", False):
            return f"{type(value).__name__}({describe(value.module_)})"
        parameters = sorted(value.get_params(deep=False).items())
        told = ", ".join(f"{name}={describe(v)}" for name, v in parameters)
        return f"{type(value).__name__}({told})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(describe, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k}: {describe(v)}' for k, v in value.items())}}}"
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "get_data") and hasattr(value, "info"):  # mne.Epochs
        return f"{type(value).__name__}{describe(value.get_data(copy=False))}"
    if hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        if not isinstance(value, str):
            return f"{type(value).__name__}[{len(value)}]"
    return repr(value)


class DescribedCallback:
    """``__repr__`` and ``__sklearn_clone__`` of this package's callbacks.

    A clone shares what the callback was given by reference: scikit-learn's own would
    return a fitted teacher unfitted, and copy the data.
    """

    def _arguments(self) -> list[str]:
        names = inspect.signature(type(self).__init__).parameters
        return [name for name in names if name != "self"]

    def __repr__(self) -> str:
        told = (f"{name}={describe(getattr(self, name))}" for name in self._arguments())
        return f"{type(self).__name__}({', '.join(told)})"

    def __sklearn_clone__(self):
        return type(self)(**{name: getattr(self, name) for name in self._arguments()})
