"""Colours, markers and axes that all figures share."""

import numpy as np

__all__ = ["GREY", "MARKERS", "PALETTE", "UNKNOWN", "accent", "new_axes", "tidy"]

# Okabe & Ito (2008): told apart by everybody, and by their markers in print.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
GREY = "0.55"
UNKNOWN = "0.8"  # discs of electrodes without a value
accent = PALETTE[1]


def new_axes(given, n: int, width: float, height: float, ratios=None, columns=None):
    """The caller's axes, or new ones, as a flat array of n.

    Parameters
    ----------
    given : Axes, sequence of Axes, or None
    n : int
        How many are needed.
    width, height : float
        Inches of a new panel.
    ratios : list of float, optional
        Relative widths of new panels.
    columns : int, optional
        New panels in a row; default all.

    Raises
    ------
    ValueError
        If fewer axes are given than needed.
    """
    if given is not None:
        axes = np.atleast_1d(np.asarray(given, dtype=object)).ravel()
        if len(axes) < n:
            raise ValueError(f"this figure needs {n} axes, got {len(axes)}")
        return axes[:n]
    import matplotlib.pyplot as plt

    columns = min(n, columns or n)
    rows = -(-n // columns)
    _, axes = plt.subplots(
        rows,
        columns,
        figsize=(width * columns, height * rows),
        squeeze=False,
        layout="constrained",
        width_ratios=ratios,
    )
    for spare in axes.ravel()[n:]:
        spare.set_visible(False)
    return axes.ravel()[:n]


def tidy(ax) -> None:
    """No frame above and to the right, and a faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
