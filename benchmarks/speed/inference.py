"""Rows of the student in use: latency, throughput, size, export, import time."""

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch

from braindecode_gcmae import GCMAEStudent

from .measure import interleave, milliseconds, parameters, row
from .steps import FEW, SIGNAL


def default_student() -> GCMAEStudent:
    """The one student of all tables, on eight electrodes."""
    return GCMAEStudent(n_outputs=2, ch_names=FEW, **SIGNAL).eval()


def peers() -> dict:
    from braindecode.models import EEGNet, ShallowFBCSPNet

    shape = {"n_outputs": 2, "n_chans": len(FEW), **SIGNAL}
    return {
        "EEGNet": EEGNet(**shape).eval(),
        "ShallowFBCSPNet": ShallowFBCSPNet(**shape).eval(),
    }


def _forwards(batch: int, compiled: bool = False) -> dict:
    x = 10 * torch.randn(batch, len(FEW), SIGNAL["n_times"])
    models = {"student": default_student(), **peers()}
    if compiled:
        models = {name: torch.compile(model) for name, model in models.items()}

    def forward(model):
        with torch.inference_mode():
            return model(x)

    return {name: partial(forward, model) for name, model in models.items()}


def _on_one_thread(functions: dict) -> tuple[dict, float]:
    """Times of the functions, and that of the faster peer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        times = interleave(functions)
    finally:
        torch.set_num_threads(threads)
    return times, min(times["EEGNet"], times["ShallowFBCSPNet"])


def _one_window(what: str, reference: str, times: dict, fastest: float) -> dict:
    ratio = times["student"] / fastest
    return row(
        f"student, one 8-electrode window, one thread{what}",
        f"faster of EEGNet and ShallowFBCSPNet{reference}",
        "<= 1x, < 2 ms",
        f"{ratio:.2f}x, {1e3 * times['student']:.2f} ms",
        ratio <= 1 and times["student"] < 2e-3,
        ratio=ratio,
        milliseconds=milliseconds(times),
    )


def latency() -> list[dict]:
    """One window, one thread; and the exported file in onnxruntime."""
    functions, sizes = _exported(_forwards(1))
    times, fastest = _on_one_thread(functions)
    return [
        _one_window("", "", times, fastest),
        row(
            "exported file, one 8-electrode window, one thread",
            "faster of EEGNet and ShallowFBCSPNet",
            "one file, raw window to probabilities",
            f"{1e3 * times['ONNX']:.2f} ms ({times['ONNX'] / fastest:.2f}x), "
            f"{sizes['ONNX']:.0f} kB; int8 {1e3 * times['ONNX, int8']:.2f} ms, "
            f"{sizes['ONNX, int8']:.0f} kB",
            True,
            kilobytes=sizes,
            milliseconds=milliseconds(times),
        ),
    ]


def latency_compiled() -> list[dict]:
    """One window, one thread, every model under ``torch.compile``."""
    times, fastest = _on_one_thread(_forwards(1, compiled=True))
    return [_one_window(", torch.compile", ", compiled too", times, fastest)]


def _exported(functions: dict) -> tuple[dict, dict]:
    """The timed functions, and the exported files' beside them, with sizes in kB."""
    from braindecode_gcmae import StreamingClassifier, export_onnx

    sizes = {}
    x = 10 * torch.randn(1, len(FEW), SIGNAL["n_times"]).numpy()
    with tempfile.TemporaryDirectory() as folder:
        for name, int8 in (("ONNX", False), ("ONNX, int8", True)):
            path = export_onnx(default_student(), Path(folder) / "s.onnx", int8=int8)
            sizes[name] = round(path.stat().st_size / 1e3, 1)
            predict = StreamingClassifier(path).predict
            functions[name] = lambda predict=predict: predict(x)
    return functions, sizes


def throughput() -> list[dict]:
    """Batches of 256."""
    times = interleave(_forwards(256))
    ratio = min(times["EEGNet"], times["ShallowFBCSPNet"]) / times["student"]
    return [
        row(
            "student, batch 256",
            "faster of EEGNet and ShallowFBCSPNet",
            ">= 2x the throughput",
            f"{ratio:.1f}x, {256 / times['student']:.0f} windows/s",
            ratio >= 2,
            ratio=ratio,
            milliseconds=milliseconds(times),
        )
    ]


def size() -> list[dict]:
    """Parameters of the default student."""
    n = parameters(default_student())
    return [
        row(
            "parameters of the default student",
            "the paper's 1.3 M",
            "<= 130 k",
            f"{n:,}",
            n <= 130_000,
            parameters=n,
        )
    ]


def import_time(rounds: int = 5) -> list[dict]:
    """Import of this package against braindecode's, each in a fresh process.

    In seconds of processor time, which on an idle machine are seconds: other work
    moves them less than the clock.
    """
    times: dict = {"braindecode": [], "braindecode_gcmae": []}
    for _ in range(rounds + 1):  # the first fills the disk's cache
        for name, values in times.items():
            before = os.times()
            subprocess.run(
                [sys.executable, "-W", "ignore", "-c", f"import {name}"],
                check=True,
                env={**os.environ, "PYTHONPATH": os.getcwd()},
            )
            after = os.times()
            values.append(
                after.children_user
                + after.children_system
                - before.children_user
                - before.children_system
            )
    median = {name: sorted(vs[1:])[rounds // 2] for name, vs in times.items()}
    more = median["braindecode_gcmae"] - median["braindecode"]
    return [
        row(
            "import braindecode_gcmae",
            "import braindecode alone",
            "<= 0.3 s more",
            f"{more:.2f} s more than {median['braindecode']:.2f} s",
            more <= 0.3,
            seconds={name: [round(v, 2) for v in vs[1:]] for name, vs in times.items()},
        )
    ]
