"""Alignment of a recording that is still running."""

import mne
import numpy as np

from braindecode_gcmae.alignment.electrodes import electrode_mask, named_channels
from braindecode_gcmae.alignment.formulas import (
    apply_whitening,
    automatic_shrinkage,
    check_options,
    degrees_of_freedom,
    window_covariances,
)
from braindecode_gcmae.alignment.signal import (
    flat_channels,
    rounding_floor,
    without_rounding,
)
from braindecode_gcmae.warning import warn

_ARTEFACT = 1e3  # times the variance so far, 32 times the amplitude
_KNOWN_AFTER = 10  # windows
_ELECTRODES = "electrodes_"  # before the names of what belongs to their own alignment
_LEAST = 1e-3  # eigenvalue of a correlation matrix that is put together from pairs


class StreamingAlignment:
    r"""Re-centre windows as they arrive: the streaming twin of RecordingAlignment.

    The mean covariance is updated with every window,
    :math:`M_b = M_{b-1} + (C_b - M_{b-1}) / \min(b, memory)`. After the whole
    recording, without missing channels and with no memory limit, ``transform`` equals
    ``RecordingAlignment(metric="euclid")``.

    Where channels come and go, a variance is the mean over the windows that have the
    channel, and a correlation that over the windows that have both: windows that only
    one of them saw would make a covariance that no signal has.

    Parameters
    ----------
    band : tuple of float, optional
        Hz; the covariance is that of this band. None takes the whole signal.
    sfreq : float, optional
        Hz; needed for a band.
    shrinkage : "auto" or float
        As in :class:`~braindecode_gcmae.RecordingAlignment`; "auto" starts by
        bringing the first window to scale and relies on the mean after five windows.
    scale : float or None
        Root mean square of the output's channels, µV. None keeps that of the input.
    memory : float, optional
        Number of windows after which older ones fade. None keeps all.
    electrodes : list of str or of int, optional
        Names (or rows) of electrodes that are whitened by themselves, for a model of
        fewer electrodes than the stream has channels (a file exported with
        ``channels="all"``), as by ``RecordingAlignment(electrodes=...)``.
    ch_names : list of str, optional
        Names of the channels, where electrodes are named.

    References
    ----------
    He & Wu 2020, DOI 10.1109/TBME.2019.2913914.
    """

    def __init__(
        self,
        *,
        band=None,
        sfreq=None,
        shrinkage="auto",
        scale=10.0,
        memory=None,
        electrodes=None,
        ch_names=None,
    ):
        check_options(metric="euclid", band=band, shrinkage=shrinkage, scale=scale)
        if band is not None and sfreq is None:
            raise ValueError("band needs the sampling rate: give sfreq in Hz")
        if memory is not None and not memory >= 1:
            raise ValueError(f"memory must be None or at least 1 window, got {memory}")
        self.band, self.sfreq = band, sfreq
        self.shrinkage, self.scale, self.memory = shrinkage, scale, memory
        self.electrodes, self.ch_names = electrodes, ch_names
        if any(isinstance(row, str) for row in electrodes or ()):
            if ch_names is None:
                raise ValueError(
                    "electrodes= by name needs the channels' names: give ch_names"
                )
            electrode_mask(electrodes, ch_names)  # not at the first window of a session
        self.reset()

    def reset(self):
        """Forget all windows, for a new recording or a cap put on anew."""
        # (N, N) µV², over the windows that have both channels: the covariance, and
        # the variance of the row's channel.
        self._covariance = self._variance = np.empty((0, 0))
        self._counts = np.empty((0, 0))  # (N, N) windows that had both channels
        self._windows = 0
        self._samples = 0
        self._floor = 0.0  # µV², the largest rounding_floor so far
        # The electrodes that are whitened by themselves, and their own alignment.
        self._kept = self._alone = None
        return self

    def _part(self, n_chans):
        """The electrodes' mask (N,) and their own alignment; None, None without."""
        channels = named_channels(self.ch_names, n_chans)
        kept = electrode_mask(self.electrodes, channels)
        if kept is None or kept.all() or not kept.any():
            return None, None
        options = {"shrinkage": self.shrinkage, "scale": self.scale}
        options |= {"band": self.band, "sfreq": self.sfreq, "memory": self.memory}
        return kept, _OfElectrodes(**options)

    @property
    def has_seen(self) -> bool:
        """Whether a window with a signal was seen, so that others can be aligned."""
        return bool(self._windows)

    def _check(self, windows):
        if isinstance(getattr(windows, "info", None), mne.Info):
            raise TypeError(
                f"windows are arrays in µV, a {type(windows).__name__} holds volts: "
                "give 1e6 * epochs.get_data(picks), with the stream's channels in its "
                "order as picks"
            )
        windows = np.asarray(windows)
        if windows.ndim not in (2, 3) or windows.dtype.kind not in "fiu":
            raise ValueError(
                "a window is a real array (n_chans, n_times) or (n, n_chans, n_times), "
                f"got shape {windows.shape} of {windows.dtype}"
            )
        known, given = len(self._covariance), windows.shape[-2]
        if known and given != known:
            raise ValueError(f"{known} channels so far, this window has {given}")
        if windows.dtype.kind != "f":
            windows = windows.astype(np.float64)
        return windows

    def update(self, window):
        """Take one window (N, T), or several (B, N, T), into the mean covariance.

        Returns
        -------
        StreamingAlignment
            Itself.

        Raises
        ------
        TypeError
            If it holds volts, as Epochs do.
        ValueError
            If it is no window of the channels so far.
        """
        windows = self._check(window)
        windows = windows[None] if windows.ndim == 2 else windows
        if not len(self._covariance):
            self._covariance = np.zeros((windows.shape[1],) * 2)
            self._counts = np.zeros_like(self._covariance)
            self._variance = np.zeros_like(self._covariance)
            self._kept, self._alone = self._part(windows.shape[1])
        if self._alone is not None:
            self._alone.update(windows[:, self._kept])
        present = np.isfinite(windows).all(axis=-1)
        filled = np.where(present[..., None], windows, 0)
        options = {"sfreq": self.sfreq, "band": self.band}
        per_window = degrees_of_freedom(windows.shape[-1], **options)
        share = per_window / windows.shape[-1]
        self._floor = max(self._floor, rounding_floor(filled, share))
        covariances = window_covariances(filled, **options)
        for covariance, here in zip(covariances, present, strict=True):
            self._warn_of_artefact(np.diag(covariance))
            both = np.outer(here, here)
            self._counts = self._counts + both
            span = np.clip(self._counts, 1, self.memory)
            step = np.where(both, (covariance - self._covariance) / span, 0.0)
            self._covariance = self._covariance + step
            own = np.broadcast_to(np.diag(covariance)[:, None], both.shape)
            step = np.where(both, (own - self._variance) / span, 0.0)
            self._variance = self._variance + step
            self._windows += bool(here.any())
            if here.any():
                self._samples += per_window
        return self

    def _warn_of_artefact(self, variance):
        """Say that one window will make all others small."""
        usual = np.diag(self._covariance)
        loud = (usual > 0) & (variance > _ARTEFACT * usual)
        if self._windows >= _KNOWN_AFTER and loud.any():
            warn(
                f"channels {np.flatnonzero(loud).tolist()} move by more than "
                f"{_ARTEFACT**0.5:.0f} times what they did: their mean will not forget "
                "this window soon. Give update() no artefacts, or set memory="
            )
        # The first windows have nothing before them to be compared with.
        was_loud = _KNOWN_AFTER * usual > _ARTEFACT * variance
        quiet = (variance > 0) & was_loud
        if self._windows == _KNOWN_AFTER and quiet.any():
            warn(
                f"channels {np.flatnonzero(quiet).tolist()} moved by more than "
                f"{_ARTEFACT**0.5:.0f} times what they do now in one of the first "
                f"{_KNOWN_AFTER} windows (a filter that settles?): what follows comes "
                "out small. reset() when the signal has settled, or set memory="
            )

    def transform(self, window):
        """Whiten a window (N, T), or several (B, N, T), by what has been seen so far.

        Returns
        -------
        ndarray
            The shape of ``window`` and its dtype (integers become float64).

        Raises
        ------
        ValueError
            If no window has been seen.
        """
        windows = self._check(window)
        if not self._windows:
            raise ValueError("no window seen yet: call update(window) first")
        covariance = self._mean_covariance()
        shrinkage = self.shrinkage
        if shrinkage == "auto":
            moving = np.isfinite(np.diag(covariance)) & ~flat_channels(covariance)
            n_chans = int(moving.sum())
            # What has faded from memory is known no longer.
            n = min(self._windows, self.memory or self._windows)
            samples = self._samples * n / self._windows
            shrinkage = automatic_shrinkage(n, samples, n_chans)
        stacked = windows[None] if windows.ndim == 2 else windows
        out = apply_whitening(
            stacked,
            covariance,
            shrinkage=shrinkage,
            scale=self.scale,
            kept=self._kept,
        )
        if self._alone is not None and self._alone.has_seen:
            out[:, self._kept] = self._alone.transform(stacked[:, self._kept])
        return out.reshape(windows.shape)

    def _mean_covariance(self):
        """Return the covariance of channels that need not have seen the same windows.

        Of channels that have, it is the mean of the windows' covariances; NaN for
        channels that were never seen.
        """
        seen = np.flatnonzero(np.diag(self._counts))
        out = np.full_like(self._covariance, np.nan)
        if seen.size:
            mean = self._covariance_of(np.ix_(seen, seen))
            out[np.ix_(seen, seen)] = without_rounding(mean, self._floor)
        return out

    def _covariance_of(self, seen):
        covariance, counts = self._covariance[seen], self._counts[seen]
        if (counts == counts.max()).all():
            return covariance
        variance = self._variance[seen]
        scale = np.sqrt(variance * variance.T)
        correlation = np.divide(
            covariance, scale, out=np.zeros_like(scale), where=scale > 0
        )
        spread = np.sqrt(np.diag(variance))
        values, vectors = np.linalg.eigh(correlation)
        # Pairs may still contradict each other: then no direction is left so small
        # that whitening would blow it up.
        if values[0] < _LEAST:
            correlation = (vectors * np.maximum(values, _LEAST)) @ vectors.T
        return correlation * np.outer(spread, spread)

    def state_dict(self):
        """Return the state as arrays: enough to go on in another process."""
        state = {
            "covariance": self._covariance.copy(),
            "variance": self._variance.copy(),
            "counts": self._counts.copy(),
            "n_windows": np.array(self._windows),
            "n_samples": np.array(self._samples),
            "floor": np.array(self._floor),
        }
        alone = {} if self._alone is None else self._alone.state_dict()
        return state | {f"{_ELECTRODES}{name}": alone[name] for name in alone}

    def load_state_dict(self, state):
        """Take over a state.

        Raises
        ------
        ValueError
            If an array is missing, unknown, or of the wrong shape, or only one of both
            alignments has ``electrodes``.
        """
        state = {"floor": 0.0, **state}  # not in older ones
        inner = {n: state.pop(n) for n in list(state) if n.startswith(_ELECTRODES)}
        expected = StreamingAlignment().state_dict().keys()
        if set(state) != set(expected):
            raise ValueError(f"the state must hold {list(expected)}, got {list(state)}")
        covariance = np.array(state["covariance"], dtype=np.float64)
        counts = np.array(state["counts"], dtype=np.float64)
        variance = np.array(state["variance"], dtype=np.float64)
        square = covariance.ndim == 2 and covariance.shape[0] == covariance.shape[1]
        shapes = {covariance.shape, counts.shape, variance.shape}
        if not square or len(shapes) > 1:
            raise ValueError(
                "covariance, variance and counts must be (n_chans, n_chans), got "
                f"{covariance.shape}, {variance.shape} and {counts.shape}"
            )
        kept, alone = self._part(len(covariance)) if len(covariance) else (None, None)
        if bool(inner) != (alone is not None):
            its, this = ("with", "without") if inner else ("without", "with")
            raise ValueError(
                f"the state is of an alignment {its} electrodes=, this one is {this}"
            )
        if alone is not None:
            names = {name: name.removeprefix(_ELECTRODES) for name in inner}
            alone.load_state_dict({names[name]: inner[name] for name in inner})
        self._kept, self._alone = kept, alone
        self._covariance, self._variance = covariance, variance
        self._counts = counts
        self._windows = int(state["n_windows"])
        self._samples = int(state["n_samples"])
        self._floor = float(state["floor"])
        return self


class _OfElectrodes(StreamingAlignment):
    """The alignment of the electrodes alone: that of all channels warns for it."""

    def _warn_of_artefact(self, variance):
        pass
