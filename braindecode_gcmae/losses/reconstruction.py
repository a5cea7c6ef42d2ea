"""Reconstruction of node features and of the graph (METHOD A.5, A.6, D13)."""

import torch
from torch import Tensor

from ..features.precision import in_full_precision
from ..graph import row_correlation
from .rows import (
    check_choice,
    check_positive,
    full_precision,
    mean_where,
    products,
    unit_rows,
)

__all__ = ["reconstruction_loss", "scaled_cosine_error"]


def _cosine_errors(reconstruction: Tensor, target: Tensor, gamma: float) -> Tensor:
    """Scaled cosine error of each row, (..., F) -> (...)."""
    if not gamma >= 1:
        raise ValueError(f"gamma must be at least 1, got {gamma}.")
    cosine = (unit_rows(reconstruction) * unit_rows(target)).sum(-1)
    return (1 - cosine).clamp(min=0) ** gamma


def scaled_cosine_error(
    reconstruction: Tensor, target: Tensor, *, gamma: float = 2.0
) -> Tensor:
    r"""Compare directions of feature vectors, easy rows weighing less.

    .. math:: \operatorname{mean} (1 - \cos(x, \tilde x))^\gamma

    0 if parallel, 1 if orthogonal (or one of them zero), :math:`2^\gamma` if
    opposite.

    Parameters
    ----------
    reconstruction, target : Tensor, shape (..., F)
    gamma : float
        Sharpness, at least 1.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If ``gamma`` is below 1.

    References
    ----------
    METHOD A.6; GraphMAE, eq. 2, arXiv:2205.10803.
    """
    return _cosine_errors(
        full_precision(reconstruction), full_precision(target), gamma
    ).mean()


def reconstruction_loss(
    reconstruction: Tensor,
    target: Tensor,
    *,
    masked: Tensor | None = None,
    present: Tensor | None = None,
    form: str = "sce",
    gamma: float = 2.0,
    structure: float = 1.0,
    structure_form: str = "correlation",
    adjacency: Tensor | None = None,
) -> Tensor:
    r"""Compare the reconstructed with the original node features and graph.

    .. math:: \operatorname{mean}_{i \in masked} e(x_i, \tilde x_i)
              + w \operatorname{mean}_{ij} (A_{ij} - \tilde A_{ij})^2

    e is the scaled cosine error or the mean squared error over features, and
    :math:`\tilde A` a Gram matrix of the reconstruction. The paper's form is
    ``masked=None, form="mse", structure_form="gram"``.

    Parameters
    ----------
    reconstruction, target : Tensor, shape (B, N, F)
        No gradient reaches the target: learned features cannot make it easy.
    masked : Tensor, shape (B, N), bool, optional
        Nodes whose features are compared. None = all of them.
    present : Tensor, shape (B, N), bool, optional
        Nodes that were measured; all others take no part in either term,
        whatever they hold. None = all of them.
    form : {"sce", "mse"}
        Error of a node's features.
    gamma : float
        Of the scaled cosine error.
    structure : float
        Weight w of the structure term; 0 leaves it out.
    structure_form : {"correlation", "gram"}
        "correlation": rows centred and of unit length, so that entries lie in
        [-1, 1]. "gram": raw dot products.
    adjacency : Tensor, shape (N, N) or (B, N, N), optional
        The graph A. None = the same matrix of the target.

    Returns
    -------
    Tensor, scalar
        0 if the reconstruction equals the target and ``adjacency`` is None.

    Raises
    ------
    ValueError
        If the shapes differ, or a choice or ``gamma`` is out of range.

    References
    ----------
    METHOD eq. 2 and D13.
    """
    check_choice("form", form, ("sce", "mse"))
    check_choice("structure_form", structure_form, ("correlation", "gram"))
    if reconstruction.shape != target.shape or target.ndim != 3:
        raise ValueError(
            "reconstruction and target must both have shape (B, N, F); got "
            f"{tuple(reconstruction.shape)} and {tuple(target.shape)}."
        )
    reconstruction = full_precision(reconstruction)
    target = full_precision(target.detach())
    if present is None:
        present = torch.ones_like(target[..., 0], dtype=torch.bool)
    else:
        absent = ~present.unsqueeze(-1)
        reconstruction = reconstruction.masked_fill(absent, 0.0)
        target = target.masked_fill(absent, 0.0)
    if form == "sce":
        errors = _cosine_errors(reconstruction, target, gamma)
    else:
        errors = (reconstruction - target).square().mean(-1)
    scored = present if masked is None else masked & present
    loss = mean_where(errors, scored, (1,)).mean()
    if structure == 0:
        return loss
    check_positive(structure=structure)
    rows = _correlation if structure_form == "correlation" else _gram
    if adjacency is None:
        adjacency = rows(target)
    gap = rows(reconstruction) - adjacency
    pairs = present.unsqueeze(1) & present.unsqueeze(2)
    gap = gap.masked_fill(~pairs, 0.0)
    return loss + structure * mean_where(gap.square(), pairs, (1, 2)).mean()


def _gram(rows: Tensor) -> Tensor:
    return products(rows, rows)


def _correlation(rows: Tensor) -> Tensor:
    return in_full_precision(row_correlation, rows)
