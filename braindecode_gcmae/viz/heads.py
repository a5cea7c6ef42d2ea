"""Electrodes on a head: projection, outline, map, nodes, colour bars."""

import numpy as np

from ..montage import electrode_positions, name_of, standard_positions
from ..montage.head import HEAD_RADIUS, project_positions
from .style import GREY, UNKNOWN

__all__ = ["draw_head", "draw_nodes", "locate", "node_radius", "project_positions"]

RADIUS = HEAD_RADIUS
_SAME_PLACE = 0.005
_COINCIDENT = 1e-6
_SMALLEST_DISC, _LARGEST_DISC = 0.012 * RADIUS, 0.1 * RADIUS


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
        if channels.shape[1:] != (3,):
            raise ValueError(
                "channels must be names, chs_info entries or positions (N, 3) in "
                f"metres, got an array of shape {channels.shape}"
            )
        positions = channels
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


def draw_head(ax, xy=None) -> None:
    """Draw MNE's head (circle, nose, ears), and nothing on it.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
    xy : ndarray, shape (N, 2), optional
        Electrodes for which the frame must have room, below the circle, too.
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
    _frame(ax, corners if xy is None else xy)
    for line in ax.lines:
        line.set_zorder(0.5)  # behind the edges


def draw_map(ax, values, xy, *, cmap, limit):
    """Draw MNE's map of one value per electrode, NaN if unknown; gives its image."""
    from matplotlib.patches import Circle
    from mne.viz import plot_topomap

    values = np.asarray(values, dtype=float)
    known = np.isfinite(values)
    image, contours = plot_topomap(
        values[known],
        xy[known],
        axes=ax,
        sphere=(0.0, 0.0, 0.0, RADIUS),
        sensors=False,
        contours=4,
        cmap=cmap,
        vlim=(-limit, limit),
        extrapolate="head",
        show=False,
    )
    _frame(ax, xy)
    for drawn in (image, contours):  # MNE goes on to the outermost electrode
        drawn.set_clip_path(Circle((0, 0), RADIUS, transform=ax.transData))
    return image


def _frame(ax, xy) -> None:
    reach = max(1.3 * RADIUS, np.abs(xy).max() + _LARGEST_DISC)
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach))
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
    return [_edge_path(xy, i, j, radius) for i, j in pairs]


def _edge_path(xy, i, j, radius) -> np.ndarray:
    start, end = xy[i], xy[j]
    along = end - start
    length = np.hypot(*along)
    if length < _COINCIDENT:
        return np.stack([start, end])
    off = np.delete(xy, [i, j], axis=0) - start
    place = off @ along / length**2
    aside = (off[:, 1] * along[0] - off[:, 0] * along[1]) / length
    hit = (np.abs(aside) < 0.8 * radius) & (place > 0) & (place < 1)
    if not hit.any():
        return np.stack([start, end])
    # To the side where fewer of them stand; half the control point's height.
    side = -1.0 if aside[hit].sum() >= 0 else 1.0
    normal = side * np.array([-along[1], along[0]]) / length
    control = (start + end) / 2 + normal * (3.6 * radius + 0.06 * length)
    t = np.linspace(0, 1, 25)[:, None]
    return (1 - t) ** 2 * start + 2 * t * (1 - t) * control + t**2 * end


def node_radius(xy: np.ndarray) -> float:
    """Radius in metres of discs that do not touch each other."""
    gaps = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
    gaps = gaps[gaps > _COINCIDENT]
    nearest = gaps.min() if gaps.size else np.inf
    return float(np.clip(0.44 * nearest, _SMALLEST_DISC, _LARGEST_DISC))


def largest_gap(xy: np.ndarray) -> float:
    """Metres from the emptiest place on the head to its nearest electrode.

    Parameters
    ----------
    xy : ndarray, shape (N, 2)
    """
    side = np.linspace(-RADIUS, RADIUS, 41)
    places = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
    places = places[np.hypot(*places.T) <= RADIUS]
    return float(np.linalg.norm(places[:, None] - xy, axis=-1).min(1).max())


def draw_nodes(ax, xy, *, radius, face, edge="0.25", width=0.8, cmap=None, zorder=3):
    """Draw a disc per electrode, in metres, so that it scales with the head.

    ``face``: one colour, one per disc, or with ``cmap`` one value per disc, grey if
    NaN. Gives the collection.
    """
    from matplotlib import colormaps
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    discs = PatchCollection(
        [Circle(point, radius) for point in xy], linewidths=width, zorder=zorder
    )
    discs.set_edgecolor(edge)
    if cmap is None:
        discs.set_facecolor(face)
    else:
        discs.set_cmap(colormaps.get_cmap(cmap).with_extremes(bad=UNKNOWN))
        discs.set_array(np.asarray(face, dtype=float))
    ax.add_collection(discs)
    return discs


def colour_bar(ax, mappable, label: str):
    """A slim colour bar at the right of a head, for which the frame is widened.

    Inside the frame, because layouts forget what hangs over axes of fixed aspect.
    """
    reach = ax.get_ylim()[1]
    ax.set_xlim(-reach, 1.5 * reach)
    place = [1.046 * reach, -0.5 * reach, 0.054 * reach, reach]
    inset = ax.inset_axes(place, transform=ax.transData)
    bar = ax.figure.colorbar(mappable, cax=inset)
    bar.set_label(label, fontsize=9)
    bar.outline.set_visible(False)
    bar.solids.set_alpha(1.0)
    bar.ax.tick_params(labelsize=8)
    return bar


def dots(ax, xy, colour=GREY) -> None:
    """Small dots for electrodes that are only there for orientation."""
    draw_nodes(ax, xy, radius=_SMALLEST_DISC, face=colour, edge="none", zorder=2)
