"""Window -> node features: spectra, learned temporal filters, standardisation."""

import math

import torch
from torch import Tensor, nn

from .electrodes import Electrodes, data_mask
from .memo import Memo
from .precision import in_full_precision
from .spectrum import WelchSpectrum

__all__ = ["CombinedFeatures", "FeatureNorm", "SpectralFeatures", "TemporalFeatures"]


def log_power(power: Tensor, floor: float = 1e-6) -> Tensor:
    """Logarithm of a power in µV²/Hz, finite down to (and below) zero.

    The floor is far below the noise of any amplifier.
    """
    return torch.log(power.clamp_min(0.0) + floor)


def with_data(observed: Tensor, present: Tensor | None) -> Tensor:
    """Zeros in the place of nodes (B, N) without data, be they NaN, in (B, N, ...)."""
    if present is None:
        return observed
    present = present.reshape(list(present.shape) + [1] * (observed.dim() - 2))
    return torch.where(present, observed, 0.0)


def band_responses(freqs: Tensor, centres: Tensor, log_widths: Tensor) -> Tensor:
    """Gaussians in Hz whose weights sum to one: (F',), (b,), (b,) -> (b, F')."""
    distance = freqs - centres[:, None]
    response = torch.exp(-0.5 * (distance / log_widths.exp()[:, None]) ** 2)
    return response / response.sum(-1, keepdim=True).clamp_min(1e-6)


def mixing_unit() -> float:
    """Unit of the mixing matrices.

    An optimiser's step moves all their L^2 entries at once: in this unit it is a small
    change of the filters, and few labels do not overturn them.
    """
    return 0.1


def graph_filters(mixing: Tensor, basis: Tensor, present: Tensor) -> Tensor:
    """Signed graph filters of unit rows over the electrodes with data.

    mixing (g, L, L), position basis (B or 1, N, L), present (B, N) -> (B, g, N, N).
    """
    basis = basis.unsqueeze(1)
    among = present[:, None, None, :].to(basis.dtype)
    n_present = among.sum(-1, keepdim=True).clamp_min(1.0)
    # Known positions have |phi|^2 = L: rows of the kernel are of order one.
    scale = mixing_unit() / (basis.shape[-1] * n_present.sqrt())
    kernel = basis @ mixing @ basis.transpose(-1, -2) * scale
    identity = torch.eye(basis.shape[2], dtype=basis.dtype, device=basis.device)
    rows = (identity + kernel) * among
    norm = rows.square().sum(-1, keepdim=True)
    return rows * (norm + 1e-6).rsqrt()


def _filters_at(mixing: Tensor, electrodes: Electrodes) -> Tensor:
    return graph_filters(mixing, electrodes.basis, electrodes.present)


class FeatureNorm(nn.Module):
    """Standardises node features with statistics of the training data.

    In training, the mean and variance of each feature over windows and electrodes
    are accumulated until ``n_windows`` windows were seen, then frozen; in
    evaluation they are only applied. So an output never depends on batch-mates
    (but for rounding: products of other sizes are summed in another order), and a
    batch of one works.

    Parameters
    ----------
    n_features : int
        Features per node, F.
    n_windows : int
        Windows after which the statistics are final.
    """

    def __init__(self, n_features: int, n_windows: int = 4096):
        super().__init__()
        self.n_windows = n_windows
        self.register_buffer("windows", torch.zeros(()))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("square", torch.ones(n_features))

    def _apply(self, fn, recurse=True):
        """Move the statistics, but never to half precision.

        A count in bfloat16 stops at 256, and a variance is a difference of squares.
        """
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, value in self._buffers.items():
            if value.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = before[name].to(value.device)
        return self

    def reset(self) -> None:
        """Forget all windows: the next ones are learned from anew."""
        for value, start in (
            (self.windows, 0.0),
            (self.count, 0.0),
            (self.mean, 0.0),
            (self.square, 1.0),
        ):
            value.fill_(start)

    def observe(self, features: Tensor, present: Tensor) -> None:
        """Add a batch (B, N, F) of real nodes (B, N) to the statistics."""
        with torch.no_grad():
            # Sums of squares of half-precision features would leave no variance;
            # and one wild window must not spoil the statistics for good.
            features = features.to(self.mean.dtype)
            real = present.unsqueeze(-1) & torch.isfinite(features)
            real = real.all(-1, keepdim=True)
            values = torch.where(real, features, torch.zeros_like(features))
            totals = torch.cat(
                [
                    values.sum((0, 1)),
                    values.square().sum((0, 1)),
                    real.sum().reshape(1),
                    features.new_full([1], float(features.shape[0])),
                ]
            )
            if not torch.jit.is_scripting():
                totals = _sum_over_processes(totals)
            n_features = self.mean.shape[0]
            # Frozen statistics are kept by adding nothing, without a host sync.
            learn = (self.windows < self.n_windows).to(totals.dtype)
            added = totals[2 * n_features] * learn
            share = added / (self.count + added).clamp_min(1.0)
            seen = totals[2 * n_features].clamp_min(1.0)
            batch_mean = totals[:n_features] / seen
            batch_square = totals[n_features : 2 * n_features] / seen
            self.mean.lerp_(batch_mean, share)
            self.square.lerp_(batch_square, share)
            self.count.add_(added)
            self.windows.add_(totals[2 * n_features + 1] * learn)

    def forward(self, features: Tensor) -> Tensor:
        """Standardise (B, N, F) with the statistics as they are."""
        variance = self.square - self.mean.square()
        return (features - self.mean) * variance.clamp_min(1e-4).rsqrt()


@torch.jit.unused
def _sum_over_processes(totals: Tensor) -> Tensor:
    """The same over all processes that train one model together."""
    group = training_group()
    if group is not None:
        torch.distributed.all_reduce(totals, group=group)
    return totals


def training_group():
    """The processes that train one model together; None if this one trains alone.

    Only inside DistributedDataParallel's forward: processes may as well train a model
    each (a fold of a cross-validation), and know nothing of each other's data.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    wrapper = torch.nn.parallel.DistributedDataParallel._get_active_ddp_module()
    return None if wrapper is None else wrapper.process_group


class SpectralFeatures(nn.Module):
    """Log power spectral density of each electrode (the paper's node features).

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in a window.
    n_basis : int
        Not used; every feature class takes the same arguments.
    f_min, f_max : float
        Frequency range in Hz; ``1 / segment_seconds`` is the resolution.
    segment_seconds : float
        Welch segment in seconds.
    n_bands, n_filters : int
        Not used.
    """

    def __init__(
        self,
        sfreq: float,
        n_times: int,
        n_basis: int = 36,
        f_min: float = 4.0,
        f_max: float = 40.0,
        segment_seconds: float = 1.0,
        n_bands: int = 12,
        n_filters: int = 4,
    ):
        super().__init__()
        self.spectrum = WelchSpectrum(sfreq, n_times, f_min, f_max, segment_seconds)
        self.n_features = self.spectrum.freqs.shape[0]

    def observe(self, x: Tensor) -> Tensor:
        """What does not depend on masks: the PSD, (B, N, T) µV -> (B, N, F)."""
        return self.spectrum.power(x)

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Log-PSD, (B, N, F)."""
        return log_power(with_data(observed, data_mask(electrodes)))


class TemporalFeatures(nn.Module):
    r"""Learned temporal filters and signed graph filters *before* the power.

    With the Fourier coefficients :math:`X_{is}(f)` of electrode i in segment s, band
    responses :math:`g_b` (Gaussians in Hz) and graph filters that are functions of the
    electrodes' positions,

    .. math::
        A_g = \mathrm{rows\ of\ } (I + \tfrac{u}{L \sqrt N} \Phi M_g \Phi^T)
              \mathrm{\ at\ unit\ length}, \qquad
        h_{i,gb} = \Big\langle \log \sum_f g_b(f)\,
              \big| [A_g X_s(f)]_i \big|^2 \Big\rangle_s :

    the log power of electrode i after spatial filter g and temporal filter b, averaged
    over segments; u = 0.1 is the unit of the weights. The first graph filter starts as
    the identity. The signs of :math:`M_g` are what lets motor imagery be seen through
    volume conduction.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in a window.
    n_basis : int
        Position basis functions per electrode, L.
    f_min, f_max : float
        Frequency range in Hz.
    segment_seconds : float
        Welch segment in seconds.
    n_bands, n_filters : int
        Temporal filters b and graph filters g; F = ``n_bands * n_filters``.
    """

    def __init__(
        self,
        sfreq: float,
        n_times: int,
        n_basis: int = 36,
        f_min: float = 4.0,
        f_max: float = 40.0,
        segment_seconds: float = 1.0,
        n_bands: int = 12,
        n_filters: int = 4,
    ):
        super().__init__()
        self.spectrum = WelchSpectrum(sfreq, n_times, f_min, f_max, segment_seconds)
        low, high = math.log(1.25 * f_min), math.log(0.85 * f_max)
        centres = torch.linspace(low, high, n_bands).exp()
        self.centres = nn.Parameter(centres)
        self.log_widths = nn.Parameter((0.18 * centres).clamp_min(1.2).log())
        mixing = torch.randn(n_filters, n_basis, n_basis) / mixing_unit()
        mixing[0] = 0.0
        self.mixing = nn.Parameter(mixing)
        self._memo_responses, self._memo_filters = Memo(), Memo()
        self.n_features = n_bands * n_filters

    def frequencies(self) -> Tensor:
        """Frequencies of the coefficients in Hz, (F',)."""
        return self.spectrum.freqs

    @torch.no_grad()
    def start_embedding(self, weight: Tensor) -> None:
        """Fill an embedding's weight (D, F) that weighs all bands of a filter alike.

        Their mean is what few windows tell best; what single bands say is learned.
        """
        spread = weight.std() if weight.numel() > 1 else weight.abs()
        start = spread * torch.randn(len(weight), len(self.mixing), 1)
        weight.copy_(start.expand(-1, -1, len(self.centres)).flatten(1))

    def observe(self, x: Tensor) -> Tensor:
        """What does not depend on masks: Fourier coefficients, (B, N, 2, S, F')."""
        return self.spectrum(x)

    def responses(self) -> Tensor:
        """Power responses of the temporal filters at each frequency, (b, F')."""
        freqs = self.spectrum.freqs
        if torch.jit.is_scripting():
            responses = band_responses(freqs, self.centres, self.log_widths)
        else:
            responses = self._memo_responses(
                band_responses, freqs, self.centres, self.log_widths
            )
        return responses

    def filters(self, electrodes: Electrodes) -> Tensor:
        """Graph filters of unit rows over the electrodes with data, (B, g, N, N)."""
        basis, present = electrodes.basis, electrodes.present
        if torch.jit.is_scripting():
            filters = graph_filters(self.mixing, basis, present)
        else:
            filters = self._memo_filters(_filters_at, self.mixing, electrodes)
        return filters

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Log band power after the graph filters, (B, N, F)."""
        # Signed filters cancel powers that half precision cannot hold apart.
        if torch.jit.is_scripting():
            power = self.power(observed, electrodes)
        else:
            power = in_full_precision(self.power, observed, electrodes)
        return log_power(power).mean(3).permute(0, 2, 1, 3).flatten(2)

    def power(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Band power in µV²/Hz of each segment, (B, g, N, S, b)."""
        observed = with_data(observed, data_mask(electrodes))
        b, n, two, n_segments, n_freqs = observed.shape
        filters = self.filters(electrodes)
        mixed = torch.bmm(filters.flatten(1, 2), observed.flatten(2))
        mixed = mixed.reshape(b, filters.shape[1], n, two, n_segments, n_freqs)
        real, imaginary = mixed.unbind(3)  # a sum over two is slow
        power = real.square() + imaginary.square()
        # Segments in one row each: one plain product.
        power = power.flatten(0, 3) @ self.responses().T
        return power.reshape(b, filters.shape[1], n, n_segments, power.shape[1])


class CombinedFeatures(nn.Module):
    """Spectral and temporal features side by side, from one transform.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in a window.
    n_basis : int
        Position basis functions per electrode, L.
    f_min, f_max : float
        Frequency range in Hz.
    segment_seconds : float
        Welch segment in seconds.
    n_bands, n_filters : int
        Temporal filters and graph filters, as in :class:`TemporalFeatures`.
    """

    def __init__(
        self,
        sfreq: float,
        n_times: int,
        n_basis: int = 36,
        f_min: float = 4.0,
        f_max: float = 40.0,
        segment_seconds: float = 1.0,
        n_bands: int = 12,
        n_filters: int = 4,
    ):
        super().__init__()
        self.temporal = TemporalFeatures(
            sfreq, n_times, n_basis, f_min, f_max, segment_seconds, n_bands, n_filters
        )
        n_freqs = self.temporal.spectrum.freqs.shape[0]
        self.n_features = self.temporal.n_features + n_freqs

    def frequencies(self) -> Tensor:
        """Frequencies of the coefficients in Hz, (F',)."""
        return self.temporal.frequencies()

    def observe(self, x: Tensor) -> Tensor:
        """What does not depend on masks: Fourier coefficients, (B, N, 2, S, F')."""
        return self.temporal.observe(x)

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Log-PSD and log band powers, (B, N, F)."""
        observed = with_data(observed, data_mask(electrodes))
        power = observed.square().sum(2).mean(2)
        temporal = self.temporal(observed, electrodes)
        return torch.cat([log_power(power), temporal], -1)
