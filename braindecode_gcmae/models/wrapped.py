"""A module without what torch wraps around it, or for a while in evaluation mode."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating", "unwrap"]


def unwrap(module: nn.Module) -> nn.Module:
    """The eager module inside torch.compile's and DDP's wrappers."""
    for attribute in ("_orig_mod", "module"):
        inner = getattr(module, attribute, None)
        if isinstance(inner, nn.Module):
            return unwrap(inner)
    return module


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; then every part has the mode that it had."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode
