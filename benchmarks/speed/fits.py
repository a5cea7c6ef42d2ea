"""What a user sees: steps of a net's ``fit``, the loader included."""

import statistics
import time

import numpy as np
import torch
from braindecode import EEGClassifier
from skorch.callbacks import Callback

from braindecode_gcmae import CudaGraph, GCMAEPretrainer, TopologyDistillation

from .device import forget_peak, peak_mb
from .steps import FEW, SIGNAL, cap, pair, windows

MODES = ("fit", "fit, bf16", "fit, CudaGraph", "fit, bf16, CudaGraph")
BATCHES = 12  # of an epoch; of the second the later ones are timed
FIRST = 4  # batches that are warming up


class BatchClock(Callback):
    """Seconds between the ends of batches: by then skorch has read the loss."""

    def on_epoch_begin(self, net, **kwargs):
        """Only the last epoch is kept."""
        self.ends_: list[float] = []

    def on_batch_end(self, net, training=False, **kwargs):
        """Note the time."""
        self.ends_.append(time.perf_counter())

    def seconds(self) -> float:
        """Of a batch, the median."""
        later = self.ends_[FIRST:]
        return statistics.median(b - a for a, b in zip(later, later[1:], strict=False))


def pretraining(n: int, precision: str, **given):
    """A pretrainer of the default models on n electrodes."""
    return GCMAEPretrainer(
        electrodes=FEW,
        ch_names=cap(n),
        sfreq=SIGNAL["sfreq"],
        precision=precision,
        **given,
    )


def distillation(n: int, precision: str, callbacks: list, **given):
    """A student of few electrodes that learns from a teacher of n."""
    teacher, student = pair(n, FEW)
    torch.nn.init.constant_(teacher.final_layer.bias, 0.1)  # as if it were trained
    distil = TopologyDistillation(teacher, gtd_weight=1.0)
    return EEGClassifier(
        student,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        train_split=None,
        callbacks=[("distil", distil), *callbacks],
        **given,
    )


KINDS = {"pretraining": pretraining, "distillation": distillation}


def names(sizes) -> list[dict]:
    """The rows: step, electrodes, mode. The precision is a pretrainer's alone."""
    return [
        {"step": kind, "electrodes": n, "mode": mode}
        for n in sizes
        for kind in KINDS
        for mode in MODES
        if kind == "pretraining" or "bf16" not in mode
    ]


def fit_row(kind: str, n: int, mode: str, batch: int, device, **arguments) -> dict:
    """Two epochs of a net's fit on n electrodes, from arrays in memory."""
    clock = ("clock", BatchClock())
    workers = 2 if torch.device(device).type == "cuda" else 0
    net = KINDS[kind](
        n,
        "bfloat16" if "bf16" in mode else "float32",
        batch_size=batch,
        max_epochs=2,
        device=device,
        verbose=0,
        iterator_train__num_workers=workers,
        iterator_train__pin_memory=workers > 0,
        callbacks=[*([("graph", CudaGraph())] if "CudaGraph" in mode else []), clock],
        **arguments,
    )
    x = np.tile(windows(batch, n).numpy(), (BATCHES, 1, 1))
    y = None if kind == "pretraining" else np.arange(len(x)) % 2
    people = {} if y is not None else {"groups": [i % 4 for i in range(len(x))]}
    forget_peak(device)
    net.fit(x, y, **people)
    taken = dict(net.callbacks_)["clock"].seconds()
    losses = net.history[:, "train_loss"]
    nothing = ("gflop", "gbyte", "tflops", "share_of_matmul", "gb_per_s")
    return {
        "windows_per_s": batch / taken,
        "milliseconds": 1e3 * taken,
        **dict.fromkeys([*nothing, "share_of_copy", "never_waits", "why_it_waits"]),
        "peak_mb": peak_mb(device),
        "learns": bool(np.isfinite(losses).all() and losses[0] != losses[-1]),
    }
