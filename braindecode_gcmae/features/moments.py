"""Second moments of a window over the head: which electrodes go together, how loud."""

import torch
from torch import Tensor, nn

from .electrodes import Electrodes, data_mask
from .nodes import FeatureNorm, log_power, with_data
from .precision import in_full_precision

__all__ = ["SecondMoments", "position_moments", "signed_topology"]


def moments_unit() -> float:
    """Unit of the moments.

    An optimiser's step moves the head's weights of all L^2 moments at once: in this
    unit it changes little of what the head says, and few labels do not overturn it.
    """
    return 0.2


def band_amplitude(freqs: Tensor, low: float, high: float) -> Tensor:
    """Square root of a band's power response: one inside, falling off within 2 Hz."""
    rise = torch.sigmoid(2 * (freqs - low) + 1)
    return (rise * torch.sigmoid(2 * (high - freqs) + 1)).sqrt()


def band_rows(
    observed: Tensor, amplitude: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Coefficients of the band in a row for each electrode, and their squared length.

    (B, N, 2, S, F') -> (B, N, 2 S F'), (B, N); zero where there are no data.
    """
    rows = (with_data(observed, present) * amplitude).flatten(2)
    return rows, rows.square().sum(-1)


def cosines(rows: Tensor, total: Tensor) -> Tensor:
    """Of the angles between rows (B, N, M) of squared lengths (B, N): (B, N, N)."""
    unit = rows * total.clamp_min(1e-12).rsqrt().unsqueeze(-1)
    return unit @ unit.transpose(-1, -2)


def log_powers(total: Tensor, n_segments: int, present: Tensor | None) -> Tensor:
    """Log power of the band from squared lengths (B, N); 0 where there are no data."""
    return with_data(log_power(total / n_segments), present)


def with_diagonal(matrices: Tensor, diagonals: Tensor) -> Tensor:
    """Matrices (B, N, N) with other diagonals (B, N)."""
    n = diagonals.shape[1]
    own = torch.eye(n, dtype=torch.bool, device=diagonals.device)
    return torch.where(own, diagonals.unsqueeze(-1), matrices)


def signed_topology(
    observed: Tensor, amplitude: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor]:
    r"""Correlations of the signals in a band, and their log powers.

    .. math:: C_{ij} = \frac{1}{S} \sum_{sf} a(f)^2\, \Re X_{is}(f) \bar X_{js}(f),
              \qquad R_{ij} = C_{ij} / \sqrt{C_{ii} C_{jj}}\ (i \ne j), \qquad
              d_i = \log C_{ii}

    Of aligned windows, whose covariance is near the identity, that is the matrix
    logarithm of C to first order: what a tangent-space classifier sees.

    Parameters
    ----------
    observed : Tensor, shape (B, N, 2, S, F')
        Fourier coefficients of the segments, µV/sqrt(Hz).
    amplitude : Tensor, shape (F',)
        Response a of the band.
    present : Tensor of bool, shape (B, N), optional
        Electrodes with data, default all. The others correlate with nobody, and their
        d is 0.

    Returns
    -------
    Tensor, shape (B, N, N)
        R, zero on the diagonal.
    Tensor, shape (B, N)
        d.

    References
    ----------
    Barachant et al. (2012), https://doi.org/10.1109/TBME.2011.2172210
    """
    rows, total = band_rows(observed, amplitude, present)
    correlation = with_diagonal(cosines(rows, total), torch.zeros_like(total))
    return correlation, log_powers(total, observed.shape[3], present)


def position_moments(topology: Tensor, basis: Tensor, present: Tensor | None) -> Tensor:
    r"""Moments of a topology over the head, :math:`\Phi^T Z \Phi / N`.

    A linear layer on them weights every pair of electrodes by a smooth function of
    where the two are: what a quadratic form gives one montage, for every montage.

    Parameters
    ----------
    topology : Tensor, shape (B, N, N)
        Z, symmetric.
    basis : Tensor, shape (B or 1, N, L)
        Position basis functions.
    present : Tensor of bool, shape (B, N), optional
        Electrodes with data, default all; N counts them.

    Returns
    -------
    Tensor, shape (B, L * L)
        Row by row.
    """
    if present is None:
        moments = basis.transpose(1, 2) @ topology @ basis / float(basis.shape[1])
    else:
        there = present.unsqueeze(-1).to(basis.dtype)
        phi = basis * there
        n_present = there.sum(1, keepdim=True).clamp_min(1.0)
        moments = phi.transpose(1, 2) @ topology @ phi / n_present
    return moments.flatten(1)


class SecondMoments(nn.Module):
    r"""How the signals of a band go together, pooled over the head.

    The moments (:func:`position_moments`) of the correlations of all pairs of
    electrodes, with half of their standardised log powers on the diagonal
    (:func:`signed_topology`), in the unit 0.2, so that few labels do not overturn
    the head. Powers alone do not see what two electrodes do together; with this, a
    linear head sees what a tangent-space classifier sees, on any montage.

    Parameters
    ----------
    freqs : Tensor, shape (F',)
        Frequencies of the coefficients in Hz.
    n_basis : int
        Position basis functions per electrode, L.
    low, high : float
        Edges of the band in Hz; brought within ``freqs``. Few labels tell the powers of
        one broad band and its correlations better than those of many narrow ones.
    """

    def __init__(
        self, freqs: Tensor, n_basis: int, low: float = 8.0, high: float = 30.0
    ):
        super().__init__()
        first, last = low, high
        if not freqs.is_meta:  # there are no numbers on the meta device
            first, last = float(freqs[0]), float(freqs[-1])
        if low >= last or high <= first:
            low, high = first, last
        self.band = max(low, first), min(high, last)
        self.norm = FeatureNorm(1)
        # A function of the sampling rate: not part of the weights.
        amplitude = band_amplitude(freqs, *self.band)
        self.register_buffer("amplitude", amplitude, persistent=False)
        self.n_outputs = n_basis * n_basis

    def observe(self, observed: Tensor, electrodes: Electrodes) -> None:
        """Add the log powers of a batch to the statistics."""
        present = electrodes.present
        _, total = band_rows(observed, self.amplitude, present)
        power = log_powers(total, observed.shape[3], present)
        self.norm.observe(power.unsqueeze(-1), present)

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """Moments (B, L * L), in the precision of the coefficients."""
        if torch.jit.is_scripting():
            moments = self.moments(observed, electrodes)
        else:
            moments = in_full_precision(self.moments, observed, electrodes)
        return moments

    def moments(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """The same, outside of autocast."""
        present = data_mask(electrodes)
        rows, total = band_rows(observed, self.amplitude, present)
        power = log_powers(total, observed.shape[3], present)
        # Statistics are no narrower than float32.
        loudness = 0.5 * self.norm(power.unsqueeze(-1)).squeeze(-1).to(power.dtype)
        topology = with_diagonal(cosines(rows, total), with_data(loudness, present))
        moments = position_moments(topology, electrodes.basis, present)
        return moments_unit() * moments
