"""The module inside what torch wraps around it."""

from torch import nn

__all__ = ["unwrap"]


def unwrap(module: nn.Module) -> nn.Module:
    """The eager module inside torch.compile's and DDP's wrappers."""
    for attribute in ("_orig_mod", "module"):
        inner = getattr(module, attribute, None)
        if isinstance(inner, nn.Module):
            return unwrap(inner)
    return module
