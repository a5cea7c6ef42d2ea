"""Functional connectivity as node features: whom an electrode goes along with."""

import torch
from torch import Tensor, nn

from ..montage import electrode_positions, montage_preset
from .electrodes import Electrodes, data_mask
from .nodes import TemporalFeatures, with_data
from .precision import in_full_precision

__all__ = ["ConnectivityFeatures", "nearest_sites"]


def nearest_sites(positions: Tensor, sites: Tensor, width: float = 0.01) -> Tensor:
    r"""Soft assignment of electrodes to sites by distance.

    .. math:: a_{ik} = \operatorname{softmax}_k \big(- |p_i - q_k|^2 / 2 w^2 \big)

    An electrode on a site is that site; between sites it is shared; one without a
    known position belongs to none.

    Parameters
    ----------
    positions : Tensor, shape (..., N, 3)
    sites : Tensor, shape (K, 3)
        Metres.
    width : float
        w in metres.

    Returns
    -------
    Tensor, shape (..., N, K)
    """
    known = torch.isfinite(positions).all(-1, keepdim=True)
    p = torch.where(known, positions, torch.zeros_like(positions))
    distance = (p.unsqueeze(-2) - sites).square().sum(-1)
    share = torch.softmax(-0.5 * distance / width**2, -1)
    return torch.where(known, share, torch.zeros_like(share))


def band_correlation(observed: Tensor, responses: Tensor) -> Tensor:
    """Mean over bands of the correlation between electrodes, without the diagonal.

    Coefficients (B, N, 2, S, F'), power responses (b, F') -> (B, N, N). An electrode
    without data correlates with nobody.
    """
    b, n, two, n_segments, n_freqs = observed.shape
    weighted = observed.unsqueeze(2) * responses.sqrt()[:, None, None, :]
    rows = weighted.flatten(3)  # (B, N, b, 2 * S * F')
    length = torch.linalg.vector_norm(rows, dim=[-1], keepdim=True)
    rows = (rows / length.clamp_min(1e-9)).flatten(2)
    correlation = rows @ rows.transpose(-1, -2) / responses.shape[0]
    off = 1 - torch.eye(n, dtype=observed.dtype, device=observed.device)
    return correlation * off


class ConnectivityFeatures(nn.Module):
    r"""Temporal features, and each electrode's connectivity to the sites of the 10-10.

    Adds to :class:`TemporalFeatures` the profile

    .. math:: c_{ik} = \sum_{j \ne i} \bar R_{ij}\, a_{jk}

    where :math:`\bar R` is the correlation of the signals, averaged over the temporal
    filters' bands, and :math:`a_{jk}` says which of 64 sites electrode j is at
    (:func:`nearest_sites`). With :class:`~braindecode_gcmae.models.PositionReadout` a
    linear head sees what a tangent-space classifier sees, on any montage. Worth its
    dimensions with many electrodes.

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
        sites = torch.as_tensor(electrode_positions(montage_preset("64")))
        sites = sites.to(torch.get_default_dtype())
        self.register_buffer("sites", sites, persistent=False)
        self.n_features = self.temporal.n_features + len(sites)

    def frequencies(self) -> Tensor:
        """Frequencies of the coefficients in Hz, (F',)."""
        return self.temporal.frequencies()

    def observe(self, x: Tensor) -> Tensor:
        """What does not depend on masks: Fourier coefficients, (B, N, 2, S, F')."""
        return self.temporal.observe(x)

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Log band powers and connectivity profiles, (B, N, F)."""
        seen = with_data(observed, data_mask(electrodes))
        # The bands follow the temporal filters, which learn from the powers alone.
        responses = self.temporal.responses().detach()
        if torch.jit.is_scripting():
            correlation = band_correlation(seen, responses)
        else:
            correlation = in_full_precision(band_correlation, seen, responses)
        share = nearest_sites(electrodes.positions, self.sites)
        profile = correlation @ share.to(correlation.dtype)
        return torch.cat([self.temporal(observed, electrodes), profile], -1)
