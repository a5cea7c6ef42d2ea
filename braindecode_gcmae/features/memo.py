"""What depends on weights and montage alone is worked out once, not per window."""

from collections.abc import Callable

import torch
from torch import Tensor

from .electrodes import Electrodes, data_mask

__all__ = ["Memo", "may_look"]


class Memo:
    """Keeps the last value of a function of tensors while their contents stay.

    For inference on the CPU, where a window's time is the number of small operations:
    the value of ``function(*sources)`` is kept, and found again if every source holds
    the same numbers as then. Contents are compared, not versions, so that no way of
    changing a weight (a step, ``load_state_dict``, ``.data``) can leave a stale value.
    Nothing is kept where a gradient is wanted, while a graph is captured, on other
    devices (a comparison would wait for them), or for large values.

    A source may also be :class:`~braindecode_gcmae.features.Electrodes`. Those that a
    model keeps (``whole``) were compared when they were found, and are known by being
    the same object. Anything else (a number, a dtype) is compared by ``==``.

    Parameters
    ----------
    largest : int
        Sources of more numbers than this together are not compared.
    """

    def __init__(self, largest: int = 1 << 15):
        self.largest = largest
        self.kept: tuple = ()

    def __call__(self, function: Callable, *sources):
        """``function(*sources)``, or what it was for these contents."""
        if not _comparable(sources, self.largest):
            return function(*sources)
        kept = self.kept  # read once: other threads may replace it
        if kept and all(map(_same, sources, kept[0])):
            return kept[1]
        value = function(*sources)
        self.kept = ([_copy(source) for source in sources], value)
        return value

    # What was kept is no state: copies and pickles start empty.
    def __reduce__(self):
        return type(self), (self.largest,)


def _copy(source):
    if isinstance(source, Tensor):
        return source.clone()
    if isinstance(source, Electrodes) and data_mask(source) is not None:
        return Electrodes(*(tensor.clone() for tensor in source[:4]))
    return source


def _same(now, then) -> bool:
    if now is then:  # of tensors, what is kept is a copy
        return True
    if isinstance(now, Electrodes):
        return all(map(_same, now[:4], then[:4]))
    if isinstance(now, Tensor):
        return now.dtype == then.dtype and torch.equal(now, then)
    return now == then


def may_look(*tensors: Tensor) -> bool:
    """Whether contents may decide what is done: inference on the CPU, nothing captured.

    On other devices a look would wait for them, and what is captured (an exported
    program, a compiled or batched function) would keep what it saw for good.
    """
    if (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._functorch.peek_interpreter_stack() is not None
    ):
        return False
    for tensor in tensors:  # subclasses (fake tensors, for one) have no contents
        if type(tensor) not in (Tensor, torch.nn.Parameter) or not tensor.is_cpu:
            return False
    return True


def _comparable(sources: tuple, largest: int) -> bool:
    """Whether contents may be compared here, and it pays."""
    tensors: list[Tensor] = []
    for source in sources:
        if isinstance(source, Tensor):
            tensors.append(source)
        elif isinstance(source, Electrodes) and data_mask(source) is not None:
            # Not source[:4]: a compiler before torch 2.8 cannot slice a named tuple.
            positions, basis, exists, present, _ = source
            tensors.extend((positions, basis, exists, present))
    return may_look(*tensors) and sum(map(Tensor.numel, tensors)) <= largest
