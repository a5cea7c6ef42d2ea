"""Curves: score against the number of electrodes, loss terms against epochs."""

import numpy as np

from .style import MARKERS, PALETTE, new_axes, tidy

__all__ = ["plot_density_curve", "plot_training_curves"]

_BANDS = 3  # methods: with more, bands would hide each other and become bars
_NOT_TERMS = {"epoch", "dur", "batches"}
_NAMES = {
    "rec": "reconstruction",
    "contrast": "contrast",
    "kd": "soft labels (KD)",
    "gtd": "graph topology (GTD)",
    "lsp": "local structure (LSP)",
    "gcrd": "graph contrast (G-CRD)",
    "distil": "distillation, weighted sum",
    "acc": "accuracy",
    "lr": "learning rate",
    "probe_knn": "probe accuracy\n(k-NN, held-out people)",
    "probe_linear": "probe accuracy\n(linear, held-out people)",
    "embedding_std": "embedding SD",
    "embedding_rank": "effective rank (dimensions)",
    "queue_uniformity": "queue uniformity\n(0 = collapsed)",
}


def plot_density_curve(
    table,
    *,
    metric: str = "accuracy",
    unit: str = "%",
    chance: float | None = 0.5,
    interval: str = "95 % CI",
    order: list[str] | None = None,
    ax=None,
):
    """Draw each method's score against the number of electrodes.

    Parameters
    ----------
    table : pandas.DataFrame, or what makes one
        Columns ``method``, ``n_electrodes``, ``score`` and, if known, ``low`` and
        ``high``, one row per point.
    metric : str
        What the score is.
    unit : {"%", ""}
        "%" multiplies scores (fractions) by 100.
    chance : float, optional
        Level to mark, as a score; None for none.
    interval : str
        What ``low`` and ``high`` are. Bands for up to three methods; for more, bars,
        side by side.
    order : list of str, optional
        Methods to draw, in the order of their colours. Default: as in the table.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If a column or method is missing, or a method has two rows for one number.
    """
    table, order = _points(table, order)
    scale = 100.0 if unit == "%" else 1.0
    (ax,) = new_axes(ax, 1, 6.8, 4.2)
    banded = {"low", "high"} <= set(table.columns)
    curves = []
    for i, method in enumerate(order):
        rows = table[table["method"] == method].sort_values("n_electrodes")
        n, score = (
            rows["n_electrodes"].to_numpy(float),
            scale * rows["score"].to_numpy(),
        )
        colour = PALETTE[i % len(PALETTE)]
        # Side by side, or the bars of different methods would lie on each other.
        shift = 2 ** (0.07 * (i - (len(order) - 1) / 2)) if len(order) > _BANDS else 1
        if banded:
            low, high = (scale * rows[side].to_numpy() for side in ("low", "high"))
            if len(order) > _BANDS:
                ax.vlines(n * shift, low, high, color=colour, alpha=0.55, linewidth=1.4)
            else:
                ax.fill_between(n, low, high, color=colour, alpha=0.16, linewidth=0)
        (line,) = ax.plot(
            n * shift,
            score,
            color=colour,
            marker=MARKERS[i % len(MARKERS)],
            markersize=6,
            markeredgecolor="white",
            markeredgewidth=0.6,
            linewidth=1.8,
            linestyle="-" if i < len(PALETTE) else "--",
            label=method,
        )
        curves.append((score[0], line))
    ticks = sorted(table["n_electrodes"].unique())
    ax.set_xscale("log", base=2)
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
    if chance is not None:
        ax.axhline(scale * chance, color="0.4", linestyle=":", linewidth=1.2)
        ax.annotate(
            "chance",
            (1, scale * chance),
            xycoords=("axes fraction", "data"),
            xytext=(-2, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="0.4",
        )
    ax.set_xlabel("number of electrodes")
    label = f"{metric} ({unit})" if unit else metric
    ax.set_ylabel(f"{label}, {interval}" if banded else label)
    # In the order of the curves where electrodes are few.
    lines = [line for _, line in sorted(curves, key=lambda c: -c[0])]
    ax.legend(
        handles=lines, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False
    )
    tidy(ax)
    return ax


def _points(table, order):
    """A data frame of the methods wanted, and their order."""
    import pandas as pd

    table = pd.DataFrame(table)
    missing = {"method", "n_electrodes", "score"} - set(table.columns)
    if missing:
        raise ValueError(f"the table has no column {sorted(missing)}")
    methods = list(dict.fromkeys(table["method"]))
    order = methods if order is None else list(order)
    if not order or set(order) - set(methods):
        raise ValueError(
            f"no rows of {sorted(set(order) - set(methods))}; the table's methods are "
            f"{methods}"
        )
    table = table[table["method"].isin(order)]
    twice = table.duplicated(["method", "n_electrodes"])
    if twice.any():
        row = table[twice].iloc[0]
        raise ValueError(
            f"{row['method']!r} has several rows for {row['n_electrodes']} electrodes: "
            "average over people and seeds first"
        )
    return table, order


def plot_training_curves(history, terms: list[str] | None = None, *, axes=None):
    """Draw each loss term and score of a net's history, one panel per term.

    Teacher and student, and training and validation, share the panel of a term. A
    number that a callback records for neither, such as a probe's accuracy, has a panel
    without a legend.

    Parameters
    ----------
    history : skorch net, skorch.History or list of dict
        One row per epoch. A term that some epochs lack has gaps.
    terms : list of str, optional
        Panels, by name without ``train_``, ``valid_``, ``_teacher``, ``_student``
        ("loss", "contrast", "gtd"); default all.
    axes : sequence of matplotlib.axes.Axes, optional
        One per term.

    Returns
    -------
    ndarray of matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If there is no epoch, or a term is not in the history.

    Examples
    --------
    >>> from braindecode_gcmae import plot_training_curves
    >>> history = [{"epoch": 1, "train_loss": 0.7}, {"epoch": 2, "train_loss": 0.6}]
    >>> [ax.get_title() for ax in plot_training_curves(history)]
    ['loss']
    """
    rows = list(getattr(history, "history", history))
    panels = _panels(rows)
    if not panels:
        raise ValueError("the history is empty: fit the net first")
    terms = list(panels) if terms is None else list(terms)
    unknown = [term for term in terms if term not in panels]
    if unknown:
        raise ValueError(f"no term {unknown} in the history; it has {list(panels)}")
    axes = new_axes(axes, len(terms), 3.4, 2.7, columns=3)
    epochs = [row.get("epoch", i + 1) for i, row in enumerate(rows)]
    colours = {"": PALETTE[0], "teacher": PALETTE[0], "student": PALETTE[1]}
    for ax, term in zip(axes, terms, strict=True):
        with_terms = ", with distillation" * (term == "loss" and "distil" in panels)
        for (part, who), key in panels[term].items():
            values = [float(row.get(key, np.nan)) for row in rows]
            few = len(rows) <= 30
            ax.plot(
                epochs,
                values,
                color=PALETTE[2] if part == "valid" and not who else colours[who],
                linestyle="--" if part == "valid" else "-",
                marker=("s" if part == "valid" or who == "student" else "o") * few,
                markersize=3.5,
                linewidth=1.6,
                label=_label(part, who) + with_terms * (part == "train"),
            )
        ax.set_title(_NAMES.get(term, term.replace("_", " ")), fontsize=11)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if any(_label(*line) for line in panels[term]):
            ax.legend(frameon=False, fontsize=8)
        tidy(ax)
    return axes


def _label(part, who) -> str:
    """What a line is of; nothing for a number that is of no part and of no model."""
    part = {"valid": "validation", "train": "" if who else "training"}.get(part, "")
    return " ".join(filter(None, (who, part)))


def _panels(rows) -> dict:
    """Term -> {(part, whose): key}, of the numbers in a history."""
    panels: dict = {}
    for key in dict.fromkeys(key for row in rows for key in row):
        values = [row[key] for row in rows if row.get(key) is not None]
        numeric = all(isinstance(v, int | float | np.number) for v in values)
        if key in _NOT_TERMS or key.startswith("event_") or key.endswith("_best"):
            continue
        if not numeric or not values or any(isinstance(v, bool) for v in values):
            continue
        part, _, term = key.partition("_")
        if part not in ("train", "valid") or not term:
            part, term = "", key
        whose = ""
        for name in ("teacher", "student"):
            if term.endswith(f"_{name}"):
                term, whose = term.removesuffix(f"_{name}"), name
        if term.endswith("batch_count"):
            continue
        panels.setdefault(term, {})[part, whose] = key
    return panels
