"""Timing: warm up, then take turns, five rounds, medians."""

import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version

import torch

ROUNDS = 5
LIBRARIES = (
    "torch",
    "torch-geometric",
    "braindecode",
    "mne",
    "numpy",
    "scipy",
    "onnxruntime",
)


def calls_per_round(function, seconds: float) -> int:
    """Calls that fill a round, and the warm-up."""
    taken = 0.0
    for _ in range(3):
        start = time.perf_counter()
        function()
        taken = time.perf_counter() - start
        if taken > seconds:
            return 1
    return max(1, round(seconds / max(taken, 1e-7)))


def interleave(functions: dict, *, seconds: float = 0.1, rounds: int = ROUNDS) -> dict:
    """Median seconds per call of each function, measured in turns.

    Turns, because other work on the machine then falls on all of them alike. The
    least of the rounds is kept as ``<name>, least``: what other work disturbs less.
    """
    counts = {name: calls_per_round(f, seconds) for name, f in functions.items()}
    times: dict = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                function()
            times[name].append((time.perf_counter() - start) / counts[name])
    medians = {name: statistics.median(values) for name, values in times.items()}
    least = {f"{name}, least": min(values) for name, values in times.items()}
    return {**medians, **least}


def row(what, reference, goal, value, met, **details) -> dict:
    """One line of the table."""
    return {
        "what": what,
        "reference": reference,
        "goal": goal,
        "measured": value,
        "met": met,
        "details": details,
    }


def milliseconds(times: dict) -> dict:
    return {name: round(1e3 * value, 4) for name, value in times.items()}


def parameters(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def peak_memory(module: str, *arguments: str) -> float:
    """MB by which a call raises the resident peak, in a process of its own.

    ``python -m <module> <arguments>`` must write that number.
    """
    command = [sys.executable, "-m", module, *arguments]
    return float(subprocess.check_output(command, text=True).split()[-1])


def forget_peak() -> None:
    """Let the resident peak of this process start again from what it holds (Linux)."""
    with open("/proc/self/clear_refs", "w", encoding="utf-8") as file:
        file.write("5")


def resident(field: str = "VmHWM") -> float:
    """MB of this process: its peak (``VmHWM``), or what it holds (``VmRSS``)."""
    with open("/proc/self/status", encoding="utf-8") as file:
        (line,) = (line for line in file if line.startswith(field))
    return int(line.split()[1]) / 1024


def machine() -> dict:
    """What the figures were measured on; no names of hosts or folders."""
    import os

    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 1),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1] for line in file if "model name" in line]
        return names[0].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
