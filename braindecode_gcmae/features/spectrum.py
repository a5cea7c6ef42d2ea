"""Welch spectra in torch: differentiable, batched, at any sampling rate."""

import math

import torch
from torch import Tensor, nn

__all__ = ["WelchSpectrum", "band_power", "welch_psd"]


_BLOCK = 256  # signals


def _taper(window: str, n: int) -> Tensor:
    if window == "hann":
        return torch.hann_window(n, periodic=True, dtype=torch.float64)
    if window == "hamming":
        return torch.hamming_window(n, periodic=True, dtype=torch.float64)
    if window == "boxcar":
        return torch.ones(n, dtype=torch.float64)
    raise ValueError(f"window must be 'hann', 'hamming' or 'boxcar', got {window!r}")


def _check_segment(n_times: int, n_per_seg: int, n_overlap: int) -> None:
    if not 0 <= n_overlap < n_per_seg:
        raise ValueError(
            f"n_overlap must be in [0, n_per_seg={n_per_seg}), got {n_overlap}"
        )
    if n_times < n_per_seg:
        raise ValueError(
            f"windows of {n_times} samples are shorter than one Welch segment "
            f"(n_per_seg={n_per_seg}); use longer windows or shorter segments"
        )


def _segment_power(x: Tensor, taper: Tensor, hop: int, constant: bool) -> Tensor:
    """Mean over tapered segments of the squared Fourier coefficients."""
    segments = x.unfold(-1, taper.shape[0], hop)
    if constant:
        segments = segments - segments.mean(-1, keepdim=True)
    spectrum = torch.view_as_real(torch.fft.rfft(segments * taper))
    return spectrum.square().sum(-1).mean(-2)


def welch_psd(
    x: Tensor,
    sfreq: float,
    *,
    n_per_seg: int,
    n_overlap: int,
    window: str = "hann",
    detrend: str | None = "constant",
) -> tuple[Tensor, Tensor]:
    r"""Welch's estimate of the one-sided power spectral density.

    .. math:: P(f) = \frac{2}{f_s \sum_t w_t^2}
              \Big\langle \big|\sum_t w_t (x_t - \bar x)\,
              e^{-2\pi i f t / f_s}\big|^2 \Big\rangle_{\text{segments}}

    Parameters
    ----------
    x : Tensor, shape (..., T)
        Signals in µV.
    sfreq : float
        Sampling rate in Hz.
    n_per_seg, n_overlap : int
        Segment length and overlap in samples.
    window : {"hann", "hamming", "boxcar"}
        Periodic taper.
    detrend : {"constant", None}
        Whether each segment's mean is removed.

    Returns
    -------
    freqs : Tensor, shape (F,)
        Frequencies in Hz.
    psd : Tensor, shape (..., F)
        Power spectral density in µV²/Hz.

    Raises
    ------
    ValueError
        If the signal is shorter than a segment or an argument is out of range.

    References
    ----------
    Welch (1967), https://doi.org/10.1109/TAU.1967.1161901. Equal to
    :func:`mne.time_frequency.psd_array_welch` with ``average="mean"``.
    """
    _check_segment(x.shape[-1], n_per_seg, n_overlap)
    if not sfreq > 0:
        raise ValueError(f"sfreq must be positive, got {sfreq} Hz")
    if not x.is_floating_point():
        x = x.to(torch.get_default_dtype())  # a recorder's integers
    if detrend not in ("constant", None):
        raise ValueError(f"detrend must be 'constant' or None, got {detrend!r}")
    taper = _taper(window, n_per_seg).to(x)
    hop, constant = n_per_seg - n_overlap, detrend == "constant"
    if x.is_cpu and x.dim() > 1 and not torch.compiler.is_compiling():
        # Block by block, so that the segments of a block stay in the cache.
        blocks = x.reshape(-1, x.shape[-1]).split(_BLOCK)
        powers = [_segment_power(block, taper, hop, constant) for block in blocks]
        power = torch.cat(powers).reshape(*x.shape[:-1], -1)
    else:
        power = _segment_power(x, taper, hop, constant)
    # One-sided: every bin but DC and Nyquist also stands for its mirror image.
    scale = torch.full((power.shape[-1],), 2.0).to(x)
    scale[0] = 1.0
    if n_per_seg % 2 == 0:
        scale[-1] = 1.0
    freqs = torch.fft.rfftfreq(n_per_seg, 1 / sfreq, dtype=x.dtype, device=x.device)
    return freqs, power * (scale / (sfreq * taper.square().sum()))


def band_power(freqs: Tensor, psd: Tensor, bands: list) -> Tensor:
    """Mean power density of each band, edges included.

    Parameters
    ----------
    freqs : Tensor, shape (F,)
        Frequencies in Hz.
    psd : Tensor, shape (..., F)
        Power spectral density in µV²/Hz.
    bands : list of (float, float)
        Lower and upper edges in Hz.

    Returns
    -------
    Tensor, shape (..., len(bands))

    Raises
    ------
    ValueError
        If there are no bands, or one holds no frequency of the grid.
    """
    if not bands:
        raise ValueError("bands must hold at least one (low, high) in Hz, got none")
    powers = []
    for low, high in bands:
        inside = (freqs >= low) & (freqs <= high)
        if not bool(inside.any()):
            raise ValueError(
                f"the band {low}-{high} Hz holds none of the frequencies "
                f"{float(freqs[0]):g}-{float(freqs[-1]):g} Hz: use longer segments"
            )
        powers.append(psd[..., inside].mean(-1))
    return torch.stack(powers, -1)


class WelchSpectrum(nn.Module):
    r"""Welch's Fourier coefficients of a window at fixed frequencies in Hz.

    .. math:: X_s(f) = \sqrt{\tfrac{2}{f_s \sum_t w_t^2}}
              \sum_t w_t (x_{st} - \bar x_s)\, e^{-2 \pi i f t / f_s}

    of Hann-tapered segments s that overlap by half, so that the mean of
    :math:`|X_s(f)|^2` is the power spectral density. The transform is a matrix product:
    it holds just the wanted frequencies, at whatever sampling rate, and exports without
    loss of precision.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in a window.
    f_min, f_max : float
        First and last frequency in Hz.
    segment_seconds : float
        Segment length; shorter windows are taken as one segment. Frequencies are
        ``1 / segment_seconds`` apart.

    Raises
    ------
    ValueError
        If ``f_max`` is above the Nyquist frequency, the window is shorter than two
        periods of ``f_min`` or a segment than one.
    """

    def __init__(
        self,
        sfreq: float,
        n_times: int,
        f_min: float = 4.0,
        f_max: float = 40.0,
        segment_seconds: float = 1.0,
    ):
        super().__init__()
        if not 0 < f_min < f_max:
            raise ValueError(f"expected 0 < f_min < f_max, got {f_min} and {f_max} Hz")
        if f_max > sfreq / 2:
            raise ValueError(
                f"f_max={f_max:g} Hz is above the Nyquist frequency {sfreq / 2:g} Hz "
                f"of sfreq={sfreq:g} Hz: lower f_max or use a higher sampling rate"
            )
        if n_times < 2 * sfreq / f_min:
            raise ValueError(
                f"windows of {n_times} samples ({n_times / sfreq:.3g} s at "
                f"{sfreq:g} Hz) are too short for the spectrum: f_min={f_min:g} Hz "
                f"needs at least {math.ceil(2 * sfreq / f_min)} samples"
            )
        if not segment_seconds * f_min >= 1 - 1e-6:
            raise ValueError(
                f"segment_seconds={segment_seconds:g} s is shorter than one period of "
                f"f_min={f_min:g} Hz: use segments of at least {1 / f_min:.3g} s"
            )
        self.n_per_seg = min(round(segment_seconds * sfreq), n_times)
        self.hop = self.n_per_seg - self.n_per_seg // 2  # as in scipy
        self.n_freqs = int(math.floor((f_max - f_min) * segment_seconds + 1e-6)) + 1
        steps = torch.arange(self.n_freqs, dtype=torch.float64)
        freqs = f_min + steps / segment_seconds
        # The operator depends on the sampling rate, the weights must not: both
        # buffers stay out of the checkpoint.
        operator, kind = self._operator(freqs, sfreq), torch.get_default_dtype()
        self.register_buffer("freqs", freqs.to(kind), persistent=False)
        self.register_buffer("operator", operator.to(kind), persistent=False)

    def _operator(self, freqs: Tensor, sfreq: float) -> Tensor:
        """Mean removal, taper, DFT and density scale as one matrix (T, 2F)."""
        n = self.n_per_seg
        taper = _taper("hann", n)
        time = torch.arange(n, dtype=torch.float64)[:, None] / sfreq
        phase = 2 * math.pi * time * freqs
        transform = torch.cat([phase.cos(), -phase.sin()], 1) * taper[:, None]
        transform = transform - transform.mean(0)  # acts on x - mean(x)
        # A bin at DC or Nyquist has no mirror image to stand for.
        sided = torch.where((freqs > 0) & (freqs < sfreq / 2 - 1e-9), 2.0, 1.0)
        scale = (sided / (sfreq * taper.square().sum())).sqrt()
        return transform * torch.cat([scale, scale])

    def power(self, x: Tensor) -> Tensor:
        """Power spectral density in µV²/Hz, (B, N, T) -> (B, N, F)."""
        return self(x).square().sum(2).mean(2)

    def forward(self, x: Tensor) -> Tensor:
        """Real and imaginary coefficients of the segments, (B, N, 2, S, F)."""
        segments = x.unfold(-1, self.n_per_seg, self.hop)
        b, n, n_segments = segments.shape[:3]
        # One plain product: batched products copy overlapping segments slowly.
        coefficients = segments.flatten(0, 2) @ self.operator
        coefficients = coefficients.reshape(b, n, n_segments, 2, self.n_freqs)
        # In one piece, once for all that read them row by row.
        return coefficients.transpose(2, 3).contiguous()
