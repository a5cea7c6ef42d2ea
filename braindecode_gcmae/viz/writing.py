"""Names of electrodes, where they can be read."""

import re
from os.path import commonprefix

import numpy as np

__all__ = ["readable_on", "short_names", "write_names"]

_LONG = 6  # characters: from here on names lose what they share
_SMALLEST_INSIDE = 4.5  # points
_SMALLEST, _LARGEST_INSIDE, _LARGEST_ABOVE = 3.0, 9.0, 7.0
_CHARACTER, _LINE = 0.68, 1.3  # width and height in multiples of the font size


def write_names(ax, xy, names, *, radius, colours="black") -> None:
    """Write the names into discs of this radius, where they can be read there.

    Else names stand above their electrodes, as small as not to touch each other.
    """
    if not len(names):
        return
    names = short_names(names)
    scale = _points_per_metre(ax)
    size = 1.75 * scale * radius / (_CHARACTER * max(2.0, max(map(len, names))))
    inside = size >= _SMALLEST_INSIDE
    if inside:
        sizes = np.full(len(names), min(size, _LARGEST_INSIDE))
    else:
        sizes = np.clip(_apart(scale * xy, names), _SMALLEST, _LARGEST_ABOVE)
    colours = [colours] * len(names) if isinstance(colours, str) else colours
    for (u, v), name, size, colour in zip(xy, names, sizes, colours, strict=True):
        ax.text(
            u,
            v if inside else v + 1.2 * radius,
            name,
            ha="center",
            va="center_baseline" if inside else "bottom",
            fontsize=size,
            color=colour if inside else "black",
            zorder=5,
        )


def short_names(names) -> list[str]:
    """Long names without the words that all of them begin and end with.

    "EEG001", "EEG002" are "001", "002"; "EEG Fp1-REF", "EEG Fp2-REF" are "Fp1", "Fp2".
    """
    names = list(names)
    if len(set(names)) < 2 or max(map(len, names)) < _LONG:
        return names
    start, end = _shared_start(names), _shared_end(names)
    short = [name.removeprefix(start).removesuffix(end) for name in names]
    return short if all(short) else names


def _shared_start(names) -> str:
    start = commonprefix(names)
    if all(re.fullmatch(r"[A-Za-z]{3,}\d+", name) for name in names):
        return start.rstrip("0123456789")
    return re.sub(r"[^\W_]+$", "", start)


def _shared_end(names) -> str:
    end = commonprefix([name[::-1] for name in names])[::-1]
    return re.sub(r"^[^\W_]+", "", end)


def _points_per_metre(ax) -> float:
    box = ax.get_position(original=True)
    inches = ax.figure.get_size_inches()
    spans = np.ptp(ax.get_xlim()), np.ptp(ax.get_ylim())
    return 72 * min(box.width * inches[0] / spans[0], box.height * inches[1] / spans[1])


def _apart(xy, names) -> np.ndarray:
    """Font sizes at which no two names at these places (points) touch."""
    lengths = np.array([len(name) for name in names])
    across, up = np.abs(xy[:, None] - xy).transpose(2, 0, 1)
    width = _CHARACTER * (lengths[:, None] + lengths) / 2
    sizes = np.maximum(across / width, up / _LINE)
    return np.where(sizes > 0, sizes, np.inf).min(1)  # not of a name and itself


def readable_on(colours) -> list[str]:
    """Black or white, whichever reads better on each colour (RGBA rows)."""
    light = np.asarray(colours)[:, :3] @ [0.299, 0.587, 0.114]
    return ["black" if value > 0.55 else "white" for value in light]
