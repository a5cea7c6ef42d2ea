"""What the losses share: unit rows, dot products, precision, and checks."""

import torch
from torch import Tensor

from ..features.precision import in_full_precision

# Stands for minus infinity in a softmax: finite, so that 0 * it is 0, not NaN.
LOWEST = -1e30


def full_precision(x: Tensor) -> Tensor:
    """Widen half-precision values to float32; leave float32 and float64 alone."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def products(a: Tensor, b: Tensor) -> Tensor:
    """Dot product of every row of a with every row of b: (..., N, M).

    Autocast would round it to bfloat16, which a temperature of 0.01 does not bear.
    """
    return in_full_precision(_products, a, b)


def _products(a: Tensor, b: Tensor) -> Tensor:
    return full_precision(a) @ full_precision(b).mT


def unit_rows(x: Tensor) -> Tensor:
    """Scale rows to length 1; a zero row stays zero, with zero gradient."""
    norm = x.norm(dim=-1, keepdim=True)
    dead = norm <= 1e-12
    return (x / norm.masked_fill(dead, 1.0)).masked_fill(dead, 0.0)


def mean_where(values: Tensor, mask: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean over ``dims`` of the values under the mask; 0 where there are none."""
    count = mask.sum(dims).clamp(min=1)
    return (values * mask).sum(dims) / count


def check_positive(**arguments: float) -> None:
    """Raise a ValueError that names the argument which is not above zero."""
    for name, value in arguments.items():
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}.")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise a ValueError that names the argument and what it may be."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}.")
