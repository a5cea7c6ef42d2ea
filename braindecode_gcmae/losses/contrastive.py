"""Contrast of queries with their keys and a queue (METHOD A.5, D1, D2)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .rows import (
    LOWEST,
    check_choice,
    check_positive,
    full_precision,
    products,
    unit_rows,
)

__all__ = ["info_nce"]


def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    *,
    temperature: float = 0.07,
    usable: Tensor | None = None,
    normalize: bool = True,
    form: str = "corrected",
) -> Tensor:
    r"""Contrast each query with its own keys and a shared pool of negatives.

    .. math:: \frac{1}{BP} \sum_{b,p} -\log \frac{e^{q_b \cdot k_{bp} / \tau}}
              {e^{q_b \cdot k_{bp} / \tau} + \sum_i e^{q_b \cdot k_i^- / \tau}}

    The other positives of a query are no negatives: they are not in the
    denominator. A query without usable negatives has loss 0 and no gradient.

    Parameters
    ----------
    queries : Tensor, shape (B, D)
    positives : Tensor, shape (B, P, D)
        The keys of the same window.
    negatives : Tensor, shape (Q, D)
        The queue.
    temperature : float
        :math:`\tau`.
    usable : Tensor, shape (B, Q), (1, Q) or (Q,), bool, optional
        Which negatives count for which query
        (:meth:`~braindecode_gcmae.momentum.KeyQueue.usable`).
    normalize : bool
        Scale all embeddings to unit length first.
    form : {"corrected", "paper"}
        "paper": only negatives in the denominator, as eq. 5 is printed. It has
        no lower bound.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If the shapes do not fit, ``temperature`` is not above 0, or ``form`` is
        unknown.

    References
    ----------
    METHOD eq. 5 and D1; van den Oord et al., arXiv:1807.03748.
    """
    check_positive(temperature=temperature)
    check_choice("form", form, ("corrected", "paper"))
    if (
        (queries.ndim, positives.ndim, negatives.ndim) != (2, 3, 2)
        or len(positives) != len(queries)
        or not queries.shape[-1] == positives.shape[-1] == negatives.shape[-1]
    ):
        raise ValueError(
            "info_nce takes queries (B, D), positives (B, P, D), negatives (Q, D); got "
            f"{tuple(queries.shape)}, {tuple(positives.shape)}, "
            f"{tuple(negatives.shape)}."
        )
    queries, positives = full_precision(queries), full_precision(positives)
    negatives = full_precision(negatives)
    if normalize:
        queries, positives = unit_rows(queries), unit_rows(positives)
        negatives = unit_rows(negatives)
    positive = (queries.unsqueeze(1) * positives).sum(-1) / temperature  # (B, P)
    negative = products(queries, negatives) / temperature  # (B, Q)
    if usable is None:
        some = torch.full_like(positive[:, :1], len(negatives) > 0, dtype=torch.bool)
    else:
        negative = negative.masked_fill(~usable, LOWEST)
        some = usable.any(-1, keepdim=True).expand(len(queries), 1)
    margin = torch.logsumexp(negative, dim=1, keepdim=True) - positive
    if form == "paper":
        return torch.where(some, margin, torch.zeros_like(margin)).mean()
    return F.softplus(margin).mean()
