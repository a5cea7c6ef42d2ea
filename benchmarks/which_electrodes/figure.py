"""Accuracy against the number of electrodes, and heads that show what was selected."""

from __future__ import annotations

from itertools import product

import numpy as np

from benchmarks.figures import COLOURS, MARKERS
from benchmarks.tables import bootstrap_interval
from benchmarks.which_electrodes.choice import PRESETS, RANDOM, SIZES, STRATEGIES
from benchmarks.which_electrodes.report import by_person, selected
from benchmarks.which_electrodes.study import DECODERS


def plot_accuracy(ax, found, decoder):
    """Draw accuracy against k, 95 % over people, for one decoder."""
    curves = {name: dict.fromkeys(SIZES, name) for name in STRATEGIES}
    curves |= {RANDOM: dict.fromkeys(SIZES, RANDOM)}
    curves["motor-4, motor-8, both-16"] = {k: PRESETS[k][0] for k in SIZES}
    curves["rim-4, headband-8"] = {k: PRESETS[k][1] for k in SIZES if PRESETS[k][1:]}
    looks = list(product(("-", "--"), COLOURS[:3]))
    looks += [(":", "0.5"), ("-", "black"), (":", "black")]
    for i, (label, names) in enumerate(curves.items()):
        people = [
            100 * np.array([*found[decoder, k][n].values()]) for k, n in names.items()
        ]
        means = np.array([values.mean() for values in people])
        band = np.array([bootstrap_interval(values) for values in people]).T
        beside = np.array(list(names)) * 2 ** (0.035 * (i - len(curves) / 2))
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
    ax.set(xlabel="electrodes", title=decoder)
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
    for name, (x, y) in zip(share, xy, strict=True):
        if share[name] >= 0.5:
            ax.annotate(
                name,
                (x, y),
                (0, 4),
                textcoords="offset points",
                ha="center",
                fontsize=5,
                zorder=4,
            )
    return dots


def figure(rows, path):
    """Draw accuracy against k, and what was selected, of one setting."""
    from matplotlib.figure import Figure

    from braindecode_gcmae.montage import electrode_positions
    from braindecode_gcmae.viz import project_positions

    found, (counts, n_folds) = by_person(rows), selected(rows)
    names = sorted({name for row in rows for name in row["electrodes"].split()})
    projected = project_positions(electrode_positions(names))
    positions = dict(zip(names, projected, strict=True))
    fig = Figure(figsize=(11, 10.5), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=(4.5, 6))
    panels = top.subplots(1, len(DECODERS), sharey=True)
    for ax, decoder in zip(panels, DECODERS, strict=True):
        plot_accuracy(ax, found, decoder)
    panels[0].set_ylabel("right on unseen people (%)")
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
    label = f"share of {n_folds} fold(s) that selected the electrode"
    bottom.colorbar(dots, ax=heads, location="bottom", shrink=0.4, label=label)
    fig.savefig(path, dpi=130)
