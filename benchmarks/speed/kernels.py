"""Rows of the kernels: topology distillation, Welch spectra, Chebyshev layers."""

import numpy as np
import torch

from braindecode_gcmae.encoders import ChebyshevConvolution
from braindecode_gcmae.features import welch_psd
from braindecode_gcmae.graph import scaled_laplacian

from .measure import interleave, milliseconds, peak_memory, row
from .naive import distillation_problem, step

TOPOLOGY = ((32, 10), (64, 20))  # electrodes, times faster
CHEBYSHEV = [
    (n, order, goal) for n, goal in ((19, 7), (64, 40), (128, 60)) for order in (3, 10)
]


def topology_distillation() -> list[dict]:
    """Against the formulation that builds (B, n, n, D) products."""
    return [topology_row(n, goal) for n, goal in TOPOLOGY]


def process_memory(kind: str, n: int) -> float:
    """MB by which a step raises the resident peak of a process of its own."""
    return peak_memory("benchmarks.speed.naive", kind, str(n))


def topology_row(
    n: int,
    goal: int,
    device="cpu",
    turns=interleave,
    memory=process_memory,
    batch: int = 64,
) -> dict:
    problem = distillation_problem(n, device=device, batch=batch)
    times = turns(
        {
            "ours": lambda: step("ours", problem),
            "reference": lambda: step("reference", problem),
        }
    )
    ratio = times["reference"] / times["ours"]
    peak = {kind: round(memory(kind, n), 1) for kind in ("ours", "reference")}
    return row(
        f"topology distillation loss, forward + backward, n={n}{_more(batch)}",
        "(B, n, n, D) products",
        f">= {goal}x faster",
        f"{ratio:.1f}x, peak memory {peak['ours']:.0f} v. {peak['reference']:.0f} MB",
        ratio >= goal,
        ratio=ratio,
        milliseconds=milliseconds(times),
        peak_mb=peak,
        cube_mb=round(batch * n * n * 128 * 4 / 2**20),
    )


def _more(batch: int) -> str:
    return "" if batch == 64 else f", B={batch:,}"


def welch() -> list[dict]:
    """Against MNE, the better of one and two jobs."""
    from mne.time_frequency import psd_array_welch

    x = 20 * np.random.default_rng(0).normal(size=(256, 64, 640)) + 3
    single = torch.as_tensor(x, dtype=torch.float32)
    segments = {"n_per_seg": 160, "n_overlap": 80}

    def reference(n_jobs):
        return psd_array_welch(
            x,
            160.0,
            n_fft=160,
            **segments,
            window="hann",
            n_jobs=n_jobs,
            verbose=False,
        )

    times = interleave(
        {
            "ours": lambda: welch_psd(single, 160.0, **segments),
            "mne, n_jobs=1": lambda: reference(1),
            "mne, n_jobs=2": lambda: reference(2),
        }
    )
    best = min(times["mne, n_jobs=1"], times["mne, n_jobs=2"])
    ratio = best / times["ours"]
    exact = reference(1)[0]
    error = np.abs(welch_psd(single, 160.0, **segments)[1].numpy() - exact).max()
    error = float(error / exact.max())
    return [
        row(
            "Welch PSD of (256, 64, 640) windows, float32",
            "mne psd_array_welch, better of n_jobs 1 and 2",
            ">= 15x faster, error < 1e-6",
            f"{ratio:.1f}x, error {error:.1e}",
            ratio >= 15 and error < 1e-6,
            ratio=ratio,
            error=error,
            milliseconds=milliseconds(times),
        )
    ]


def chebyshev() -> list[dict]:
    """Against torch-geometric's ChebConv on the batched graph."""
    return [chebyshev_row(*sizes) for sizes in CHEBYSHEV]


def chebyshev_row(
    n: int,
    order: int,
    goal: int,
    windows: int = 64,
    dim: int = 64,
    device="cpu",
    turns=interleave,
) -> dict:
    from torch_geometric.nn import ChebConv

    generator = torch.Generator().manual_seed(0)
    adjacency = torch.rand(n, n, generator=generator)
    adjacency = (adjacency + adjacency.T).fill_diagonal_(0).to(device)
    x = torch.randn(windows, n, dim, generator=generator).to(device).requires_grad_()
    ours = ChebyshevConvolution(dim, dim, order).to(device)
    theirs = ChebConv(dim, dim, order, normalization="sym").to(device)
    source, target = adjacency.nonzero().T
    shift = n * torch.arange(windows, device=device)[:, None]
    edges = torch.stack([(source + shift).flatten(), (target + shift).flatten()])
    weight = adjacency[source, target].repeat(windows)
    graphs = torch.arange(windows, device=device).repeat_interleave(n)
    largest = torch.full((windows,), 2.0, device=device)
    own = adjacency.expand(windows, n, n).contiguous()

    def dense(adjacency):
        ours(x, scaled_laplacian(adjacency)).sum().backward()

    def sparse():
        flat = x.reshape(-1, dim)
        out = theirs(flat, edges, weight, batch=graphs, lambda_max=largest)
        out.sum().backward()

    with torch.no_grad():
        for k, linear in enumerate(theirs.lins):
            linear.weight.copy_(ours.weight[k].T)
        flat = theirs(
            x.reshape(-1, dim), edges, weight, batch=graphs, lambda_max=largest
        )
        gap = (ours(x, scaled_laplacian(adjacency)) - flat.view_as(x)).abs().max()
    times = turns(
        {
            "shared adjacency": lambda: dense(adjacency),
            "adjacency per window": lambda: dense(own),
            "ChebConv": sparse,
        }
    )
    ratio = times["ChebConv"] / times["shared adjacency"]
    each = times["ChebConv"] / times["adjacency per window"]
    return row(
        f"Chebyshev layer, forward + backward, B={windows}, N={n}, K={order}",
        "torch-geometric ChebConv, batched graph",
        f">= {goal}x faster, shared adjacency",
        f"{ratio:.0f}x shared, {each:.0f}x per window",
        ratio >= goal,
        ratio=ratio,
        ratio_per_window=each,
        largest_difference=float(gap),
        milliseconds=milliseconds(times),
    )
