"""Readouts: from node embeddings to the embedding of a window."""

import torch
from torch import Tensor, nn

from ..features import Electrodes
from ..features.memo import Memo

__all__ = ["FlattenReadout", "MeanReadout", "PositionReadout"]


def position_weights(basis: Tensor, exists: Tensor) -> Tensor:
    """Basis functions over the nodes that exist, by their number: (B, L, N)."""
    there = exists.unsqueeze(-1).to(basis.dtype)
    n_nodes = there.sum(1, keepdim=True).clamp_min(1.0)
    return (basis * there / n_nodes).transpose(1, 2)


def _weights_at(electrodes: Electrodes) -> Tensor:
    return position_weights(electrodes.basis, electrodes.exists)


class PositionReadout(nn.Module):
    r"""Moments of the node embeddings over the head.

    :math:`r = \frac{1}{N} \Phi^T h`: one signed mean per position basis function. A
    linear layer on them weights each electrode by a smooth function of where it is:
    what flattening gives one montage, for every montage.

    Parameters
    ----------
    dim, n_basis, n_nodes : int
        Embedding width D, position basis functions L, electrodes (not used).
    """

    def __init__(self, dim: int, n_basis: int, n_nodes: int):
        super().__init__()
        self.n_outputs = dim * n_basis
        self._memo = Memo()

    def forward(self, h: Tensor, electrodes: Electrodes) -> Tensor:
        """(B, N, D) -> (B, L * D)."""
        basis, exists = electrodes.basis, electrodes.exists
        if torch.jit.is_scripting():
            weights = position_weights(basis, exists)
        else:
            weights = self._memo(_weights_at, electrodes)
        return (weights.to(h.dtype) @ h).flatten(1)


class MeanReadout(nn.Module):
    """Mean over the electrodes that exist.

    Parameters
    ----------
    dim, n_basis, n_nodes : int
        Embedding width D; the other two are not used.
    """

    def __init__(self, dim: int, n_basis: int, n_nodes: int):
        super().__init__()
        self.n_outputs = dim

    def forward(self, h: Tensor, electrodes: Electrodes) -> Tensor:
        """(B, N, D) -> (B, D)."""
        exists = electrodes.exists.unsqueeze(-1).to(h.dtype)
        return (h * exists).sum(1) / exists.sum(1).clamp_min(1.0)


class FlattenReadout(nn.Module):
    """All nodes side by side, as in the public code: ties weights to one montage.

    Parameters
    ----------
    dim, n_basis, n_nodes : int
        Embedding width D, position basis functions (not used), electrodes N.
    """

    tied = True

    def __init__(self, dim: int, n_basis: int, n_nodes: int):
        super().__init__()
        self.n_nodes = n_nodes
        self.n_outputs = dim * n_nodes

    def forward(self, h: Tensor, electrodes: Electrodes) -> Tensor:
        """(B, N, D) -> (B, N * D)."""
        if h.shape[1] != self.n_nodes:
            raise ValueError(
                f"FlattenReadout is tied to {self.n_nodes} electrodes, got "
                f"{h.shape[1]}; use PositionReadout for other montages"
            )
        return (h * electrodes.exists.unsqueeze(-1).to(h.dtype)).flatten(1)
