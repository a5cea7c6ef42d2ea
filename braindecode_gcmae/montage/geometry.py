"""Angles at the centre of the head, and caps laid over one another."""

import numpy as np

CENTRE = np.array([0.0, 0.015, 0.044])  # metres: of the sphere fitted to 10-10
MANY = 8  # channels: fewer may come to fit by chance once they are shifted and turned
_NOBODYS = 0.5  # metres; of coordinates in mm, or on the unit sphere
_ON_A_HEAD = (0.03, 0.2)  # metres from the centre; beyond, ``loc`` tells no direction


def angles(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the angles at the centre of the head, in degrees; NaN where unknown.

    Not millimetres: the heads of templates differ in radius by up to 31 mm.
    """
    a, b = first - CENTRE, second - CENTRE
    across = np.linalg.norm(np.cross(a, b), axis=-1)
    return np.rad2deg(np.arctan2(across, (a * b).sum(-1)))


def on_a_head(measured: np.ndarray) -> np.ndarray:
    """Say which positions (N, 3) may be points of a head, and so tell a direction."""
    radius = np.linalg.norm(measured - CENTRE, axis=1)
    return (radius > _ON_A_HEAD[0]) & (radius < _ON_A_HEAD[1])


def far_away(positions: np.ndarray) -> np.ndarray:
    """Say which positions (N, 3) are those of nobody's head, (N,): no metres."""
    return np.linalg.norm(positions, axis=1) > _NOBODYS


def laid_over(cap: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Shift, turn and scale a cap (N, 3) to where another one is (least squares)."""
    mine, theirs = cap - cap.mean(0), other - other.mean(0)
    u, stretch, v = np.linalg.svd(mine.T @ theirs)
    stretch, v = stretch.copy(), v.copy()
    if np.linalg.det(u @ v) < 0:  # a head is not its mirror image
        stretch[-1], v[-1] = -stretch[-1], -v[-1]
    scale = stretch.sum() / max((mine**2).sum(), np.finfo(float).tiny)
    return scale * mine @ u @ v + other.mean(0)
