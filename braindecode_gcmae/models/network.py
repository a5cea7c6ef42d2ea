"""The electrode-graph network that student and teacher share by composition."""

import numpy as np
import torch
from torch import Tensor, nn

from ..encoders import Dropout, build_encoder
from ..features import Electrodes, FeatureNorm, SecondMoments, spherical_harmonics
from ..features.electrodes import STILL, data_mask
from ..features.memo import Memo, may_look
from ..features.nodes import with_data
from ..features.precision import in_full_precision
from ..masking import MaskToken, failing_electrodes
from ..montage import MATCH_TOLERANCE
from ..montage.evidence import weigh
from ..montage.matching import find_rows
from .arguments import is_tied

__all__ = ["ElectrodeGraphNetwork"]

_LARGEST = 1e12  # µV


class ElectrodeGraphNetwork(nn.Module):
    """Window -> node features -> electrode graph -> node embeddings -> embedding.

    Parameters
    ----------
    channels : list of dict, list of str or int
        The input's channels (``chs_info`` or names), or only how many there are.
    electrodes : list of str, optional
        Those kept as nodes; default all.
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in a window.
    features, graph, encoder, readout : type of nn.Module
        The four parts.
    emb_dim, depth, n_heads, order : int
        Width D, encoder layers, attention heads, Chebyshev order.
    position_degree : int
        Degree of the spherical harmonics that stand for an electrode's place.
    activation : type of nn.Module
    drop_prob, electrode_dropout : float
        Dropout of units, and of whole electrodes, in training.
    segment_dropout : float
        Probability that, in training, a Welch segment gives way to a random one of the
        same window.
    second_moments : bool
        Pool the correlations between electrodes, too
        (:class:`~braindecode_gcmae.features.SecondMoments`); not
        where the features keep no phases.
    **feature_arguments
        ``f_min``, ``f_max``, ``segment_seconds``, ``n_bands``, ``n_filters``.
    """

    def __init__(
        self,
        channels: list | int,
        electrodes: list[str] | None,
        sfreq: float,
        n_times: int,
        features: type[nn.Module],
        graph: type[nn.Module],
        encoder: type[nn.Module],
        readout: type[nn.Module],
        emb_dim: int,
        depth: int,
        n_heads: int,
        order: int,
        position_degree: int,
        activation: type[nn.Module],
        drop_prob: float,
        electrode_dropout: float,
        segment_dropout: float = 0.0,
        second_moments: bool = True,
        **feature_arguments,
    ):
        super().__init__()
        rows, places = _place(channels, electrodes)
        positions = _default(places)
        self.n_chans = channels if isinstance(channels, int) else len(channels)
        self.n_nodes = len(rows)
        self.n_times = n_times
        self.tied = is_tied(features, graph, encoder, readout)
        # A tied part has weights for each electrode: which one it is must be known.
        known = bool(np.isfinite(places).any())
        self.selects = electrodes is not None or (self.tied and known)
        self.position_degree = position_degree
        self.electrode_dropout = electrode_dropout
        self.segment_dropout = segment_dropout
        self.match_tolerance = MATCH_TOLERANCE  # TorchScript reads no globals
        n_basis = (position_degree + 1) ** 2
        # The montage is not part of the weights: a checkpoint serves any cap.
        self.register_buffer("rows", torch.as_tensor(rows), persistent=False)
        self.register_buffer("positions", positions, persistent=False)
        basis = spherical_harmonics(positions, position_degree)
        self.register_buffer("basis", basis, persistent=False)
        self._memo = Memo()

        self.features = features(sfreq, n_times, n_basis, **feature_arguments)
        segment = round(feature_arguments.get("segment_seconds", 1.0) * sfreq)
        # In samples. Longer windows are welcome, but for features that say otherwise.
        shortest = getattr(self.features, "shortest", min(segment, n_times))
        self.shortest = int(shortest)
        self.norm = FeatureNorm(self.features.n_features)
        self.embed = nn.Linear(self.features.n_features, emb_dim)
        if hasattr(self.features, "start_embedding"):
            self.features.start_embedding(self.embed.weight)
        self.token = MaskToken(emb_dim)
        self.place = nn.Linear(n_basis, emb_dim, bias=False)
        nn.init.normal_(self.place.weight, std=0.1 * n_basis**-0.5)
        nn.init.normal_(self.token.token, std=0.02)
        tied = (self.n_nodes,) if is_tied(graph) else ()
        self.graph = graph(n_basis, *tied)
        self.encoder = build_encoder(
            encoder,
            emb_dim,
            depth=depth,
            n_heads=n_heads,
            order=order,
            activation=activation,
            drop_prob=drop_prob,
        )
        self.readout = readout(emb_dim, n_basis, self.n_nodes)
        self.dropout = Dropout(drop_prob)
        moments, n_outputs = None, int(self.readout.n_outputs)
        # Spectra have no phases: there are no correlations in them.
        if second_moments and hasattr(self.features, "frequencies"):
            moments = SecondMoments(self.features.frequencies(), n_basis)
            n_outputs += moments.n_outputs
        self.moments, self.n_outputs = moments, n_outputs

    # -- who is where ------------------------------------------------------
    def locate(
        self,
        x: Tensor,
        pos: Tensor | None = None,
        ch_mask: Tensor | None = None,
    ) -> tuple[Tensor, Electrodes]:
        """Pick the nodes out of the input: windows (B, N, T) and their electrodes.

        A missing electrode's samples are replaced by zeros here, before anything
        else sees them. One that does not move is missing, too.
        """
        if x.dim() != 3:
            raise ValueError(
                f"expected windows of shape (batch, channels, times), got "
                f"{list(x.shape)}"
            )
        if x.shape[2] < self.shortest:
            raise ValueError(
                f"windows of shape {list(x.shape)} (batch, channels, times) are too "
                f"short for the spectrum: the model was built for {self.n_times} "
                f"samples and needs {self.shortest}"
            )
        if self.positions.dtype == torch.float16:
            raise TypeError(
                "float16 cannot hold powers of EEG in µV²: use model.bfloat16(), or "
                "torch.autocast, which leaves the powers in float32"
            )
        x = x.to(self.positions.dtype)
        if ch_mask is not None:
            if ch_mask.shape != x.shape[:2]:
                raise ValueError(
                    f"ch_mask must be (batch, channels) for windows of shape "
                    f"{list(x.shape)}, got {list(ch_mask.shape)}"
                )
            ch_mask = ch_mask.to(torch.bool)
        if pos is not None:
            x, real, positions, exists = self._by_position(x, pos, ch_mask)
            basis = self.basis.unsqueeze(0)
            if not self.selects:
                basis = spherical_harmonics(positions, self.position_degree)
        else:
            x, ch_mask = self._by_row(x, ch_mask)
            whole: Electrodes | None = None
            if not torch.jit.is_scripting():
                whole = self._whole(x, ch_mask)
            if whole is not None:
                return x, whole
            positions, basis = self.positions.unsqueeze(0), self.basis.unsqueeze(0)
            real = _with_data(x, ch_mask)
            exists = torch.ones_like(real)
            if ch_mask is not None:
                exists = ch_mask | _has_place(positions)
        real = real & exists
        x = torch.where(real.unsqueeze(-1), x, 0.0)
        return x, Electrodes(positions, basis, exists, real)

    @torch.jit.unused
    def _whole(self, x: Tensor, ch_mask: Tensor | None) -> Electrodes | None:
        """The electrodes, one object for one montage, if all are known to have data.

        Only where a look is free (:func:`~braindecode_gcmae.features.memo.may_look`).
        """
        if not (may_look(x) and len(x) and (ch_mask is None or bool(ch_mask.all()))):
            return None
        low, high = x.amin(-1), x.amax(-1)  # of which NaN makes NaN
        largest = max(float(high.amax()), -float(low.amin()))
        if not (largest < _LARGEST and float((high - low).amin()) > STILL):
            return None
        return self._memo(_whole_cap, self.positions, self.basis, len(x))

    def _by_row(
        self, x: Tensor, ch_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        n_given = x.shape[1]
        if n_given == self.n_chans:
            if self.selects:
                x = x[:, self.rows]
                if ch_mask is not None:
                    ch_mask = ch_mask[:, self.rows]
        elif n_given != self.n_nodes:
            raise ValueError(
                f"got {n_given} channels; expected all {self.n_chans} channels of "
                f"chs_info / ch_names, or just the {self.n_nodes} electrodes, in "
                "that order"
            )
        return x, ch_mask

    def _by_position(
        self, x: Tensor, pos: Tensor, ch_mask: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        pos = pos.to(x.dtype)
        if pos.dim() == 2:
            pos = pos.unsqueeze(0).expand(x.shape[0], -1, -1)
        if pos.dim() != 3 or pos.shape[:2] != x.shape[:2] or pos.shape[2] != 3:
            raise ValueError(
                f"pos must be (batch, channels, 3) metres for windows of shape "
                f"{list(x.shape)}, got {list(pos.shape)}"
            )
        placed, real = _has_place(pos), _with_data(x, ch_mask)
        if not self.selects:
            exists = real | placed if ch_mask is None else ch_mask | placed
            unknown = torch.full_like(pos, float("nan"))
            return x, real, torch.where(placed.unsqueeze(-1), pos, unknown), exists
        here = self.positions.unsqueeze(0).expand(x.shape[0], -1, -1)
        there = torch.where(placed.unsqueeze(-1), pos, torch.full_like(pos, 1e3))
        # Not cdist: from 25 points on it cancels digits.
        gap = here.nan_to_num(-1e3).unsqueeze(2) - there.unsqueeze(1)
        distance = gap.square().sum(-1)
        nearest, row = distance.min(-1)
        # One electrode is one node, however dense the nodes are.
        node = distance.min(1)[1].gather(1, row)
        found = nearest <= self.match_tolerance**2
        found = found & (node == torch.arange(row.shape[1], device=row.device))
        x = x.gather(1, row.unsqueeze(-1).expand(-1, -1, x.shape[2]))
        return x, real.gather(1, row) & found, here, torch.ones_like(found)

    # -- window -> nodes -> embeddings ---------------------------------------
    def describe(
        self, observed: Tensor, electrodes: Electrodes, learn: bool = False
    ) -> Tensor:
        """Standardised node features (B, N, F); zero where there are no data.

        With ``learn`` the batch is added to the standardisation's statistics.
        """
        features = self.features(observed, electrodes)
        if learn:
            self.norm.observe(features, electrodes.present)
        # The statistics of a bfloat16 model are in float32.
        standard = self.norm(features).to(self.positions.dtype)
        return with_data(standard, data_mask(electrodes))

    def encode(
        self, features: Tensor, adjacency: Tensor, electrodes: Electrodes
    ) -> Tensor:
        """Node embeddings (B, N, D) of node features (B, N, F) on a graph."""
        h, present = self.embed(features), data_mask(electrodes)
        if present is not None:
            h = self.token(h, ~present)
        h = self.dropout(h + self.place(electrodes.basis))
        return self.encoder(h, adjacency, electrodes.exists)

    def pool(self, nodes: Tensor, electrodes: Electrodes) -> Tensor:
        """Window embedding (B, E) of node embeddings (B, N, D)."""
        return self.readout(nodes, electrodes)

    def summarise(
        self, observed: Tensor, nodes: Tensor, electrodes: Electrodes
    ) -> Tensor:
        """Window embedding with the second moments (B, E') beside the nodes."""
        pooled = self.pool(nodes, electrodes)
        if self.moments is not None:
            moments = self.moments(observed, electrodes)
            pooled = torch.cat([pooled, moments.to(pooled.dtype)], 1)
        return pooled

    def analyse(self, x: Tensor) -> Tensor:
        """The mask-independent part of the features, always in full precision."""
        if torch.jit.is_scripting():
            observed = self.features.observe(x)
        else:
            observed = in_full_precision(self.features.observe, x)
        return observed

    def graph_of(
        self,
        x: Tensor,
        pos: Tensor | None = None,
        ch_mask: Tensor | None = None,
        learn: bool = False,
        augment: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Electrodes]:
        """Coefficients, node features, adjacency and electrodes of windows in µV.

        ``learn``: add to the statistics. ``augment``: drop electrodes and segments.
        """
        x, electrodes = self.locate(x, pos, ch_mask)
        return self.graph_at(x, electrodes, learn, augment)

    def graph_at(
        self,
        x: Tensor,
        electrodes: Electrodes,
        learn: bool = False,
        augment: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Electrodes]:
        """The same, of nodes (B, N, T) that were located."""
        observed = self.analyse(x)
        if augment and self.electrode_dropout > 0:
            electrodes = self._drop_electrodes(electrodes)
        if augment and self.segment_dropout > 0:
            observed = self._redraw_segments(observed)
        if learn and self.moments is not None:
            self.moments.observe(observed, electrodes)
        features = self.describe(observed, electrodes, learn)
        return observed, features, self.graph(x, features, electrodes), electrodes

    def forward(
        self,
        x: Tensor,
        pos: Tensor | None = None,
        ch_mask: Tensor | None = None,
    ) -> Tensor:
        """Window embeddings (B, E) of windows (B, C, T) in µV."""
        observed, features, adjacency, electrodes = self.graph_of(
            x, pos, ch_mask, self.training, self.training
        )
        nodes = self.encode(features, adjacency, electrodes)
        return self.dropout(self.summarise(observed, nodes, electrodes))

    def _drop_electrodes(self, electrodes: Electrodes) -> Electrodes:
        """Declare electrodes missing, so that weights learn to do without.

        In half of the windows they fail one by one, in the others with their
        neighbours.
        """
        positions, basis = electrodes.positions, electrodes.basis
        exists, present = electrodes.exists, electrodes.present
        noise = torch.rand(present.shape, device=present.device)
        together = torch.rand(present.shape[0], device=present.device) < 0.5
        lost = failing_electrodes(
            noise, self.electrode_dropout, present, positions, together
        )
        return Electrodes(positions, basis, exists, present & ~lost)

    def _redraw_segments(self, observed: Tensor) -> Tensor:
        """Let segments give way to others of the same window (B, N, 2, S, F').

        A bootstrap: a spectrum is seen with the noise that its few segments leave, each
        time anew. Features that have averaged their segments stay as they are.
        """
        if observed.dim() != 5:
            return observed
        b, n, two, n_segments, n_freqs = observed.shape
        size, device = [b, n_segments], observed.device
        own = torch.arange(n_segments, device=device).expand(b, -1)
        other = torch.randint(n_segments, size, device=device)
        drawn = torch.rand(size, device=device) < self.segment_dropout
        index = torch.where(drawn, other, own)[:, None, None, :, None]
        return observed.gather(3, index.expand(-1, n, two, -1, n_freqs))


def _whole_cap(positions: Tensor, basis: Tensor, n_windows: int) -> Electrodes:
    """A montage (N, 3), (N, L) of which every window has data everywhere."""
    seen = torch.ones(n_windows, len(positions), dtype=torch.bool)
    return Electrodes(positions.unsqueeze(0), basis.unsqueeze(0), seen, seen, seen)


def _is_data(x: Tensor) -> Tensor:
    """Which channels of windows (B, C, T) in µV hold a signal, (B, C).

    It has no NaN, is not so large that its power would overflow, and moves: what is
    unplugged, railed or filled with zeros does not, but for the rounding of filters.
    """
    # As numbers: TorchScript reads no globals.
    moves = x.amax(-1) - x.amin(-1) > 1e-7
    # Each sample is looked at: onnxruntime's least and largest pass over NaN.
    return (x.abs() < 1e12).all(-1) & moves


def _with_data(x: Tensor, ch_mask: Tensor | None) -> Tensor:
    """Which channels of windows (B, C, T) have data, (B, C)."""
    real = _is_data(x)
    return real if ch_mask is None else real & ch_mask


def _has_place(positions: Tensor) -> Tensor:
    """Finite and not the zeros that pad a batch: (..., 3) -> (...)."""
    finite = torch.isfinite(positions).all(-1)
    return finite & (positions.nan_to_num(0.0).abs().sum(-1) > 0)


def _place(channels, electrodes) -> tuple[list[int], np.ndarray]:
    """Rows of the kept electrodes in the input, and their positions (N, 3)."""
    if isinstance(channels, int):
        if electrodes is not None:
            raise ValueError(
                f"electrodes={list(electrodes)} are given by name, but the channels "
                "have none: pass chs_info or ch_names"
            )
        return list(range(channels)), np.full((channels, 3), np.nan)
    cap = weigh(channels)  # silently: who looked at the channels before has warned
    rows = list(range(len(channels)))
    if electrodes is not None:
        rows = find_rows(electrodes, cap)
    return rows, cap.positions[rows]


def _default(values: np.ndarray) -> Tensor:
    """In the type of parameters, as a model's own are made."""
    return torch.as_tensor(values, dtype=torch.get_default_dtype())
