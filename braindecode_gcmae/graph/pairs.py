"""Which pairs of electrodes a graph links: binary graphs, bridged pairs."""

import torch
from torch import Tensor

__all__ = [
    "binarise",
    "topology_pairs",
]


def binarise(
    adjacency: Tensor, *, density: float | None = None, threshold: float | None = None
) -> Tensor:
    """Boolean graph of the strongest edges.

    Parameters
    ----------
    adjacency : Tensor, shape (N, N)
        Boolean (taken as it is, but for the diagonal) or real-valued.
    density : float, optional
        Share of the off-diagonal entries kept, by quantile of the absolute value.
        Default 0.10 (METHOD D6: an absolute threshold lets the two-hop closure
        swallow every pair).
    threshold : float, optional
        Keep absolute values above it, after scaling the largest to one; in [0, 1).

    Returns
    -------
    Tensor of bool, shape (N, N)

    Raises
    ------
    ValueError
        If both are given, or one is out of its range.
    """
    if density is not None and threshold is not None:
        raise ValueError("give density or threshold, not both")
    if threshold is not None and not 0 <= threshold < 1:
        raise ValueError(f"threshold must be in [0, 1), got {threshold}")
    density = 0.10 if density is None else density
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], got {density}")
    n = adjacency.shape[-1]
    off = ~torch.eye(n, dtype=torch.bool, device=adjacency.device)
    if adjacency.dtype == torch.bool:
        return adjacency & off
    strength = adjacency.detach().abs()
    values = strength[off]
    if values.numel() == 0:
        return off
    if threshold is not None:
        return (strength > threshold * values.max()) & off
    kept = max(1, round(density * values.numel()))
    smallest = values.sort(descending=True).values[kept - 1]
    return (strength >= smallest) & (strength > 0) & off


def topology_pairs(
    student_adjacency: Tensor,
    teacher_adjacency: Tensor,
    kept: Tensor,
    *,
    density: float | None = None,
    threshold: float | None = None,
) -> tuple[Tensor, Tensor]:
    r"""Positive pairs (the teacher links them), negative pairs (only the student does).

    With the teacher's graph :math:`A^h`, the kept electrodes l and the removed d,

    .. math:: P^+ = A^h_{ll} \;\lor\; (A^h_{ld} A^h_{dl} > 0), \qquad
              P^- = A^l \land \lnot P^+ ,

    so a pair that is linked *through* a removed electrode is positive, and a pair is
    negative if the student links it and it is not positive (Eq. 9-12, METHOD D10).
    Symmetric, off the diagonal.

    Parameters
    ----------
    student_adjacency : Tensor, shape (n, n)
    teacher_adjacency : Tensor, shape (m, m)
        Boolean adjacency is taken as it is; real-valued is binarised off the
        diagonal by quantile (``density``, default 0.10) or value (``threshold``).
    kept : Tensor of int, shape (n,)
        Rows of the teacher's electrodes that are the student's, in its order.
    density, threshold : float, optional
        See above.

    Returns
    -------
    positive, negative : Tensor of bool, shape (n, n)

    Raises
    ------
    ValueError
        If an adjacency is not square or ``kept`` does not fit the two graphs.
    """
    n, m = len(student_adjacency), len(teacher_adjacency)
    for whose, adjacency in (
        ("student", student_adjacency),
        ("teacher", teacher_adjacency),
    ):
        if adjacency.shape != (len(adjacency), len(adjacency)):
            raise ValueError(
                f"{whose}_adjacency must be one square matrix, got shape "
                f"{tuple(adjacency.shape)}"
            )
    kept = torch.as_tensor(kept, device=teacher_adjacency.device)
    if kept.shape != (n,):
        raise ValueError(
            f"kept must name one teacher row for each of the {n} student electrodes, "
            f"got shape {tuple(kept.shape)}"
        )
    if n and (int(kept.min()) < 0 or int(kept.max()) >= m):
        raise ValueError(f"kept must hold rows of the teacher's {m} electrodes")
    if kept.unique().numel() != n:
        raise ValueError("kept names the same teacher electrode twice")
    student = binarise(student_adjacency, density=density, threshold=threshold)
    teacher = binarise(teacher_adjacency, density=density, threshold=threshold)
    student, teacher = student | student.T, teacher | teacher.T
    removed = torch.ones(m, dtype=torch.bool, device=teacher.device)
    removed[kept] = False
    to_removed = teacher[kept][:, removed].float()
    bridged = (to_removed @ to_removed.T) > 0
    off = ~torch.eye(n, dtype=torch.bool, device=teacher.device)
    positive = (teacher[kept][:, kept] | bridged) & off
    return positive, student & ~positive
