"""Where the nodes are: positions as smooth functions, and which nodes are real."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["STILL", "Electrodes", "data_mask", "spherical_harmonics"]

STILL = 1e-7  # µV: a channel that moves no further in a window has no signal


class Electrodes(NamedTuple):
    """Where the nodes of a batch of graphs are, and which of them are real.

    Attributes
    ----------
    positions : Tensor, shape (B, N, 3)
        Head frame, metres; NaN where unknown. B = 1 if all windows share a montage.
    basis : Tensor, shape (B, N, L)
        Spherical harmonics of the positions; B likewise.
    exists : Tensor of bool, shape (B, N)
        False = padding: no node at all.
    present : Tensor of bool, shape (B, N)
        True = a node with data. An existing node without data is a *missing
        electrode*.
    whole : Tensor, optional
        The mask ``present``, if it was looked at and is true throughout, as is then
        ``exists``. In inference the time of a window is the number of its operations,
        and such a mask needs none. A mask that takes the place of ``present`` is
        another tensor, so this never outlives it.
    """

    positions: Tensor
    basis: Tensor
    exists: Tensor
    present: Tensor
    whole: Tensor | None = None


def data_mask(electrodes: Electrodes) -> Tensor | None:
    """Which nodes have data (B, N); None where all are known to have."""
    mask: Tensor | None = electrodes.present
    if torch.jit.is_scripting():
        return mask
    else:
        return None if electrodes.whole is electrodes.present else mask


def spherical_harmonics(
    positions: Tensor, degree: int, centre_height: float = 0.04
) -> Tensor:
    r"""Real spherical harmonics of the electrodes' directions.

    :math:`\phi_{lm}(p) = \sqrt{4\pi}\, Y_{lm}((p - c) / |p - c|)` about the centre c of
    the sphere, of mean square one over it. They turn "which electrode" into a smooth
    function of where it is, which is what makes weights independent of the montage.

    Parameters
    ----------
    positions : Tensor, shape (..., 3)
        Head frame, metres. Rows that are not finite give the constant harmonic alone:
        an electrode that could be anywhere.
    degree : int
        Highest degree l.
    centre_height : float
        The sphere's centre in metres above the origin of the head frame (which is
        between the ears).

    Returns
    -------
    Tensor, shape (..., (degree + 1)**2)
        Ordered by l, then m from -l to l.
    """
    # Weights mean what they mean about this centre, which is why it is not the one that
    # montage measures angles from, 15 mm further to the front.
    known = torch.isfinite(positions).all(-1, keepdim=True)
    p = torch.where(known, positions, torch.ones_like(positions))
    x, y, z = p[..., 0], p[..., 1], p[..., 2] - centre_height
    radius = (x * x + y * y + z * z).sqrt().clamp_min(1e-9)
    x, y, z = x / radius, y / radius, z / radius
    cosine = [torch.ones_like(x)]
    sine = [torch.zeros_like(x)]
    for m in range(degree):
        cosine.append(x * cosine[m] - y * sine[m])
        sine.append(x * sine[m] + y * cosine[m])
    legendre = _legendre(z, degree)
    values = []
    for order in range(degree + 1):
        for m in range(-order, order + 1):
            k = abs(m)
            ratio = math.factorial(order - k) / math.factorial(order + k)
            norm = math.sqrt((2 * order + 1) * ratio * (1 if m == 0 else 2))
            angle = sine[k] if m < 0 else cosine[k]
            values.append(norm * legendre[order][k] * angle)
    basis = torch.stack(values, -1)
    anywhere = torch.zeros_like(basis)
    anywhere[..., 0] = 1.0
    return torch.where(known, basis, anywhere)


def _legendre(z: Tensor, degree: int) -> list[list[Tensor]]:
    """Associated Legendre functions over sin(theta)**m, by their recursion."""
    table = [[torch.ones_like(z)]]
    for order in range(1, degree + 1):
        row: list[Tensor] = []
        for m in range(order + 1):
            if m == order:
                row.append((2 * m - 1) * table[m - 1][m - 1])
            elif m == order - 1:
                row.append((2 * m + 1) * z * table[m][m])
            else:
                upper = (2 * order - 1) * z * table[order - 1][m]
                lower = (order + m - 1) * table[order - 2][m]
                row.append((upper - lower) / (order - m))
        table.append(row)
    return table
