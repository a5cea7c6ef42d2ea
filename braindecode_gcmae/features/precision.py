"""Parts of a model that half precision would spoil."""

from collections.abc import Callable

import torch

__all__ = ["in_full_precision"]

_USUAL = ("cpu", "cuda")  # every torch has an autocast for these


def in_full_precision(function: Callable, x: torch.Tensor, *others):
    """``function(x, *others)`` with autocast off.

    Where it is off already nothing is switched: a switch costs a small window as much
    as several operations. Torch refuses to be asked about devices that it has no
    autocast for.
    """
    kind = x.device.type
    if kind not in _USUAL and not torch.amp.is_autocast_available(kind):
        return function(x, *others)
    if not torch.is_autocast_enabled(kind):
        return function(x, *others)
    with torch.autocast(kind, enabled=False):
        return function(x, *others)
