"""Graphs of a batch of windows, as parts of a model."""

from functools import partial

import torch
from torch import Tensor, nn

from ..features import Electrodes
from ..features.memo import Memo
from .formulas import (
    among,
    coherence,
    geometric_adjacency,
    learned_adjacency,
    row_correlation,
)

__all__ = [
    "CoherenceGraph",
    "FreeGraph",
    "FunctionalGraph",
    "GeometricGraph",
    "LearnedGraph",
    "MixedGraph",
    "unmeasured_edges",
]


class GeometricGraph(nn.Module):
    """The same graph for every window: a Gaussian kernel of electrode distance.

    Parameters
    ----------
    n_basis : int
        Not used: every graph takes the same arguments.
    scale : float
        Width of the kernel in metres.
    """

    def __init__(self, n_basis: int = 36, scale: float = 0.05):
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N) of the existing nodes."""
        adjacency = geometric_adjacency(electrodes.positions, scale=self.scale)
        return among(adjacency, electrodes.exists)


class FunctionalGraph(nn.Module):
    """One graph per window: correlation between the nodes' features (A.2).

    Parameters
    ----------
    n_basis : int
        Not used: every graph takes the same arguments.
    """

    def __init__(self, n_basis: int = 36):
        super().__init__()

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N) of the nodes with data, from features (B, N, F)."""
        return among(row_correlation(features).abs(), electrodes.present)


class CoherenceGraph(nn.Module):
    """One graph per window: magnitude-squared coherence of the signals.

    Pretraining rebuilds features, not signals: the graph of a rebuilt window is that of
    the electrodes that were seen.

    Parameters
    ----------
    n_basis : int
        Not used: every graph takes the same arguments.
    n_segments : int
        Segments of the window, overlapping by half, over which spectra are averaged.
    """

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
        return among(adjacency, electrodes.present)


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
        return among(learned, electrodes.exists)


def unmeasured_edges(
    mixture: Tensor,
    embed: Tensor,
    bias: Tensor,
    positions: Tensor,
    basis: Tensor,
    exists: Tensor,
    present: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """What a :class:`MixedGraph` knows without its window.

    Returns
    -------
    fixed : Tensor, shape (B, N, N)
        The geometric and the learned graph, mixed.
    weight : Tensor, shape (B, N, N)
        Share of the functional graph where it may have edges, else 0.
    """
    shares = torch.softmax(mixture, 0)
    fixed = shares[0] * geometric_adjacency(positions, scale=scale)
    fixed = fixed + shares[2] * learned_adjacency(embed, bias, basis)
    off = ~torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    pairs = present.unsqueeze(-1) & present.unsqueeze(-2) & off
    return among(fixed, exists), torch.where(pairs, shares[1], 0.0)


def _unmeasured_at(mixture, embed, bias, electrodes: Electrodes, *, scale: float):
    positions, basis, exists, present, _ = electrodes
    where = positions, basis, exists, present
    return unmeasured_edges(mixture, embed, bias, *where, scale)


class MixedGraph(nn.Module):
    """A learned convex mixture of the geometric, functional and learned graphs.

    Parameters
    ----------
    n_basis : int
        Spherical harmonics per electrode, of the learned graph.
    """

    def __init__(self, n_basis: int = 36):
        super().__init__()
        self.parts = nn.ModuleList(
            [GeometricGraph(n_basis), FunctionalGraph(n_basis), LearnedGraph(n_basis)]
        )
        self.mixture = nn.Parameter(torch.zeros(3))
        self.scale = float(self.parts[0].scale)
        self._memo = Memo()

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N)."""
        learned = self.parts[2]
        embed, bias = learned.embed.weight, learned.bias
        if torch.jit.is_scripting():
            fixed, weight = unmeasured_edges(
                self.mixture,
                embed,
                bias,
                electrodes.positions,
                electrodes.basis,
                electrodes.exists,
                electrodes.present,
                self.scale,
            )
        else:
            fixed, weight = self._memo(
                partial(_unmeasured_at, scale=self.scale),
                self.mixture,
                embed,
                bias,
                electrodes,
            )
        return fixed + weight * row_correlation(features).abs()


class FreeGraph(nn.Module):
    """The public code's graph: one free weight per pair of electrodes (A.2).

    Initialised from U(0.01, 0.5), rectified and symmetrised. Ties the weights to one
    montage. The ``paper()`` presets have the paper's :class:`FunctionalGraph` instead.

    Parameters
    ----------
    n_basis : int
        Not used: every graph takes the same arguments.
    n_nodes : int
        Electrodes of the montage, N.
    """

    def __init__(self, n_basis: int = 36, n_nodes: int = 64):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_nodes, n_nodes).uniform_(0.01, 0.5))

    def forward(self, x: Tensor, features: Tensor, electrodes: Electrodes) -> Tensor:
        """Adjacency (B, N, N), the same for every window."""
        positive = torch.relu(self.weight)
        return among((positive + positive.T).unsqueeze(0), electrodes.exists)
