"""A look at windows on the host, before time is spent on them."""

from collections.abc import Sequence

import numpy as np

from ..warning import warn

__all__ = ["check_scale", "check_windows", "same_rate"]

# µV: in millivolts recordings are 1e-2, in volts 1e-5.
_SMALLEST_EEG, _LARGEST_EEG = 0.2, 1e4


def same_rate(first: float, second: float) -> bool:
    """Whether two sampling rates in Hz are one: 512/3 and 170.67 are."""
    return bool(np.isclose(first, second, rtol=1e-4))


def check_windows(
    x: np.ndarray, names: list[str] | None = None, left_out: Sequence[int] = ()
) -> None:
    """Look at windows once, on the host, before time is spent on them.

    Parameters
    ----------
    x : ndarray, shape (n, n_chans, n_times)
        Windows in µV.
    names : list of str, optional
        Names of the channels, for the messages.
    left_out : sequence of int
        Channels that are NaN on purpose (marked bad): nothing is said of them.

    Raises
    ------
    TypeError
        If they are not numbers.
    ValueError
        If they are not three-dimensional, or empty, or no channel has data.

    Warns
    -----
    UserWarning
        If they look like volts, millivolts or microvolts multiplied once more, or some
        channels are flat or not finite throughout.
    """
    if x.dtype.kind not in "fiu":
        raise TypeError(f"windows must hold real numbers, got dtype {x.dtype}")
    if x.ndim != 3:
        raise ValueError(
            f"expected windows of shape (n_windows, n_chans, n_times), got {x.shape}"
        )
    if 0 in x.shape:
        raise ValueError(f"there are no windows: shape {x.shape}")
    sample = x[:: max(1, len(x) // 256)]
    finite = np.isfinite(sample).all(-1)  # (windows, channels)
    if not finite.any():
        raise ValueError("no channel of any window is finite: all NaN or infinite?")
    # Not in half precision, where sums of squares overflow.
    spread = np.nan_to_num(sample).std(-1, dtype=np.result_type(x.dtype, np.float32))
    spread = np.where(finite, spread, np.nan)

    def listed(rows):
        return [names[r] if names else int(r) for r in np.flatnonzero(rows)]

    lost = ~finite.any(0)
    lost[list(left_out)] = False
    if lost.any():
        warn(f"channels {listed(lost)} are never finite: missing electrodes")
    flat = np.nan_to_num(spread, nan=1.0).max(0) == 0
    if flat.all():
        raise ValueError("all channels are flat: the windows hold no signal")
    if flat.any():
        warn(f"channels {listed(flat)} are flat: missing electrodes")
    check_scale(spread)


def check_scale(spread: np.ndarray) -> None:
    """Warn if standard deviations of channels are those of no EEG in µV.

    Those that are zero or not finite are left out of account.
    """
    moving = spread[np.isfinite(spread) & (spread > 0)]
    if not moving.size:
        return
    median = float(np.median(moving))
    # Its order alone: recordings that are alike are told once.
    size = f"{10.0 ** np.round(np.log10(median)):.0e}"
    if median < _SMALLEST_EEG:
        unit, factor = ("volts", "1e6") if median < 1e-3 else ("millivolts", "1e3")
        warn(
            f"the windows have a standard deviation of about {size}, expected about "
            f"10 µV: are they in {unit}? Multiply by {factor}",
        )
    if median > _LARGEST_EEG:
        warn(
            f"the windows have a standard deviation of about {size}, expected about "
            "10 µV: were they multiplied by 1e6 twice?",
        )
