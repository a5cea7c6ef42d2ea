"""Window -> node features: spectra, learned temporal filters, standardisation."""

import math

import torch
from torch import Tensor, nn

from .electrodes import Electrodes
from .spectrum import WelchSpectrum

__all__ = ["CombinedFeatures", "FeatureNorm", "SpectralFeatures", "TemporalFeatures"]


def log_power(power: Tensor, floor: float = 1e-6) -> Tensor:
    """Logarithm of a power in µV²/Hz, finite down to (and below) zero.

    The floor is far below the noise of any amplifier.
    """
    return torch.log(power.clamp_min(0.0) + floor)


class FeatureNorm(nn.Module):
    """Standardises node features with statistics of the training data.

    In training, the mean and variance of each feature over windows and electrodes
    are accumulated until ``n_windows`` windows were seen, then frozen; in
    evaluation they are only applied. So an output never depends on batch-mates,
    and a batch of one works.

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

    def observe(self, features: Tensor, present: Tensor) -> None:
        """Add a batch (B, N, F) of real nodes (B, N) to the statistics."""
        with torch.no_grad():
            weight = present.unsqueeze(-1).to(features.dtype)
            values = torch.where(weight > 0, features, torch.zeros_like(features))
            totals = torch.cat(
                [
                    values.sum((0, 1)),
                    values.square().sum((0, 1)),
                    weight.sum().reshape(1),
                    torch.full_like(weight[0, 0], features.shape[0]),
                ]
            )
            totals = totals.float()
            if not torch.jit.is_scripting():
                totals = _sum_over_processes(totals)
            n_features = self.mean.shape[0]
            # Frozen statistics are kept by adding nothing, without a host sync.
            learn = (self.windows < self.n_windows).to(totals.dtype)
            added = totals[2 * n_features] * learn
            count = (self.count + added).clamp_min(1.0)
            share = added / count
            seen = totals[2 * n_features].clamp_min(1.0)
            batch_mean = totals[:n_features] / seen
            batch_square = totals[n_features : 2 * n_features] / seen
            self.mean.lerp_(batch_mean, share)
            self.square.lerp_(batch_square, share)
            self.count.add_(added)
            self.windows.add_(totals[2 * n_features + 1] * learn)

    def forward(self, features: Tensor) -> Tensor:
        """Standardise (B, N, F) with the statistics as they are."""
        mean = self.mean.clone()  # a later observe() must not spoil the backward
        variance = (self.square - mean.square()).clamp_min(1e-4)
        return (features - mean) * variance.rsqrt()


@torch.jit.unused
def _sum_over_processes(totals: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(totals)
    return totals


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
        n_basis: int = 25,
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
        return log_power(observed)


class TemporalFeatures(nn.Module):
    r"""Learned temporal filters and signed graph filters *before* the power.

    With band responses :math:`g_b` (Gaussians in Hz) and graph filters that are
    functions of the electrodes' positions,

    .. math::
        A_g = \mathrm{rows\ of\ } (I + \tfrac{1}{N} \Phi M_g \Phi^T)
              \mathrm{\ at\ unit\ length}, \qquad
        h_{i,bg} = \log \big[ A_g\, C_b\, A_g^T \big]_{ii}, \qquad
        C_b = \sum_f g_b(f)\, C(f),

    where C(f) is the window's co-spectrum: the log power of electrode i after
    temporal filter b and spatial filter g, without ever filtering the signal. The
    signs of :math:`M_g` are what lets motor imagery be seen through volume
    conduction.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in a window.
    n_basis : int
        Spherical harmonics per electrode, L.
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
        n_basis: int = 25,
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
        self.mixing = nn.Parameter(torch.randn(n_filters, n_basis, n_basis) * 0.3)
        self.n_features = n_bands * n_filters

    def observe(self, x: Tensor) -> Tensor:
        """What does not depend on masks: the co-spectrum, (B, F', N, N)."""
        return self.spectrum(x)

    def responses(self) -> Tensor:
        """Power responses of the temporal filters at each frequency, (b, F')."""
        distance = self.spectrum.freqs - self.centres[:, None]
        response = torch.exp(-0.5 * (distance / self.log_widths.exp()[:, None]) ** 2)
        return response / response.sum(-1, keepdim=True).clamp_min(1e-6)

    def filters(self, electrodes: Electrodes) -> Tensor:
        """Graph filters of unit rows over the electrodes with data, (B, g, N, N)."""
        basis = electrodes.basis.unsqueeze(1)
        present = electrodes.present[:, None, None, :].to(basis.dtype)
        n_present = present.sum(-1, keepdim=True).clamp_min(1.0)
        kernel = basis @ self.mixing @ basis.transpose(-1, -2) / n_present
        identity = torch.eye(basis.shape[2], dtype=basis.dtype, device=basis.device)
        rows = (identity + kernel) * present
        norm = rows.square().sum(-1, keepdim=True)
        return rows * (norm + 1e-6).rsqrt()

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Log band power after the graph filters, (B, N, F)."""
        present = electrodes.present
        both = (present.unsqueeze(-1) & present.unsqueeze(-2)).unsqueeze(1)
        zero = torch.zeros((), dtype=observed.dtype, device=observed.device)
        observed = torch.where(both, observed, zero)
        b, n_freqs, n, _ = observed.shape
        bands = self.responses() @ observed.reshape(b, n_freqs, n * n)
        bands = bands.reshape(b, -1, 1, n, n)
        filters = self.filters(electrodes).unsqueeze(1)
        power = ((filters @ bands) * filters).sum(-1)  # diag(A C A^T)
        return log_power(power).flatten(1, 2).transpose(1, 2)


class CombinedFeatures(nn.Module):
    """Spectral and temporal features side by side, from one co-spectrum.

    Takes the arguments of :class:`TemporalFeatures`.
    """

    def __init__(
        self,
        sfreq: float,
        n_times: int,
        n_basis: int = 25,
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

    def observe(self, x: Tensor) -> Tensor:
        """What does not depend on masks: the co-spectrum, (B, F', N, N)."""
        return self.temporal.observe(x)

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Log-PSD and log band powers, (B, N, F)."""
        power = observed.diagonal(dim1=-2, dim2=-1).transpose(1, 2)
        temporal = self.temporal(observed, electrodes)
        return torch.cat([log_power(power), temporal], -1)
