"""Accuracy against the number of electrodes, and heads that show what was selected."""

from __future__ import annotations

from itertools import product

import numpy as np

from benchmarks.figures import COLOURS, MARKERS
from benchmarks.tables import bootstrap_interval
from benchmarks.which_electrodes.choice import PRESETS, RANDOM, SIZES, STRATEGIES
from benchmarks.which_electrodes.report import by_person, selected
from benchmarks.which_electrodes.study import DECODERS

TITLES = {
    "scratch": "student trained from scratch",
    "TS+LR re-centred": "tangent space + LR, re-centred",
}
NAMED = 3  # folds in which an electrode was chosen, for its name to be written


def plot_accuracy(ax, found, decoder):
    """Draw accuracy against k, 95 % over people, for one decoder."""
    curves = {name: dict.fromkeys(SIZES, name) for name in STRATEGIES}
    curves |= {RANDOM: dict.fromkeys(SIZES, RANDOM)}
    curves["named, with the motor strip"] = {k: PRESETS[k][0] for k in SIZES}
    curves["named, at the rim (4) and a headband (8)"] = {
        k: PRESETS[k][1] for k in SIZES if PRESETS[k][1:]
    }
    looks = list(product(("-", "--"), COLOURS[:3]))
    looks += [(":", "0.5"), ("-", "black"), (":", "black")]
    for i, (label, names) in enumerate(curves.items()):
        people = [
            100 * np.array([*found[decoder, k][n].values()]) for k, n in names.items()
        ]
        means = np.array([values.mean() for values in people])
        band = np.array([bootstrap_interval(values) for values in people]).T
        beside = np.array(list(names)) * 2 ** (0.03 * (i - (len(curves) - 1) / 2))
        line, colour = looks[i]
        ax.errorbar(
            beside,
            means,
            yerr=np.maximum(0, [means - band[0], band[1] - means]),
            fmt=MARKERS[i % len(MARKERS)] + line,
            color=colour,
            label=label,
            markersize=4,
            linewidth=1.2,
            elinewidth=0.6,
        )
    ax.set_xscale("log", base=2)
    ax.set_xticks(SIZES, [str(k) for k in SIZES])
    ax.minorticks_off()
    ax.axhline(50, color="0.6", linestyle=":", linewidth=1)
    ax.set(xlabel="electrodes", title=TITLES.get(decoder, decoder))
    ax.spines[["top", "right"]].set_visible(False)


def plot_selected(ax, share, positions):
    """Draw on a head in which share of the folds each electrode was selected.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    share : dict of str to float
        Electrodes that were selected at all.
    positions : dict of str to (float, float)
        All electrodes, projected.
    """
    from braindecode_gcmae.viz import draw_head

    draw_head(ax)
    ax.scatter(*np.array(list(positions.values())).T, s=3, color="0.8", linewidths=0)
    xy = np.array([positions[name] for name in share])
    values = list(share.values())
    dots = ax.scatter(
        *xy.T, s=45, c=values, cmap="viridis_r", vmin=0, vmax=1, zorder=3, linewidths=0
    )
    return dots


def often(count):
    """Names of the electrodes chosen in most folds, in lines below a head."""
    names = [name for name, n in count.most_common() if n >= NAMED]
    lines = [" ".join(names[i : i + 5]) for i in range(0, len(names), 5)]
    return "\n".join(lines) or "none"


def figure(rows, path):
    """Draw accuracy against k, and what was selected, of one setting."""
    from matplotlib.figure import Figure

    from braindecode_gcmae.montage import electrode_positions
    from braindecode_gcmae.viz import project_positions

    found, (counts, n_folds) = by_person(rows), selected(rows)
    names = sorted({name for row in rows for name in row["electrodes"].split()})
    projected = project_positions(electrode_positions(names))
    positions = dict(zip(names, projected, strict=True))
    fig = Figure(figsize=(11, 13), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(4.5, 8.5))
    panels = top.subplots(1, len(DECODERS), sharey=True)
    for ax, decoder in zip(panels, DECODERS, strict=True):
        plot_accuracy(ax, found, decoder)
    panels[0].set_ylabel("accuracy (%), unseen people, 95 % CI over people", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    top.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8)
    heads = bottom.subplots(len(SIZES), len(STRATEGIES))
    for (row, k), (column, strategy) in product(
        enumerate(SIZES), enumerate(STRATEGIES)
    ):
        ax = heads[row, column]
        count = counts[strategy, k]
        share = {name: count[name] / n_folds for name in count}
        dots = plot_selected(ax, share, positions)
        ax.set_title(f"{strategy}, {k}", fontsize=8)
        ax.set_xlabel(often(count), fontsize=6.5, labelpad=1)
    label = f"share of {n_folds} folds that selected the electrode"
    bottom.colorbar(dots, ax=heads, location="bottom", shrink=0.4, label=label)
    bottom.supxlabel(
        "greedy (mean coverage) and farthest (worst coverage): how electrodes are "
        "chosen; occlusion, topology, uniform: by what they are weighted.\n"
        f"Below each head: electrodes chosen in at least {NAMED} of {n_folds} folds.",
        fontsize=8,
    )
    fig.savefig(path, dpi=130)
