"""Electrodes on a head: projection, outline, nodes, colour bars."""

import numpy as np

from ..montage import electrode_positions, name_of, standard_positions
from ..montage.head import HEAD_RADIUS, project_positions
from .style import GREY

__all__ = ["draw_head", "draw_nodes", "locate", "node_radius", "project_positions"]

RADIUS = HEAD_RADIUS
_SAME_PLACE = 0.005


def locate(channels, n: int | None = None) -> tuple[np.ndarray, list[str]]:
    """Projected positions and names of electrodes.

    Parameters
    ----------
    channels : list of str or of dict, ndarray (N, 3), or model
        Names, ``chs_info`` entries, positions in metres, or a model of ours. To
        positions belong the names of the nearest 10-05 sites, or row numbers.
    n : int, optional
        How many there must be.

    Raises
    ------
    ValueError
        If their number is not n, or a position is unknown.
    """
    if hasattr(channels, "node_channels"):
        channels = channels.node_channels()
    if isinstance(channels, np.ndarray) and channels.dtype.kind == "f":
        positions = channels.reshape(-1, 3)
        names = _names_of(positions)
    else:
        positions = electrode_positions(channels)
        names = [name_of(channel) for channel in channels]
    if n is not None and len(names) != n:
        raise ValueError(f"there are {n} nodes, but {len(names)} electrodes are named")
    lost = [names[row] for row in np.flatnonzero(~np.isfinite(positions).all(1))]
    if lost:
        raise ValueError(
            f"a head needs positions, and those of {lost} are unknown: rename them to "
            "10-05 names or give chs_info entries with a valid 'loc'"
        )
    return project_positions(positions), names


def _names_of(positions: np.ndarray) -> list[str]:
    known = standard_positions()
    sites = np.array(list(known.values()))
    names = []
    for row, position in enumerate(positions):
        gap = np.linalg.norm(sites - position, axis=1)
        near = np.isfinite(gap).all() and gap.min() < _SAME_PLACE
        names.append(list(known)[int(gap.argmin())] if near else str(row))
    return names


def draw_head(ax) -> None:
    """Draw MNE's head (circle, nose, ears), and nothing on it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    """
    from mne.viz import plot_topomap

    # MNE's outline comes with a map; the map of five points is taken off again.
    corners = 0.5 * RADIUS * np.array([[0, 0], [1, 1], [-1, 1], [1, -1], [-1, -1]])
    image, _ = plot_topomap(
        np.zeros(5),
        corners,
        axes=ax,
        sphere=(0.0, 0.0, 0.0, RADIUS),
        sensors=False,
        contours=0,
        res=8,
        show=False,
    )
    image.remove()
    _frame(ax)
    for line in ax.lines:
        line.set_zorder(0.5)  # behind the edges


def draw_map(ax, values, xy, *, cmap, limit):
    """Draw MNE's interpolated map of one value per electrode; gives its image."""
    from matplotlib.patches import Circle
    from mne.viz import plot_topomap

    image, contours = plot_topomap(
        np.asarray(values, dtype=float),
        xy,
        axes=ax,
        sphere=(0.0, 0.0, 0.0, RADIUS),
        sensors=False,
        contours=4,
        cmap=cmap,
        vlim=(-limit, limit),
        extrapolate="head",
        show=False,
    )
    _frame(ax)
    for drawn in (image, contours):  # MNE goes on to the outermost electrode
        drawn.set_clip_path(Circle((0, 0), RADIUS, transform=ax.transData))
    return image


def _frame(ax) -> None:
    ax.set(xlim=(-1.3 * RADIUS, 1.3 * RADIUS), ylim=(-1.3 * RADIUS, 1.3 * RADIUS))
    ax.set_aspect("equal")
    # Not "axis off": the layout would then leave no room for titles and colour bars.
    ax.set_axis_on()
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.patch.set_visible(False)
    for line in ax.lines:
        line.set(color="0.35", linewidth=1.2)


def edge_paths(xy, pairs, radius) -> list:
    """Polylines from node to node that bend around the nodes on their way."""
    t = np.linspace(0, 1, 25)[:, None]
    paths = []
    for i, j in pairs:
        start, end = xy[i], xy[j]
        along = end - start
        others = np.delete(np.arange(len(xy)), [i, j])
        off = xy[others] - start
        place = off @ along / (along @ along)
        aside = (off[:, 1] * along[0] - off[:, 0] * along[1]) / np.hypot(*along)
        hit = (np.abs(aside) < 0.8 * radius) & (place > 0) & (place < 1)
        if not hit.any():
            paths.append(np.stack([start, end]))
            continue
        # To the side where fewer of them stand; half the control point's height.
        side = -1.0 if aside[hit].sum() >= 0 else 1.0
        normal = side * np.array([-along[1], along[0]]) / np.hypot(*along)
        control = (start + end) / 2 + normal * (3.6 * radius + 0.06 * np.hypot(*along))
        paths.append((1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end)
    return paths


def node_radius(xy: np.ndarray) -> float:
    """Radius in metres of discs that do not touch each other."""
    gaps = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
    gaps = gaps[gaps > 1e-6]
    nearest = gaps.min() if gaps.size else np.inf
    return float(np.clip(0.44 * nearest, 0.012 * RADIUS, 0.1 * RADIUS))


def draw_nodes(ax, xy, *, radius, face, edge="0.25", width=0.8, cmap=None, zorder=3):
    """Draw a disc per electrode, in metres, so that it scales with the head.

    ``face``: one colour, one per disc, or with ``cmap`` one value per disc. Gives the
    collection.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    discs = PatchCollection(
        [Circle(point, radius) for point in xy], linewidths=width, zorder=zorder
    )
    discs.set_edgecolor(edge)
    if cmap is None:
        discs.set_facecolor(face)
    else:
        discs.set_cmap(cmap)
        discs.set_array(np.asarray(face, dtype=float))
    ax.add_collection(discs)
    return discs


def write_names(ax, xy, names, *, radius, colours="black") -> None:
    """Write the names into discs of this radius, where they can be read there.

    Else names stand above their electrodes.
    """
    if not len(names):
        return
    box = ax.get_position(original=True)
    inches = ax.figure.get_size_inches()
    spans = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    scale = min(box.width * inches[0] / spans[0], box.height * inches[1] / spans[1])
    points = 72 * scale * radius  # the disc's radius on paper
    size = 1.75 * points / (0.68 * max(2.0, max(map(len, names))))
    inside = size >= 4.5
    colours = [colours] * len(names) if isinstance(colours, str) else colours
    for (u, v), name, colour in zip(xy, names, colours, strict=True):
        ax.text(
            u,
            v if inside else v + 1.2 * radius,
            name,
            ha="center",
            va="center_baseline" if inside else "bottom",
            fontsize=min(size, 9.0) if inside else 7.0,
            color=colour if inside else "black",
            zorder=5,
        )


def readable_on(colours) -> list[str]:
    """Black or white, whichever reads better on each colour (RGBA rows)."""
    light = np.asarray(colours)[:, :3] @ [0.299, 0.587, 0.114]
    return ["black" if value > 0.55 else "white" for value in light]


def colour_bar(ax, mappable, label: str):
    """A slim colour bar at the right of a head, for which the frame is widened.

    Inside the frame, because layouts forget what hangs over axes of fixed aspect.
    """
    ax.set_xlim(-1.3 * RADIUS, 1.95 * RADIUS)
    place = [1.36 * RADIUS, -0.65 * RADIUS, 0.07 * RADIUS, 1.3 * RADIUS]
    inset = ax.inset_axes(place, transform=ax.transData)
    bar = ax.figure.colorbar(mappable, cax=inset)
    bar.set_label(label, fontsize=9)
    bar.outline.set_visible(False)
    bar.solids.set_alpha(1.0)
    bar.ax.tick_params(labelsize=8)
    return bar


def dots(ax, xy, colour=GREY) -> None:
    """Small dots for electrodes that are only there for orientation."""
    draw_nodes(ax, xy, radius=0.012 * RADIUS, face=colour, edge="none", zorder=2)
