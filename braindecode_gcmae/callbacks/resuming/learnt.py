"""What callbacks of others have learnt, as far as reading it runs no code."""

from collections import OrderedDict
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType

import numpy as np
import torch
from skorch.callbacks import EpochScoring, EpochTimer
from torch import nn

from ...models import CheckpointError
from ..describe import DescribedCallback
from .fingerprint import is_known

__all__ = ["learnt", "restore_learnt", "unkept"]

_NUMBERS = (type(None), bool, int, float, str, np.number, np.bool_)
_OF_AN_EPOCH = {"y_trues_", "y_preds_"}  # all that is validated on: not to be kept
_ARRAY, _ON_DEVICE = "array of numpy", "tensor on the device"
_CODE = (type, BuiltinFunctionType, FunctionType, MethodType, ModuleType)


def _is_tensor(value) -> bool:
    """Of a kind that is read without running code: no other class, no attributes."""
    return type(value) in (torch.Tensor, nn.Parameter) and not vars(value)


def _is_plain(value) -> bool:
    """Whether a value can be written and read without running code."""
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        # Of a dict's subclasses a state_dict alone comes back as what it was.
        state = type(value) in (dict, OrderedDict)
        return state and all(
            type(k) in (str, int) and _is_plain(v) for k, v in value.items()
        )
    if type(value) is np.ndarray:
        return value.dtype.kind in "biufc" and value.dtype.char not in "gG"
    return isinstance(value, _NUMBERS) or _is_tensor(value)


def _as_plain(value):
    """The same with the numbers of Python and tensors instead of numpy's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        native = np.array(value, value.dtype.newbyteorder("="), order="C")
        return {_ARRAY: torch.from_numpy(native)}
    if isinstance(value, torch.Tensor) and value.device.type != "cpu":
        return {_ON_DEVICE: value}
    if isinstance(value, dict):
        return {name: _as_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_plain, value))
    return value


def _as_it_was(value, device):
    """Arrays and tensors of a device as the callback had them."""
    if isinstance(value, list | tuple):
        return type(value)(_as_it_was(part, device) for part in value)
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((name, part),) = value.items()
        if name == _ARRAY and isinstance(part, torch.Tensor):
            return part.numpy()
        if name == _ON_DEVICE and isinstance(part, torch.Tensor):
            return part.to(device)
    return {name: _as_it_was(part, device) for name, part in value.items()}


def _plain_part(values: dict) -> dict:
    """The entries that are plain; of dicts in lists, too, what is plain of them."""
    kept = {}
    for name, value in values.items():
        if type(value) is list and value and all(type(v) is dict for v in value):
            kept[name] = [_plain_part(v) for v in value]  # schedulers in a scheduler
        elif _is_plain(value):
            kept[name] = _as_plain(value)
    return kept


def _learnt(callback) -> dict:
    """What has been noted in training, by the mark of scikit-learn."""
    ended = {n: v for n, v in vars(callback).items() if n.endswith("_")}
    left_out = _OF_AN_EPOCH if isinstance(callback, EpochScoring) else ()
    return {n: v for n, v in ended.items() if n not in left_out}


def learnt(callback) -> dict:
    """Learnt numbers of a foreign callback, and its scheduler if it has one."""
    if isinstance(callback, DescribedCallback | EpochTimer):
        return {}  # ours resume themselves; the clock goes on by itself
    state = _plain_part(_learnt(callback))
    scheduler = getattr(callback, "lr_scheduler_", None)
    if scheduler is not None:
        state["lr_scheduler_"] = _plain_part(scheduler.state_dict())
    return state


def unkept(callback, kept: dict) -> list[str]:
    """Names of what a user's callback has learnt and :func:`learnt` has not kept.

    Callbacks of libraries make such things anew, and code is no state.
    """
    if is_known(type(callback)):
        return []
    left = {n: v for n, v in _learnt(callback).items() if n not in kept}
    return [name for name, value in left.items() if not isinstance(value, _CODE)]


def restore_learnt(callback, state: dict, device="cpu") -> None:
    """Put back what :func:`learnt` took, and nothing else: a file is not trusted."""
    for name, value in state.items():
        known = name in vars(callback) or not name.startswith("_")  # not "__dict__"
        if not (name.endswith("_") and known and _is_plain(value)):
            raise CheckpointError(f"{name!r} is nothing that a callback has learnt")
        try:
            value = _as_it_was(value, device)
        except (RuntimeError, TypeError) as error:  # no array has such numbers
            raise CheckpointError(f"{name!r} is damaged: {error}") from error
        if name == "lr_scheduler_":
            callback.lr_scheduler_.load_state_dict(value)
        else:
            setattr(callback, name, value)
