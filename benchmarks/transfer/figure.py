"""Points gained over scratch, from the rows alone."""

from __future__ import annotations

import numpy as np

from benchmarks.figures import COLOURS, MARKERS
from benchmarks.transfer.report import by_start, contrasts
from benchmarks.transfer.settings import REFERENCE

STARTS = {
    "pretrained": "pretrained weights",
    "restandardised": "the same, statistics reset",
    "classifier": "shipped classifier\n(simulated only)",
}
DATA = {"left-right": "left v. right", "rest-imagery": "rest v. imagery"}
CAPS = {
    "motor-8": "motor, 8",
    "headband-8": "headband, 8",
    "both-16": "motor + headband, 16",
    "10-20-19": "10-20 system, 19",
}
EVERYBODY = 20


def called(contrast):
    """What a row is called: data, cap, and how many people if not all of them."""
    setting = contrast.setting
    name = (
        f"{DATA.get(setting.data, setting.data)}: {CAPS.get(setting.cap, setting.cap)}"
    )
    if contrast.people != EVERYBODY:
        name += f"\n({contrast.people} people)"
    return name


def figure(rows, path):
    """Paired differences with intervals: a panel a start, a row a setting.

    A start that was tried in some settings alone has a panel of these.
    """
    from matplotlib.figure import Figure

    panels = by_start(contrasts(rows))
    names = {k: list(dict.fromkeys(map(called, own))) for k, own in panels.items()}
    most = max(map(len, names.values()))
    counts = sorted({int(row["n_labelled"]) for row in rows})
    size = 2.6 + 2.6 * len(panels), 1.6 + 0.46 * most
    fig = Figure(figsize=size, layout="constrained")
    grid = fig.add_gridspec(most, len(panels))
    first = None
    for column, (start, compared) in enumerate(panels.items()):
        own_names = names[start]
        place = grid[most - len(own_names) :, column]
        ax = fig.add_subplot(place, sharex=first)
        for i, n in enumerate(counts):
            own = [c for c in compared if c.n_labelled == n]
            arms = [(c.difference - c.low, c.high - c.difference) for c in own]
            shift = 0.24 * (i - (len(counts) - 1) / 2)
            ax.errorbar(
                [c.difference for c in own],
                [own_names.index(called(c)) + shift for c in own],
                xerr=np.abs(arms).T,
                fmt=MARKERS[i % 8],
                color=COLOURS[i % 8],
                capsize=2,
                label=f"{n} labelled people",
            )
        ax.axvline(0, color="0.6", linestyle=":", linewidth=1)
        ax.set_title(STARTS.get(start, start), fontsize=9)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_yticks(range(len(own_names)), own_names, fontsize=8)
        ax.set_ylim(len(own_names) - 0.5, -0.5)
        if first is not None and own_names == names[next(iter(panels))]:
            ax.tick_params(labelleft=False)
        first = first or ax
    label = f"points gained over {REFERENCE}, unseen people, 95 % CI over people"
    fig.supxlabel(label, fontsize=9)
    handles, labels = first.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=2, fontsize=8)
    fig.savefig(path, dpi=130)
