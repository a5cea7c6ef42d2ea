"""The CUDA part: ``python -m benchmarks.speed.gpu``; says so where there is none.

Windows per second of pretraining and distillation at 64 and 128 electrodes, with bf16,
CUDA graphs and ``torch.compile``, as shares of the matmul and copy ceilings that are
measured first; peak memory; no host synchronisation inside a step; CPU and GPU
compared; ratios to the references of the CPU's table. Within ``--seconds``: a row that
fails, or finds no time left, says so, and the others go on. All is stored row by row.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from . import fits
from .device import ceilings, forget_peak, reason, without_folders
from .gpu_rows import difference, loading, ratios, step_row
from .gpu_table import markdown
from .measure import machine

NO_CUDA = "No CUDA device is at hand: nothing was measured."
NO_TIME = "no time was left"
LONGEST = 45.0  # seconds for a row
EAGER, KINDS = ("float32", "bf16"), ("pretraining", "distillation")
STEPS = {
    "eager": (KINDS, EAGER),
    "graphs": (KINDS, ("bf16, graph",)),
    # Distillation first: it has fewer layers to compile.
    "compiled": (KINDS[::-1], ("bf16, compiled",)),
}


class Budget:
    """Time until an end, on the clock that the system's processes share."""

    def __init__(self, end: float):
        self.end = end

    def left(self) -> float:
        return self.end - time.time()

    def attempt(self, what: dict, function, longest: float = LONGEST) -> dict:
        """``what``, with what the function finds, or with why that is nothing."""
        if self.left() <= 0:
            return {**what, "failed": NO_TIME}
        try:
            with interrupted_after(min(self.left(), longest)):
                return {**what, **function()}
        except Exception as error:
            return {**what, "failed": reason(error)}


@contextmanager
def interrupted_after(seconds: float):
    """Raise a TimeoutError inside when time is up, where the system has alarms."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_):
        raise TimeoutError(f"longer than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Report:
    """What was found so far: on disk after each row."""

    def __init__(self, folder: Path, fresh: bool = True):
        self.file = folder / "speed_gpu.json"
        self.result: dict = {"measured": True, "steps": [], "ratios": []}
        if not fresh:
            self.load()

    def load(self) -> None:
        if self.file.exists():
            self.result = json.loads(self.file.read_text("utf-8"))

    def put(self, **found) -> None:
        self.result.update(found)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.result, indent=1, ensure_ascii=False)
        passing = self.file.with_suffix(".tmp")
        passing.write_text(text, "utf-8")
        passing.replace(self.file)
        self.file.with_suffix(".md").write_text(markdown(self.result), "utf-8")

    def add(self, table: str, found: dict, same: tuple[str, ...]) -> None:
        """Add a row, in the place of the one that ``same`` columns tell to be it."""
        others = [r for r in self.result[table] if any(r[k] != found[k] for k in same)]
        self.put(**{table: [*others, found]})
        name = " ".join(str(found[key]) for key in same)
        sys.stdout.write(f"{name}: {found.get('failed', 'measured')}\n")
        sys.stdout.flush()


@dataclass
class Setting:
    """What is measured, where, and until when."""

    report: Report
    budget: Budget
    device: torch.device | str = "cuda"
    batch: int = 256
    sizes: tuple[int, ...] = (64, 128)


# ------------------------------------------------------------------------------ parts
def basics(s: Setting) -> None:
    """The machine, its ceilings, and whether CPU and GPU say the same."""
    s.report.put(machine=s.budget.attempt({}, machine))
    s.report.put(ceilings=s.budget.attempt({}, partial(ceilings, s.device)))

    def equality():
        gap = difference(s.device)
        return {"largest_difference": gap, "equal_to_1e-4": gap < 1e-4}

    s.report.put(cpu_and_gpu=s.budget.attempt({}, equality))


def tidy(s: Setting) -> None:
    """Give memory back, also where a row has broken the device."""
    with suppress(RuntimeError):
        if s.budget.left() > 0:
            forget_peak(s.device)


def step_names(part: str, sizes) -> list[dict]:
    """The rows of a part: electrodes, step, mode."""
    kinds, modes = STEPS[part]
    return [
        {"step": kind, "electrodes": n, "mode": mode}
        for n in sizes
        for kind in kinds
        for mode in modes
    ]


def training_steps(s: Setting, part: str) -> None:
    """Both training steps in the modes of a part."""
    longest = s.budget.left() if part == "compiled" else LONGEST
    for what in step_names(part, s.sizes):
        top, rows = s.report.result.get("ceilings", {}), s.report.result["steps"]
        measure = partial(
            step_row,
            *what.values(),
            batch=s.batch,
            device=s.device,
            top=top,
            counts={} if part == "eager" else counts_of({**what, "mode": "bf16"}, rows),
        )
        s.report.add("steps", s.budget.attempt(what, measure, longest), tuple(what))
        tidy(s)


def counts_of(what: dict, rows: list[dict]) -> dict:
    """GFLOP and GB of a step, if they have been counted."""
    for found in rows:
        if what.items() <= found.items() and "gflop" in found:
            return {name: found[name] for name in ("gflop", "gbyte")}
    return {}


def whole_fits(s: Setting) -> None:
    """Steps of a net's ``fit``, with what is around them."""
    for what in fits.names(s.sizes):
        measure = partial(fits.fit_row, *what.values(), s.batch, s.device)
        s.report.add("steps", s.budget.attempt(what, measure), tuple(what))
        tidy(s)


def references(s: Setting) -> None:
    """Ratios to the named references."""
    for name, function in ratios(s.device).items():
        found = s.budget.attempt({"name": name, "what": name}, function)
        s.report.add("ratios", found, ("name",))
        tidy(s)


def loader(s: Setting) -> None:
    """Windows per second that a loader brings to the device."""

    def rate():
        return {"windows_per_s": loading(s.batch, 64, s.device)}

    s.report.put(loader=s.budget.attempt({}, rate))


def in_process(s: Setting, part: str) -> None:
    """A part in a process of its own: a failed capture may spoil what comes next."""
    seconds, why = s.budget.left(), NO_TIME
    if part == "graphs":
        seconds = min(seconds, 2 * LONGEST)
    wanted = step_names(part, s.sizes)
    if seconds > 10:  # or it would do no more than start
        # What an earlier run measured must not pass for what this one could not.
        rows = s.report.result["steps"]
        s.report.put(steps=[row for row in rows if not _is_one_of(wanted, row)])
        why = _run(part, s, seconds)
        s.report.load()
    for what in wanted:
        if not any(_is_one_of([what], found) for found in s.report.result["steps"]):
            s.report.add("steps", {**what, "failed": why}, tuple(what))


def _is_one_of(wanted: list[dict], found: dict) -> bool:
    return any(what.items() <= found.items() for what in wanted)


def _run(part: str, s: Setting, seconds: float) -> str:
    """Run this script for one part; why it ended."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.gpu"]
    command += ["--only", part, "--until", str(time.time() + seconds)]
    command += ["--batch", str(s.batch), "--out", str(s.report.file.parent)]
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        try:
            done = subprocess.run(command, stderr=said, timeout=seconds + 5)
        except subprocess.TimeoutExpired:
            return NO_TIME
        said.seek(0)
        last = (said.read().strip().splitlines() or [""])[-1]
    return f"its process ended with {done.returncode}: {without_folders(last)}"


PARTS = {
    "basics": basics,
    "eager": partial(training_steps, part="eager"),
    "graphs": partial(training_steps, part="graphs"),
    "fits": whole_fits,
    "references": references,
    "loader": loader,
    "compiled": partial(training_steps, part="compiled"),
}


def measure(s: Setting, parts) -> dict:
    """Measure the parts; with others, some get a process of their own."""
    s.report.put(batch=s.batch)
    for part in parts:
        if len(parts) > 1 and part in ("graphs", "compiled"):
            in_process(s, part)
        else:
            PARTS[part](s)
    return s.report.result


def main(arguments=None) -> dict:
    """Measure and write ``speed_gpu.json``, ``.md``; without CUDA say there is none."""
    parser = argparse.ArgumentParser(prog="benchmarks.speed.gpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=150.0)
    parser.add_argument("--until", type=float, help="time.time() instead of --seconds")
    parser.add_argument("--only", nargs="+", choices=PARTS)
    options = parser.parse_args(arguments)
    budget = Budget(options.until or time.time() + options.seconds)
    if not torch.cuda.is_available():
        sys.stdout.write(f"{NO_CUDA}\n")
        return {"measured": False, "why": NO_CUDA}
    warnings.simplefilter("ignore")
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    report = Report(options.out, fresh=options.only is None)
    report.put(gpu=torch.cuda.get_device_name(0))
    setting = Setting(report, budget, batch=options.batch)
    result = measure(setting, options.only or list(PARTS))
    if options.only is None:
        sys.stdout.write(markdown(result))
    return result


if __name__ == "__main__":
    main()
