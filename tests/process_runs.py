"""Pretraining in several processes: what each of them does, and what it tells."""

import os
import socket

import numpy as np
import torch
from interrupted_runs import PATIENCE, context
from skorch.callbacks import Callback
from skorch.hf import AccelerateMixin
from tiny import joint, pretrainer, windows

from braindecode_gcmae import GCMAEPretrainer
from braindecode_gcmae.callbacks import ResumableCheckpoint
from braindecode_gcmae.callbacks.resuming import checkpoint
from braindecode_gcmae.pretraining import PretrainingLoss


class Net(AccelerateMixin, GCMAEPretrainer):
    """A pretrainer of several processes."""


class Watches(Callback):
    """Notes the windows of each step; or stops in one."""

    def __init__(self, stop=None):
        self.stop, self.seen, self.steps = stop, [], 0

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if self.stop is not None and self.steps == self.stop:
            raise KeyboardInterrupt
        self.steps += 1
        self.seen.append(batch[0]["index"].tolist())


def train(folder=None, n=32, stop=None, accelerator=None, every_n_steps=None, **given):
    """Pretrain tiny models, alone or together; everything that is to be compared."""
    watches = Watches(stop)
    callbacks = [("watches", watches)]
    writings = []
    if folder is not None:
        replace = checkpoint.replace_file

        def counting(path, write):
            writings.append(str(path))
            replace(path, write)

        checkpoint.replace_file = counting
        resumable = ResumableCheckpoint(folder, every_n_steps)
        callbacks.insert(0, ("resume", resumable))
    net = pretrainer(callbacks=callbacks, **given)
    if accelerator is not None:
        arguments = net.get_params(deep=False)
        arguments.pop("device")
        net = Net(accelerator=accelerator, **arguments)
    try:
        net.fit(windows(n), groups=np.repeat(np.arange(n // 4), 4))
    finally:
        if folder is not None:
            checkpoint.replace_file = replace
    rows = net.history
    terms = [k for k in rows[0] if k.startswith(("rec_", "contrast_"))]
    return {
        "losses": [
            b["train_loss"] for row in rows for b in row["batches"] if "train_loss" in b
        ],
        "terms": [[row[k] for k in terms if k in row] for row in rows],
        "valid": [float(row["valid_loss"]) for row in rows if "valid_loss" in row],
        "counts": [row.get("train_batch_count") for row in rows],
        "module": net.joint_.state_dict(),
        "seen": watches.seen,
        "writings": len(writings),
        "embeddings": torch.from_numpy(net.transform(windows(4))),
    }


def by_hand(rank=0, world=1, n=16, steps=3):
    """A loop of torch's own, without a net around it: losses and keys."""
    module = joint()
    wrapped = module
    if world > 1:
        # The heads of classifiers learn nothing here.
        wrapped = torch.nn.parallel.DistributedDataParallel(
            module, find_unused_parameters=True
        )
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    mine = slice(rank * n // world, (rank + 1) * n // world)
    x, index = torch.from_numpy(windows(n))[mine], torch.arange(n)[mine]
    losses = []
    for epoch in range(steps):
        module.epoch = epoch
        output = wrapped(x, index, index // 4)
        loss = PretrainingLoss()(output, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        module.momentum_step(output["keys"], output["groups"])
        total = loss.detach().clone()
        if world > 1:
            torch.distributed.all_reduce(total)
        losses.append(float(total) / world)
    return {"losses": losses, "module": module.state_dict()}


def work(rank, world, port, jobs, result):
    """One of the processes."""
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
        ACCELERATE_USE_CPU="true",
    )
    from accelerate import Accelerator, DistributedDataParallelKwargs

    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    ends = []
    for job in jobs:
        # Half of an objective at a time leaves parameters without a gradient.
        partly = job.get("objective", "joint") != "joint"
        handlers = [unused] if partly else []
        accelerator = Accelerator(cpu=True, kwargs_handlers=handlers)
        assert accelerator.num_processes == world
        ends.append(train(accelerator=accelerator, **job))
    ends.append(by_hand(rank, world))
    torch.save(ends, f"{result}.{rank}")
    accelerator.end_training()


def together(jobs, folder, world=2):
    """Do some jobs in several processes: a list of ends for each process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = os.path.join(folder, "ends")
    processes = context()
    children = [
        processes.Process(target=work, args=(rank, world, port, jobs, result))
        for rank in range(world)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
        if child.exitcode is None:
            child.kill()
    assert [child.exitcode for child in children] == [0] * world
    paths = [f"{result}.{rank}" for rank in range(world)]
    return [torch.load(path, weights_only=True) for path in paths]
