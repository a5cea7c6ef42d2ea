"""Joint contrastive and masked pretraining of a teacher and a student (METHOD A.5)."""

import torch
from torch import Tensor, nn

from ..encoders import GraphDecoder
from ..features import Electrodes
from ..losses import info_nce, reconstruction_loss
from ..masking import (
    counter_normal,
    counter_uniform,
    drop_edges,
    drop_nodes,
    restore_incident_edges,
)
from ..momentum import KeyQueue, momentum_copy, update_momentum

__all__ = ["Branch", "JointPretraining"]

_NODES, _EDGES, _NOISE = 0, 1, 2  # purposes of random numbers


class _View:
    """One augmented view of a batch of graphs, dropped and masked (D5)."""

    def __init__(self, features, adjacency, masked_adjacency, visible, masked, dropped):
        self.features = features
        self.adjacency = adjacency  # dropped nodes and edges are gone
        self.masked_adjacency = masked_adjacency  # dropped nodes are back, as tokens
        self.visible = visible  # electrodes of the first graph
        self.masked = masked  # electrodes of the second
        self.dropped = dropped


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
        stream: int,
    ):
        super().__init__()
        self.model = model
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

    def view(self, observed, adjacency, electrodes, draw) -> _View:
        """Drop nodes and edges, and put the nodes back as masked ones (Eq. 1).

        The electrodes are hidden before the graph filters, so that nothing of them
        reaches their neighbours' features.
        """
        n = adjacency.shape[-1]
        dropped = drop_nodes(
            draw(counter_uniform, _NODES, (n,)), self.node_ratio, electrodes.present
        )
        keep = drop_edges(draw(counter_uniform, _EDGES, (n, n)), self.edge_ratio)
        masked = electrodes._replace(present=electrodes.present & ~dropped)
        visible = masked._replace(exists=electrodes.exists & ~dropped)
        features = self.model.network.describe(observed, masked)
        if self.noise > 0:
            noise = draw(counter_normal, _NOISE, tuple(features.shape[1:]))
            features = features + self.noise * noise
        both = visible.exists.unsqueeze(-1) & visible.exists.unsqueeze(-2)
        return _View(
            features,
            adjacency * (keep & both),
            adjacency * restore_incident_edges(keep, dropped),
            visible,
            masked,
            dropped,
        )

    def embed(self, encoder: nn.ModuleDict, nodes, electrodes) -> Tensor:
        """Window embeddings in the contrast space."""
        return encoder["projector"](encoder["network"].pool(nodes, electrodes))

    def reconstruct(self, view: _View, nodes: Tensor) -> Tensor:
        """Node features from the masked graph's embeddings."""
        return self.decoder(nodes, view.masked_adjacency, view.masked.exists)

    def momentum_step(self, momentum: float) -> None:
        """Move the key encoder towards the query encoder."""
        update_momentum(self.key, self.query, momentum)


class JointPretraining(nn.Module):
    r"""Teacher and student pretrained together, without labels (Eq. 1-7).

    Per density, two views are dropped and masked; the masked graphs are
    reconstructed; views and reconstructions of both densities are positives of each
    other, in one key queue that both contrast against:

    .. math:: L = L_{cl}^T + L_{cl}^S + L_{rec}^T + L_{rec}^S .

    Parameters
    ----------
    teacher, student : GCMAETeacher, GCMAEStudent
        Either may be None: one density alone.
    contrast, reconstruct : bool
        Which of the two objectives are computed.
    projection_dim, queue_size : int
        Contrast space, and keys in the queue.
    momentum, temperature : float
        Of the key encoders, and of the contrast.
    drop_nodes, drop_edges, noise : float
        Augmentation (ratios, standard deviation).
    reconstruction : dict
        Keyword arguments of :func:`~braindecode_gcmae.losses.reconstruction_loss`.
    seed : int
        Of masks and noise.

    References
    ----------
    METHOD A.5, D1-D5, D13; Wei et al. (2025), https://arxiv.org/abs/2411.19230
    """

    def __init__(
        self,
        teacher: nn.Module | None,
        student: nn.Module | None,
        contrast: bool = True,
        reconstruct: bool = True,
        projection_dim: int = 128,
        queue_size: int = 4096,
        momentum: float = 0.999,
        temperature: float = 0.07,
        drop_nodes: float = 0.5,
        drop_edges: float = 0.5,
        noise: float = 0.0,
        reconstruction: dict | None = None,
        seed: int = 0,
    ):
        super().__init__()
        models = {"teacher": teacher, "student": student}
        models = {name: model for name, model in models.items() if model is not None}
        if not models:
            raise ValueError("give a teacher, a student, or both")
        self.branches = nn.ModuleDict(
            {
                name: Branch(model, projection_dim, drop_nodes, drop_edges, noise, s)
                for s, (name, model) in enumerate(models.items())
            }
        )
        self.queue = KeyQueue(queue_size, projection_dim)
        self.contrast, self.reconstruct = contrast, reconstruct
        self.momentum, self.temperature = momentum, temperature
        self.reconstruction = dict(reconstruction or {})
        self.seed = seed
        self.epoch = 0

    def forward(
        self,
        x: Tensor,
        index: Tensor,
        group: Tensor,
        pos: Tensor | None = None,
        ch_mask: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Loss terms of a batch of windows.

        Parameters
        ----------
        x : Tensor, shape (B, C, T)
            High-density windows in µV.
        index, group : Tensor of int, shape (B,)
            Number of each window in the data set, and its subject (-1 = unknown).
        pos, ch_mask : Tensor, optional
            As in the models' ``forward``.

        Returns
        -------
        dict
            ``rec_<density>``, ``contrast_<density>`` (scalars), and the detached
            ``keys`` (B, P, D') with their ``groups`` (B,) for the queue.
        """
        terms, queries, keys = {}, {}, []
        for name, branch in self.branches.items():
            rec, queries[name], own = self._density(
                branch, x, index, pos=pos, ch_mask=ch_mask
            )
            if rec is not None:
                terms[f"rec_{name}"] = rec
            keys += own
        if not self.contrast:
            return terms
        positives = torch.stack(keys, 1)
        negatives, usable = self.queue.negatives(), self.queue.usable(group)
        for name, query in queries.items():
            n = len(query)
            terms[f"contrast_{name}"] = info_nce(
                torch.cat(query),
                positives.repeat(n, 1, 1),
                negatives,
                temperature=self.temperature,
                usable=usable.repeat(n, 1),
            )
        return {**terms, "keys": positives, "groups": group}

    def _density(self, branch: Branch, x, index, **where):
        """Reconstruction loss, queries and keys of one density."""

        def draw(generator, purpose, size, view):
            stream = 16 * branch.stream + 4 * view + purpose
            return generator(self.seed, self.epoch, index, stream, size)

        network = branch.model.network
        observed, target, adjacency, electrodes = network.graph_of(
            x, learn=self.training, **where
        )
        q, k = (
            branch.view(
                observed, adjacency, electrodes, lambda *a, v=v: draw(*a, view=v)
            )
            for v in (0, 1)
        )
        # One pass for all: the view of the query, and both masked graphs.
        graphs = [(q.features, q.adjacency, q.visible)] if self.contrast else []
        if self.reconstruct:
            graphs += [(v.features, v.masked_adjacency, v.masked) for v in (q, k)]
        nodes = list(_encode(network, graphs))
        queries, keys, loss = [], [], None
        if self.contrast:
            queries.append(branch.embed(branch.query, nodes.pop(0), q.visible))
        if self.reconstruct:
            rebuilt = torch.cat(
                [branch.reconstruct(v, h) for v, h in zip((q, k), nodes, strict=True)]
            )
            loss = reconstruction_loss(
                rebuilt,
                target.repeat(2, 1, 1),
                masked=torch.cat([q.dropped, k.dropped]),
                present=electrodes.present.repeat(2, 1),
                **self.reconstruction,
            )
        if self.contrast and self.reconstruct:
            rebuilt_q, rebuilt_k = rebuilt.chunk(2)
            (h,) = _encode(network, [(rebuilt_q, adjacency, electrodes)])
            queries.append(branch.embed(branch.query, h, electrodes))
        if self.contrast:
            graphs = [(k.features, k.adjacency, k.visible)]
            if self.reconstruct:
                graphs.append((rebuilt_k, adjacency, electrodes))
            keys = self._keys(branch, graphs)
        return loss, queries, keys

    @torch.no_grad()
    def _keys(self, branch: Branch, graphs: list) -> list[Tensor]:
        """Key embeddings, of unit length and without history."""
        nodes = _encode(branch.key["network"], graphs)
        return [
            nn.functional.normalize(branch.embed(branch.key, h, electrodes), dim=1)
            for h, (_, _, electrodes) in zip(nodes, graphs, strict=True)
        ]

    @torch.no_grad()
    def momentum_step(self, keys: Tensor | None, groups: Tensor | None) -> None:
        """After the optimiser's step: move the key encoders, push the keys.

        Under torch.distributed the keys of all ranks are pushed by every rank.
        """
        if keys is None:
            return
        for branch in self.branches.values():
            branch.momentum_step(self.momentum)
        keys, groups = _gather(keys), _gather(groups)
        n_keys = keys.shape[1]
        self.queue.enqueue(keys.flatten(0, 1), groups.repeat_interleave(n_keys))


def _encode(network: nn.Module, graphs: list) -> tuple[Tensor, ...]:
    """Node embeddings of several batches of graphs of one montage, in one pass."""
    features, adjacency, electrodes = zip(*graphs, strict=True)
    joined = Electrodes(*(torch.cat(parts) for parts in zip(*electrodes, strict=True)))
    nodes = network.encode(torch.cat(features), torch.cat(adjacency), joined)
    return nodes.chunk(len(graphs))


def _gather(tensor: Tensor) -> Tensor:
    """Concatenate the tensors of all processes, in order of rank."""
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)
