"""Rows of the CUDA part: training steps in each mode, and ratios to the references."""

import copy
import time
from functools import partial

import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from braindecode_gcmae.graph import topology_pairs
from braindecode_gcmae.losses import (
    logit_distillation_loss,
    topology_distillation_loss,
)
from braindecode_gcmae.models import JointPretraining

from . import kernels
from . import steps as training
from .device import (
    Traffic,
    captured,
    compiled,
    extra_mb,
    finished,
    forget_peak,
    in_turns,
    learns,
    never_waits,
    peak_mb,
    repeated,
    replayed,
    seconds_per_call,
    synchronise,
    with_autocast,
)
from .inference import default_student, peers
from .measure import milliseconds, row
from .naive import distillation_problem
from .naive import step as topology_step
from .steps import FEW, SIGNAL, PretrainingStep, cap, pair, windows

BATCHES = {
    "topology": (64, 2048),
    "pretraining": (32, 256),
    "distillation": (64, 256),
    "student": (1, 256, 4096),
    "equations": (16, 128),
}


# ------------------------------------------------------------------- training steps
class DistillationStep:
    """One optimiser step of distillation, its graphs fixed as within an epoch."""

    def __init__(self, teacher, student, x, kept):
        self.teacher, self.student, self.x = teacher.eval(), student.train(), x
        self.kept = torch.as_tensor(kept, device=x.device)
        self.y = torch.arange(len(x), device=x.device) % 2
        self.optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4)
        with torch.no_grad():
            graphs = [m.network.graph_of(x)[2].mean(0) for m in (student, teacher)]
        self.pairs = topology_pairs(*graphs, self.kept)

    def _forward(self, model):
        """Node embeddings, caught on the way, and logits, as in a training."""
        nodes = []
        hook = model.network.encoder.register_forward_hook(
            lambda module, inputs, output: nodes.append(output)
        )
        logits = model(self.x)
        hook.remove()
        return nodes[0], logits

    def __call__(self):
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            teacher_nodes, teacher_logits = self._forward(self.teacher)
        nodes, logits = self._forward(self.student)
        loss = torch.nn.functional.cross_entropy(logits.float(), self.y)
        loss = loss + logit_distillation_loss(logits, teacher_logits, temperature=4.0)
        loss = loss + topology_distillation_loss(
            nodes, teacher_nodes, *self.pairs, self.kept
        )
        loss.backward()
        self.optimizer.step()
        return loss


def steps(n: int, batch: int, device) -> dict:
    """The two training steps at n electrodes, on the device."""
    teacher, student = (model.to(device) for model in pair(n))
    kept = [cap(n).index(name) for name in FEW]
    x = windows(batch, n).to(device)
    joint = JointPretraining(copy.deepcopy(teacher), copy.deepcopy(student))
    return {
        "pretraining": PretrainingStep(joint.to(device), x),
        "distillation": DistillationStep(teacher, student, x, kept),
    }


def counted(run) -> dict:
    """GFLOP of a step (a multiply-add is two), GB that its operations move."""
    with FlopCounterMode(display=False) as work:
        run()
    with Traffic() as traffic:
        run()
    return {"gflop": work.get_total_flops() / 1e9, "gbyte": traffic.bytes / 1e9}


def step_row(
    kind: str, n: int, mode: str, batch: int, device, top: dict, counts: dict
) -> dict:
    """One step in one mode: its rate, shares of the ceilings, memory.

    ``counts`` are those of the same step in eager mode, if they are known.
    """
    step = steps(n, batch, device)[kind]
    half = "bf16" in mode
    eager = with_autocast(step, device) if half else step
    counts = counts or counted(eager)
    forget_peak(device)
    run = eager
    if "compiled" in mode:
        compiled(step)
    if "graph" in mode:
        run = captured(eager, step.optimizer)
    taken = seconds_per_call(run, device)
    tflops, speed = counts["gflop"] / taken / 1e3, counts["gbyte"] / taken
    return {
        "windows_per_s": batch / taken,
        "milliseconds": 1e3 * taken,
        **counts,
        "tflops": tflops,
        "share_of_matmul": _share(tflops, top, "bf16" if half else "float32"),
        "gb_per_s": speed,
        "share_of_copy": _share(speed, top, "copy"),
        "peak_mb": peak_mb(device),
        "learns": learns(run, step.optimizer),
        **never_waits(run, device),
    }


def _share(value: float, top: dict, which: str) -> float | None:
    names = [name for name in top if which in name]
    return value / top[names[0]] if names else None


# ------------------------------------------------------------------------ references
def ratios(device) -> dict:
    """Functions that measure the rows against the named references, by name."""
    turns = partial(in_turns, device=device)
    here = {"device": device, "turns": turns}
    slow = {"device": device, "turns": partial(repeated, device=device)}
    chebyshev = partial(kernels.chebyshev_row, **here)
    found = {}
    for batch in BATCHES["topology"]:
        memory = partial(device_memory, device=device, batch=batch)
        topology = partial(kernels.topology_row, memory=memory, batch=batch, **here)
        for n, goal in kernels.TOPOLOGY:
            name = f"topology distillation loss, n={n}, B={batch}"
            found[name] = partial(topology, n, goal)
    for n, order, goal in kernels.CHEBYSHEV:
        name = f"Chebyshev layer, N={n}, K={order}"
        found[name] = partial(chebyshev, n, order, goal)
    for batch in BATCHES["pretraining"]:
        name = f"pretraining step, B={batch}"
        found[name] = partial(_only, training.pretraining, batch, here)
    for batch in BATCHES["distillation"]:
        name = f"distillation step, B={batch}"
        found[name] = partial(_only, training.distillation, batch, here)
    for batch in BATCHES["student"]:
        found[f"student, batch {batch}"] = partial(inference, batch, **here)
        name = f"student, batch {batch}, CUDA graphs"
        found[name] = partial(inference, batch, graphs=True, **here)
    for batch in BATCHES["equations"]:
        name = f"pretraining step at the paper's sizes, B={batch}"
        found[name] = partial(_only, training.against_equations, batch, slow)
    return found


def _only(function, batch: int, where: dict) -> dict:
    (one,) = function(batch, **where)
    return one


def device_memory(kind: str, n: int, device, batch: int) -> float:
    """MB of the device's memory by which a step raises what is in use."""
    problem = distillation_problem(n, device=device, batch=batch)
    return extra_mb(lambda: topology_step(kind, problem), device) or 0.0


def inference(batch: int, device, turns, graphs: bool = False) -> dict:
    """The student against braindecode's small networks; one window until it is done.

    With ``graphs`` each of them is one CUDA graph.
    """
    models = {"student": default_student(), **peers()}
    shape = models["student"].n_chans, SIGNAL["n_times"]
    x = 10 * torch.randn(batch, *shape, device=device)

    def forward(model):
        with torch.inference_mode():
            return model(x)

    runs = {name: partial(forward, m.to(device)) for name, m in models.items()}
    how = ", as CUDA graphs" if graphs else ""
    if graphs:
        runs = {name: replayed(run) for name, run in runs.items()}
    if batch == 1:
        runs = {name: finished(run, device) for name, run in runs.items()}
    times = turns(runs)
    ratio = times["student"] / min(times["EEGNet"], times["ShallowFBCSPNet"])
    if batch == 1:
        what, goal = f"student, one 8-electrode window{how}", "<= 1x, < 2 ms"
        value = f"{ratio:.2f}x, {1e3 * times['student']:.2f} ms"
        met = ratio <= 1 and times["student"] < 2e-3
    else:
        what, goal = f"student, batch {batch}{how}", ">= 2x the throughput"
        value = f"{1 / ratio:.1f}x, {batch / times['student']:.0f} windows/s"
        met = ratio <= 0.5
    return row(
        what,
        "faster of EEGNet and ShallowFBCSPNet",
        goal,
        value,
        met,
        ratio=ratio if batch == 1 else 1 / ratio,
        milliseconds=milliseconds(times),
    )


# ------------------------------------------------------------------------- the rest
def loading(batch: int, n: int, device, n_batches: int = 20) -> float:
    """Windows per second through a pinned, asynchronous loader to the device."""
    cuda = torch.device(device).type == "cuda"
    data = TensorDataset(windows(batch * n_batches, n))
    loader = DataLoader(data, batch, num_workers=2 if cuda else 0, pin_memory=cuda)
    start = time.perf_counter()
    for (x,) in loader:
        x.to(device, non_blocking=True)
    synchronise(device)
    return batch * n_batches / (time.perf_counter() - start)


def difference(device, n: int = 64, batch: int = 8) -> float:
    """Largest difference of logits between the CPU and the device, in float32."""
    teacher, student = pair(n)
    x, largest = windows(batch, n), 0.0
    for model in (teacher.eval(), student.eval()):
        torch.nn.init.normal_(model.final_layer.weight, std=0.1)
        for name, gain in model.named_parameters():
            if "gain" in name:  # zero at first, which would hide the encoder
                torch.nn.init.constant_(gain, 0.5)
        with torch.no_grad():
            here = model(x)
            there = copy.deepcopy(model).to(device)(x.to(device)).cpu()
        largest = max(largest, float((here - there).abs().max()))
    return largest
