"""kill -9 at any moment, start again: the same bits as without it."""

import os
import random
import signal
import time

import pytest
import torch
from interrupted_runs import PATIENCE, context, findable, run, same


@pytest.fixture(scope="module")
def processes():
    with findable():
        yield context()


class Run:
    """A run in a folder, started as often as needed."""

    def __init__(self, processes, kind, folder):
        self.processes, self.kind, self.folder = processes, kind, folder
        self.result = folder / "end.pt"
        folder.mkdir(exist_ok=True)

    def start(self, death=None):
        self.progress = self.processes.Value("i", 0)
        told = (self.kind, str(self.folder), str(self.result), self.progress, death)
        child = self.processes.Process(target=run, args=told)
        child.start()
        return child

    def finish(self):
        child = self.start()
        child.join(PATIENCE)
        assert child.exitcode == 0
        return torch.load(self.result, weights_only=True)

    def kill_at(self, steps: float) -> None:
        """Kill it after whole steps, and somewhere inside the next one."""
        child = self.start()
        began, inside = None, steps % 1
        while child.is_alive() and self.progress.value <= steps:
            if began is None and self.progress.value:
                began = time.perf_counter()
            time.sleep(0.001)
        if began is not None:
            a_step = (time.perf_counter() - began) / max(1, self.progress.value - 1)
            time.sleep(inside * a_step)
        child.kill()
        child.join(PATIENCE)
        assert child.exitcode == -signal.SIGKILL


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    """The end of each run that nobody disturbs, and its number of steps."""
    known = {}

    def end(kind):
        if kind not in known:
            whole = Run(processes, kind, tmp_path_factory.mktemp(kind))
            known[kind] = whole.finish(), whole.progress.value
        return known[kind]

    return end


MOMENTS = range(10)
IN_MAKE_TEST = 6


def fraction(kind, n):
    """A random moment in each tenth of a run, the same in every session."""
    return 0.98 * (n + random.Random(f"{kind} {n}").random()) / len(MOMENTS)


def check_killed(processes, uninterrupted, tmp_path, kind, parts):
    expected, n_steps = uninterrupted(kind)
    broken = Run(processes, kind, tmp_path)
    for part in parts:
        broken.kill_at(part * n_steps)
    end = broken.finish()
    for name, value in expected.items():
        assert same(value, end[name]), name
    assert not [f for f in os.listdir(tmp_path) if f.startswith(".")]


@pytest.mark.parametrize("kind", ["pretraining", "chain"])
def test_a_killed_run_ends_with_the_same_bits(processes, uninterrupted, tmp_path, kind):
    parts = [fraction(kind, IN_MAKE_TEST)]
    check_killed(processes, uninterrupted, tmp_path, kind, parts)


@pytest.mark.slow
@pytest.mark.parametrize("n", [n for n in MOMENTS if n != IN_MAKE_TEST])
@pytest.mark.parametrize("kind", ["pretraining", "chain"])
def test_killed_at_more_moments(processes, uninterrupted, tmp_path, kind, n):
    check_killed(processes, uninterrupted, tmp_path, kind, [fraction(kind, n)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pretraining", "chain"])
def test_killed_again_and_again(processes, uninterrupted, tmp_path, kind):
    # A run that goes on has fewer steps before it.
    parts = [0.5, 0.22, 0.13, 0.07, 0.01]
    check_killed(processes, uninterrupted, tmp_path, kind, parts)


@pytest.mark.parametrize(
    ("moment", "nth"),
    [
        ("half written", 1),
        ("half written", 4),
        ("before it is in place", 3),
        ("when it is in place", 2),
    ],
)
def test_killed_while_it_writes_the_last_checkpoint_loads(
    processes, uninterrupted, tmp_path, moment, nth
):
    expected, _ = uninterrupted("pretraining")
    broken = Run(processes, "pretraining", tmp_path)
    child = broken.start((moment, nth))
    child.join(PATIENCE)
    assert child.exitcode == -signal.SIGKILL
    file = tmp_path / "training.pt"
    assert file.exists() == (nth > 1)
    if file.exists():
        assert torch.load(file, weights_only=True)["module"] == "JointPretraining"
    end = broken.finish()
    for name, value in expected.items():
        assert same(value, end[name]), name
    # What a half written one left is gone.
    assert not [f for f in os.listdir(tmp_path) if f.startswith(".")]
