"""Electrode graphs on a head, and what separates a student's from its teacher's."""

import numpy as np
import torch

from ..graph import binarise, topology_pairs
from ..montage import match_electrodes
from ..selection import mean_graph
from ..selection.teacher import model_of
from ..warning import warn
from .heads import (
    colour_bar,
    dots,
    draw_head,
    draw_nodes,
    edge_paths,
    locate,
    node_radius,
)
from .style import PALETTE, accent, new_axes
from .writing import readable_on, write_names

__all__ = ["plot_electrode_graph", "plot_topology_gap"]

_NAMED = 72  # electrodes: with more, only the kept ones are named


def plot_electrode_graph(
    adjacency,
    channels=None,
    *,
    windows=None,
    density: float | None = None,
    threshold: float | None = None,
    top_k: int | None = None,
    node_values=None,
    node_label: str = "",
    kept=None,
    names: bool | None = None,
    cmap: str = "viridis_r",
    ax=None,
):
    """Draw the strongest edges of an electrode graph on an MNE head.

    Width, opacity and colour of an edge grow with its weight; with ``node_values`` the
    colour belongs to the electrodes instead.

    Parameters
    ----------
    adjacency : array (N, N), or model, fitted net or pretrainer
        Absolute weights count, in the stronger direction; NaN is no edge. Of a model:
        the mean graph over ``windows`` (see
        :func:`~braindecode_gcmae.selection.mean_graph`).
    channels : list of str or of dict, or ndarray (N, 3), optional
        Names, ``chs_info`` entries, or positions in metres; not needed with a model.
    windows : array (B, C, T) in µV, mne.Epochs or dataset, optional
        For a model.
    density, threshold, top_k : optional
        Share of pairs, smallest weight relative to the largest, or number of edges
        shown. Default: the 3 N strongest, six per electrode on average.
    node_values : array (N,), optional
        Colours the electrodes, e.g. by importance; grey where NaN.
    node_label : str
        Quantity and unit of ``node_values``.
    kept : list of str or of int, or bool (N,), optional
        Electrodes to ring.
    names : bool, optional
        Write the names of the electrodes; default up to 72, else of the kept ones.
    cmap : str
        Of edges (without its pale end; no colour bar where all weights are equal) or
        ``node_values``.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If positions are unknown, shapes do not fit, or two ways to choose edges are
        given.

    Warns
    -----
    UserWarning
        If weights are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from braindecode_gcmae import plot_electrode_graph
    >>> ax = plot_electrode_graph(np.ones((3, 3)), ["C3", "Cz", "C4"], top_k=2)
    """
    adjacency, channels = _graph(adjacency, channels, windows)
    xy, labels = locate(channels, len(adjacency))
    adjacency = _without_nan(adjacency, labels)
    pairs, weights = _strongest(adjacency, density, threshold, top_k)
    if node_values is not None and np.shape(node_values) != (len(xy),):
        raise ValueError(
            f"node_values must hold one value for each of the {len(xy)} electrodes, "
            f"got shape {np.shape(node_values)}"
        )
    rows = _rows(kept, channels, labels)
    (ax,) = new_axes(ax, 1, 6.6, 5.3)
    draw_head(ax, xy)
    lines = _draw_edges(
        ax, xy, pairs, weights, cmap=cmap if node_values is None else None
    )
    radius = node_radius(xy)
    ink: str | list[str] = "black"
    ringed = np.isin(np.arange(len(xy)), rows)
    look = {
        "radius": radius,
        "edge": np.where(ringed, accent, "0.35").tolist(),
        "width": np.where(ringed, 2.2, 0.8),
    }
    if node_values is None:
        draw_nodes(ax, xy, face=np.where(ringed, "#FBE0CF", "white").tolist(), **look)
        if len(pairs) and np.ptp(weights) > 0:
            colour_bar(ax, lines, "edge weight")
    else:
        values = np.asarray(node_values, dtype=float)
        label = node_label or "electrode value"
        ink = _draw_values(ax, xy, values, label, cmap=cmap, **look)
    if len(rows):
        _ring_legend(ax)
    named = range(len(xy)) if (len(xy) <= _NAMED if names is None else names) else rows
    if names is not False and len(named):
        named = list(named)
        ink = ink if isinstance(ink, str) else [ink[row] for row in named]
        shown = [labels[row] for row in named]
        write_names(ax, xy[named], shown, radius=radius, colours=ink)
    return ax


def _draw_values(ax, xy, values, label, **look) -> list[str]:
    """Draw discs coloured by value and their bar; gives the colours of their names."""
    discs = draw_nodes(ax, xy, face=values, **look)
    known = values[np.isfinite(values)]
    if known.size:
        discs.set_clim(known.min(), known.max())
        grey = " (grey: unknown)" if np.isnan(values).any() else ""
        colour_bar(ax, discs, label + grey)
    return readable_on(discs.to_rgba(values))


def _ring_legend(ax):
    """Say what a ringed electrode is, below the head."""
    from matplotlib.lines import Line2D

    ring = Line2D(
        [], [], linestyle="", marker="o", markersize=9, label="kept",
        markerfacecolor="white", markeredgecolor=accent, markeredgewidth=2.2,
    )  # fmt: skip
    ax.legend(
        handles=[ring], loc="upper left", bbox_to_anchor=(0.0, 0.1), frameon=False,
        fontsize=9, handletextpad=0.2,
    )  # fmt: skip


def plot_topology_gap(
    student,
    teacher,
    windows=None,
    *,
    channels=None,
    kept=None,
    density: float | None = None,
    threshold: float | None = None,
    axes=None,
):
    r"""Compare a student's graph with its teacher's on the electrodes they share.

    Three heads: the pairs that the teacher links, directly or through an electrode that
    the student lacks (Eq. 9-12, :func:`~braindecode_gcmae.graph.topology_pairs`); the
    student's strongest edges; and which of them agree, with the overlap
    :math:`|P \cap E| / |P \cup E|` (Jaccard).

    Parameters
    ----------
    student, teacher : model or fitted net, or arrays (n, n) and (m, m)
        NaN is no edge.
    windows : array (B, m, T) in µV, mne.Epochs or dataset, optional
        For models.
    channels : list of str or of dict, or ndarray (m, 3), optional
        The teacher's electrodes; not needed with models.
    kept : list of str or of int, or bool (m,), optional
        The student's electrodes, in its order; not needed with models.
    density, threshold : float, optional
        How graphs become edges, as in ``topology_pairs``. By default a tenth of the
        teacher's pairs, and as many edges of the student as the teacher links: the
        figure then shows which edges differ, not how many.
    axes : sequence of three matplotlib.axes.Axes, optional

    Returns
    -------
    ndarray of three matplotlib.axes.Axes

    Warns
    -----
    UserWarning
        If weights are NaN.
    """
    teacher_graph, channels = _graph(teacher, channels, windows)
    if not isinstance(student, np.ndarray | torch.Tensor | list):
        kept = model_of(student)[0].node_channels() if kept is None else kept
    student_graph, _ = _graph(student, channels, windows)
    xy, labels = locate(channels, len(teacher_graph))
    rows = list(range(len(xy))) if kept is None else _rows(kept, channels, labels)
    teacher_graph = _without_nan(teacher_graph, labels)
    student_graph = _without_nan(student_graph, [labels[row] for row in rows])
    direct, linked, own = _pairs(student_graph, teacher_graph, rows, density, threshold)
    shared = xy[rows]
    radius = node_radius(shared)
    axes = new_axes(axes, 3, 4.0, 4.9)
    both, union = linked & own, linked | own
    overlap = both.sum() / union.sum() if union.any() else 1.0
    groups = (
        [
            ("direct", direct, PALETTE[0], "-"),
            ("through removed ones", linked & ~direct, PALETTE[0], (0, (3, 1.5))),
        ],
        [("edge", own, PALETTE[0], "-")],
        [
            ("both", both, "black", "-"),
            ("teacher only", linked & ~own, PALETTE[1], "-"),
            ("student only", own & ~linked, PALETTE[0], (0, (1, 2))),
        ],
    )
    n, m = len(rows), len(xy)
    titles = (
        f"teacher, {m} electrodes",
        f"student, {n} electrodes",
        f"overlap (Jaccard) {overlap:.2f}",
    )
    removed = np.setdiff1d(np.arange(m), rows)
    for ax, group, title in zip(axes, groups, titles, strict=True):
        draw_head(ax, xy)
        if ax is axes[0]:
            dots(ax, xy[removed])
        # A legend of what is there; of everything where there is nothing.
        group = [entry for entry in group if entry[1].any()] or group[:1]
        for label, chosen, colour, dash in group:
            _draw_pairs(ax, shared, chosen, colour, dash, label)
        draw_nodes(ax, shared, radius=radius, face="white")
        write_names(ax, shared, [labels[row] for row in rows], radius=radius)
        ax.set_title(title, fontsize=11)
        ax.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, 0.04),
            ncols=len(group),
            frameon=False,
            fontsize=8,
            handlelength=2.2,
            columnspacing=1.0,
        )
    return axes


def _graph(graph, channels, windows):
    """Adjacency (N, N) and channels, of an array or of a model."""
    if not isinstance(graph, np.ndarray | torch.Tensor | list):
        model = model_of(graph)[0]
        if channels is None:
            channels = model.node_channels()
        return mean_graph(model, windows), channels
    if isinstance(graph, torch.Tensor):
        graph = graph.detach().cpu().numpy()
    graph = np.abs(np.asarray(graph, dtype=float))
    if graph.ndim != 2 or graph.shape[0] != graph.shape[1]:
        raise ValueError(f"adjacency must be (N, N), got shape {graph.shape}")
    if channels is None:
        raise ValueError("whose adjacency is it? Pass channels= (names or positions)")
    return np.fmax(graph, graph.T), channels


def _without_nan(graph, names):
    """The graph with 0 for NaN, and a warning that tells whose weights were NaN."""
    unknown = np.isnan(graph)
    np.fill_diagonal(unknown, False)
    if unknown.any():
        alone = unknown.sum(1) == len(graph) - 1
        lost = [name for name, gone in zip(names, alone, strict=False) if gone]
        whose = f"; those of {len(lost)} of {len(graph)} electrodes all are: {lost}"
        warn(
            f"{unknown.sum() // 2} edge weights are NaN and drawn as no edge"
            + (whose if lost else "")
        )
    return np.where(np.isnan(graph), 0.0, graph)


def _rows(kept, channels, labels) -> list[int]:
    """Rows of electrodes given by name, by row or by a mask."""
    if kept is None or len(kept) == 0:
        return []
    if all(isinstance(k, bool | np.bool_) for k in kept):
        if len(kept) != len(labels):
            raise ValueError(
                f"kept is a mask of {len(kept)}, but there are {len(labels)} electrodes"
            )
        return np.flatnonzero(kept).tolist()
    if all(isinstance(k, int | np.integer) for k in kept):
        return np.arange(len(labels))[list(kept)].tolist()
    by_position = isinstance(channels, np.ndarray) and channels.dtype.kind == "f"
    return match_electrodes(list(kept), labels if by_position else list(channels))


def _strongest(adjacency, density, threshold, top_k):
    """Pairs (E, 2) and weights (E,) of the edges shown, weakest first."""
    if sum(way is not None for way in (density, threshold, top_k)) > 1:
        raise ValueError("give one of density, threshold and top_k")
    n = len(adjacency)
    pairs = np.argwhere(np.triu(np.ones((n, n), dtype=bool), 1))
    weights = adjacency[pairs[:, 0], pairs[:, 1]]
    if density is not None or threshold is not None:
        mask = binarise(
            torch.as_tensor(adjacency), density=density, threshold=threshold
        ).numpy()
        shown = np.flatnonzero(mask[pairs[:, 0], pairs[:, 1]])
    else:
        limit = 3 * n if top_k is None else top_k
        shown = np.argsort(-weights, kind="stable")[:limit]
    shown = shown[weights[shown] > 0]
    shown = shown[np.argsort(weights[shown], kind="stable")]
    return pairs[shown], weights[shown]


def _pairs(student, teacher, rows, density, threshold):
    """Teacher's direct pairs, all its pairs, and the student's edges: bool (n, n)."""
    if len(student) != len(rows):
        raise ValueError(
            f"the student has {len(student)} nodes, but {len(rows)} electrodes of the "
            "teacher are kept: pass kept= in the student's order"
        )
    chosen = {"density": density, "threshold": threshold}
    student, teacher = torch.as_tensor(student), torch.as_tensor(teacher)
    linked, _ = topology_pairs(student, teacher, torch.tensor(rows), **chosen)
    direct = binarise(teacher, **chosen)[rows][:, rows]
    direct = (direct | direct.T) & linked
    if density is None and threshold is None:
        n_edges = int(linked.sum()) // 2
        pairs, _ = _strongest(student.numpy(), None, None, n_edges)
        own = torch.zeros_like(linked)
        own[pairs[:, 0], pairs[:, 1]] = True
        own = own | own.T
    else:
        own = binarise(student, **chosen)
    return direct.numpy(), linked.numpy(), own.numpy()


def _draw_edges(ax, xy, pairs, weights, *, cmap):
    from matplotlib.collections import LineCollection

    low, high = (weights.min(), weights.max()) if len(weights) else (0.0, 1.0)
    rank = (weights - low) / (high - low) if high > low else np.ones(len(weights))
    lines = LineCollection(
        edge_paths(xy, pairs, node_radius(xy)),
        linewidths=0.6 + 2.9 * rank,
        alpha=0.4 + 0.55 * rank if len(rank) else None,
        zorder=1,
    )
    if cmap is None:
        lines.set_color("0.45")
    else:
        lines.set_cmap(_on_white(cmap))
        lines.set_array(weights)
        lines.set_clim(low if high > low else 0.0, high)
    ax.add_collection(lines)
    return lines


def _on_white(cmap):
    """The map without the pale end, which vanishes on white paper."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    whole = matplotlib.colormaps[cmap] if isinstance(cmap, str) else cmap
    rows = whole(np.linspace(0, 1, 256))
    pale = rows[0, :3].sum() > rows[-1, :3].sum()
    return ListedColormap(whole(np.linspace(0.15, 1) if pale else np.linspace(0, 0.85)))


def _draw_pairs(ax, xy, chosen, colour, dash, label):
    from matplotlib.collections import LineCollection

    pairs = np.argwhere(np.triu(chosen, 1))
    lines = LineCollection(
        edge_paths(xy, pairs, node_radius(xy)),
        colors=colour,
        linestyles=[dash],
        linewidths=3.4 if colour == "black" else 2.0,
        zorder=1,
    )
    lines.set_label(f"{label} ({len(pairs)})")
    ax.add_collection(lines)
    return lines
