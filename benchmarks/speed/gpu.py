"""The CUDA part: ``python -m benchmarks.speed.gpu``; says so where there is none.

Windows per second of pretraining and distillation at 64 and 128 electrodes, with bf16
and ``torch.compile``, as shares of the matmul and copy ceilings that are measured
first; peak memory; no host synchronisation inside a step; CPU and GPU compared.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.flop_counter import FlopCounterMode

from braindecode_gcmae.graph import topology_pairs
from braindecode_gcmae.losses import (
    logit_distillation_loss,
    topology_distillation_loss,
)
from braindecode_gcmae.models import JointPretraining

from .measure import machine
from .steps import FEW, PretrainingStep, cap, pair, windows

NO_CUDA = "No CUDA device is at hand: nothing was measured."


def synchronise(device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(function, device, calls: int = 20, rounds: int = 5) -> float:
    """Median time of a call, the device's queue drained around each round."""
    for _ in range(3):
        function()
    times = []
    for _ in range(rounds):
        synchronise(device)
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronise(device)
        times.append((time.perf_counter() - start) / calls)
    return sorted(times)[rounds // 2]


def ceilings(device, size: int = 8192, calls: int = 10) -> dict:
    """Matmul (TFLOP/s, float32 and bf16) and copy (GB/s) that the device reaches."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(size, size, device=device, dtype=dtype)
        taken = seconds_per_call(lambda a=a: a @ a, device, calls)
        found[f"matmul_{name}_tflops"] = 2 * size**3 / taken / 1e12
    a = torch.empty(size * size, device=device)
    b = torch.empty_like(a)
    taken = seconds_per_call(lambda: b.copy_(a), device, calls)
    found["copy_gb_per_s"] = 2 * a.numel() * a.element_size() / taken / 1e9
    return found


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
        network = model.network
        _, features, adjacency, electrodes = network.graph_of(self.x)
        nodes = network.encode(features, adjacency, electrodes)
        return nodes, model.final_layer(network.pool(nodes, electrodes))

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


def flops(step) -> int:
    """Multiply-adds times two of one step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def never_waits(step, device) -> bool:
    """Whether a step reads nothing back to the host (an error on CUDA if it does)."""
    for _ in range(3):
        step()
    synchronise(device)
    if torch.device(device).type != "cuda":
        return True
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return True


def compiled(step, **options):
    """The same step, its networks compiled."""
    for name in ("joint", "teacher", "student"):
        if hasattr(step, name):
            for module in getattr(step, name).modules():
                if type(module).__name__ == "GraphTransformerEncoder":
                    module.compile(**options)
    return step


def with_autocast(step, device, dtype=torch.bfloat16):
    """The same step under autocast; losses stay in float32 by themselves."""

    def run():
        with torch.autocast(torch.device(device).type, dtype):
            return step()

    return run


def captured(step):
    """The step as one CUDA graph (fixed shapes; the optimiser must be capturable)."""
    for group in step.optimizer.param_groups:
        group["capturable"] = True
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


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
        with torch.no_grad():
            here = model(x)
            there = copy.deepcopy(model).to(device)(x.to(device)).cpu()
        largest = max(largest, float((here - there).abs().max()))
    return largest


def table(device, sizes=(64, 128), batch: int = 256, calls: int = 20) -> list[dict]:
    """Rows: windows/s of each step in each mode, share of the ceiling, memory."""
    top, rows = ceilings(device), []
    for n in sizes:
        for name in ("pretraining", "distillation"):
            for mode in ("float32", "bf16", "bf16, compiled", "bf16, graph"):
                step = steps(n, batch, device)[name]
                never_waits(step, device)
                work = flops(step)
                run = compiled(step) if "compiled" in mode else step
                if "bf16" in mode:
                    run = with_autocast(run, device)
                torch.cuda.reset_peak_memory_stats(device)
                try:
                    if "graph" in mode:
                        with torch.autocast(
                            "cuda", torch.bfloat16, cache_enabled=False
                        ):
                            run = captured(step)
                    taken = seconds_per_call(run, device, calls)
                except RuntimeError as error:
                    rows.append(_failed(name, n, mode, error))
                    continue
                ceiling = top[
                    "matmul_bf16_tflops" if "bf16" in mode else "matmul_float32_tflops"
                ]
                rows.append(
                    {
                        "step": name,
                        "electrodes": n,
                        "mode": mode,
                        "windows_per_s": batch / taken,
                        "tflops": work / taken / 1e12,
                        "share_of_matmul": work / taken / 1e12 / ceiling,
                        "peak_mb": torch.cuda.max_memory_allocated(device) / 2**20,
                    }
                )
    return rows


def _failed(name, n, mode, error) -> dict:
    reason = str(error).splitlines()[0]
    return {"step": name, "electrodes": n, "mode": mode, "failed": reason}


def main(arguments=None) -> dict:
    """Measure and write ``speed_gpu.json``; without CUDA say that there is none."""
    parser = argparse.ArgumentParser(prog="benchmarks.speed.gpu")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        sys.stdout.write(f"{NO_CUDA}\n")
        return {"measured": False, "why": NO_CUDA}
    device = torch.device("cuda")
    gap = difference(device)
    result = {
        "measured": True,
        "gpu": torch.cuda.get_device_name(device),
        "machine": machine(),
        "ceilings": ceilings(device),
        "cpu_gpu_difference": gap,
        "equal_to_1e-4": gap < 1e-4,
        "loader_windows_per_s": loading(options.batch, 64, device),
        "rows": table(device, batch=options.batch),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "speed_gpu.json").write_text(json.dumps(result, indent=1), "utf-8")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return result


if __name__ == "__main__":
    main()
