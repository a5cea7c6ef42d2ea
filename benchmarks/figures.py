"""Figures from the stored CSVs alone.

``python -m benchmarks.figures results/main.csv results/laptop.csv --out results``

A method that stands under the same condition in several of them is that of the file
with most rows of it, of equals the last.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.cells import read_rows
from benchmarks.protocol import TASKS
from benchmarks.tables import conditions, latest_code, one_device, one_setting, whole

# Okabe and Ito's palette and a marker each: readable without colour
COLOURS = "#0072B2 #D55E00 #009E73 #CC79A7 #E69F00 #56B4E9 #000000 #999999".split()
MARKERS = "osD^vP*X"
# Whose curves are drawn against the number of electrodes, ours first.
DENSITY = (
    *("scratch", "pretrained", "distilled", "both", "teacher"),
    *("TS+LR re-centred", "ShallowFBCSPNet", "interpolated ShallowFBCSPNet"),
)
NAMES = {
    "scratch": "student, scratch",
    "pretrained": "student, pretrained",
    "distilled": "student, distilled",
    "both": "student, both",
    "teacher": "teacher, 64 electrodes",
    "TS+LR re-centred": "tangent space + LR,\nre-centred",
    "interpolated ShallowFBCSPNet": "ShallowFBCSPNet,\n64 channels splined",
}
# Without a line: the teacher's electrodes are the same everywhere, and of the others
# each point is one run.
NO_LINE = {"teacher", "ShallowFBCSPNet", "interpolated ShallowFBCSPNet"}
WHERE = {
    "motor-4": "motor",
    "motor-8": "motor",
    "both-16": "motor and\nheadband",
    "wide-32": "whole head",
    "all-64": "all",
}
OURS = {"scratch", "pretrained", "distilled", "both", "teacher", "teacher scratch"}


def most_of_each(files):
    """Rows of several CSVs, each method under each condition from the one with most.

    Of equally many the last counts.
    """
    found = {}
    for file in files:
        rows = one_device(latest_code(read_rows(file)))
        for place, methods in conditions(rows).items():
            known = found.setdefault(place, {})
            more = {n: r for n, r in methods.items() if len(r) >= len(known.get(n, ()))}
            known.update(more)
    return [
        row for methods in found.values() for own in methods.values() for row in own
    ]


def plot_methods(methods, metric="accuracy", *, ax=None, title=""):
    """Draw each method's mean and 95 % interval over people, best on top.

    Parameters
    ----------
    methods : dict
        Name to CSV rows of one condition.

    Returns
    -------
    matplotlib.axes.Axes
    """
    import matplotlib.pyplot as plt

    table = whole(methods, metric)
    order = sorted(table, key=lambda name: table[name]["mean"])
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 0.35 * len(order) + 1.2))
    for y, name in enumerate(order):
        s, ours = table[name], name in OURS
        band = [[s["mean"] - s["low"]], [s["high"] - s["mean"]]]
        ax.errorbar(
            100 * s["mean"],
            y,
            xerr=[[max(0.0, 100 * side[0])] for side in band],
            fmt="o" if ours else "s",
            color=COLOURS[0] if ours else COLOURS[1],
            capsize=3,
        )
    ax.axvline(50, color="0.6", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(order)), order)
    ax.set_xlabel(f"{metric} (%), unseen people, 95 % CI over people")
    ax.set_title(title, fontsize=10)
    return ax


def density_curves(rows, *, task="left-right", regime="few", order=None):
    """Collect accuracy against the number of electrodes.

    Parameters
    ----------
    order : sequence of str, optional
        Electrode sets on the curve; default all in the rows.

    Returns
    -------
    dict
        Method to a list of (n electrodes, summary), ascending.
    """
    out = {}
    for (found, electrodes, labels), methods in conditions(one_setting(rows)).items():
        if (found, labels) != (task, regime) or (order and electrodes not in order):
            continue
        for name, summary in whole(methods, TASKS[task].metric).items():
            point = int(methods[name][0]["n_electrodes"]), summary
            out.setdefault(name, []).append(point)
    return {name: sorted(points, key=lambda p: p[0]) for name, points in out.items()}


def _beside(name, n, curves):
    """By how much a method's point at n electrodes is shifted: they stand side by side.

    All of them lie within an eighth of an octave of their number.
    """
    there = [other for other, points in curves.items() if n in dict(points)]
    return 2 ** (0.03 * (there.index(name) - (len(there) - 1) / 2))


def plot_density(curves, *, ax=None):
    """Draw accuracy against the number of electrodes, bars of 95 % over people.

    Methods stand beside each other at each number: bands would cover one another.
    """
    import matplotlib.pyplot as plt

    if ax is None:
        _, ax = plt.subplots(figsize=(8.5, 4.4), layout="constrained")
    for i, (name, points) in enumerate(curves.items()):
        mean, low, high = (
            [100 * s[side] for _, s in points] for side in ("mean", "low", "high")
        )
        below = [m - side for m, side in zip(mean, low, strict=True)]
        above = [side - m for m, side in zip(mean, high, strict=True)]
        ax.errorbar(
            [n * _beside(name, n, curves) for n, _ in points],
            mean,
            yerr=[below, above],
            color=COLOURS[i % 8],
            marker=MARKERS[i % 8],
            linestyle="" if name in NO_LINE else "-" if name in OURS else "--",
            linewidth=1.4,
            elinewidth=0.7,
            label=NAMES.get(name, name),
        )
    ax.set_xscale("log", base=2)
    ticks = sorted({count for points in curves.values() for count, _ in points})
    where = dict(zip((4, 8, 16, 32, 64), WHERE.values(), strict=True))
    ax.set_xticks(ticks, [f"{tick}\n{where.get(tick, '')}" for tick in ticks])
    ax.minorticks_off()
    ax.axhline(50, color="0.6", linestyle=":", linewidth=1)
    ax.annotate(
        "chance",
        (1, 50),
        (-2, 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="0.4",
    )
    ax.set_xlabel("electrodes of the student and of the peers (the teacher has all 64)")
    ax.set_ylabel("accuracy (%), unseen people, 95 % CI over people")
    ax.spines[["top", "right"]].set_visible(False)
    ax.figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    return ax


def main(argv=None):
    """Write one figure per condition, and the density curve where there is one."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.figures")
    out.add_argument("csv", nargs="+")
    out.add_argument("--out", default=".")
    args = out.parse_args(argv)
    import matplotlib

    matplotlib.use("Agg")
    rows, folder = most_of_each(args.csv), Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(args.csv[-1]).stem
    for (task, electrodes, regime), methods in conditions(one_setting(rows)).items():
        title = f"{task}, {electrodes}, {regime} labels"
        ax = plot_methods(methods, TASKS[task].metric, title=title)
        name = f"{stem}-{task}-{electrodes}-{regime}.png"
        ax.figure.savefig(folder / name, dpi=150, bbox_inches="tight")
    # the headband is another eight, not a point of the motor curve
    curves = density_curves(rows, order=tuple(WHERE))
    curves = {name: curves[name] for name in DENSITY if name in curves}
    if any(len(points) > 1 for points in curves.values()):
        ax = plot_density(curves)
        ax.figure.savefig(folder / f"{stem}-density.png", dpi=150, bbox_inches="tight")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
