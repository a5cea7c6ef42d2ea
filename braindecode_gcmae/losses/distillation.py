"""What the student learns from its teacher: logits, topology, nodes (METHOD A.7, A.8).

Teacher and student meet on the electrodes that the student keeps. Only n x n
matrices are compared, so their widths may differ, and memory is O(B n^2).
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from ..masking import counter_normal
from .rows import (
    LOWEST,
    check_choice,
    check_positive,
    full_precision,
    mean_where,
    products,
    unit_rows,
)

__all__ = [
    "fixed_projection",
    "graph_contrastive_loss",
    "local_structure_loss",
    "logit_distillation_loss",
    "topology_distillation_loss",
]

KERNELS = ("cosine", "linear", "poly", "rbf", "euclidean")


def logit_distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, *, temperature: float = 4.0
) -> Tensor:
    r"""Teach the student its teacher's soft labels.

    .. math:: T^2 \, KL(\operatorname{softmax}(t / T) \| \operatorname{softmax}(s / T))

    Parameters
    ----------
    student_logits, teacher_logits : Tensor, shape (B, C)
        No gradient reaches the teacher.
    temperature : float
        T.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If the shapes differ or ``temperature`` is not above 0.

    References
    ----------
    METHOD A.8 and D12; Hinton et al., arXiv:1503.02531.
    """
    check_positive(temperature=temperature)
    if student_logits.shape != teacher_logits.shape:
        raise ValueError(
            f"student logits {tuple(student_logits.shape)} and teacher logits "
            f"{tuple(teacher_logits.shape)} differ: both need the same n_outputs."
        )
    student = F.log_softmax(full_precision(student_logits) / temperature, dim=-1)
    teacher = full_precision(teacher_logits.detach()) / temperature
    teacher = F.log_softmax(teacher, dim=-1)
    divergence = F.kl_div(student, teacher, reduction="none", log_target=True)
    # What cancels may leave less than nothing: rounding, not divergence.
    return temperature**2 * divergence.sum(-1).clamp_min(0.0).mean()


def _similarity(nodes: Tensor, kernel: str, temperature: float) -> Tensor:
    """Similarity of every pair of nodes, (B, n, d) -> (B, n, n)."""
    if kernel == "cosine":
        nodes = unit_rows(nodes)
        similarity = products(nodes, nodes)
    elif kernel == "linear":
        similarity = products(nodes, nodes)
    elif kernel == "poly":
        similarity = (products(nodes, nodes) + 1.0) ** 3
    else:
        # not by dot products, which cancel where two nodes nearly coincide
        distance = torch.cdist(
            nodes, nodes, compute_mode="donot_use_mm_for_euclid_dist"
        )
        rbf = kernel == "rbf"
        similarity = torch.exp(-0.5 * distance.square()) if rbf else -distance
    return similarity / temperature


def _kept_nodes(
    student: Tensor, teacher: Tensor, kept: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Check shapes, take the teacher's rows at the student's electrodes, widen."""
    kept = torch.as_tensor(kept, device=teacher.device)
    if student.ndim != 3 or teacher.ndim != 3 or len(student) != len(teacher):
        raise ValueError(
            "nodes must have shapes (B, n, d) and (B, m, D) with the same B; got "
            f"{tuple(student.shape)} and {tuple(teacher.shape)}."
        )
    if kept.shape != student.shape[1:2] or kept.dtype == torch.bool:
        raise ValueError(
            f"kept must hold the teacher's row of each of the {student.shape[1]} "
            f"student electrodes; got {kept.dtype} of shape {tuple(kept.shape)}."
        )
    beyond = (kept < 0) | (kept >= teacher.shape[1])
    if kept.device.type == "cpu" and beyond.any():  # elsewhere a look would wait
        raise ValueError(
            f"kept names row {kept[beyond][0]} of a teacher with {teacher.shape[1]} "
            "electrodes."
        )
    student = full_precision(student)
    teacher = full_precision(teacher.detach()).index_select(1, kept.long())
    if present is not None:
        absent = ~present.unsqueeze(-1)
        student, teacher = (
            student.masked_fill(absent, 0),
            teacher.masked_fill(absent, 0),
        )
    return student, teacher


def _pairs(n: int, present: Tensor | None, device: torch.device) -> Tensor:
    """Pairs (i, j) of different, present nodes: (n, n), or (B, n, n)."""
    pairs = ~torch.eye(n, dtype=torch.bool, device=device)
    if present is not None:
        pairs = pairs & present.unsqueeze(1) & present.unsqueeze(2)
    return pairs


def _check_pairs(n: int, **masks: Tensor) -> None:
    for name, mask in masks.items():
        if mask.dtype != torch.bool or mask.shape[-2:] != (n, n):
            raise ValueError(
                f"{name} must be boolean, of shape ({n}, {n}) or (B, {n}, {n}); got "
                f"{mask.dtype} of shape {tuple(mask.shape)}."
            )


def _row_log_softmax(similarity: Tensor, allowed: Tensor) -> Tensor:
    return similarity.masked_fill(~allowed, LOWEST).log_softmax(-1)


def topology_distillation_loss(
    student_nodes: Tensor,
    teacher_nodes: Tensor,
    positive: Tensor,
    negative: Tensor,
    kept: Tensor,
    *,
    kernel: str = "cosine",
    temperature: float = 0.2,
    eps: float = 1e-3,
    form: str = "ratio",
    reverse: bool = False,
    margin_weight: float = 1.0,
    present: Tensor | None = None,
) -> Tensor:
    r"""Graph topology distillation: agree on pairs that the teacher's graph links.

    .. math:: L = \frac{L^+ / C^+}{L^- / C^- + \epsilon}, \qquad
              L^\pm = \sum_{ij \in P^\pm} p_{ij} \log \frac{p_{ij}}{q_{ij}}
              - p_{ij} + q_{ij}

    where p (teacher) and q (student) are softmaxes of the similarities
    :math:`Z_{ij} / T` along a row, without the diagonal, and :math:`C^\pm` is the
    number of pairs in :math:`P^\pm` (``positive``, ``negative``). Every term is >= 0
    and a full row of them is the Kullback-Leibler divergence. The ratio is taken in
    each window, then averaged. It is 0 if both topologies are equal on P+.
    Minimising it also *raises* the divergence on P-; the margin form does not.

    Parameters
    ----------
    student_nodes : Tensor, shape (B, n, d)
    teacher_nodes : Tensor, shape (B, m, D)
        No gradient reaches the teacher. d and D may differ.
    positive, negative : Tensor, shape (n, n) or (B, n, n), bool
        Pairs of :func:`~braindecode_gcmae.graph.topology_pairs`. A node and
        itself are never a pair.
    kept : Tensor, shape (n,), integer
        Row of the teacher for each student electrode; on the nodes' device it
        costs no synchronisation.
    kernel : {"cosine", "linear", "poly", "rbf", "euclidean"}
        Z: cosine; dot product (paper); (dot + 1)^3; exp(-d^2 / 2); -d, the
        distance with its sign turned, so that near is similar.
    temperature : float
        T; the paper has none (1).
    eps : float
        Keeps the denominator off zero.
    form : {"ratio", "margin", "log_ratio"}
        "margin": :math:`L^+/C^+ + w \operatorname{mean}_{P^-} \log(1 + e^{Z_{ij}/T})`
        with the student's Z. "log_ratio": the difference of
        :math:`\log(L^\pm/C^\pm + \epsilon)`, which may be negative.
        Without negative pairs the denominator is 1; without positive pairs
        the ratio, its logarithm and :math:`L^+` are 0.
    reverse : bool
        Swap p and q: KL(student || teacher), the order in which eq. 9 is printed.
    margin_weight : float
        w of the margin form.
    present : Tensor, shape (B, n), bool, optional
        False = this window has no such electrode: it is in no pair and in no
        softmax, whatever it holds.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If shapes do not fit, or a choice, ``temperature`` or ``eps`` is out of range.

    References
    ----------
    METHOD eqs. 8-10 and D7-D10; arXiv:2411.19230.
    """
    check_choice("kernel", kernel, KERNELS)
    check_choice("form", form, ("ratio", "margin", "log_ratio"))
    check_positive(temperature=temperature, eps=eps)
    student, teacher = _kept_nodes(student_nodes, teacher_nodes, kept, present)
    n = student.shape[1]
    _check_pairs(n, positive=positive, negative=negative)
    pairs = _pairs(n, present, student.device)
    similarity = _similarity(student, kernel, temperature)
    log_q = _row_log_softmax(similarity, pairs)
    log_p = _row_log_softmax(_similarity(teacher, kernel, temperature), pairs)
    if reverse:
        log_p, log_q = log_q, log_p
    p = log_p.exp()
    divergence = p * (log_p - log_q) - p + log_q.exp()
    positive, negative = positive & pairs, negative & pairs
    # a mean of terms >= 0, but for rounding
    near = mean_where(divergence, positive, (-2, -1)).clamp(min=0)
    if form == "margin":
        push = mean_where(F.softplus(similarity), negative, (-2, -1))
        return (near + margin_weight * push).mean()
    far = mean_where(divergence, negative, (-2, -1)).clamp(min=0) + eps
    far = torch.where(negative.any(-1).any(-1), far, torch.ones_like(far))
    if form == "ratio":
        return (near / far).mean()
    log_ratio = (near + eps).log() - far.log()
    some = positive.any(-1).any(-1)
    return torch.where(some, log_ratio, torch.zeros_like(log_ratio)).mean()


def local_structure_loss(
    student_nodes: Tensor,
    teacher_nodes: Tensor,
    neighbours: Tensor,
    kept: Tensor,
    *,
    kernel: str = "cosine",
    temperature: float = 0.2,
    present: Tensor | None = None,
) -> Tensor:
    r"""Local structure preserving (LSP): agree on how near each neighbour is.

    .. math:: \frac{1}{n} \sum_i KL(\operatorname{softmax}_{j \in N(i)} Z^t_{ij} / T
              \| \operatorname{softmax}_{j \in N(i)} Z^s_{ij} / T)

    A node without neighbours adds 0. The divergence is that of the authors' code; their
    paper prints it the other way round.

    Parameters
    ----------
    student_nodes : Tensor, shape (B, n, d)
    teacher_nodes : Tensor, shape (B, m, D)
        No gradient reaches the teacher.
    neighbours : Tensor, shape (n, n) or (B, n, n), bool
        True where j is a neighbour of i; the diagonal is ignored.
    kept : Tensor, shape (n,), integer
        Row of the teacher for each student electrode.
    kernel, temperature
        As in :func:`topology_distillation_loss`.
    present : Tensor, shape (B, n), bool, optional
        False = this window has no such electrode.

    Returns
    -------
    Tensor, scalar, >= 0

    Raises
    ------
    ValueError
        If shapes do not fit, or ``kernel`` or ``temperature`` is out of range.

    References
    ----------
    METHOD A.8; Yang et al. (2020), arXiv:2003.10477.
    """
    check_choice("kernel", kernel, KERNELS)
    check_positive(temperature=temperature)
    student, teacher = _kept_nodes(student_nodes, teacher_nodes, kept, present)
    batch, n, _ = student.shape
    _check_pairs(n, neighbours=neighbours)
    allowed = neighbours & _pairs(n, present, student.device)
    log_q = _row_log_softmax(_similarity(student, kernel, temperature), allowed)
    log_p = _row_log_softmax(_similarity(teacher, kernel, temperature), allowed)
    divergence = (log_p.exp() * (log_p - log_q) * allowed).sum(-1).clamp(min=0)
    if present is None:
        present = torch.ones((batch, n), dtype=torch.bool, device=student.device)
    return mean_where(divergence, present, (1,)).mean()


@lru_cache(maxsize=16)
def fixed_projection(
    in_features: int, out_features: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return one fixed random projection (D, d) with orthonormal rows or columns.

    Drawn once by :func:`~braindecode_gcmae.masking.counter_normal` with seed 0,
    epoch 0, stream 0, so it is the same in every process and every run. Scaled by
    sqrt(D / d) when it shrinks: lengths are kept on average (Johnson-Lindenstrauss).

    Parameters
    ----------
    in_features, out_features : int
        D and d.
    dtype : torch.dtype
    device : torch.device

    Returns
    -------
    Tensor, shape (D, d)
    """
    wide, narrow = max(in_features, out_features), min(in_features, out_features)
    with torch.inference_mode(False):  # what is kept for later must be usable there
        index = torch.arange(wide, device="cpu")
        gauss = counter_normal(0, 0, index, 0, (narrow,)).double()
        basis, upper = torch.linalg.qr(gauss)
        basis = basis * upper.diagonal().sign() * (in_features / narrow) ** 0.5
        return (basis if in_features == wide else basis.mT).to(device, dtype)


def graph_contrastive_loss(
    student_nodes: Tensor,
    teacher_nodes: Tensor,
    kept: Tensor,
    *,
    temperature: float = 0.075,
    projection: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    r"""Graph contrastive distillation (G-CRD): find the same electrode in the teacher.

    .. math:: \frac{1}{n} \sum_i -\log \frac{e^{\cos(s_i, t_i) / \tau}}
              {\sum_j e^{\cos(s_i, t_j) / \tau}}

    over the electrodes of one window. The teacher's nodes are brought to the
    student's width by ``projection``; if the widths are equal none is needed, and
    else the default is :func:`fixed_projection`, which keeps angles nearly as they
    are and has nothing to learn, so that a callback owns no parameters.

    Parameters
    ----------
    student_nodes : Tensor, shape (B, n, d)
    teacher_nodes : Tensor, shape (B, m, D)
        No gradient reaches the teacher.
    kept : Tensor, shape (n,), integer
        Row of the teacher for each student electrode.
    temperature : float
        :math:`\tau`.
    projection : Tensor, shape (D, d), optional
        Learned or given; gradients reach it.
    present : Tensor, shape (B, n), bool, optional
        False = this window has no such electrode.

    Returns
    -------
    Tensor, scalar

    Raises
    ------
    ValueError
        If shapes do not fit or ``temperature`` is not above 0.

    References
    ----------
    METHOD A.8; Joshi et al. (2022), arXiv:2111.04964.
    """
    check_positive(temperature=temperature)
    student, teacher = _kept_nodes(student_nodes, teacher_nodes, kept, present)
    wide, narrow = teacher.shape[-1], student.shape[-1]
    if projection is None and wide != narrow:
        projection = fixed_projection(wide, narrow, teacher.dtype, teacher.device)
    if projection is not None:
        if projection.shape != (wide, narrow):
            raise ValueError(
                f"projection must have shape ({wide}, {narrow}), teacher to student "
                f"width; got {tuple(projection.shape)}."
            )
        teacher = products(teacher, projection.mT)
    logits = products(unit_rows(student), unit_rows(teacher)) / temperature
    if present is None:
        present = torch.ones_like(logits[..., 0], dtype=torch.bool)
    logits = logits.masked_fill(~present.unsqueeze(1), LOWEST)
    losses = -logits.log_softmax(-1).diagonal(dim1=1, dim2=2)
    return mean_where(losses, present, (1,)).mean()
