"""Decisions from an exported model while samples come in."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .features.electrodes import STILL
from .features.look import check_scale, same_rate

__all__ = ["Decision", "StreamingClassifier"]


class Decision(NamedTuple):
    """What a stream was taken for at one moment.

    Attributes
    ----------
    sample : int
        Samples seen until then.
    probabilities : ndarray, shape (C,)
    missing : float
        Share of the electrodes that the decision is made without: their window has a
        sample that is not finite or does not move (unplugged, railed), or the alignment
        has seen no whole one of theirs. At 1 nothing was seen.
    """

    sample: int
    probabilities: np.ndarray
    missing: float = 0.0


class StreamingClassifier:
    """Decisions at a fixed pace from samples as they come.

    The last window lies in a ring buffer; each decision is the model's answer to it,
    the same as for that window cut out of the recording. A model that was trained on
    aligned recordings needs the alignment here, too. At an event, push until its window
    is complete and ask ``predict(window())`` (:ref:`evoked responses <expect-evoked>`).

    Parameters
    ----------
    predict : path or callable
        File of :func:`export_onnx`, or a function of windows (1, N, T) in µV that
        returns probabilities (1, C).
    step : float
        Seconds between decisions.
    n_chans, n_times, sfreq : optional
        Electrodes, samples in a window, sampling rate in Hz; read from a file.
    align : StreamingAlignment, optional
        Learns from windows that do not overlap, one after the other, and aligns every
        window that is decided on. One that has seen a recording of the same sitting
        goes on from there; the first half minute of a new one is a guess.

    Raises
    ------
    ValueError
        If one of these is not known or not that of the file, ``step`` is shorter than a
        sample or not finite, or ``align`` takes its band at another rate.

    Examples
    --------
    >>> import numpy as np
    >>> from braindecode_gcmae import StreamingClassifier
    >>> stream = StreamingClassifier(
    ...     lambda X: np.full((1, 2), 0.5), step=0.5, n_chans=8, n_times=200, sfreq=100)
    >>> [decision.sample for decision in stream.push(np.zeros((8, 300)))]
    [200, 250, 300]
    """

    def __init__(
        self,
        predict: str | Path | Callable,
        *,
        step: float = 0.1,
        n_chans: int | None = None,
        n_times: int | None = None,
        sfreq: float | None = None,
        align=None,
    ):
        self.channels = self.classes = None
        self._looked = callable(predict)  # what a function makes of volts is its own
        if not callable(predict):
            predict = _ExportedFile(predict)
            facts = predict.facts
            self.channels, self.classes = facts["channels"], facts["classes"]
            _check_given(facts, n_chans=n_chans, n_times=n_times, sfreq=sfreq)
            n_chans, n_times = facts["n_chans"], facts["n_times"]
            sfreq = facts["sfreq"]
        if n_chans is None or n_times is None or sfreq is None:
            raise ValueError("n_chans, n_times and sfreq are needed for a function")
        if not np.isfinite(step):
            raise ValueError(
                f"step={step} is no number of seconds; for decisions at events alone "
                "call predict(window())"
            )
        if not step * sfreq >= 1:
            raise ValueError(
                f"step={step} s is shorter than a sample at {sfreq:g} Hz: decisions "
                "cannot come more often than samples"
            )
        band, rate = getattr(align, "band", None), getattr(align, "sfreq", None)
        # Of an alignment of one's own a rate may be unknown.
        if band is not None and rate is not None and not same_rate(rate, sfreq):
            raise ValueError(
                f"align takes its band at {rate:g} Hz, the stream runs at {sfreq:g} Hz"
            )
        self.predict, self.step, self.sfreq = predict, step, float(sfreq)
        self.n_chans, self.n_times, self.align = n_chans, n_times, align
        self._empty()

    def reset(self) -> None:
        """Forget all samples, and their alignment, as at the start of a recording."""
        self._empty()
        if self.align is not None:
            self.align.reset()

    def _empty(self) -> None:
        # Every sample is written twice, so that any window lies in one piece.
        self._ring = np.zeros((1, self.n_chans, 2 * self.n_times), np.float32)
        self.n_seen = self._n_decisions = 0

    def push(self, samples) -> list[Decision]:
        """Take one sample (N,) or several (N, k) in µV; return the decisions due.

        Push NaN in the place of samples that were lost: without them what came before
        and after is one signal, and the clock is late. If a prediction or the alignment
        fails, its exception is raised once all samples are in: go on with the next
        ones.

        Parameters
        ----------
        samples : array, shape (N,) or (N, k)
            µV.

        Returns
        -------
        list of Decision

        Warns
        -----
        UserWarning
            Once, if what a file is given looks like volts or millivolts.
        """
        samples = np.asarray(samples, np.float32)
        if not samples.size:  # nothing new: LSL's inlets return [] then
            return []
        if samples.ndim == 1:
            samples = samples[:, None]
        if samples.ndim != 2 or len(samples) != self.n_chans:
            raise ValueError(
                f"expected samples of {self.n_chans} electrodes, (N,) or (N, k); got "
                f"shape {samples.shape}"
            )
        decisions, failed = [], None
        while samples.shape[1]:
            full = self.n_times - self.n_seen % self.n_times  # samples to a new window
            now = min(samples.shape[1], self._due() - self.n_seen, full)
            self._write(samples[:, :now])
            samples = samples[:, now:]
            due = self.n_seen == self._due()
            self._n_decisions += due
            try:
                window = self.window()
                if self.align is not None and self.n_seen % self.n_times == 0:
                    self.align.update(window)
                if due:
                    decisions.append(self._decide(window))
            except Exception as error:
                # Time goes on: no sample may be lost, and none be pushed twice.
                failed = failed or error
        if failed is not None:
            raise failed
        return decisions

    def _decide(self, window: np.ndarray) -> Decision:
        """The answer to a window, aligned by what was seen until now."""
        with np.errstate(invalid="ignore"):  # of samples that are not finite
            still = np.ptp(window, -1) <= STILL
        if self.align is not None and self.align.has_seen:
            window = self.align.transform(window)
        elif self.align is not None:  # nothing was seen: nothing to align
            window = np.full_like(window, np.nan)
        # Also what the alignment knows nothing of.
        lost = still | ~np.isfinite(window).all(-1)
        if not self._looked and window[~lost].any():  # not zeros, as at first
            self._looked = True
            check_scale(window[~lost].std(-1))
        probabilities = np.asarray(self.predict(window))[0]
        return Decision(self.n_seen, probabilities, float(lost.mean()))

    def window(self) -> np.ndarray:
        """The last window (1, N, T); zeros where nothing came yet."""
        start = self.n_seen % self.n_times
        return self._ring[:, :, start : start + self.n_times].copy()

    def _due(self) -> int:
        """Sample at which the next decision is made; the pace never drifts."""
        return self.n_times + round(self._n_decisions * self.step * self.sfreq)

    def _write(self, samples: np.ndarray) -> None:
        # At most one window: a decision is due at the end of the first, then sooner.
        places = (self.n_seen + np.arange(samples.shape[1])) % self.n_times
        self._ring[0][:, places] = samples
        self._ring[0][:, places + self.n_times] = samples
        self.n_seen += samples.shape[1]


def _check_given(facts: dict, **given) -> None:
    """Refuse what is said of the stream and is not so in the file."""
    for name, value in given.items():
        if value is not None and not same_rate(value, facts[name]):
            raise ValueError(
                f"{name}={value:g}, but the file is for {facts[name]:g}: export the "
                "model for this stream"
            )


class _ExportedFile:
    """A function of windows out of an exported file; a copy opens it again."""

    def __init__(self, path: str | Path):
        self.path = Path(path).resolve()
        self._open()

    def __getstate__(self) -> dict:
        return {"path": self.path}  # a session is of one process

    def __setstate__(self, state: dict) -> None:
        self.path = state["path"]
        self._open()

    def __call__(self, x: np.ndarray) -> np.ndarray:
        x, one = np.asarray(x), (self.facts["n_chans"], self.facts["n_times"])
        if x.ndim != 3 or x.shape[1:] != one:
            raise ValueError(
                f"expected windows of shape (n, {one[0]}, {one[1]}) in µV, of which "
                f"the file {self.path.name} was made; got {x.shape}"
            )
        x = x.astype(np.float32, copy=False)
        return self._session.run(None, {self._input: x})[0]

    def _open(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # one window is too little work to share
        self._session = onnxruntime.InferenceSession(
            str(self.path), options, providers=["CPUExecutionProvider"]
        )
        facts = self._session.get_modelmeta().custom_metadata_map
        if "sfreq" not in facts:
            raise ValueError(
                f"{self.path} was not written by export_onnx: it holds no sfreq"
            )
        (window,) = self._session.get_inputs()
        self._input = window.name
        self.facts = {
            "channels": json.loads(facts["channels"]),
            "classes": json.loads(facts["classes"]),
            "sfreq": float(facts["sfreq"]),
            "n_chans": window.shape[1],
            "n_times": window.shape[2],
        }
