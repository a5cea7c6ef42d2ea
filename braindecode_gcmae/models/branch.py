"""One density of the joint pretraining: its windows, its views, its encoders (D5)."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..encoders import GraphDecoder
from ..features import Electrodes
from ..masking import (
    counter_normal,
    counter_uniform,
    drop_edges,
    drop_nodes,
    restore_incident_edges,
)
from ..momentum import momentum_copy, update_momentum

__all__ = ["Branch", "Draw", "View", "Windows"]

_NODES, _EDGES, _NOISE = 0, 1, 2  # purposes of random numbers
_EDGE_RULES = ("inferred", "original")


class Windows(NamedTuple):
    """A batch of graphs before anything is hidden."""

    x: Tensor  # (B, N, T)
    observed: Tensor
    target: Tensor  # (B, N, F)
    adjacency: Tensor  # (B, N, N)
    electrodes: Electrodes


class Draw(NamedTuple):
    """What chance decided about one view."""

    dropped: Tensor  # (B, N)
    keep: Tensor  # (B, N, N)
    noise: Tensor | None  # (B, N, F)


class View(NamedTuple):
    """One augmented view of a batch of graphs, dropped and masked (D5)."""

    features: Tensor
    adjacency: Tensor  # dropped nodes and edges are gone
    masked_adjacency: Tensor  # dropped nodes are back, as tokens
    visible: Electrodes  # of the first graph
    masked: Electrodes  # of the second
    dropped: Tensor


class Branch(nn.Module):
    """One density: the model, its decoder, its projection head and its key encoder.

    Parameters
    ----------
    model : GCMAEStudent or GCMAETeacher
    projection_dim : int
        Width of the contrast space, the same for both densities.
    drop_nodes, drop_edges : float
        Ratios of nodes and of edges dropped from a view.
    noise : float
        Standard deviation of the noise added to standardised features.
    masked_edges : {"inferred", "original"}
        Edges of the masked nodes, see :class:`JointPretraining`.
    stream : int
        Offset of this branch's random numbers.
    """

    def __init__(
        self,
        model: nn.Module,
        projection_dim: int,
        drop_nodes: float,
        drop_edges: float,
        noise: float,
        masked_edges: str,
        stream: int,
    ):
        super().__init__()
        if masked_edges not in _EDGE_RULES:
            raise ValueError(
                f"masked_edges must be one of {_EDGE_RULES}, got {masked_edges!r}"
            )
        self.model = model
        self.masked_edges = masked_edges
        self.node_ratio, self.edge_ratio, self.noise = drop_nodes, drop_edges, noise
        self.stream = stream
        network = model.network
        dim, width = network.embed.out_features, network.readout.n_outputs
        heads = next(h for h in (8, 4, 2, 1) if dim % h == 0)
        self.decoder = GraphDecoder(dim, network.features.n_features, heads)
        self.projector = nn.Sequential(
            nn.Linear(width, projection_dim),
            nn.GELU(),
            nn.Linear(projection_dim, projection_dim),
        )
        self.key = momentum_copy(self.query)

    @property
    def query(self) -> nn.ModuleDict:
        """What the key encoder is the moving average of."""
        return nn.ModuleDict(
            {"network": self.model.network, "projector": self.projector}
        )

    def windows(self, x: Tensor, learn: bool, **where) -> Windows:
        """Graphs of a batch of windows, nothing hidden."""
        network = self.model.network
        x, electrodes = network.locate(x, **where)
        return Windows(x, *network.graph_at(x, electrodes, learn))

    def draw(self, windows: Windows, generate) -> Draw:
        """Nodes and edges a view loses, by ``generate(generator, purpose, size)``."""
        n, n_features = windows.target.shape[1:]
        present = windows.electrodes.present
        dropped = generate(counter_uniform, _NODES, (n,))
        edges = generate(counter_uniform, _EDGES, (n, n))
        noise = None
        if self.noise > 0:
            noise = self.noise * generate(counter_normal, _NOISE, (n, n_features))
        return Draw(
            drop_nodes(dropped, self.node_ratio, present),
            drop_edges(edges, self.edge_ratio),
            noise,
        )

    def view(self, network: nn.Module, windows: Windows, draw: Draw) -> View:
        """Drop nodes and edges, and put the nodes back as masked ones (Eq. 1).

        The electrodes are hidden before the graph filters and before the graph is
        made, so that nothing of them reaches the features or the edges of others.
        """
        dropped, keep, noise = draw
        electrodes = windows.electrodes
        masked = electrodes._replace(present=electrodes.present & ~dropped)
        visible = masked._replace(exists=electrodes.exists & ~dropped)
        features = network.describe(windows.observed, masked)
        seen = network.graph(windows.x, features, masked)
        whole = windows.adjacency
        if self.masked_edges == "inferred":
            whole = _link_isolated(seen, dropped, masked.present)
        if noise is not None:
            features = features + noise
        both = visible.exists.unsqueeze(-1) & visible.exists.unsqueeze(-2)
        return View(
            features,
            seen * (keep & both),
            whole * restore_incident_edges(keep, dropped),
            visible,
            masked,
            dropped,
        )

    def embed(self, encoder: nn.ModuleDict, nodes, electrodes) -> Tensor:
        """Window embeddings in the contrast space."""
        return encoder["projector"](encoder["network"].pool(nodes, electrodes))

    def reconstruct(self, view: View, nodes: Tensor) -> Tensor:
        """Node features from the masked graph's embeddings."""
        return self.decoder(nodes, view.masked_adjacency, view.masked.exists)

    def inpaint(self, x: Tensor, hidden: Tensor, **where) -> tuple[Tensor, ...]:
        """Node features (B, N, F), rebuilt with ``hidden`` nodes (N,) unseen; (B, N).

        The last says which nodes had data.
        """
        windows = self.windows(x, False, **where)
        dropped = hidden & windows.electrodes.present
        keep = torch.ones_like(windows.adjacency, dtype=torch.bool)
        network = self.model.network
        view = self.view(network, windows, Draw(dropped, keep, None))
        nodes = network.encode(view.features, view.masked_adjacency, view.masked)
        rebuilt = self.reconstruct(view, nodes)
        return windows.target, rebuilt, windows.electrodes.present

    def momentum_step(self, momentum: float) -> None:
        """Move the key encoder towards the query encoder."""
        update_momentum(self.key, self.query, momentum)

    @torch.no_grad()
    def share_statistics(self) -> None:
        """Give the key encoder the query's standardisation, as of this batch."""
        ours, theirs = self.key["network"].norm, self.model.network.norm
        for slow, fast in zip(ours.buffers(), theirs.buffers(), strict=True):
            slow.copy_(fast)


def _link_isolated(adjacency: Tensor, masked: Tensor, present: Tensor) -> Tensor:
    """Give masked nodes without an edge the mean edge of those that are seen.

    A graph of correlations knows no edge of a hidden node, and a node without edges
    could not be in-painted.
    """
    alone = masked & (adjacency.sum(-1) == 0)
    n_seen = present.sum(-1)
    seen = present.unsqueeze(-1) & present.unsqueeze(-2)
    mean = (adjacency * seen).sum((-1, -2)) / (n_seen * (n_seen - 1)).clamp_min(1)
    half = alone.unsqueeze(-1) & present.unsqueeze(-2)
    return adjacency + mean[:, None, None] * (half | half.mT)
