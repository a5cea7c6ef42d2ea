"""What a user of a pretrainer sees: steps of its ``fit``, the loader included."""

import statistics
import time

import numpy as np
import torch
from skorch.callbacks import Callback

from braindecode_gcmae import CudaGraph, GCMAEPretrainer

from .device import forget_peak, peak_mb
from .steps import FEW, SIGNAL, cap, windows

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


def fit_row(n: int, mode: str, batch: int, device, **arguments) -> dict:
    """Two epochs of pretraining on n electrodes, from arrays in memory."""
    names = cap(n)
    clock = BatchClock()
    workers = 2 if torch.device(device).type == "cuda" else 0
    pretrainer = GCMAEPretrainer(
        electrodes=FEW,
        ch_names=names,
        sfreq=SIGNAL["sfreq"],
        precision="bfloat16" if "bf16" in mode else "float32",
        batch_size=batch,
        max_epochs=2,
        device=device,
        verbose=0,
        iterator_train__num_workers=workers,
        iterator_train__pin_memory=workers > 0,
        callbacks=[clock, *([CudaGraph()] if "CudaGraph" in mode else [])],
        **arguments,
    )
    x = np.tile(windows(batch, n).numpy(), (BATCHES, 1, 1))
    forget_peak(device)
    pretrainer.fit(x, groups=[i % 4 for i in range(len(x))])
    taken = dict(pretrainer.callbacks_)["BatchClock"].seconds()
    losses = pretrainer.history[:, "train_loss"]
    nothing = ("gflop", "gbyte", "tflops", "share_of_matmul", "gb_per_s")
    return {
        "windows_per_s": batch / taken,
        "milliseconds": 1e3 * taken,
        **dict.fromkeys([*nothing, "share_of_copy", "never_waits", "why_it_waits"]),
        "peak_mb": peak_mb(device),
        "learns": all(torch.isfinite(torch.tensor(losses)).tolist()),
    }
