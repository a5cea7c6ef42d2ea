"""Electrode graphs: adjacency, Laplacian, Chebyshev basis, bridged pairs.

An adjacency is symmetric, non-negative and has an empty diagonal. Electrode graphs
have at most a few hundred nodes, so all of it is dense and batched; torch-geometric
is met only at the edges (:func:`to_pyg`, :func:`from_pyg`).
"""

from functools import partial

import torch
from torch import Tensor, nn

from .features import Electrodes, Memo

__all__ = [
    "CoherenceGraph",
    "FreeGraph",
    "FunctionalGraph",
    "GeometricGraph",
    "LearnedGraph",
    "MixedGraph",
    "chebyshev_basis",
    "coherence",
    "from_pyg",
    "geometric_adjacency",
    "row_correlation",
    "scaled_laplacian",
    "to_pyg",
    "topology_pairs",
]


def _without_diagonal(adjacency: Tensor) -> Tensor:
    n = adjacency.shape[-1]
    off = 1 - torch.eye(n, dtype=adjacency.dtype, device=adjacency.device)
    return adjacency * off


def _among(adjacency: Tensor, present: Tensor) -> Tensor:
    """Empty diagonal, and no edge at an absent electrode (not even a NaN one)."""
    both = present.unsqueeze(-1) & present.unsqueeze(-2)
    return _without_diagonal(
        torch.where(both, adjacency, torch.zeros_like(adjacency[..., :1, :1]))
    )


def row_correlation(x: Tensor) -> Tensor:
    """Pearson correlation between the rows: (..., N, F) -> (..., N, N).

    The Gram matrix of the row-centred rows of unit length; a constant row
    correlates with nothing (0, also with itself).
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
    return _among(torch.exp(-0.5 * distance / scale**2), known)


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
    adjacency = _without_diagonal(adjacency)
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
    r"""Pairs of kept electrodes that the teacher links, and those it does not.

    With the teacher's graph :math:`A^h`, the kept electrodes l and the removed d,

    .. math:: P^+ = A^h_{ll} \;\lor\; (A^h_{ld} A^h_{dl} > 0), \qquad
              P^- = A^l \land \lnot P^+ ,

    so a pair that is linked *through* a removed electrode is positive (Eq. 9-12,
    METHOD D10). Symmetric, off the diagonal.

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


class GeometricGraph(nn.Module):
    """The same graph for every window: a Gaussian kernel of electrode distance."""

    def __init__(self, n_basis: int = 36, scale: float = 0.05):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N) of the existing nodes."""
        adjacency = geometric_adjacency(electrodes.positions, scale=self.scale)
        return _among(adjacency, electrodes.exists)


class FunctionalGraph(nn.Module):
    """One graph per window: correlation between the nodes' features (A.2)."""

    def __init__(self, n_basis: int = 36):
        super().__init__()

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N) of the nodes with data, from features (B, N, F)."""
        return _among(row_correlation(features).abs(), electrodes.present)


class CoherenceGraph(nn.Module):
    """One graph per window: magnitude-squared coherence of the signals."""

    def __init__(self, n_basis: int = 36, n_segments: int = 8):
        super().__init__()
        self.n_segments = n_segments

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N) of the nodes with data, from windows x (B, N, T)."""
        length = 2 * x.shape[-1] // (self.n_segments + 1)
        segments = x.unfold(-1, length, max(length // 2, 1))
        taper = torch.hann_window(length, dtype=x.dtype, device=x.device)
        tapered = (segments - segments.mean(-1, keepdim=True)) * taper
        spectrum = torch.view_as_real(torch.fft.rfft(tapered))[..., 1:, :]
        adjacency = coherence(spectrum[..., 0], spectrum[..., 1])
        return _among(adjacency, electrodes.present)


class LearnedGraph(nn.Module):
    r"""A graph learned as a function of where the electrodes are.

    :math:`A_{ij} = \sigma(\phi(p_i)^T U U^T \phi(p_j) + b)` with spherical harmonics
    :math:`\phi`, so that it is defined for electrodes never seen in training.

    Parameters
    ----------
    n_basis : int
        Spherical harmonics per electrode, L.
    rank : int
        Columns of U.
    """

    def __init__(self, n_basis: int = 36, rank: int = 16):
        super().__init__()
        self.embed = nn.Linear(n_basis, rank, bias=False)
        self.bias = nn.Parameter(torch.tensor(-2.0))
        nn.init.normal_(self.embed.weight, std=0.5 * n_basis**-0.5)

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N) of the existing nodes."""
        learned = learned_adjacency(self.embed.weight, self.bias, electrodes.basis)
        return _among(learned, electrodes.exists)


def learned_adjacency(embed: Tensor, bias: Tensor, basis: Tensor) -> Tensor:
    """Edges as a function of places: (r, L), (), (..., N, L) -> (..., N, N)."""
    code = basis @ embed.T
    return torch.sigmoid(code @ code.transpose(-1, -2) + bias)


def unmeasured_edges(
    mixture: Tensor,
    embed: Tensor,
    bias: Tensor,
    positions: Tensor,
    basis: Tensor,
    exists: Tensor,
    present: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """What a :class:`MixedGraph` knows without its window.

    Returns
    -------
    fixed : Tensor, shape (B, N, N)
        The geometric and the learned graph, mixed.
    weight : Tensor, scalar
        Share of the functional graph.
    pairs : Tensor of bool, shape (B, N, N)
        Where the functional graph may have edges.
    """
    shares = torch.softmax(mixture, 0)
    fixed = shares[0] * geometric_adjacency(positions, scale=scale)
    fixed = fixed + shares[2] * learned_adjacency(embed, bias, basis)
    off = ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    pairs = present.unsqueeze(-1) & present.unsqueeze(-2) & off
    return _among(fixed, exists), shares[1], pairs


class MixedGraph(nn.Module):
    """A learned convex mixture of the geometric, functional and learned graphs."""

    def __init__(self, n_basis: int = 36):
        super().__init__()
        self.parts = nn.ModuleList(
            [GeometricGraph(n_basis), FunctionalGraph(n_basis), LearnedGraph(n_basis)]
        )
        self.mixture = nn.Parameter(torch.zeros(3))
        self.scale: float = self.parts[0].scale
        self._memo = Memo()

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N)."""
        learned = self.parts[2]
        embed, bias = learned.embed.weight, learned.bias
        positions, basis, exists, present = electrodes
        if torch.jit.is_scripting():
            fixed, weight, pairs = unmeasured_edges(
                self.mixture,
                embed,
                bias,
                positions,
                basis,
                exists,
                present,
                self.scale,
            )
        else:
            fixed, weight, pairs = self._memo(
                partial(unmeasured_edges, scale=self.scale),
                self.mixture,
                embed,
                bias,
                positions,
                basis,
                exists,
                present,
            )
        functional = row_correlation(features).abs()
        return fixed + weight * torch.where(pairs, functional, 0.0)


class FreeGraph(nn.Module):
    """The public code's graph: one free weight per pair of electrodes (A.2).

    Initialised from U(0.01, 0.5), rectified and symmetrised. Ties the weights to one
    montage; for the ``paper()`` presets.
    """

    def __init__(self, n_basis: int = 36, n_nodes: int = 64):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_nodes, n_nodes).uniform_(0.01, 0.5))

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N), the same for every window."""
        positive = torch.relu(self.weight)
        return _among((positive + positive.T).unsqueeze(0), electrodes.exists)


def to_pyg(features: Tensor, adjacency: Tensor, present: Tensor | None = None):
    """Exchange with torch-geometric: dense graphs -> ``Batch``.

    Parameters
    ----------
    features : Tensor, shape (B, N, F)
    adjacency : Tensor, shape (B, N, N)
        Non-zero entries become edges; true is a weight of one.
    present : Tensor of bool, shape (B, N), optional
        Nodes that exist; the others are left out.

    Returns
    -------
    torch_geometric.data.Batch
        With ``x``, ``edge_index``, ``edge_weight``.
    """
    from torch_geometric.data import Batch, Data

    graphs = []
    for b in range(features.shape[0]):
        rows = slice(None) if present is None else present[b]
        edges = adjacency[b][rows][:, rows]
        index = edges.nonzero().T
        weight = edges[tuple(index)].to(features.dtype)
        graphs.append(Data(x=features[b][rows], edge_index=index, edge_weight=weight))
    return Batch.from_data_list(graphs)


def from_pyg(batch) -> tuple[Tensor, Tensor, Tensor]:
    """Exchange with torch-geometric: ``Batch`` (or ``Data``) -> dense, padded graphs.

    Returns
    -------
    features : Tensor, shape (B, N, F)
        Each graph's nodes first, then zeros up to the largest graph's N.
    adjacency : Tensor, shape (B, N, N)
        ``edge_weight``, or ones.
    present : Tensor of bool, shape (B, N)
    """
    from torch_geometric.utils import to_dense_adj, to_dense_batch

    # Said, not guessed from the edges: the last nodes or graphs may have none.
    n_graphs = getattr(batch, "num_graphs", 1)
    features, present = to_dense_batch(batch.x, batch.batch, batch_size=n_graphs)
    adjacency = to_dense_adj(
        batch.edge_index,
        batch.batch,
        getattr(batch, "edge_weight", None),
        max_num_nodes=features.shape[1],
        batch_size=n_graphs,
    )
    return features, adjacency, present
