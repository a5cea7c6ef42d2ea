"""Twenty thousand steps of pretraining: does anything grow that should not?

    python -m benchmarks.endurance --steps 20000

Trains tiny models on noise, with loader workers, a checkpoint every epoch and the
collapse monitor, and looks at the process as it goes: resident memory, open files,
threads, keys in the queue, rows of the history. Linux: it reads /proc.
"""

import argparse
import gc
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback

from braindecode_gcmae import GCMAEPretrainer, GCMAETeacher
from braindecode_gcmae.callbacks import CollapseMonitor, ResumableCheckpoint

NAMES = ["F3", "F4", "C3", "Cz", "C4", "Pz"]
SMALL = {"emb_dim": 8, "depth": 1, "n_heads": 2, "n_bands": 3, "n_filters": 2}
BATCH, N_WINDOWS = 8, 4000
LIMIT_KIB = 5.0  # a step: more is a leak


def resident() -> float:
    """Resident memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """Open file descriptors of this process."""
    return len(os.listdir("/proc/self/fd"))


def threads() -> int:
    """Threads of this process."""
    return len(os.listdir("/proc/self/task"))


class Watch(Callback):
    """Notes the state of the process at the end of every epoch."""

    def __init__(self, told):
        self.told = told

    def on_train_begin(self, net, **kwargs):
        self.rows_, self.began_, self.done_ = [], time.perf_counter(), 0

    def on_epoch_end(self, net, **kwargs):
        self.done_ += net.history[-1, "train_batch_count"]
        gc.collect()
        row = {
            "step": self.done_,
            "seconds": round(time.perf_counter() - self.began_),
            "resident_mib": round(resident(), 2),
            "open_files": open_files(),
            "threads": threads(),
            "queue_keys": int(net.joint_.queue.fill),
            "history_kib": round(len(json.dumps(list(net.history))) / 1024),
            "loss": round(float(net.history[-1, "train_loss"]), 4),
        }
        self.rows_.append(row)
        print(json.dumps(row), flush=True)
        self.told(self.rows_)


def windows(n, seed=0):
    """Noise of 10 µV with an alpha wave, (n, 6, 160) at 100 Hz."""
    rng = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * 10 * np.arange(160) / 100)
    size = rng.uniform(0, 20, (n, len(NAMES), 1))
    noise = rng.normal(size=(n, len(NAMES), 160))
    return (size * wave + 10 * noise).astype(np.float32)


def train(steps: int, workers: int, both: bool, folder: str, told) -> list:
    """Pretrain, watched; ``told`` gets the rows so far after every look."""
    epochs = -(-steps * BATCH // N_WINDOWS)
    watch = Watch(told)
    small = {f"student__{name}": value for name, value in SMALL.items()}
    if both:
        small.update({f"teacher__{name}": value for name, value in SMALL.items()})
    net = GCMAEPretrainer(
        teacher=GCMAETeacher if both else None,
        electrodes=["C3", "Cz", "C4"],
        ch_names=NAMES,
        sfreq=100,
        max_epochs=epochs,
        batch_size=BATCH,
        queue_size=1024,
        projection_dim=16,
        verbose=0,
        optimizer__fused=True,
        iterator_train__num_workers=workers,
        callbacks=[
            ("resume", ResumableCheckpoint(folder)),
            ("collapse", CollapseMonitor(every=2)),
            ("watch", watch),
        ],
        **small,
    )
    net.fit(windows(N_WINDOWS), groups=np.arange(N_WINDOWS) // 40)
    return watch.rows_


def slope(rows: list, skip: float = 0.2) -> tuple[float, float]:
    """Growth of resident memory in KiB a step after warming up, and its error.

    Least squares; what the history holds, which grows by design, is in it.
    """
    late = [row for row in rows if row["step"] >= skip * rows[-1]["step"]]
    x = np.array([row["step"] for row in late], dtype=float)
    y = np.array([row["resident_mib"] for row in late]) * 1024
    if len(x) < 3:
        return float("nan"), float("nan")
    (a, b), residues, *_ = np.polyfit(x, y, 1, full=True)
    error = np.sqrt(residues.sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    return float(a), float(error)


def report(rows: list, workers: int, both: bool) -> str:
    """The numbers as a page."""
    growth, error = slope(rows)
    last, first = rows[-1], rows[0]
    shown = rows[:: max(1, len(rows) // 20)]
    if shown[-1] is not last:
        shown = [*shown, last]
    names = list(last)
    models = "tiny teacher and student" if both else "a tiny student"
    flag = " --both" if both else ""
    late = [r for r in rows if r["step"] >= 0.2 * last["step"]]
    span = max(r["resident_mib"] for r in late) - late[0]["resident_mib"]
    verdict = "flat" if growth < LIMIT_KIB else "not flat, or too few looks"
    lines = [
        "# Endurance",
        "",
        f"{last['step']:,} steps of pretraining ({models}, 6 electrodes, batches of "
        f"{BATCH}, {workers} loader worker(s) started anew each epoch, a checkpoint "
        f"every epoch, the collapse monitor every second), one CPU thread, torch "
        f"{torch.__version__}. Made by `python -m benchmarks.endurance{flag}`.",
        "",
        f"- resident memory after the first fifth: {growth:.2f} ± {error:.2f} KiB a "
        f"step ({verdict}: the limit is {LIMIT_KIB:g}); at most {span:.1f} MiB above "
        "the first value of that part",
        f"- of which the history, which keeps one entry a step by skorch's design: "
        f"{last['history_kib'] / last['step']:.2f} KiB a step as JSON, more as objects",
        f"- open files: {first['open_files']} after {first['step']:,} steps, "
        f"{last['open_files']} at the end; threads: {first['threads']}, "
        f"{last['threads']}",
        f"- keys in the queue: {last['queue_keys']:,} of 1,024",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " ---: |" * len(names),
        *("| " + " | ".join(f"{r[n]:,}" for n in names) + " |" for r in shown),
    ]
    return "\n".join(lines) + "\n"


def main(arguments=None):
    """Train, report; the exit status tells whether it was flat."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--both", action="store_true", help="a teacher beside it")
    parser.add_argument("--out", default="benchmarks/results/endurance.md")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)

    def write(rows):
        Path(given.out).write_text(report(rows, given.workers, given.both))

    with tempfile.TemporaryDirectory() as folder:
        rows = train(given.steps, given.workers, given.both, folder, write)
    growth, _ = slope(rows)
    same_files = rows[-1]["open_files"] <= rows[0]["open_files"]
    return 0 if same_files and not growth >= LIMIT_KIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
