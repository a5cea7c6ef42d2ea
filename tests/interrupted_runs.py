"""Runs that a test can kill: each trains, goes on if it can, and writes its end."""

import json
import multiprocessing
import os
import random
import signal
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit
from tiny import classifier, labelled, pretrainer, quietly, small, windows

from braindecode_gcmae import GCMAEPretraining, GCMAETeacher, TopologyDistillation
from braindecode_gcmae.callbacks import ResumableCheckpoint
from braindecode_gcmae.callbacks.resuming import checkpoint

PATIENCE = 120  # seconds that a tiny run may take on a busy machine


PROGRESS = None  # counter of the steps of this process, read by the one that kills


class Progress(Callback):
    """Tells whoever kills how far the run has come."""

    def on_batch_begin(self, net, **kwargs):
        if PROGRESS is not None:
            PROGRESS.value += 1


class Draws(Callback):
    """A callback of a user who draws from every random state there is."""

    def on_batch_end(self, net, training=False, **kwargs):
        drawn = [float(torch.rand(())), float(np.random.rand()), random.random()]
        net.history.record_batch("drawn", drawn)


def pretraining_net(folder, max_epochs=5):
    """A pretrainer that writes inside its epochs, too."""
    schedule = LRScheduler(
        torch.optim.lr_scheduler.OneCycleLR,
        max_lr=1e-2,
        total_steps=40,
        step_every="batch",
    )
    return pretrainer(
        teacher__drop_prob=0.3,
        student__drop_prob=0.3,
        max_epochs=max_epochs,
        objective="sequential",
        callbacks=[
            ("resume", ResumableCheckpoint(folder, every_n_steps=2)),
            ("schedule", schedule),
            ("draws", Draws()),
            ("progress", Progress()),
        ],
    )


def chain_net(folder, max_epochs=10):
    """The whole method in one classifier, split at random for its validation."""
    progress = [("progress", Progress())]
    inner = {"projection_dim": 5, "queue_size": 64, "callbacks": progress}
    inner.update(small("teacher"))
    stage = GCMAEPretraining(max_epochs=1, batch_size=8, arguments=inner)
    teacher = classifier(GCMAETeacher, max_epochs=1, callbacks=progress)
    schedule = LRScheduler("CosineAnnealingLR", T_max=10)
    return classifier(
        max_epochs=max_epochs,
        train_split=ValidSplit(0.25, stratified=True),
        module__drop_prob=0.3,
        callbacks=[
            ("resume", ResumableCheckpoint(folder)),
            ("pretrain", stage),
            ("distil", TopologyDistillation(teacher, unlabelled=windows(12, seed=7))),
            ("schedule", schedule),
            ("draws", Draws()),
            ("progress", Progress()),
        ],
    )


def fit_net(kind, folder):
    """Train one of the nets above."""
    if kind == "pretraining":
        subjects = np.repeat(np.arange(4), 10)
        return pretraining_net(folder).fit(windows(40), groups=subjects)
    return quietly(chain_net(folder).fit, *labelled(32))


def end_of(net) -> dict:
    """All that two runs must share, in tensors and text."""
    rows = [{k: v for k, v in row.items() if k != "dur"} for row in net.history]
    distil = dict(net.callbacks_).get("distil")
    _, keys, position, *_ = np.random.get_state()
    return {
        "module": net.module_.state_dict(),
        "optimizer": net.optimizer_.state_dict(),
        "teacher": {} if distil is None else distil.teacher_.state_dict(),
        "lr": dict(net.callbacks_)["schedule"].lr_scheduler_.get_last_lr(),
        "history": json.dumps(rows, default=float),
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(keys.astype(np.int64)), position],
        "python": str(random.getstate()),
    }


def same(one, two) -> bool:
    """Whether two nested collections hold the same bits."""
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


# ----------------------------------------------------------------------- in a process
def run(kind, folder, result, progress, death=None):
    """Train in a process of its own, and write how it ended."""
    global PROGRESS
    PROGRESS = progress
    torch.set_num_threads(1)
    folder = Path(folder)
    # Where it goes on, no random state is what it was.
    seed = 99 if (folder / "training.pt").exists() else 0
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    random.seed(seed)
    if death is not None:
        die_while_writing(*death)
    torch.save(end_of(fit_net(kind, folder)), result)


def die_while_writing(moment, nth):
    """Be killed in the n-th writing of a checkpoint."""
    real_save, real_replace, writings = torch.save, os.replace, []

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def save(state, name):
        writings.append(name)
        real_save(state, name)
        if moment == "half written" and len(writings) == nth:
            os.truncate(name, os.path.getsize(name) // 2)
            die()

    def replace(*paths):
        dies = Path(paths[1]).name == "training.pt" and len(writings) == nth
        if moment == "before it is in place" and dies:
            die()
        real_replace(*paths)
        if moment == "when it is in place" and dies:
            die()

    checkpoint.torch.save, os.replace = save, replace


@contextmanager
def findable():
    """Children find the tests' modules as this process does."""
    here, old = os.path.dirname(__file__), os.environ.get("PYTHONPATH")
    paths = [here, os.path.dirname(here), *([old] if old else [])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    yield
    if old is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = old


def context():
    """Processes that start fast and share nothing with the tests' own."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["interrupted_runs", "process_runs"])
    return made
