"""Formulas of the alignment: covariances, their means, and the whitening map."""

import numpy as np

from braindecode_gcmae.alignment.signal import flat_channels
from braindecode_gcmae.warning import warn

_RANK_TOLERANCE = 1e-10  # of the largest eigenvalue: below, rounding of float32 data
_CHUNK = 64  # windows taken to float64 at a time
_FEW_WINDOWS = 5
_SAMPLES_PER_CHANNEL = 10


def check_options(*, metric, band, shrinkage, scale, bads="missing"):
    """Refuse options that no recording could be aligned with.

    Raises
    ------
    ValueError
        Naming the argument and what it may be.
    """
    if metric not in ("euclid", "riemann"):
        raise ValueError(f"metric must be 'euclid' or 'riemann', got {metric!r}")
    if shrinkage != "auto" and not _within(shrinkage, 0, 1):
        raise ValueError(
            f"shrinkage must be 'auto' or lie in [0, 1], got {shrinkage!r}"
        )
    if scale is not None and not (_within(scale, 0, np.inf) and scale > 0):
        raise ValueError(f"scale must be None or positive (µV), got {scale!r}")
    if band is not None and not (
        np.shape(band) == (2,) and 0 <= band[0] < band[1] < np.inf
    ):
        raise ValueError(f"band must be None or (low, high) in Hz, got {band!r}")
    if bads not in ("missing", "keep"):
        raise ValueError(f"bads must be 'missing' or 'keep', got {bads!r}")


def _within(value, low, high):
    return isinstance(value, (int, float, np.number)) and low <= value <= high


def band_bins(n_times, sfreq, band):
    """Return which bins of the real Fourier transform lie in the band.

    Parameters
    ----------
    n_times : int
        Samples of a window, T.
    sfreq : float
        Hz.
    band : tuple of float
        Low and high edge in Hz, both included.

    Returns
    -------
    ndarray of bool (T // 2 + 1,)

    Raises
    ------
    ValueError
        If ``sfreq`` is unknown, the band passes Nyquist, or no bin lies in it.
    """
    if sfreq is None:
        raise ValueError("band needs the sampling rate: give sfreq in Hz")
    if band[1] > sfreq / 2:
        raise ValueError(f"band {band} Hz passes the Nyquist rate {sfreq / 2} Hz")
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    inside = (freqs >= band[0]) & (freqs <= band[1])
    if not inside.any():
        raise ValueError(
            f"windows of {n_times} samples at {sfreq} Hz have no frequency bin in "
            f"band {band} Hz: use longer windows or a wider band"
        )
    return inside


def window_covariances(x, *, sfreq=None, band=None):
    r"""Return the covariance of each window, of all or of one band's activity.

    .. math:: C = \frac{1}{T} x x^\top, \qquad
        C_{band} = \frac{2}{T \sum_t w_t^2} \sum_{f \in band} \Re X_f X_f^*,

    with the mean of each channel removed and, for a band, a Hann window :math:`w`.

    Parameters
    ----------
    x : array (B, N, T)
        Windows, µV.
    sfreq : float, optional
        Hz; needed for a band.
    band : tuple of float, optional
        Low and high edge in Hz.

    Returns
    -------
    ndarray (B, N, N)
        float64, µV². Not finite where a channel is not.
    """
    n_windows, n_chans, n_times = x.shape
    covariances = np.empty((n_windows, n_chans, n_chans))
    if band is not None:
        inside = band_bins(n_times, sfreq, band)
        taper = np.hanning(n_times + 1)[:-1]
        sides = np.full(inside.size, 2.0)
        sides[0] = 1.0  # the mean, and below Nyquist, have no mirror image
        if n_times % 2 == 0:
            sides[-1] = 1.0
        weights = np.sqrt(sides[inside] / (n_times * (taper**2).sum()))
    for start in range(0, n_windows, _CHUNK):
        part = np.asarray(x[start : start + _CHUNK], dtype=np.float64)
        part = part - part.mean(axis=-1, keepdims=True)
        if band is None:
            part = part / np.sqrt(n_times)
        else:
            spectrum = np.fft.rfft(part * taper, axis=-1)[..., inside] * weights
            part = np.concatenate([spectrum.real, spectrum.imag], axis=-1)
        covariances[start : start + _CHUNK] = part @ part.swapaxes(-1, -2)
    return covariances


def degrees_of_freedom(n_times, sfreq=None, band=None):
    """Return how many independent numbers one window gives for each channel."""
    if band is None:
        return n_times
    return 2 * int(band_bins(n_times, sfreq, band).sum())


def _spectral(matrix, function):
    """Apply a function to the eigenvalues of symmetric matrices (..., N, N)."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * function(values)[..., None, :]) @ vectors.swapaxes(-1, -2)


def _range_factors(covariance):
    """Return V L^{-1/2} and V L^{1/2} of the numerical range of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    real = values > _RANK_TOLERANCE * values[-1]
    vectors, roots = vectors[:, real], np.sqrt(values[real])
    return vectors / roots, vectors * roots


def riemannian_mean(covariances, *, tolerance=1e-10, max_iter=100):
    r"""Return the affine-invariant mean of covariance matrices.

    The :math:`G` with :math:`\sum_b \log(G^{-1/2} C_b G^{-1/2}) = 0`, found by fixed
    point iteration from the arithmetic mean, on the range of the arithmetic mean.

    Parameters
    ----------
    covariances : array (B, N, N)
        Positive definite on their common range.
    tolerance : float
        Largest norm of the mean logarithm, per square root of N.
    max_iter : int
        Largest number of iterations; a warning is given where they do not suffice.

    Returns
    -------
    ndarray (N, N)

    References
    ----------
    Moakher 2005, DOI 10.1137/S0895479803436937; Barachant et al. 2012,
    DOI 10.1109/TBME.2011.2172210.
    """
    whiten, colour = _range_factors(covariances.mean(axis=0))
    centred = whiten.T @ covariances @ whiten
    mean = np.eye(whiten.shape[1])
    for _ in range(max_iter):
        inverse = _spectral(mean, lambda v: v**-0.5)
        logs = _spectral(
            inverse @ centred @ inverse, lambda v: np.log(np.maximum(v, 1e-12))
        )
        step = logs.mean(axis=0)
        root = _spectral(mean, np.sqrt)
        mean = root @ _spectral(step, np.exp) @ root
        if np.linalg.norm(step) <= tolerance * np.sqrt(len(step)):
            break
    else:
        warn(
            f"the Riemannian mean did not converge in {max_iter} iterations: windows "
            "may be too short for their number of channels; metric='euclid' is robust"
        )
    return colour @ mean @ colour.T


def mean_covariance(covariances, metric, n_samples):
    """Return the mean of the covariances of a recording's windows.

    Windows with fewer than 2 N samples have (nearly) singular covariances, on which the
    Riemannian mean is not defined: they are drawn towards their arithmetic mean by
    N / (N + n_samples), which keeps the mean equivariant under mixing.

    Parameters
    ----------
    covariances : array (B, N, N)
    metric : {"euclid", "riemann"}
    n_samples : int
        Independent samples behind each covariance.

    Returns
    -------
    ndarray (N, N)
    """
    average = covariances.mean(axis=0)
    if metric == "euclid":
        return average
    n_chans = len(average)
    if n_samples < 2 * n_chans:
        pull = n_chans / (n_chans + n_samples)
        covariances = (1 - pull) * covariances + pull * average
    return riemannian_mean(covariances)


def automatic_shrinkage(n_windows, n_samples, n_chans):
    """Return how far to trust a mean covariance: 0 once there is enough data.

    With fewer than 5 windows the mean is the windows themselves, and whitening by it
    would remove what distinguishes them: the weight of the identity is 1 / B (a single
    window is only brought to scale). With fewer than 10 samples a channel it is at
    least N / n_samples.

    Parameters
    ----------
    n_windows : int
        Windows, B.
    n_samples : float
        Independent samples of the whole recording.
    n_chans : int
        Channels, N.

    Returns
    -------
    float
        In [0, 1].
    """
    few = n_windows < _FEW_WINDOWS
    if not few and n_samples >= _SAMPLES_PER_CHANNEL * n_chans:
        return 0.0
    return float(min(1.0, max(few / max(n_windows, 1), n_chans / max(n_samples, 1))))


def whitening_matrix(covariance, *, shrinkage=0.0, scale=1.0, floor=0.0):
    r"""Return the symmetric map that makes a covariance the scaled identity.

    .. math:: W = c\,s\,\bigl((1 - a) M + a \tfrac{tr M}{N} I\bigr)^{-1/2}, \qquad
        \tfrac1N tr(W M W) = s^2,

    with the pseudo-inverse where :math:`M` is rank-deficient (average reference). The
    symmetric root moves the data least, so channels keep their places.

    Parameters
    ----------
    covariance : array (N, N)
        M, µV².
    shrinkage : float
        a, in [0, 1].
    scale : float or None
        s, µV: root mean square of the output's channels. None keeps that of the input.
    floor : float
        µV²: eigenvalues that are not above it are rounding as well.

    Returns
    -------
    ndarray (N, N)

    References
    ----------
    He & Wu 2020, DOI 10.1109/TBME.2019.2913914.
    """
    n_chans = len(covariance)
    power = np.trace(covariance) / n_chans
    target = (1 - shrinkage) * covariance + shrinkage * power * np.eye(n_chans)
    cutoff = max(_RANK_TOLERANCE * np.linalg.eigvalsh(target)[-1], floor)
    root = _spectral(
        target,
        lambda v: np.where(v > cutoff, np.maximum(v, cutoff) ** -0.5, 0.0),
    )
    reached = np.trace(root @ covariance @ root) / n_chans
    return root * ((np.sqrt(power) if scale is None else scale) / np.sqrt(reached))


def nested_whitening(covariance, kept, *, shrinkage=0.0, scale=1.0):
    r"""Return a map that whitens some channels by themselves, and then the others.

    .. math:: W = \begin{pmatrix} W_k & 0 \\ -W_r B & W_r \end{pmatrix}, \qquad
        B = M_{rk} M_{kk}^+, \quad W_k \sim M_{kk}^{-1/2}, \quad
        W_r \sim (M_{rr} - B M_{kr})^{-1/2}

    :math:`W M W^T` is the same as of :func:`whitening_matrix` (without shrinkage, and
    with a ``scale``), but the kept channels k come out as if the others were not on the
    head: what a cap that has nothing else can compute. The others carry what the kept
    ones do not explain.

    Parameters
    ----------
    covariance : array (N, N)
        M, µV².
    kept : array of bool (N,)
        The kept channels.
    shrinkage, scale : float
        See :func:`whitening_matrix`.

    Returns
    -------
    ndarray (N, N)
        NaN in the rows of channels that are sums of the kept ones
        (:func:`explained_channels`): nothing is left of them.
    """
    options = {"shrinkage": shrinkage, "scale": scale}
    if kept.all() or not kept.any():
        return whitening_matrix(covariance, **options)
    out = np.zeros_like(covariance)
    explained = explained_channels(covariance, kept)
    out[explained] = np.nan
    k, r = np.flatnonzero(kept), np.flatnonzero(~kept & ~explained)
    out[np.ix_(k, k)] = whitening_matrix(covariance[np.ix_(k, k)], **options)
    if r.size:
        slope, residual = _regressed(covariance, k, r)
        floor = _RANK_TOLERANCE * np.linalg.eigvalsh(covariance[np.ix_(r, r)])[-1]
        rest = whitening_matrix(residual, **options, floor=floor)
        out[np.ix_(r, r)] = rest
        out[np.ix_(r, k)] = -rest @ slope
    return out


def explained_channels(covariance, kept):
    """Which of the other channels are sums of the kept ones, from a covariance (N, N).

    Their variance is known to the last digit: one channel of an average reference, or
    what was interpolated from the kept ones. Never true of a kept channel, nor of one
    that does not move or is NaN.
    """
    known = np.isfinite(np.diag(covariance)) & (np.diag(covariance) > 0)
    k, r = np.flatnonzero(kept & known), np.flatnonzero(~kept & known)
    out = np.zeros(len(covariance), dtype=bool)
    if k.size and r.size:
        _, residual = _regressed(covariance, k, r)
        out[r] = np.diag(residual) <= _RANK_TOLERANCE * np.diag(covariance)[r]
    return out


def _regressed(covariance, k, r):
    """Regression of channels r on channels k, and the covariance that it leaves."""
    within, across = covariance[np.ix_(k, k)], covariance[np.ix_(r, k)]
    slope = across @ np.linalg.pinv(within, rcond=_RANK_TOLERANCE, hermitian=True)
    return slope, covariance[np.ix_(r, r)] - slope @ across.T


def apply_whitening(x, covariance, *, shrinkage, scale, kept=None):
    """Whiten windows by a recording's mean covariance, whatever they miss.

    Each window is whitened by the part of the covariance that belongs to the channels
    it has, as if the others were not on the head.

    Parameters
    ----------
    x : array (B, N, T)
        Windows, µV; floating point.
    covariance : array (N, N)
        NaN rows and columns for channels that are left out.
    shrinkage, scale : float
        See :func:`whitening_matrix`.
    kept : array of bool (N,), optional
        Channels whitened by themselves (:func:`nested_whitening`).

    Returns
    -------
    ndarray (B, N, T)
        In the dtype of ``x``. Channels with a non-finite sample, and those left out,
        are NaN throughout the window; flat channels are returned as they came.
    """
    flat = flat_channels(covariance)
    present = np.isfinite(x).all(axis=-1)
    active = present & np.isfinite(np.diag(covariance)) & ~flat
    out = np.full_like(x, np.nan)
    keep = present & flat
    out[keep] = x[keep]
    patterns, inverse = np.unique(active, axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        channels = np.flatnonzero(pattern)
        if not channels.size:
            continue
        part = covariance[np.ix_(channels, channels)]
        inner = np.ones(len(channels), bool) if kept is None else kept[channels]
        matrix = nested_whitening(part, inner, shrinkage=shrinkage, scale=scale)
        windows = np.flatnonzero(inverse.ravel() == number)
        work = np.promote_types(x.dtype, np.float32)  # half precision would overflow
        matrix = matrix.astype(work)
        given = x[np.ix_(windows, channels)].astype(work, copy=False)
        out[np.ix_(windows, channels)] = matrix @ given
    return out
