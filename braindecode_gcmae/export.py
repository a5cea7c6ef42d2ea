"""A trained model as one file.

The file goes from windows in µV to class probabilities: features, graph and missing
electrodes are inside. Nothing has to be computed before it but the alignment that the
model was trained with, if it was. What a device needs to know (electrodes, sampling
rate, classes) travels in the file.
"""

import copy
import json
import logging
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from .models.checkpoint import replace_file
from .models.wrapped import unwrap
from .montage import name_of

__all__ = ["export_onnx", "export_program"]


class _Deployed(nn.Module):
    """The model as a function of windows alone."""

    def __init__(self, model: nn.Module, probabilities: bool):
        super().__init__()
        self.model, self.probabilities = model, probabilities

    def forward(self, x: Tensor) -> Tensor:
        output = self.model(x)
        return torch.softmax(output, -1) if self.probabilities else output


def _bare(model: nn.Module) -> nn.Module:
    """The model without torch's wrappers; a net, whose module is another, as it is."""
    return unwrap(model) if isinstance(model, nn.Module) else model


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
    return module, torch.zeros(2, n_chans, network.n_times, dtype=torch.float32)


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
        Whether the softmax is part of it; else its output is the model's. A model does
        not know whether it was trained on classes: pass False for values (regression).

    Returns
    -------
    torch.export.ExportedProgram
        Windows (B, N, T) in µV -> (B, C).

    Raises
    ------
    TypeError, ValueError
        If this is no model of the package, or has no head to make probabilities of.
    """
    model = _bare(model)
    module, example = _prepare(model, channels, probabilities)
    # Without a largest batch, torch 2.5 to 2.7 find that 2^63 windows do not fit.
    shapes = {"x": {0: torch.export.Dim("batch", min=1, max=1 << 30)}}
    with torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=shapes)


@contextmanager
def _without_news_of_other_packages():
    """Keep torch from telling that torchvision is not there: nothing here needs it."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


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

    model = _bare(model)
    module, example = _prepare(model, channels, probabilities)
    if classes is not None and len(classes) != model.n_outputs:
        raise ValueError(
            f"{len(classes)} names of classes were given for {model.n_outputs} outputs"
        )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.no_grad(), _without_news_of_other_packages():
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
