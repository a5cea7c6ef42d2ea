"""Pretraining from more recordings than memory holds: does the peak grow with them?

    python -m benchmarks.flat_memory --gigabytes 0.5 8

For each size, recordings are written to a temporary folder (one FIF file of noise,
copied under the names of many subjects), opened lazily, cut into windows and
pretrained on in a process of its own: one epoch over all windows of all recordings, in
shuffled order, so that every sample on the disk is read once (``--each 4``: four
windows of each recording alone, in a tenth of the time). The peak resident memory of
that process is compared, and what the operating system says it has read is told beside
it. The files are removed again. Linux.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SFREQ, SECONDS, WINDOW = 250.0, 180.0, 10.0
N_CHANNELS, BATCH = 64, 32
MEBIBYTE = 2**20
LIMIT_MIB = 500
SMALL = {"emb_dim": 8, "depth": 1, "n_heads": 2, "n_bands": 3, "n_filters": 2}


def write_recordings(folder: Path, size: float) -> int:
    """Fill a folder with about ``size`` bytes of FIF recordings: their number."""
    import mne
    import numpy as np

    from braindecode_gcmae.montage import PRESETS, make_chs_info, montage_preset

    largest = max(PRESETS, key=lambda name: len(montage_preset(name)))
    names = montage_preset(largest)[:N_CHANNELS]
    info = mne.create_info(names, SFREQ, "eeg")
    for channel, known in zip(info["chs"], make_chs_info(names), strict=True):
        channel["loc"][:3] = known["loc"][:3]
    n_times = int(SFREQ * SECONDS)
    noise = np.random.default_rng(0).normal(scale=1e-5, size=(len(names), n_times))
    first = folder / "sub-00000_raw.fif"
    mne.io.RawArray(noise, info, verbose="ERROR").save(first, verbose="ERROR")
    n = max(2, round(size / first.stat().st_size))
    for i in range(1, n):
        shutil.copyfile(first, folder / f"sub-{i:05d}_raw.fif")
    return n


def pretrain(folder: Path, each: int) -> dict:
    """One pass over windows of every recording (each=0: all); the memory it took."""
    import numpy as np
    import torch
    from torch.utils.data import Subset

    from braindecode_gcmae import GCMAEPretrainer
    from braindecode_gcmae.datasets import unlabelled_windows

    torch.set_num_threads(1)
    began = time.perf_counter()
    windows = unlabelled_windows(folder, window_seconds=WINDOW)
    ends = np.cumsum([len(part) for part in windows.datasets])
    rows = []
    for end, part in zip(ends, windows.datasets, strict=True):
        n = min(each or len(part), len(part))
        places = np.linspace(0, len(part) - 1, n).astype(int)
        rows += (end - len(part) + places).tolist()
    opened, before = peak_mib(), bytes_read()
    net = GCMAEPretrainer(
        max_epochs=1,
        batch_size=BATCH,
        queue_size=256,
        projection_dim=16,
        verbose=0,
        iterator_train__drop_last=False,
        **{f"teacher__{name}": value for name, value in SMALL.items()},
        **{f"student__{name}": value for name, value in SMALL.items()},
    )
    net.fit(Subset(windows, rows))
    touched = sum(row["train_batch_size"] for row in net.history[-1]["batches"])
    return {
        "recordings": len(windows.datasets),
        "windows": len(windows),
        "windows_trained_on": touched,
        "steps": len(net.history[-1]["batches"]),
        "gigabytes_read": round((bytes_read() - before) / 1e9, 2),
        "peak_mib_opened": opened,
        "peak_mib": peak_mib(),
        "seconds": round(time.perf_counter() - began),
    }


def peak_mib() -> float:
    """Largest resident memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def bytes_read() -> int:
    """Bytes that this process has asked of files so far."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def measure(gigabytes: float, each: int) -> dict:
    """Write, pretrain in a new process, remove."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_recordings(folder, gigabytes * 1e9)
        written = sum(path.stat().st_size for path in folder.iterdir())
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.flat_memory"]
        command += ["--folder", name, "--each", str(each)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    return {"gigabytes": round(written / 1e9, 2), **row}


def report(rows: list) -> str:
    """The numbers as a page."""
    small, large = rows[0], rows[-1]
    sizes = f"{small['gigabytes']:g} GB to {large['gigabytes']:g} GB"
    growth = large["peak_mib"] - small["peak_mib"]
    verdict = "less" if growth < LIMIT_MIB else "NOT less"
    names = list(small)
    every = all(row["windows_trained_on"] == row["windows"] for row in rows)
    which = "all windows" if every else "some windows"
    lines = [
        "# Memory against the size of the recordings on disk",
        "",
        f"FIF recordings of {N_CHANNELS} electrodes, {SECONDS:g} s at {SFREQ:g} Hz "
        "(one file of noise, copied under the names of many subjects), opened by "
        f"`unlabelled_windows` in windows of {WINDOW:g} s; one pass of "
        "`GCMAEPretrainer.fit` (tiny models, in the loading process) over "
        f"{which} of every recording, in an order that jumps between recordings. Peak "
        "resident memory of the process (`gigabytes_read`: what the system says it "
        "read during `fit`). Made by `python -m benchmarks.flat_memory`.",
        "",
        f"From {sizes} the peak grows by {growth:.0f} MiB: {verdict} than "
        f"{LIMIT_MIB} MB.",
        "",
        "| " + " | ".join(names) + " |",
        "|" + " ---: |" * len(names),
        *("| " + " | ".join(f"{row[n]:,}" for n in names) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def main(arguments=None):
    """Measure each size; the exit status tells whether the peak stayed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.5])
    parser.add_argument("--out", default="benchmarks/results/flat_memory.md")
    parser.add_argument("--folder", help="pretrain on this folder and tell (internal)")
    parser.add_argument("--each", type=int, default=0, help="windows of each; 0: all")
    given = parser.parse_args(arguments)
    if given.folder:
        print(json.dumps(pretrain(Path(given.folder), given.each)))
        return 0
    rows = []
    for gigabytes in sorted(given.gigabytes):
        rows.append(measure(gigabytes, given.each))
        print(json.dumps(rows[-1]), flush=True)
        Path(given.out).write_text(report(rows))
    return 0 if rows[-1]["peak_mib"] - rows[0]["peak_mib"] < LIMIT_MIB else 1


if __name__ == "__main__":
    raise SystemExit(main())
