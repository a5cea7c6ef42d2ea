"""Formulas of electrode graphs: adjacency, Laplacian, Chebyshev basis."""

import torch
from torch import Tensor

__all__ = [
    "among",
    "chebyshev_basis",
    "coherence",
    "geometric_adjacency",
    "learned_adjacency",
    "row_correlation",
    "scaled_laplacian",
    "without_diagonal",
]


def without_diagonal(adjacency: Tensor) -> Tensor:
    """The same edges, but for those from a node to itself."""
    n = adjacency.shape[-1]
    off = 1 - torch.eye(n, dtype=adjacency.dtype, device=adjacency.device)
    return adjacency * off


def among(adjacency: Tensor, present: Tensor) -> Tensor:
    """Empty diagonal, and no edge at an absent electrode (not even a NaN one)."""
    both = present.unsqueeze(-1) & present.unsqueeze(-2)
    return without_diagonal(
        torch.where(both, adjacency, torch.zeros_like(adjacency[..., :1, :1]))
    )


def row_correlation(x: Tensor) -> Tensor:
    """Pearson correlation between the rows: (..., N, F) -> (..., N, N).

    The Gram matrix of the row-centred rows of unit length; a constant row
    correlates with nothing (0, also with itself).

    Parameters
    ----------
    x : Tensor, shape (..., N, F)
        Features of N nodes.

    Returns
    -------
    Tensor, shape (..., N, N)
    """
    centred = x - x.mean(-1, keepdim=True)
    norm = torch.linalg.vector_norm(centred, dim=[-1], keepdim=True)
    rounding = 1e-6 * torch.linalg.vector_norm(x, dim=[-1], keepdim=True)
    constant = ~(norm > rounding)  # or not a number
    # Filled twice: the gradient of a constant row is zero, not NaN.
    unit = (centred / norm.masked_fill(constant, 1.0)).masked_fill(constant, 0.0)
    return unit @ unit.transpose(-1, -2)


def coherence(spectrum_real: Tensor, spectrum_imag: Tensor) -> Tensor:
    r"""Magnitude-squared coherence averaged over frequencies.

    .. math:: \frac{1}{F} \sum_f \frac{|S_{ij}(f)|^2}{S_{ii}(f)\, S_{jj}(f)}

    Parameters
    ----------
    spectrum_real, spectrum_imag : Tensor, shape (B, N, S, F)
        Fourier coefficients of S segments.

    Returns
    -------
    Tensor, shape (B, N, N)
    """
    # Coefficients of unit power first: no unit of the signal is too small.
    power = (spectrum_real.square() + spectrum_imag.square()).sum(2, keepdim=True)
    scale = power.clamp_min(1e-30).rsqrt()
    real = (spectrum_real * scale).permute(0, 3, 1, 2)
    imag = (spectrum_imag * scale).permute(0, 3, 1, 2)
    real_t, imag_t = real.transpose(-1, -2), imag.transpose(-1, -2)
    in_phase = real @ real_t + imag @ imag_t
    quadrature = imag @ real_t - real @ imag_t
    return (in_phase.square() + quadrature.square()).mean(1)


def geometric_adjacency(positions: Tensor, scale: float = 0.05) -> Tensor:
    r"""Gaussian kernel of distance, :math:`A_{ij} = e^{-d_{ij}^2 / 2 s^2}`.

    Parameters
    ----------
    positions : Tensor, shape (..., N, 3)
        Metres. Electrodes without a finite position have no edge.
    scale : float
        Kernel width s in metres.

    Returns
    -------
    Tensor, shape (..., N, N)
    """
    known = torch.isfinite(positions).all(-1)
    p = torch.where(known.unsqueeze(-1), positions, torch.zeros_like(positions))
    difference = p.unsqueeze(-2) - p.unsqueeze(-3)
    distance = difference.square().sum(-1)
    return among(torch.exp(-0.5 * distance / scale**2), known)


def learned_adjacency(embed: Tensor, bias: Tensor, basis: Tensor) -> Tensor:
    """Edges as a function of places: (r, L), (), (..., N, L) -> (..., N, N)."""
    code = basis @ embed.T
    return torch.sigmoid(code @ code.transpose(-1, -2) + bias)


def scaled_laplacian(adjacency: Tensor) -> Tensor:
    r"""Rescaled normalised Laplacian with :math:`\lambda_{max} = 2`.

    .. math:: \tilde L = 2 L_{sym} / \lambda_{max} - I = -D^{-1/2} A D^{-1/2}

    Its spectrum is in [-1, 1], where Chebyshev polynomials are bounded. As in
    torch-geometric's ``ChebConv``, an isolated node has a zero row.

    Parameters
    ----------
    adjacency : Tensor, shape (..., N, N)
        Symmetric, non-negative; the diagonal is ignored.

    Returns
    -------
    Tensor, shape (..., N, N)

    References
    ----------
    Defferrard et al. (2016), https://arxiv.org/abs/1606.09375
    """
    adjacency = without_diagonal(adjacency)
    degree = adjacency.sum(-1)
    linked = degree > 0
    inverse = torch.where(linked, degree, torch.ones_like(degree)).rsqrt() * linked
    return -inverse.unsqueeze(-1) * adjacency * inverse.unsqueeze(-2)


def chebyshev_basis(laplacian: Tensor, order: int) -> Tensor:
    r"""Chebyshev polynomials :math:`T_0 \dots T_{K-1}` of a scaled Laplacian.

    :math:`T_0 = I,\; T_1 = \tilde L,\; T_k = 2 \tilde L T_{k-1} - T_{k-2}`.

    Parameters
    ----------
    laplacian : Tensor, shape (..., N, N)
    order : int
        Number of polynomials, K >= 1.

    Returns
    -------
    Tensor, shape (order, ..., N, N)

    Raises
    ------
    ValueError
        If ``order`` is below one.
    """
    if order < 1:
        raise ValueError(f"order must be at least 1, got {order}")
    n = laplacian.shape[-1]
    identity = torch.eye(n, dtype=laplacian.dtype, device=laplacian.device)
    basis = [identity.expand_as(laplacian), laplacian][:order]
    while len(basis) < order:
        basis.append(2 * laplacian @ basis[-1] - basis[-2])
    return torch.stack(basis)
