"""A trained model as one file, and decisions from it while samples come in.

The file goes from windows in µV to class probabilities: features, graph and missing
electrodes are inside. Nothing has to be computed before it but the alignment that the
model was trained with, if it was. What a device needs to know (electrodes, sampling
rate, classes) travels in the file.
"""

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from .features.look import check_scale, same_rate
from .models.checkpoint import replace_file
from .montage import name_of

__all__ = ["Decision", "StreamingClassifier", "export_onnx", "export_program"]


class _Deployed(nn.Module):
    """The model as a function of windows alone."""

    def __init__(self, model: nn.Module, probabilities: bool):
        super().__init__()
        self.model, self.probabilities = model, probabilities

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(x)
        return torch.softmax(output, -1) if self.probabilities else output


def _prepare(
    model: nn.Module, channels: str, probabilities: bool
) -> tuple[nn.Module, Tensor]:
    """The module to capture on the CPU, in evaluation mode, and an example window."""
    if channels not in ("electrodes", "all"):
        raise ValueError(f"channels must be 'electrodes' or 'all', got {channels!r}")
    network = getattr(model, "network", None)
    if network is None:
        raise TypeError(
            "export takes a GCMAEStudent or GCMAETeacher (of a fitted net: "
            f"net.module_), got {type(model).__name__}"
        )
    if probabilities and isinstance(model.final_layer, nn.Identity):
        raise ValueError(
            "the model has no head (n_outputs=None): train one, or pass "
            "probabilities=False for embeddings"
        )
    if probabilities and model.n_outputs == 1:
        raise ValueError(
            "the model has one output, of which softmax makes 1: pass "
            "probabilities=False for its value"
        )
    n_chans = network.n_nodes if channels == "electrodes" else network.n_chans
    module = _Deployed(copy.deepcopy(model), probabilities).cpu().float().eval()
    # Two windows: with one, a batch of one would be captured as a constant.
    return module, torch.zeros(2, n_chans, network.n_times)


def export_program(
    model: nn.Module, *, channels: str = "electrodes", probabilities: bool = True
) -> torch.export.ExportedProgram:
    """Capture a model as a :class:`torch.export.ExportedProgram`, any batch size.

    Parameters
    ----------
    model : GCMAEStudent or GCMAETeacher
        As it is; it is not changed.
    channels : {"electrodes", "all"}
        Whether the program takes the model's own electrodes (a low-density cap), or
        all channels of its input, out of which it takes them.
    probabilities : bool
        Whether the softmax is part of it; else its output is the model's.

    Returns
    -------
    torch.export.ExportedProgram
        Windows (B, N, T) in µV -> (B, C).

    Raises
    ------
    TypeError, ValueError
        If this is no model of the package, or has no head to make probabilities of.
    """
    module, example = _prepare(model, channels, probabilities)
    shapes = {"x": {0: torch.export.Dim("batch", min=1)}}
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=shapes)


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    channels: str = "electrodes",
    probabilities: bool = True,
    int8: bool = False,
    classes: Sequence | None = None,
) -> Path:
    """Write a model as one ONNX file, from raw windows to class probabilities.

    Parameters
    ----------
    model : GCMAEStudent or GCMAETeacher
        As it is; it is not changed.
    path : str or path
        File to write. Input ``x`` (batch, N, T) in µV; output ``probabilities``
        (batch, C).
    channels : {"electrodes", "all"}
        Whether the file takes the model's own electrodes (a low-density cap), or all
        channels of its input, out of which it takes them.
    probabilities : bool
        Whether the softmax is part of the file; else the output is ``output``.
    int8 : bool
        Quantise the weights of the linear layers to 8 bits, activations as they come:
        by the range of the batch that they come in, so that windows change each other's
        answers. Give such a file one window at a time.
        The Fourier transform stays in full precision: it spans the powers' range.
    classes : sequence of str or of numbers, optional
        Names of the classes (``net.classes_``), kept in the file as text.

    Returns
    -------
    pathlib.Path
        The file, with ``channels``, ``sfreq`` and ``classes`` in its metadata.

    Raises
    ------
    TypeError, ValueError
        If this is no model of the package, has no head to make probabilities of, or
        the number of classes does not fit.
    OSError
        If the file cannot be written; what was there before stays.

    Examples
    --------
    >>> from braindecode_gcmae import GCMAEStudent, export_onnx
    >>> model = GCMAEStudent(2, ch_names=["C3", "Cz", "C4"], sfreq=100, n_times=200)
    >>> export_onnx(model, "student.onnx", classes=["left", "right"]).name
    'student.onnx'
    """
    import onnx

    module, example = _prepare(model, channels, probabilities)
    if classes is not None and len(classes) != model.n_outputs:
        raise ValueError(
            f"{len(classes)} names of classes were given for {model.n_outputs} outputs"
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            dynamic_shapes={"x": {0: "batch"}},
            input_names=["x"],
            output_names=["probabilities" if probabilities else "output"],
        )
    proto = program.model_proto
    facts = {
        "channels": json.dumps(_channel_names(model, channels)),
        "sfreq": repr(float(model.sfreq)),
        "unit": "µV",
        "classes": json.dumps(None if classes is None else [str(c) for c in classes]),
    }
    onnx.helper.set_model_props(proto, facts)
    _forget_origins(proto)
    if int8:
        proto = _quantised(proto)
    replace_file(path, lambda name: onnx.save(proto, name))
    return path


def _channel_names(model: nn.Module, channels: str) -> list[str] | None:
    known = model.input_channels()
    if known is None:
        return None
    # Electrodes that are all channels come in the order of the cap.
    fewer = model.network.n_nodes < model.network.n_chans
    chosen = model.node_channels() if channels == "electrodes" and fewer else known
    return [name_of(channel) for channel in chosen]


def _forget_origins(proto) -> None:
    """Drop stack traces: they name files of the machine, and double the size."""
    proto.graph.ClearField("metadata_props")
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        value.ClearField("metadata_props")
    for function in proto.functions:
        function.ClearField("metadata_props")
        for node in function.node:
            node.ClearField("metadata_props")


def _quantised(proto):
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    linear = [n for n in proto.graph.node if n.op_type in ("MatMul", "Gemm")]
    precise = [n.name for n in linear if not any("weight" in i for i in n.input)]
    proto.graph.ClearField("value_info")  # torch's shapes disagree with onnx's own
    with TemporaryDirectory() as folder:
        full, small = Path(folder) / "full.onnx", Path(folder) / "small.onnx"
        onnx.save(proto, full)
        quantize_dynamic(
            full,
            small,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=precise,
            weight_type=QuantType.QInt8,
        )
        written = onnx.load(small)
    onnx.helper.set_model_props(written, {p.key: p.value for p in proto.metadata_props})
    return written


class Decision(NamedTuple):
    """What a stream was taken for at one moment.

    Attributes
    ----------
    sample : int
        Samples seen until then.
    probabilities : ndarray, shape (C,)
    missing : float
        Share of the electrodes that the decision is made without: their window has a
        sample that is not finite, or the alignment has seen no whole one of theirs. At
        1 nothing was seen.
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
        sample, or ``align`` takes its band at another rate.

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
            predict, facts = _open(predict)
            self.channels, self.classes = facts["channels"], facts["classes"]
            _check_given(facts, n_chans=n_chans, n_times=n_times, sfreq=sfreq)
            n_chans, n_times = facts["n_chans"], facts["n_times"]
            sfreq = facts["sfreq"]
        if n_chans is None or n_times is None or sfreq is None:
            raise ValueError("n_chans, n_times and sfreq are needed for a function")
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
        and after is one signal, and the clock is late. If a prediction fails, its
        exception is raised once all samples are in: go on with the next ones.

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
            window = self.window()
            if self.align is not None and self.n_seen % self.n_times == 0:
                self.align.update(window)
            if self.n_seen == self._due():
                self._n_decisions += 1
                if self.align is not None and self.align.has_seen:
                    window = self.align.transform(window)
                elif self.align is not None:  # nothing was seen: nothing to align
                    window = np.full_like(window, np.nan)
                # Also what the alignment knows nothing of.
                lost = ~np.isfinite(window).all(-1)
                if not self._looked and window[~lost].any():  # not zeros, as at first
                    check_scale(window[~lost].std(-1))
                    self._looked = True
                try:
                    probabilities = np.asarray(self.predict(window))[0]
                except Exception as error:
                    # Time goes on: no sample may be lost, and none be pushed twice.
                    failed = failed or error
                    continue
                decision = Decision(self.n_seen, probabilities, float(lost.mean()))
                decisions.append(decision)
        if failed is not None:
            raise failed
        return decisions

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


def _open(path: str | Path) -> tuple[Callable, dict]:
    """A function of windows, and the facts, of an exported file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # one window is too little work to share
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    facts = session.get_modelmeta().custom_metadata_map
    if "sfreq" not in facts:
        raise ValueError(f"{path} was not written by export_onnx: it holds no sfreq")
    (window,) = session.get_inputs()
    return lambda x: session.run(None, {window.name: x})[0], {
        "channels": json.loads(facts["channels"]),
        "classes": json.loads(facts["classes"]),
        "sfreq": float(facts["sfreq"]),
        "n_chans": window.shape[1],
        "n_times": window.shape[2],
    }
