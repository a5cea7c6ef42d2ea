"""Points gained over scratch, from the rows alone."""

from __future__ import annotations

import numpy as np

from benchmarks.figures import COLOURS, MARKERS
from benchmarks.transfer.report import by_start, contrasts
from benchmarks.transfer.settings import REFERENCE


def figure(rows, path):
    """Paired differences with intervals: a panel a start, a row a setting."""
    from matplotlib.figure import Figure

    panels = by_start(contrasts(rows))
    names = list(dict.fromkeys(c.setting.name for c in sum(panels.values(), [])))
    counts = sorted({int(row["n_labelled"]) for row in rows})
    size = 2.0 + 2.6 * len(panels), 1.4 + 0.42 * len(names)
    fig = Figure(figsize=size, layout="constrained")
    axes = fig.subplots(1, len(panels), squeeze=False, sharex=True, sharey=True)
    for (start, compared), ax in zip(panels.items(), axes[0], strict=True):
        for i, n in enumerate(counts):
            own = [c for c in compared if c.n_labelled == n]
            arms = [(c.difference - c.low, c.high - c.difference) for c in own]
            shift = 0.24 * (i - (len(counts) - 1) / 2)
            ax.errorbar(
                [c.difference for c in own],
                [names.index(c.setting.name) + shift for c in own],
                xerr=np.abs(arms).T,
                fmt=MARKERS[i % 8],
                color=COLOURS[i % 8],
                capsize=2,
                label=f"{n} labelled people",
            )
        ax.axvline(0, color="0.6", linestyle=":", linewidth=1)
        ax.set_title(start, fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_yticks(range(len(names)), names, fontsize=8)
    axes[0, 0].invert_yaxis()
    label = f"points gained over {REFERENCE}, unseen people, 95 % CI over people"
    fig.supxlabel(label, fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8)
    fig.savefig(path, dpi=130)
