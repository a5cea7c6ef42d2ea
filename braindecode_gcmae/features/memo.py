"""What depends on weights and montage alone is worked out once, not per window."""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Memo", "may_look"]


class Memo:
    """Keeps the last value of a function of tensors while their contents stay.

    For inference on the CPU, where a window's time is the number of small operations:
    the value of ``function(*sources)`` is kept, and found again if every source holds
    the same numbers as then. Contents are compared, not versions, so that no way of
    changing a weight (a step, ``load_state_dict``, ``.data``) can leave a stale value.
    Nothing is kept where a gradient is wanted, while a graph is captured, on other
    devices (a comparison would wait for them), or for large values.

    Parameters
    ----------
    largest : int
        Sources of more numbers than this together are not compared.
    """

    def __init__(self, largest: int = 1 << 15):
        self.largest = largest
        self.kept: tuple = ()

    def __call__(self, function: Callable, *sources: Tensor):
        """``function(*sources)``, or what it was for these contents."""
        if not _comparable(sources, self.largest):
            return function(*sources)
        kept = self.kept  # read once: other threads may replace it
        if kept and all(map(_same, sources, kept[0])):
            return kept[1]
        value = function(*sources)
        self.kept = ([source.clone() for source in sources], value)
        return value

    # What was kept is no state: copies and pickles start empty.
    def __deepcopy__(self, memo):
        return type(self)(self.largest)

    def __reduce__(self):
        return type(self), (self.largest,)


def _same(now: Tensor, then: Tensor) -> bool:
    return now.dtype == then.dtype and torch.equal(now, then)


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
    # Subclasses (fake tensors, for one) have no contents.
    return all(
        type(tensor) in (Tensor, torch.nn.Parameter) and tensor.is_cpu
        for tensor in tensors
    )


def _comparable(sources: tuple[Tensor, ...], largest: int) -> bool:
    """Whether contents may be compared here, and it pays."""
    return may_look(*sources) and sum(map(Tensor.numel, sources)) <= largest
