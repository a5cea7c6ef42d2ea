"""Many numbers told by few, so that rounding makes no other numbers of them.

Filters and alignment round differently with another number of threads or on another
processor, and the same recording must be the same.
"""

import re

import numpy as np
import torch

from ..describe import describe, digest

__all__ = ["alike", "short", "sketch", "tell_values"]

_MANY = 512  # numbers that are a signal
_SUMS = 256
_UNIT = 1e-5  # of the numbers' spread; what threads change is about one
_NEAR = 5e-4
_SKETCH = re.compile(r"<(\d\.\d{6}e[+-]\d+)((?: -?\d+)+)>")


def tell_values(x) -> str:
    """Signals up to their rounding; settings, and whatever is small, to the bit."""
    if isinstance(x, torch.Tensor):
        is_signal = x.is_floating_point() and x.numel() >= _MANY
        return sketch(x.detach().cpu().double().numpy()) if is_signal else describe(x)
    is_signal = np.issubdtype(x.dtype, np.floating) and x.size >= _MANY
    return sketch(x) if is_signal else describe(x)


def sketch(x: np.ndarray) -> str:
    """Shape, type and spread of an array, and sums of all its values with signs.

    The signs are drawn, so that a sum changes with each value and with their order;
    each is of one row, or of a few where there are many.
    """
    values = np.nan_to_num(x.astype(np.float64), posinf=0, neginf=0)
    spread = float(values.std() or np.abs(values).max() or 1)
    draw, sums = np.random.RandomState(0), []
    for rows in np.array_split(values, min(len(x), _SUMS)):
        signs = draw.randint(0, 2, rows.size, dtype=np.int8) * 2.0 - 1
        total = (rows.reshape(-1) * signs).sum() / rows.size**0.5
        sums.append(round(float(total) / spread / _UNIT))
    return f"floats{x.shape}{x.dtype}<{spread:.6e} {' '.join(map(str, sums))}>"


def short(text: str) -> str:
    """The digest of a text, and the sketches in it as they are."""
    sketches = "".join(found[0] for found in _SKETCH.finditer(text))
    return f"#{digest(_SKETCH.sub('<>', text).encode())}{sketches}"


def alike(one: str | None, two: str | None) -> bool:
    """Whether two texts are the same but for the rounding of what was sketched."""
    if one is None or two is None or one == two:
        return one == two
    if _SKETCH.sub("<>", one) != _SKETCH.sub("<>", two):
        return False
    pairs = zip(_SKETCH.findall(one), _SKETCH.findall(two), strict=True)
    return all(_near(*pair) for pair in pairs)


def _near(one: tuple[str, str], two: tuple[str, str]) -> bool:
    spreads = [float(spread) for spread, _ in (one, two)]
    sums = [np.array(told.split(), dtype=float) for _, told in (one, two)]
    return (
        len(sums[0]) == len(sums[1])
        and abs(spreads[0] - spreads[1]) <= _NEAR * max(spreads)
        and bool(np.abs(sums[0] - sums[1]).max() <= _NEAR / _UNIT)
    )
