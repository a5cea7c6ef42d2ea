"""Joint contrastive and masked pretraining of a teacher and a student (METHOD A.5)."""

import torch
from torch import Tensor, nn

from ..features import Electrodes
from ..features.nodes import training_group
from ..losses import info_nce, reconstruction_loss
from ..momentum import KeyQueue
from .branch import Branch, Draw, Windows

__all__ = ["NOBODY", "JointPretraining"]

NOBODY = 1 << 40  # a window of unknown subject is a subject of its own


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
    masked_edges : {"inferred", "original"}
        Edges of the masked nodes: those that the graph knows without their data (where
        it knows none, the mean edge of the others), or the original ones, which tell
        what was correlated with them (as in the paper's Fig. 1).
    detach_reconstructed : bool
        Cut the gradient between reconstructed queries and the decoder that made them.
        In the paper's Fig. 6d they pass it.
    seed : int
        Of masks and noise.

    Attributes
    ----------
    epoch : int
        Pass over the data, to be set when one begins: masks and noise depend on it.

    References
    ----------
    METHOD A.5, D1-D5, D13; Wei et al. (2025), https://arxiv.org/abs/2411.19230
    """

    _pass: Tensor

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
        masked_edges: str = "inferred",
        detach_reconstructed: bool = False,
        seed: int = 0,
    ):
        super().__init__()
        models = {"teacher": teacher, "student": student}
        models = {name: model for name, model in models.items() if model is not None}
        if not models:
            raise ValueError("give a teacher, a student, or both")
        views = (drop_nodes, drop_edges, noise, masked_edges)
        self.branches = nn.ModuleDict(
            {
                name: Branch(model, projection_dim, *views, stream)
                for stream, (name, model) in enumerate(models.items())
            }
        )
        self.queue = KeyQueue(queue_size, projection_dim)
        self.contrast, self.reconstruct = contrast, reconstruct
        self.momentum, self.temperature = momentum, temperature
        self.reconstruction = dict(reconstruction or {})
        self.detach_reconstructed = detach_reconstructed
        self.seed = seed
        self.register_buffer("_pass", torch.tensor(0), persistent=False)
        self.epoch = 0

    @property
    def epoch(self) -> int:
        """Pass over the data."""
        return self._epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._epoch = int(number)
        self._pass.fill_(self._epoch)

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
            ``keys`` (B, P, D') with their ``groups`` (B,) for the queue: in training
            under DistributedDataParallel those of all its processes.
        """
        # Its own keys of earlier epochs are no negatives of a window, known or not.
        group = torch.where(group < 0, index + NOBODY, group)
        terms, queries, keys, seen = {}, {}, [], {}
        for name, branch in self.branches.items():
            windows = branch.windows(x, self.training, pos=pos, ch_mask=ch_mask)
            rec, queries[name], own = self._density(branch, windows, index)
            if rec is not None:
                terms[f"rec_{name}"] = rec
            keys.append(own)
            seen[name] = windows.electrodes.present.any(1, keepdim=True)
        if not self.contrast:
            return terms
        positives = _of_who_sees(keys, list(seen.values()))
        negatives, usable = self.queue.negatives(), self.queue.usable(group)
        for name, query in queries.items():
            n = len(query)
            terms[f"contrast_{name}"] = info_nce(
                torch.cat(query),
                positives.repeat(n, 1, 1),
                negatives,
                temperature=self.temperature,
                # Without negatives a window teaches nothing: this model is blind.
                usable=(usable & seen[name]).repeat(n, 1),
            )
        if self.training:
            positives, group = _gather(positives), _gather(group)
        return {**terms, "keys": positives, "groups": group}

    def _density(self, branch: Branch, windows: Windows, index):
        """Reconstruction loss, queries and keys of one density."""
        network = branch.model.network
        draws = [self._draw(branch, windows, index, view) for view in (0, 1)]
        views = [branch.view(network, windows, draw) for draw in draws]
        # One pass for all: the view of the query, and both masked graphs.
        q = views[0]
        graphs = [(q.features, q.adjacency, q.visible)] if self.contrast else []
        if self.reconstruct:
            graphs += [(v.features, v.masked_adjacency, v.masked) for v in views]
        nodes = list(_encode(network, graphs))
        queries, rebuilt, loss = [], None, None
        if self.contrast:
            queries.append(branch.embed(branch.query, nodes.pop(0), q.visible))
        if self.reconstruct:
            rebuilt = torch.cat(
                [branch.reconstruct(v, h) for v, h in zip(views, nodes, strict=True)]
            )
            loss = reconstruction_loss(
                rebuilt,
                windows.target.repeat(2, 1, 1),
                present=windows.electrodes.present.repeat(2, 1),
                **{
                    "masked": torch.cat([view.dropped for view in views]),
                    **self.reconstruction,
                },
            )
        if not self.contrast:
            return loss, [], []
        rebuilt_q, rebuilt_k = (None, None) if rebuilt is None else rebuilt.chunk(2)
        if rebuilt_q is not None:
            if self.detach_reconstructed:
                rebuilt_q = rebuilt_q.detach()
            graph = _rebuilt_graph(network, windows, rebuilt_q, q.dropped)
            (h,) = _encode(network, [graph])
            queries.append(branch.embed(branch.query, h, windows.electrodes))
        return loss, queries, self._keys(branch, windows, draws[1], rebuilt_k)

    def _draw(self, branch: Branch, windows: Windows, index, view: int) -> Draw:
        """Chance of one view: a function of the window's number, not of the batch."""
        first = 16 * branch.stream + 4 * view
        # A number would become part of the program: another one for each epoch.
        epoch = self._pass if _is_recorded(index) else self.epoch

        def generate(generator, purpose, size):
            return generator(self.seed, epoch, index, first + purpose, size)

        return branch.draw(windows, generate)

    @torch.no_grad()
    def _keys(self, branch: Branch, windows: Windows, draw: Draw, rebuilt) -> list:
        """Key embeddings of a view and its reconstruction, unit, without history.

        The key encoder makes its own features and graph: no parameter is the query's.
        """
        if self.training:
            branch.share_statistics()
        network = branch.key["network"]
        view = branch.view(network, windows, draw)
        graphs = [(view.features, view.adjacency, view.visible)]
        if rebuilt is not None:
            graphs.append(_rebuilt_graph(network, windows, rebuilt, view.dropped))
        return [
            nn.functional.normalize(branch.embed(branch.key, h, electrodes), dim=1)
            for h, (_, _, electrodes) in zip(
                _encode(network, graphs), graphs, strict=True
            )
        ]

    @torch.no_grad()
    def momentum_step(self, keys: Tensor | None, groups: Tensor | None) -> None:
        """After the optimiser's step: move the key encoders, push the keys."""
        if keys is None:
            return
        for branch in self.branches.values():
            branch.momentum_step(self.momentum)
        n_keys = keys.shape[1]
        self.queue.enqueue(keys.flatten(0, 1), groups.repeat_interleave(n_keys))


def _of_who_sees(keys: list[list[Tensor]], seen: list[Tensor]) -> Tensor:
    """Keys (B, P, D'); where one density sees no electrode (B, 1), the other's.

    The key of nothing is the same for every such window, whoever it is of.
    """
    if len(keys) == 2:
        (first, second), (one, two) = keys, seen
        keys = [
            [torch.where(one | ~two, a, b) for a, b in zip(first, second, strict=True)],
            [torch.where(two | ~one, b, a) for a, b in zip(first, second, strict=True)],
        ]
    return torch.stack([key for own in keys for key in own], 1)


def _rebuilt_graph(
    network: nn.Module, windows: Windows, rebuilt: Tensor, hidden: Tensor
) -> tuple:
    """The reconstructed graph: its edges, too, are made of reconstructed features.

    A graph of signals (CoherenceGraph) is one of those that were seen, as no signal is
    reconstructed.
    """
    seen = torch.where(hidden.unsqueeze(-1), 0.0, windows.x)
    adjacency = network.graph(seen, rebuilt, windows.electrodes)
    return rebuilt, adjacency, windows.electrodes


def _encode(network: nn.Module, graphs: list) -> tuple[Tensor, ...]:
    """Node embeddings of several batches of graphs of one montage, in one pass."""
    features, adjacency, electrodes = zip(*graphs, strict=True)
    one = electrodes[0]
    places = one.positions, one.basis
    if len(one.basis) > 1:  # else one place for all
        n = len(graphs)
        places = tuple(place.repeat(n, 1, 1) for place in places)
    joined = Electrodes(
        *places,
        torch.cat([e.exists for e in electrodes]),
        torch.cat([e.present for e in electrodes]),
    )
    nodes = network.encode(torch.cat(features), torch.cat(adjacency), joined)
    return nodes.chunk(len(graphs))


def _is_recorded(tensor: Tensor) -> bool:
    """Whether what is done is to be done again later, by a program or a CUDA graph."""
    if torch.compiler.is_compiling():
        return True
    return tensor.is_cuda and torch.cuda.is_current_stream_capturing()


def _gather(tensor: Tensor) -> Tensor:
    """Concatenate the tensors of all processes that train together, by rank."""
    together = training_group()
    if together is None:
        return tensor
    n_processes = torch.distributed.get_world_size(together)
    parts = [torch.empty_like(tensor) for _ in range(n_processes)]
    torch.distributed.all_gather(parts, tensor.contiguous(), group=together)
    return torch.cat(parts)
