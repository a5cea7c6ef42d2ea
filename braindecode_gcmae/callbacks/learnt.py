"""What callbacks of others have learnt, as far as reading it runs no code."""

from collections import OrderedDict

import numpy as np
import torch
from skorch.callbacks import EpochTimer

from ..models import CheckpointError
from .describe import DescribedCallback

__all__ = ["learnt", "restore_learnt"]

_NUMBERS = (type(None), bool, int, float, str, np.number, np.bool_)


def _is_plain(value) -> bool:
    """Whether a value can be written and read without running code."""
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        # Of a dict's subclasses a state_dict alone comes back as what it was.
        state = type(value) in (dict, OrderedDict)
        tensors = (torch.Tensor, *_NUMBERS)
        return state and all(
            type(k) in (str, int) and (isinstance(v, tensors) or _is_plain(v))
            for k, v in value.items()
        )
    return isinstance(value, _NUMBERS)


def _as_plain(value):
    """The same with the numbers of Python instead of numpy's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {name: _as_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_plain, value))
    return value


def _plain_part(values: dict) -> dict:
    """The entries that are plain; of dicts in lists, too, what is plain of them."""
    kept = {}
    for name, value in values.items():
        if type(value) is list and value and all(type(v) is dict for v in value):
            kept[name] = [_plain_part(v) for v in value]  # schedulers in a scheduler
        elif _is_plain(value):
            kept[name] = _as_plain(value)
    return kept


def learnt(callback) -> dict:
    """Learnt numbers of a foreign callback, and its scheduler if it has one."""
    if isinstance(callback, DescribedCallback | EpochTimer):
        return {}  # ours resume themselves; the clock goes on by itself
    ended = {n: v for n, v in vars(callback).items() if n.endswith("_")}
    state = _plain_part(ended)
    scheduler = getattr(callback, "lr_scheduler_", None)
    if scheduler is not None:
        state["lr_scheduler_"] = _plain_part(scheduler.state_dict())
    return state


def restore_learnt(callback, state: dict) -> None:
    """Put back what :func:`learnt` took, and nothing else: a file is not trusted."""
    for name, value in state.items():
        known = name in vars(callback) or not name.startswith("_")  # not "__dict__"
        if name == "lr_scheduler_":
            callback.lr_scheduler_.load_state_dict(value)
        elif name.endswith("_") and known and _is_plain(value):
            setattr(callback, name, value)
        else:
            raise CheckpointError(f"{name!r} is nothing that a callback has learnt")
