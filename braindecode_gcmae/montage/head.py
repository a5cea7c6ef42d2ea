"""The flat head: where electrodes come to lie on paper, and a plain drawing of them."""

import numpy as np

from braindecode_gcmae.montage.evidence import CENTRE, name_of
from braindecode_gcmae.montage.matching import electrode_positions

__all__ = ["HEAD_RADIUS", "draw_montage", "project_positions"]

HEAD_RADIUS = 0.095  # metres: the circle that MNE draws
_EDGE = np.deg2rad(105)
_KEPT, _LEFT_OUT = "#0072B2", "0.75"


def project_positions(positions: np.ndarray) -> np.ndarray:
    r"""Positions on the flat head: azimuthal equidistant, as in MNE's topomaps.

    .. math:: (u, v) = R\, \frac{\theta}{\theta_R}\, (\cos\varphi, \sin\varphi)

    with the angle from the vertical :math:`\theta` and the azimuth :math:`\varphi`
    about the centre of the head, (0, 15, 44) mm in the head frame. The drawn
    circle, R = 95 mm, is at :math:`\theta_R` = 105 degrees, just below Fpz-T7-Oz-T8.

    Parameters
    ----------
    positions : ndarray, shape (N, 3)
        Head frame, metres.

    Returns
    -------
    ndarray, shape (N, 2)
        Metres: right, front.
    """
    x, y, z = (np.asarray(positions, dtype=float).reshape(-1, 3) - CENTRE).T
    across = np.hypot(x, y)
    radius = HEAD_RADIUS * np.arctan2(across, z) / _EDGE
    scale = radius / np.where(across > 0, across, 1.0)
    return np.stack([x * scale, y * scale], 1)


def draw_montage(path, channels, kept=None) -> bool:
    """Write a PNG of electrodes on a head, without a screen or any global state.

    Parameters
    ----------
    path : path
        File to write.
    channels : list of dict or of str
        All electrodes.
    kept : list of int, optional
        Those drawn large and with their names; the others are dots. Default all.

    Returns
    -------
    bool
        Whether it was drawn: False, and no file, where no kept position is known.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    positions = electrode_positions(channels)
    names = [name_of(channel) for channel in channels]
    chosen = np.zeros(len(names), dtype=bool)
    chosen[slice(None) if kept is None else list(kept)] = True
    known = np.isfinite(positions).all(1)
    if not (chosen & known).any():
        return False
    xy = project_positions(np.where(known[:, None], positions, 0.0))
    figure = Figure(figsize=(4.5, 4.5), dpi=150)
    ax = figure.add_axes((0, 0, 1, 1), frameon=False, aspect="equal", xticks=[])
    reach = max(1.2 * HEAD_RADIUS, 1.12 * np.abs(xy[known]).max())
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), yticks=[])
    outline = {"color": "0.35", "linewidth": 1.2, "zorder": 0}
    for points in _head_lines():
        ax.plot(*points, **outline)
    others = known & ~chosen
    ax.scatter(xy[others, 0], xy[others, 1], s=14, color=_LEFT_OUT, zorder=1)
    gaps = np.linalg.norm(xy[chosen & known][:, None] - xy[chosen & known], axis=-1)
    gaps = gaps[gaps > 1e-6]
    radius = np.clip(0.45 * (gaps.min() if gaps.size else 1), 2e-3, 8.5e-3)
    for row in np.flatnonzero(chosen & known):
        ax.add_patch(Circle(xy[row], radius, color=_KEPT, linewidth=0, zorder=2))
        # As wide as the disc: 324 points across the figure's 2 * reach metres.
        size = 2.6 * radius * 324 / (2 * reach) / max(2, len(names[row]))
        ax.text(*xy[row], names[row], ha="center", va="center_baseline", color="white",
                fontsize=size, zorder=3)  # fmt: skip
    figure.savefig(path, format="png", facecolor="white")
    return True


def _head_lines() -> list:
    """Circle, nose and ears, as (2, n) polylines in metres."""
    turn = np.linspace(0, 2 * np.pi, 100)
    circle = HEAD_RADIUS * np.stack([np.cos(turn), np.sin(turn)])
    side = np.deg2rad([98, 90, 82])
    nose = HEAD_RADIUS * np.stack([np.cos(side), np.sin(side) * [1, 1.13, 1]])
    bow = np.linspace(-0.5, 0.5, 30) * np.pi
    ear = HEAD_RADIUS * np.stack([0.99 + 0.09 * np.cos(bow), 0.2 * np.sin(bow)])
    return [circle, nose, ear, ear * [[-1], [1]]]
