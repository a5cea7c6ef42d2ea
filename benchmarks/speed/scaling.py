"""Cost against electrodes, windows and queue, with fitted exponents."""

import math

import torch

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.losses import info_nce
from braindecode_gcmae.montage import standard_positions

from .measure import interleave, row
from .steps import SIGNAL


def exponent(sizes, times) -> float:
    """Slope of log time against log size, least squares."""
    x, y = [math.log(s) for s in sizes], [math.log(t) for t in times]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return covariance / sum((a - mean_x) ** 2 for a in x)


def _line(what: str, goal: str, limit: float, functions: dict) -> dict:
    times = interleave(functions)
    sizes = list(functions)
    # The upper half of the sizes: small ones cost their number of operations.
    upper = sizes[len(sizes) // 2 - 1 :]
    slope = exponent(upper, [times[s] for s in upper])
    table = ", ".join(f"{s}: {1e3 * times[s]:.2f} ms" for s in sizes)
    return row(
        what,
        "-",
        goal,
        f"exponent {slope:.2f} ({table})",
        slope <= limit,
        exponent=slope,
        milliseconds={str(s): round(1e3 * times[s], 3) for s in sizes},
    )


def scaling() -> list[dict]:
    """Forward passes of the student; the contrast for the queue."""

    def forward(names, batch):
        model = GCMAEStudent(n_outputs=2, ch_names=names, **SIGNAL).eval()
        x = 10 * torch.randn(batch, len(names), SIGNAL["n_times"])

        def run():
            with torch.inference_mode():
                model(x)

        return run

    def contrast(size):
        keys = torch.nn.functional.normalize(torch.randn(size, 128), dim=1)
        query = torch.randn(64, 128, requires_grad=True)
        positives = torch.randn(64, 4, 128)
        return lambda: info_nce(query, positives, keys, temperature=0.07).backward()

    names = list(standard_positions())
    return [
        _line(
            "student forward, 4 windows, against electrodes",
            "exponent <= 2",
            2.0,
            {n: forward(names[:n], 4) for n in (8, 16, 32, 64, 128, 256)},
        ),
        _line(
            "student forward, 16 electrodes, against windows",
            "exponent <= 1",
            1.1,
            {b: forward(names[:16], b) for b in (8, 32, 128, 512)},
        ),
        _line(
            "contrast of 64 queries, forward + backward, against the queue",
            "exponent <= 1",
            1.1,
            {q: contrast(q) for q in (1024, 4096, 16384, 65536)},
        ),
    ]
