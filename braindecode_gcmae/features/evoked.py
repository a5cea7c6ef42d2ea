"""Window -> node features: the time course, in which evoked responses are seen."""

import torch
from torch import Tensor, nn

from .electrodes import Electrodes, data_mask
from .nodes import with_data

__all__ = ["EvokedFeatures"]

_FASTEST = 8.0  # Hz: what is evoked and late (N1, P300, error potentials) is slower


def time_bins(n_times: int, n_bins: int) -> Tensor:
    """Weights of overlapping means, less that of the whole window: (T, n_bins).

    Triangles, one bin apart and two wide, whose weights sum to one: each bin weighs
    the samples next to its centre most.
    """
    time = (torch.arange(n_times, dtype=torch.float64) + 0.5) * n_bins / n_times
    centres = torch.arange(n_bins, dtype=torch.float64) + 0.5
    weights = (1 - (time[:, None] - centres).abs()).clamp_min(0.0)
    return weights / weights.sum(0) - 1.0 / n_times


class EvokedFeatures(nn.Module):
    r"""The time course of each electrode: what follows an event, with its sign.

    Powers do not tell a window from its negative, and so they do not see responses that
    are locked to an event (P300, error potentials, what a cue evokes). These features
    are the signal itself, x, in overlapping bins b of 1/16 s:

    .. math:: h_{ib} = \sum_t w_b(t)\, x_i(t) - \frac{1}{T} \sum_t x_i(t),
              \qquad \sum_t w_b(t) = 1

    with triangular weights. A linear head on them sees what a linear classifier on the
    means of time intervals sees [1]_, on any montage. Cut windows from the event to the
    end of the response (0 to 1 s), from a signal that is high-pass filtered at 0.1 to
    1 Hz. Such a model is for windows of one length; at another sampling rate it serves
    the same seconds.

    Parameters
    ----------
    sfreq : float
        Sampling rate in Hz.
    n_times : int
        Samples in a window, T.
    n_basis : int
        Not used; every feature class takes the same arguments.
    f_min : float
        Not used: slow drifts are for a filter.
    f_max : float
        Bins are ``1 / (2 * f_max)`` seconds apart where that is more than 1/16.
    segment_seconds : float
        Not used.
    n_bands, n_filters : int
        Not used.

    References
    ----------
    .. [1] Blankertz et al. (2011), https://doi.org/10.1016/j.neuroimage.2010.06.048
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
        self.n_times = n_times
        self.shortest = 1  # of any other length `observe` speaks
        per_second = 2 * min(f_max, _FASTEST, sfreq / 2)
        self.n_features = max(2, round(n_times / sfreq * per_second))
        operator = time_bins(n_times, self.n_features).to(torch.get_default_dtype())
        # A function of the sampling rate: not part of the weights.
        self.register_buffer("operator", operator, persistent=False)

    def observe(self, x: Tensor) -> Tensor:
        """What does not depend on masks: the bins, (B, N, T) µV -> (B, N, F)."""
        if x.shape[2] != self.n_times:
            raise ValueError(
                f"got windows of {x.shape[2]} samples; EvokedFeatures know a time "
                f"course of {self.n_times} samples, no longer or shorter one. If these "
                "are the same seconds, build the model (from_pretrained, too) with "
                f"n_times={x.shape[2]}"
            )
        return x @ self.operator

    def forward(self, observed: Tensor, electrodes: Electrodes) -> Tensor:
        """The same with zeros where there are no data, (B, N, F)."""
        return with_data(observed, data_mask(electrodes))
