"""What in-painting made of masked electrodes."""

import numpy as np

from .heads import (
    RADIUS,
    colour_bar,
    draw_head,
    draw_map,
    draw_nodes,
    largest_gap,
    locate,
    node_radius,
)
from .style import GREY, PALETTE, UNKNOWN, accent, new_axes, tidy
from .writing import readable_on, short_names, write_names

__all__ = ["plot_reconstruction"]

# With fewer electrodes, or a wider gap, discs: a map would be made up there.
_MAPPED, _WIDEST_GAP = 16, 0.6 * RADIUS
_LISTED = 24


def masked_correlation(target: np.ndarray, reconstruction: np.ndarray) -> np.ndarray:
    r"""Per electrode, the correlation of before and after over windows.

    .. math:: r_i = \frac{\sum_{bf} \tilde x_{bif} \tilde y_{bif}}
              {\sqrt{\sum_{bf} \tilde x_{bif}^2 \sum_{bf} \tilde y_{bif}^2}}

    with each feature less its mean over windows: what the average window looks like
    earns nothing. With one window: less the mean over features.

    Parameters
    ----------
    target, reconstruction : ndarray or masked array, shape (n, N, F)
        Masked: in windows without that electrode, which do not count.

    Returns
    -------
    ndarray, shape (N,)
        0 where nothing varies, NaN where no window counts.
    """
    axis = 0 if len(target) > 1 else 2
    x = target - target.mean(axis, keepdims=True)
    y = reconstruction - reconstruction.mean(axis, keepdims=True)
    norm = np.sqrt((x**2).sum((0, 2)) * (y**2).sum((0, 2)))
    score = (x * y).sum((0, 2)) / np.where(norm > 0, norm, np.inf)
    return np.ma.filled(score, np.nan)


def plot_reconstruction(
    reconstruction,
    channels=None,
    *,
    window: int | None = None,
    feature: int | slice | None = None,
    cmap: str = "RdBu_r",
    axes=None,
):
    """Draw masked electrodes before and after in-painting, and how well it went.

    Two heads in the same colours: the features as they were, and with the masked
    electrodes (ringed) replaced by their reconstruction; then, for each masked
    electrode, the correlation of the two over windows. Electrodes that the windows lack
    are grey and have no correlation.

    Parameters
    ----------
    reconstruction : Reconstruction
        What ``GCMAEPretrainer.reconstruct`` returns.
    channels : list of str or of dict, or model, optional
        Names; default those of the nearest 10-05 sites.
    window : int, optional
        The window on the heads; default their mean.
    feature : int or slice, optional
        The node features on the heads; default their mean (of
        :class:`~braindecode_gcmae.features.EvokedFeatures` about 0: name a bin).
    cmap : str
        Diverging.
    axes : sequence of three matplotlib.axes.Axes, optional

    Returns
    -------
    ndarray of three matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If no electrode with data was masked or positions are unknown.
    """
    masked, positions = reconstruction[2:4]
    masked = np.asarray(masked, dtype=bool)
    if not masked.any():
        raise ValueError("no electrode was masked: nothing to compare")
    target, rebuilt = _where_present(reconstruction)
    score = masked_correlation(target, rebuilt)
    if not np.isfinite(score[masked]).any():
        raise ValueError("no masked electrode has data: nothing to compare")
    xy, names = locate(positions, len(masked))
    if channels is not None:
        names = locate(channels, len(masked))[1]
    names = short_names(names)
    before, after = (_values(part, window, feature) for part in (target, rebuilt))
    after = np.where(masked, after, before)
    limit = np.nanmax(np.abs([before, after]), initial=0.0) or 1.0
    grey = " (grey: no data)" if np.isnan(before).any() else ""
    axes = new_axes(axes, 3, 3.9, 4.0, ratios=[1, 1.25, 0.75])
    for ax, values, title in zip(
        axes[:2],
        (before, after),
        (f"before{grey}", "ringed electrodes in-painted"),
        strict=True,
    ):
        image = _head(ax, values, xy, names, masked, cmap=cmap, limit=limit)
        ax.set_title(title, fontsize=11)
    what = "mean node feature" if feature is None else "node feature"
    colour_bar(axes[1], image, f"{what} (SD)")
    _scores(axes[2], score, masked, names)
    axes[2].set_xlabel(
        "correlation over windows" if len(target) > 1 else "correlation over features"
    )
    return axes


def _where_present(reconstruction) -> tuple:
    """Target and reconstruction, masked arrays if windows may lack electrodes."""
    parts = reconstruction[:2]
    present = getattr(reconstruction, "present", None)
    if present is None:
        return parts
    absent = np.broadcast_to(~np.asarray(present, bool)[..., None], parts[0].shape)
    return tuple(np.ma.array(part, mask=absent) for part in parts)


def _values(part, window, feature) -> np.ndarray:
    part = part.mean(0) if window is None else part[window]
    part = part if feature is None else part[:, feature]
    part = part.mean(1) if part.ndim == 2 else part
    return np.ma.filled(part, np.nan)


def _head(ax, values, xy, names, masked, *, cmap, limit):
    radius, known = node_radius(xy), np.isfinite(values)
    ringed = masked & known
    if known.sum() >= _MAPPED and largest_gap(xy[known]) <= _WIDEST_GAP:
        image = draw_map(ax, values, xy, cmap=cmap, limit=limit)
        plain, ring = known & ~masked, min(radius, 0.06 * RADIUS)
        draw_nodes(ax, xy[plain], radius=0.014 * RADIUS, face="0.15", edge="none")
        draw_nodes(ax, xy[ringed], radius=ring, face="none", edge="black", width=1.6)
        draw_nodes(ax, xy[~known], radius=ring, face=UNKNOWN, edge=GREY)
        return image
    draw_head(ax, xy)
    rim = np.where(ringed, "black", "0.6").tolist()
    width = np.where(ringed, 3.0, 0.8)
    discs = draw_nodes(
        ax, xy, radius=radius, face=values, edge=rim, width=width, cmap=cmap
    )
    discs.set_clim(-limit, limit)
    if len(xy) < _MAPPED:
        ink = readable_on(discs.to_rgba(np.asarray(values, dtype=float)))
        write_names(ax, xy, names, radius=radius, colours=ink)
    return discs


def _scores(ax, score, masked, names) -> None:
    """A lollipop per masked electrode, best on top."""
    rows = np.flatnonzero(masked & np.isfinite(score))
    rows = rows[np.argsort(score[rows], kind="stable")]
    y = np.arange(len(rows))
    ax.hlines(y, 0, score[rows], color=GREY, linewidth=1.2)
    ax.plot(score[rows], y, "o", color=PALETTE[0], markersize=5)
    median = float(np.median(score[rows]))
    ax.axvline(median, color=accent, linestyle="--", linewidth=1.2)
    ax.axvline(0, color="0.25", linewidth=0.8)
    ax.set_title(f"masked electrodes, median {median:.2f}", fontsize=11)
    size = 9 if len(rows) <= _LISTED // 2 else 7 if len(rows) <= _LISTED else 5
    ax.set_yticks(y, [names[row] for row in rows], fontsize=size)
    ax.set_xlim(min(-0.05, score[rows].min() - 0.05), 1.02)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    tidy(ax)
    ax.grid(False)
