"""A device's work: when it is done, what it moves, and who waits for it."""

import gc
import math
import re
import statistics
import time
import traceback
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .measure import ROUNDS, calls_per_round, interleave

OURS = {"benchmarks", "braindecode_gcmae", "tests"}


# ------------------------------------------------------------------------- time
def synchronise(device) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def finished(function, device):
    """The function; what it began is done when it returns."""

    def run():
        result = function()
        synchronise(device)
        return result

    return run


def seconds_per_call(
    function, device, calls: int | None = None, rounds: int = 5, seconds: float = 0.15
) -> float:
    """Median time of a call, the device's queue drained around each round."""
    for _ in range(3):
        function()
    synchronise(device)
    calls = calls or calls_per_round(finished(function, device), seconds)
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronise(device)
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def in_turns(
    functions: dict, *, device, seconds: float = 0.05, rounds: int = ROUNDS
) -> dict:
    """As :func:`interleave`, the device's queue drained around each round."""
    counts = {
        name: calls_per_round(finished(function, device), seconds)
        for name, function in functions.items()
    }

    def whole_round(name):
        def run():
            for _ in range(counts[name]):
                functions[name]()

        return finished(run, device)

    times = interleave(
        {name: whole_round(name) for name in functions}, seconds=0.0, rounds=rounds
    )
    return {
        name: taken / counts[name.removesuffix(", least")]
        for name, taken in times.items()
    }


def repeated(functions: dict, *, device, seconds: float = 3.0, **_) -> dict:
    """Median of the calls that fill ``seconds``: for what may take many of them."""
    medians = {}
    for name, function in functions.items():
        run, times = finished(function, device), []
        while not times or sum(times) < seconds:
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        medians[name] = statistics.median(times)
    return medians


def ceilings(device, size: int = 8192, calls: int = 10) -> dict:
    """Matmul (TFLOP/s, float32 and bf16) and copy (GB/s) that the device reaches."""
    found = {}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.randn(size, size, device=device, dtype=dtype)
        taken = seconds_per_call(lambda a=a: a @ a, device, calls)
        found[f"matmul_{name}_tflops"] = 2 * size**3 / taken / 1e12
    a = torch.randn(4 * size * size, device=device)
    b = torch.empty_like(a)
    taken = seconds_per_call(lambda: b.copy_(a), device, calls)
    found["copy_gb_per_s"] = 2 * a.numel() * a.element_size() / taken / 1e9
    return found


# ----------------------------------------------------------------------- memory
class Traffic(TorchDispatchMode):
    """Counts the bytes of the tensors that operations read and write.

    Views cost nothing, and neither do dimensions that a tensor was expanded along.
    What an operation reads twice, or finds in a cache, is counted once.
    """

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.bytes += moved(func, args, kwargs or {}, result)
        return result


_OVERWRITTEN = ("copy_", "fill_", "zero_", "bernoulli_", "normal_", "uniform_")


def moved(func, args, kwargs, result) -> int:
    """Bytes that one operation reads and writes."""
    name = func._schema.name.split("::")[-1]
    if func.is_view or name.startswith(("_unsafe_view", "empty", "new_empty")):
        return 0
    read, written = (args, kwargs), result
    if name.endswith("_like") or name.startswith("new_"):
        read = ()  # only the shape
    elif name in _OVERWRITTEN:
        read = (args[1:], kwargs)
    if not func._schema.returns:
        written = args[0] if args else ()  # lists of tensors, changed in place
    return sum(size_of(t) for t in tree_leaves(read) + tree_leaves(written))


def size_of(value) -> int:
    """Bytes that a tensor holds; expanded dimensions hold nothing new."""
    if not isinstance(value, torch.Tensor):
        return 0
    if value.layout is not torch.strided or not value.numel():
        return 0
    places = zip(value.shape, value.stride(), strict=True)
    return value.element_size() * math.prod(n for n, stride in places if stride)


def forget_peak(device) -> None:
    """Let the peak start again from what is held now."""
    if torch.device(device).type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_mb(device) -> float | None:
    """MB of the device's memory that were in use at most; None on the CPU."""
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device) / 2**20


def extra_mb(function, device) -> float | None:
    """MB of the device's memory by which a call raises what is in use."""
    function()
    synchronise(device)
    forget_peak(device)
    before = peak_mb(device)
    finished(function, device)()
    return None if before is None else peak_mb(device) - before


# ------------------------------------------------------------------------ steps
def reason(error: BaseException) -> str:
    """What an error says and where in our code it came up, without folders."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [(Path(frame.filename), frame.lineno) for frame in frames]
    ours = [
        f" ({path.name}:{line})"
        for path, line in places
        if OURS & set(path.parts) and "site-packages" not in path.parts
    ]
    said = (str(error).strip().splitlines() or [""])[0]
    said = f"{type(error).__name__}: {without_folders(said)}"
    return said + (ours[-1] if ours else "")


def without_folders(text: str) -> str:
    """The start of a text, of paths only the names."""
    return re.sub(r"(?<![\w/])/\S*/", "", text)[:200]


def never_waits(run, device) -> dict:
    """Whether a step reads nothing back to the host, and if it does, where."""
    for _ in range(2):
        run()
    synchronise(device)
    if torch.device(device).type != "cuda":
        return {"never_waits": None, "why_it_waits": None}
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
        why = None
    except RuntimeError as error:
        why = reason(error)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return {"never_waits": why is None, "why_it_waits": why}


def learns(run, optimizer) -> bool:
    """Whether a step has a finite loss and moves finite parameters."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().clone() for p in parameters]
    loss = run()
    finite = all(bool(torch.isfinite(value).all()) for value in [loss, *parameters])
    return finite and any(
        not torch.equal(p, old) for p, old in zip(parameters, before, strict=True)
    )


def with_autocast(step, device, dtype=torch.bfloat16):
    """The same step under autocast; losses stay in float32 by themselves."""

    def run():
        with torch.autocast(torch.device(device).type, dtype):
            return step()

    return run


def compiled(step, **options):
    """The same step, the layers of its encoders compiled.

    Layers, not whole encoders: those that are alike are compiled once.
    """
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.config.cache_size_limit = 64  # each shape is compiled
    for name in ("joint", "teacher", "student"):
        for module in getattr(step, name, torch.nn.Module()).modules():
            if type(module).__name__ == "_AttentionBlock":
                module.compile(**{"dynamic": False, **options})
    return step


def capturable(optimizer) -> None:
    """Let an optimiser's step be captured, also if it has made steps already."""
    for group in optimizer.param_groups:
        group["capturable"] = True
    for parameter, state in optimizer.state.items():
        state["step"] = state["step"].to(parameter.device)


def _warmed_up(run) -> None:
    """Three runs on a stream beside, as a capture wants it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)


def replayed(run):
    """A function of no arguments as one CUDA graph."""
    _warmed_up(run)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay():
        graph.replay()
        return result

    return replay


def captured(run, optimizer):
    """The step as one CUDA graph: fixed shapes, gradients in the graph's memory.

    Autocast, if any, is entered inside the step, so that its copies of the weights
    are made anew in each replay.
    """
    capturable(optimizer)
    _warmed_up(run)
    optimizer.zero_grad(set_to_none=True)
    gc.collect()  # of an earlier step's graph nothing may be left
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    first = None
    try:
        with torch.cuda.graph(graph):
            try:
                loss = run().detach()
            except Exception as error:
                first = error
                raise
    except Exception as last:  # that the capture is invalid, and no more
        torch.cuda.set_stream(stream)
        raise (first or last) from None

    def replay():
        graph.replay()
        return loss

    return replay
