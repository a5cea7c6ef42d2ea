"""Which electrodes to keep: coverage of the teacher's graph, by importance."""

from numbers import Integral

import numpy as np

from ..montage import canonical_name, match_electrodes, name_of
from .coverage import (
    electrode_weights,
    farthest_points,
    graph_closeness,
    greedy_coverage,
)
from .teacher import mean_graph, model_of, occlusion_importance

__all__ = ["select_electrodes"]

_METHODS = ("greedy", "farthest")
_IMPORTANCE = ("occlusion", "topology", "uniform")


def select_electrodes(
    teacher,
    k: int,
    *,
    windows=None,
    candidates: list[str] | None = None,
    method: str = "greedy",
    importance: str | dict[str, float] | None = None,
    uniform: float = 0.5,
    max_windows: int = 128,
) -> list[str]:
    r"""Which k electrodes to keep, from a teacher's topology.

    Every electrode of the teacher is to be represented by a kept one that is close to
    it in the teacher's graph, the more so the more it matters to the teacher:

    .. math:: \max_{|V_l| = k} \sum_j w_j \max_{i \in V_l} S_{ji}, \qquad
              w_j = \frac{u}{N} + (1 - u) \frac{I_j}{\sum_i I_i}

    with the kept electrodes :math:`V_l`, closeness S
    (:func:`~braindecode_gcmae.selection.graph_closeness`) and importance I. No labels
    are used, and nothing is drawn at random.

    Parameters
    ----------
    teacher : fitted EEGClassifier, GCMAETeacher, GCMAEStudent or GCMAEPretrainer
        Built with ``chs_info`` or ``ch_names``.
    k : int
        Number of electrodes to keep.
    windows : array (B, C, T) in µV, mne.Epochs or windowed dataset, optional
        Of training people: the graph is the mean over them. Without, the geometric and
        learned parts of the graph alone. Channels of Epochs are taken by name.
    candidates : list of str, optional
        Electrodes that can be had, e.g. those of a cap. Default all of the teacher's.
    method : {"greedy", "farthest"}
        :func:`~braindecode_gcmae.selection.greedy_coverage` (mean coverage) or
        :func:`~braindecode_gcmae.selection.farthest_points` (worst coverage).
    importance : {"occlusion", "topology", "uniform"} or dict, optional
        "occlusion": change of the teacher's output when the electrode goes missing
        (needs windows; the default with them). "topology": weighted degree in the
        graph (the default without). A dict gives a value for each electrode's name.
    uniform : float
        Share u of the weight that all electrodes get alike, in [0, 1].
    max_windows : int
        At most so many windows are used, evenly spaced.

    Returns
    -------
    list of str
        Names as the teacher spells them, in the order of choice: the first n of them
        are the answer for n.

    Raises
    ------
    ValueError
        If k is out of range, the teacher has no names, a candidate is unknown, windows
        are needed and missing, or Epochs have other channels or another sampling rate
        than the teacher.
    TypeError
        If the teacher is not one of ours.

    References
    ----------
    Nemhauser, Wolsey & Fisher (1978), https://doi.org/10.1007/BF01588971

    Examples
    --------
    >>> from braindecode_gcmae import GCMAETeacher, montage_preset, select_electrodes
    >>> names = montage_preset("10-20-19")
    >>> teacher = GCMAETeacher(2, ch_names=names, sfreq=100, n_times=200)
    >>> len(select_electrodes(teacher, 4))
    4
    """
    model, _ = model_of(teacher)
    names = [name_of(channel) for channel in model.node_channels()]
    if importance is None:
        importance = "topology" if windows is None else "occlusion"
    _check_options(method, importance, windows)
    allowed = list(range(len(names)))
    if candidates is not None:
        allowed = match_electrodes(candidates, model.node_channels())
    if isinstance(k, bool) or not isinstance(k, Integral) or not 1 <= k <= len(allowed):
        raise ValueError(
            f"k must be a whole number from 1 to {len(allowed)}, the electrodes to "
            f"choose from; got {k!r}"
        )
    graph = mean_graph(model, windows, max_windows=max_windows)
    if isinstance(importance, dict):
        values = _by_name(importance, model.node_channels())
    elif importance == "occlusion":
        values = occlusion_importance(teacher, windows, max_windows=max_windows)
    else:
        values = graph.sum(1) if importance == "topology" else np.ones(len(names))
    weights = electrode_weights(values, uniform)
    # Ties by name, not by row: the order of the channels must not matter.
    allowed = sorted(allowed, key=lambda row: canonical_name(names[row]))
    choose = greedy_coverage if method == "greedy" else farthest_points
    rows = choose(graph_closeness(graph), weights, int(k), allowed)
    return [names[row] for row in rows]


def _check_options(method, importance, windows) -> None:
    if method not in _METHODS:
        raise ValueError(f"method must be one of {_METHODS}, got {method!r}")
    if isinstance(importance, dict):
        return
    if importance not in _IMPORTANCE:
        raise ValueError(
            f"importance must be one of {_IMPORTANCE} or a dict of values by name, got "
            f"{importance!r}"
        )
    if importance == "occlusion" and windows is None:
        raise ValueError('importance="occlusion" needs windows=')


def _by_name(importance: dict, channels: list) -> np.ndarray:
    """Values in the order of the channels; each must have one."""
    values = np.full(len(channels), np.nan)
    values[match_electrodes(list(importance), channels)] = list(importance.values())
    missing = [
        name_of(channel)
        for channel, value in zip(channels, values, strict=True)
        if not np.isfinite(value)
    ]
    if missing:
        raise ValueError(f"importance has no finite value for {missing}")
    return values
