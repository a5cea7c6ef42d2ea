"""Graph encoders and the decoder: node embeddings from nodes and edges.

Every encoder maps node embeddings (B, N, D), an adjacency (B, N, N) and the mask of
existing nodes (B, N) to node embeddings (B, N, D). None of its weights depends on the
number of nodes.
"""

import inspect
import math

import torch
from torch import Tensor, nn

from .graph import scaled_laplacian

__all__ = [
    "ChebyshevConvolution",
    "ChebyshevEncoder",
    "ConvolutionEncoder",
    "GraphDecoder",
    "GraphTransformerEncoder",
    "build_encoder",
]


class Dropout(nn.Dropout):
    """Dropout that is no operation at all in inference, where each one counts."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop units in training; else give x itself."""
        return nn.functional.dropout(x, self.p) if self.training else x


class ChebyshevConvolution(nn.Module):
    r"""Chebyshev graph filter, :math:`Y = \sum_{k<K} T_k(\tilde L) X W_k + b`.

    Dense and batched; equal to torch-geometric's ``ChebConv`` with
    ``normalization="sym"`` and ``lambda_max=2``.

    Parameters
    ----------
    in_dim, out_dim : int
        Embedding widths.
    order : int
        Number of Chebyshev polynomials, K.
    bias : bool

    References
    ----------
    Defferrard et al. (2016), https://arxiv.org/abs/1606.09375
    """

    def __init__(self, in_dim: int, out_dim: int, order: int = 3, bias: bool = True):
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be at least 1, got {order}")
        self.order = order
        self.weight = nn.Parameter(torch.empty(order, in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim)) if bias else None
        for weight in self.weight:
            nn.init.xavier_uniform_(weight)

    def forward(self, x: Tensor, laplacian: Tensor) -> Tensor:
        """(B, N, in_dim), scaled Laplacian (B, N, N) or (N, N) -> (B, N, out_dim)."""
        filtered = [x, laplacian @ x][: self.order]
        while len(filtered) < self.order:
            filtered.append(2 * (laplacian @ filtered[-1]) - filtered[-2])
        # Side by side, all K products are one.
        out = torch.cat(filtered, -1) @ self.weight.flatten(0, 1)
        return out if self.bias is None else out + self.bias


class _ChebyshevBlock(nn.Module):
    """Pre-norm residual Chebyshev layer: stays bounded at any depth (B-30).

    The update's gain starts at zero (ReZero, arXiv:2003.04887): an untrained stack
    passes the nodes through, so that few labels need not undo random mixing.
    """

    def __init__(self, dim: int, order: int, activation: type, drop_prob: float):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.convolution = ChebyshevConvolution(dim, dim, order)
        self.activation = activation()
        self.dropout = Dropout(drop_prob)
        self.gain = nn.Parameter(torch.zeros(dim))

    def forward(self, h: Tensor, laplacian: Tensor) -> Tensor:
        update = self.convolution(self.norm(h), laplacian)
        return h + self.gain * self.dropout(self.activation(update))


class ChebyshevEncoder(nn.Module):
    """Stack of residual Chebyshev graph filters (DGCNN, after Song et al. 2018).

    Parameters
    ----------
    dim : int
        Width D.
    depth : int
        Layers.
    n_heads : int
        Not used; every encoder takes the same arguments.
    order : int
        Chebyshev order K.
    activation : type of nn.Module
    drop_prob : float

    References
    ----------
    Song et al. (2018), https://doi.org/10.1109/TAFFC.2018.2817622
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        n_heads: int = 4,
        order: int = 3,
        activation: type[nn.Module] = nn.GELU,
        drop_prob: float = 0.0,
    ):
        super().__init__()
        self.layers = nn.ModuleList(
            [_ChebyshevBlock(dim, order, activation, drop_prob) for _ in range(depth)]
        )

    def forward(self, h: Tensor, adjacency: Tensor, exists: Tensor) -> Tensor:
        """(B, N, D), (B, N, N), (B, N) -> (B, N, D)."""
        laplacian = scaled_laplacian(adjacency)
        for layer in self.layers:
            h = layer(h, laplacian)
        return h


class _AttentionBlock(nn.Module):
    """Pre-norm attention over the electrodes, the adjacency as a bias per head.

    The gains of both updates start at zero (ReZero, arXiv:2003.04887).
    """

    def __init__(self, dim: int, n_heads: int, activation: type, drop_prob: float):
        super().__init__()
        self.n_heads = n_heads
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.edge = nn.Parameter(torch.ones(n_heads))
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, 2 * dim),
            activation(),
            Dropout(drop_prob),
            nn.Linear(2 * dim, dim),
        )
        self.dropout = Dropout(drop_prob)
        self.gains = nn.Parameter(torch.zeros(2, dim))

    def forward(self, h: Tensor, adjacency: Tensor, padding: Tensor) -> Tensor:
        b, n, dim = h.shape
        heads, width = self.n_heads, dim // self.n_heads
        # Nodes in one row each, and few operations: for one window of a small cap
        # the time is their number.
        h = h.reshape(b * n, dim)
        qkv = self.qkv(self.norm1(h)).reshape(b, n, 3, heads, width)
        qkv = qkv.permute(2, 0, 3, 1, 4).reshape(3, b * heads, n, width)
        query, key, value = qkv.unbind(0)
        # Not scaled_dot_product_attention: with a bias that is learned it does this
        # in more steps, and its CPU kernel leaves strides that do not export.
        edge = self.edge.view(-1, 1, 1)
        bias = torch.addcmul(padding, edge, adjacency.unsqueeze(1))
        bias = bias.reshape(b * heads, n, n).to(query.dtype)
        scores = torch.baddbmm(bias, query, key.transpose(1, 2), alpha=width**-0.5)
        mixed = torch.bmm(scores.softmax(-1).to(value.dtype), value)
        mixed = mixed.view(b, heads, n, width).transpose(1, 2).reshape(b * n, dim)
        attend, feed = self.gains.unbind(0)
        h = torch.addcmul(h, attend, self.dropout(self.out(mixed)))
        h = torch.addcmul(h, feed, self.dropout(self.feed_forward(self.norm2(h))))
        return h.view(b, n, dim)


class GraphTransformerEncoder(nn.Module):
    """Transformer over electrodes with the adjacency as an additive attention bias.

    Padding is never attended to. Without the graph the public code's transformer
    ignores topology altogether (METHOD B-29).

    Parameters
    ----------
    dim : int
        Width D, a multiple of ``n_heads``.
    depth, n_heads : int
        Layers and heads.
    order : int
        Not used; every encoder takes the same arguments.
    activation : type of nn.Module
    drop_prob : float

    Raises
    ------
    ValueError
        If the width is not a multiple of the heads.
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        n_heads: int = 4,
        order: int = 3,
        activation: type[nn.Module] = nn.GELU,
        drop_prob: float = 0.0,
    ):
        super().__init__()
        if dim % n_heads:
            raise ValueError(f"emb_dim={dim} is not a multiple of n_heads={n_heads}")
        self.layers = nn.ModuleList(
            [_AttentionBlock(dim, n_heads, activation, drop_prob) for _ in range(depth)]
        )

    def forward(self, h: Tensor, adjacency: Tensor, exists: Tensor) -> Tensor:
        """(B, N, D), (B, N, N), (B, N) -> (B, N, D)."""
        # Large, and finite also in half precision: weights underflow to exactly
        # zero, and a window of nothing but padding gives no NaN.
        padding = (~exists)[:, None, None, :].to(h.dtype) * -3e4
        for layer in self.layers:
            h = layer(h, adjacency, padding)
        return h


def strong_edges(adjacency: Tensor) -> Tensor:
    """The edges of a window (B, N, N) that are not weaker than their mean; else 0."""
    n_edges = (adjacency > 0).sum((1, 2), keepdim=True).clamp_min(1)
    mean = adjacency.sum((1, 2), keepdim=True) / n_edges
    # A graph of equal edges keeps them all, whatever the rounding of its mean.
    return torch.where(adjacency >= (1 - 1e-5) * mean, adjacency, 0.0)


class ConvolutionEncoder(nn.Module):
    """A torch-geometric convolution as a stack of residual graph layers.

    A convolution that takes ``edge_weight`` sees the adjacency. One that does not
    (``SAGEConv``, ``GATConv``) would see all electrodes linked alike: it gets the edges
    that are stronger than the window's mean edge.

    Parameters
    ----------
    dim : int
        Width D.
    depth : int
        Layers.
    n_heads, order : int
        ``order`` is handed to convolutions that take ``K``.
    activation : type of nn.Module
    drop_prob : float
    convolution : type
        A class of ``torch_geometric.nn``, or derived from one, that can be made of
        ``(in_channels, out_channels)`` alone. Of others derive one that can be.

    Raises
    ------
    TypeError
        If its arguments begin otherwise, as those of ``GINConv(nn)`` do, or it takes a
        dense adjacency, as ``DenseGCNConv`` does.

    Examples
    --------
    >>> from torch import nn
    >>> from torch_geometric.nn import GINConv
    >>> from braindecode_gcmae import GCMAEStudent
    >>> class Isomorphism(GINConv):
    ...     def __init__(self, in_channels, out_channels):
    ...         super().__init__(nn.Linear(in_channels, out_channels))
    >>> model = GCMAEStudent(
    ...     n_outputs=2, ch_names=["C3", "Cz", "C4"], sfreq=100, n_times=200,
    ...     encoder=Isomorphism)
    """

    def __init__(
        self,
        dim: int,
        depth: int,
        n_heads: int = 4,
        order: int = 3,
        activation: type[nn.Module] = nn.GELU,
        drop_prob: float = 0.0,
        *,
        convolution: type,
    ):
        super().__init__()
        names = inspect.signature(convolution).parameters
        extra = {"K": order} if "K" in names else {}
        if list(names)[:2] != ["in_channels", "out_channels"]:
            raise TypeError(
                f"{convolution.__name__}({', '.join(names)}) does not begin with "
                "in_channels, out_channels: derive a class whose __init__ takes these"
            )
        takes = inspect.signature(convolution.forward).parameters
        if "adj" in takes:
            raise TypeError(
                f"{convolution.__name__} takes a dense adjacency, and is handed a list "
                "of edges: take its counterpart without Dense in its name"
            )
        self.layers = nn.ModuleList(
            [convolution(dim, dim, **extra) for _ in range(depth)]
        )
        self.weighted = "edge_weight" in takes
        self.norms = nn.ModuleList([nn.LayerNorm(dim) for _ in range(depth)])
        self.activation = activation()
        self.dropout = Dropout(drop_prob)
        self.gains = nn.Parameter(torch.zeros(depth, dim))

    def forward(self, h: Tensor, adjacency: Tensor, exists: Tensor) -> Tensor:
        """(B, N, D), (B, N, N), (B, N) -> (B, N, D)."""
        b, n, dim = h.shape
        if not self.weighted:
            adjacency = strong_edges(adjacency)
        graph, source, target = adjacency.nonzero().unbind(1)
        edges = torch.stack([source, target]) + graph * n
        weight = adjacency[graph, source, target]
        keywords = {"edge_weight": weight} if self.weighted else {}
        for gain, norm, layer in zip(self.gains, self.norms, self.layers, strict=True):
            update = layer(norm(h).reshape(b * n, dim), edges, **keywords)
            update = self.dropout(self.activation(update)).reshape(b, n, dim)
            h = h + gain * update
        return h


def _is_convolution(encoder: type[nn.Module]) -> bool:
    """Whether it is of torch-geometric, or a message passing derived from there.

    One that takes a ``depth`` is an encoder that passes messages.
    """
    origin = "torch_geometric."
    if encoder.__module__.startswith(origin):
        return True
    passes_messages = any(
        base.__name__ == "MessagePassing" and base.__module__.startswith(origin)
        for base in encoder.__mro__
    )
    return passes_messages and "depth" not in inspect.signature(encoder).parameters


def build_encoder(encoder: type[nn.Module], dim: int, **arguments) -> nn.Module:
    """An encoder of this class; a torch-geometric convolution is wrapped.

    Parameters
    ----------
    encoder : type of nn.Module
        :class:`GraphTransformerEncoder`, :class:`ChebyshevEncoder`, a class with the
        same arguments and ``forward(h, adjacency, exists)``, or a convolution of
        ``torch_geometric.nn`` or derived from one (:class:`ConvolutionEncoder`).
    dim : int
        Width D.
    **arguments
        ``depth``, ``n_heads``, ``order``, ``activation``, ``drop_prob``.
    """
    if _is_convolution(encoder):
        return ConvolutionEncoder(dim, convolution=encoder, **arguments)
    return encoder(dim, **arguments)


class GraphDecoder(nn.Module):
    """Node embeddings -> node features, with one layer that mixes nodes (D14).

    Parameters
    ----------
    dim : int
        Embedding width D.
    n_features : int
        Node features F.
    n_heads : int
        Attention heads.
    """

    def __init__(self, dim: int, n_features: int, n_heads: int = 4):
        super().__init__()
        self.mix = GraphTransformerEncoder(dim, 1, n_heads)
        self.out = nn.Linear(dim, n_features)
        nn.init.normal_(self.out.weight, std=1 / math.sqrt(dim))

    def forward(self, h: Tensor, adjacency: Tensor, exists: Tensor) -> Tensor:
        """(B, N, D), (B, N, N), (B, N) -> (B, N, F)."""
        return self.out(self.mix(h, adjacency, exists))
