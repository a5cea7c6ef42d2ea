"""What of a recording is signal: channels that move, directions above the rounding."""

import numpy as np

_FLAT = 1e-12  # of the median variance
_CARRIES = 0.8  # what is left of the others has less than half of their amplitude
_DIFFERENT = 8  # gaps between values: fewer may be multiples of anything
_ENOUGH_WINDOWS = 20  # of fewer, one blink may carry a frontal channel


def flat_channels(covariance):
    """Return which channels never move, from the diagonal of a covariance (N, N)."""
    variance = np.diag(covariance)
    known = np.isfinite(variance)
    moving = variance[known & (variance > 0)]
    limit = _FLAT * np.median(moving) if moving.size else np.inf
    return known & (np.nan_to_num(variance) <= limit)


def carried_by_one(variances):
    """Which channels have most of their variance, of (B, N), in a single window."""
    if len(variances) < _ENOUGH_WINDOWS:
        return np.zeros(variances.shape[1], dtype=bool)
    return variances.max(axis=0) > _CARRIES * variances.sum(axis=0)


def rounding_floor(x, share=1.0):
    """Variance that rounding alone may give a direction of windows (B, N, T), µV².

    Numbers of N channels around an offset are known to their last digit only: the null
    direction of an average reference, taken of float32 numbers, is not empty. Far below
    any signal but where the offset is thousands of times larger. In files that store
    integers (EDF) a number is known to half of its step: a variance of step² / 12 in
    every direction, of which twice as much is no signal yet; in a band its ``share`` of
    the frequencies, as rounding is white.
    """
    # In double precision, but not of a copy of the recording.
    powers = np.einsum("bnt,bnt->n", x, x, dtype=np.float64) / (len(x) * x.shape[2])
    rounded = x.shape[1] / 4 * np.finfo(x.dtype).eps ** 2 * powers.max()
    return max(rounded, share * np.median(stored_steps(x)) ** 2 / 6)


def stored_steps(x, n_samples=4096):
    """Step of the integers that channels of windows (B, N, T) were stored as, (N,).

    0 for channels that are no multiples of anything, or too few different ones to tell.
    """
    n_windows = -(-n_samples // x.shape[2])
    some = x[:: max(1, len(x) // n_windows)][:n_windows].astype(np.float64)
    values = np.sort(some.transpose(1, 0, 2).reshape(x.shape[1], -1), axis=1)
    gaps = np.diff(values, axis=1)
    smallest = np.where(gaps > 0, gaps, np.inf).min(axis=1)
    # A step, and not the last digit of the numbers themselves.
    smallest[smallest < 1e3 * np.finfo(x.dtype).eps * np.abs(values).max(axis=1)] = 0
    multiples = gaps / np.where(smallest > 0, smallest, np.inf)[:, None]
    whole = (np.abs(multiples - np.rint(multiples)) < 0.01).all(axis=1)
    many = (gaps > 0).sum(axis=1) >= _DIFFERENT
    return np.where(whole & many, smallest, 0.0)


def without_rounding(covariance, floor):
    """The covariance (N, N) with nothing in directions that are not above ``floor``."""
    values, vectors = np.linalg.eigh(covariance)
    null = values <= floor
    if not null.any() or values[-1] <= floor:
        return covariance
    return (vectors[:, ~null] * values[~null]) @ vectors[:, ~null].T
