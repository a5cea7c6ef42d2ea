"""Coverage of a graph by few of its nodes: formulas, and two ways to choose."""

import numpy as np
from scipy.sparse.csgraph import csgraph_from_dense, shortest_path

__all__ = [
    "coverage",
    "electrode_weights",
    "farthest_points",
    "graph_closeness",
    "greedy_coverage",
]

_TIE = 1e-6  # of a total weight of one: single precision cannot tell finer


def graph_closeness(adjacency: np.ndarray) -> np.ndarray:
    r"""How well one electrode stands for another in a graph, in [0, 1].

    .. math:: S_{jk} = e^{-d_{jk} / \tilde d}, \qquad
              d_{jk} = \min_{\text{paths } j \to k} \sum_{(a, b)} 1 / A_{ab} ,

    with the median :math:`\tilde d` of the finite distances between different
    electrodes, so that the scale of the weights is immaterial. :math:`S_{jj} = 1`;
    electrodes that no path joins have S = 0. :math:`1 - S` is a metric.

    Parameters
    ----------
    adjacency : ndarray, shape (N, N)
        Edge weights; the larger of the two directions' absolute values counts.

    Returns
    -------
    ndarray, shape (N, N)

    Raises
    ------
    ValueError
        If it is not a square matrix of finite numbers.

    References
    ----------
    Rubinov & Sporns (2010), https://doi.org/10.1016/j.neuroimage.2009.10.003
    """
    weights = np.abs(np.asarray(adjacency, dtype=float))
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(f"adjacency must be (N, N), got shape {weights.shape}")
    if not np.isfinite(weights).all():
        raise ValueError("adjacency must be finite")
    weights = np.maximum(weights, weights.T)
    np.fill_diagonal(weights, 0.0)
    strongest = weights.max(initial=0.0)
    if strongest == 0:
        return np.eye(len(weights))
    linked = weights > 1e-9 * strongest
    lengths = np.full_like(weights, np.inf)
    lengths[linked] = strongest / weights[linked]
    paths = csgraph_from_dense(lengths, null_value=np.inf)
    distance = shortest_path(paths, method="D", directed=False)
    distance = np.minimum(distance, distance.T)  # equal but for the last bit
    between = distance[np.isfinite(distance) & (distance > 0)]
    return np.exp(-distance / np.median(between))


def electrode_weights(importance: np.ndarray, uniform: float) -> np.ndarray:
    r"""Weights that sum to one: :math:`w_j = u / N + (1 - u)\, I_j / \sum_i I_i`.

    Parameters
    ----------
    importance : ndarray, shape (N,)
        Not negative. If it is zero throughout, the weights are uniform.
    uniform : float
        Share u in [0, 1] that all electrodes get alike.

    Returns
    -------
    ndarray, shape (N,)

    Raises
    ------
    ValueError
        If a value is negative or not finite, or ``uniform`` is out of range.
    """
    importance = np.asarray(importance, dtype=float)
    if not np.isfinite(importance).all() or (importance < 0).any():
        raise ValueError("importance must be finite and not negative")
    if not 0 <= uniform <= 1:
        raise ValueError(f"uniform must be in [0, 1], got {uniform}")
    n, total = len(importance), importance.sum()
    share = importance / total if total > 0 else np.full(n, 1 / n)
    return uniform / n + (1 - uniform) * share


def coverage(closeness: np.ndarray, weights: np.ndarray, kept) -> float:
    r"""Facility location: :math:`F(K) = \sum_j w_j \max_{k \in K} S_{jk}`.

    Monotone and submodular; 1 where everything is kept.

    Parameters
    ----------
    closeness : ndarray, shape (N, N)
        S of :func:`graph_closeness`.
    weights : ndarray, shape (N,)
        w of :func:`electrode_weights`.
    kept : sequence of int
        Rows K; nothing kept covers nothing.
    """
    return float(weights @ closeness[:, list(kept)].max(1, initial=0.0))


def greedy_coverage(closeness, weights, k, candidates) -> list[int]:
    r"""Add, k times, the electrode that raises the coverage most.

    :math:`F(K_{greedy}) \ge (1 - 1/e) \max_{|K| = k} F(K)`, and the first n of the k
    are the answer for n. Ties go to the larger weight, then to the first row.

    Parameters
    ----------
    closeness, weights : ndarray
        As in :func:`~braindecode_gcmae.selection.coverage`.
    k : int
    candidates : sequence of int
        Rows that may be kept, in the order in which ties are broken.

    References
    ----------
    Nemhauser, Wolsey & Fisher (1978), https://doi.org/10.1007/BF01588971
    """
    kept: list[int] = []
    covered = np.zeros(len(weights))
    for _ in range(k):
        left = [c for c in candidates if c not in kept]
        gains = weights @ np.maximum(closeness[:, left] - covered[:, None], 0.0)
        kept.append(left[_first_of_the_best(gains, weights[left])])
        covered = np.maximum(covered, closeness[:, kept[-1]])
    return kept


def farthest_points(closeness, weights, k, candidates) -> list[int]:
    r"""Start at the heaviest electrode; add, again and again, the worst covered one.

    The next is :math:`\arg\max_j w_j \min_{k \in K} (1 - S_{jk})`: weighted k-centre.
    With equal weights no electrode ends up farther from a kept one than twice what is
    possible at best.

    Parameters
    ----------
    closeness, weights, k, candidates
        As in :func:`greedy_coverage`.

    References
    ----------
    Dyer & Frieze (1985), https://doi.org/10.1016/0167-6377(85)90002-1
    """
    candidates = list(candidates)
    central = weights @ closeness[:, candidates]
    kept = [candidates[_first_of_the_best(weights[candidates], central)]]
    while len(kept) < k:
        left = [c for c in candidates if c not in kept]
        gap = weights[left] * (1 - closeness[left][:, kept].max(1))
        kept.append(left[_first_of_the_best(gap, weights[left])])
    return kept


def _first_of_the_best(first: np.ndarray, second: np.ndarray) -> int:
    """Largest in ``first``, among ties largest in ``second``, then the first."""
    best = first >= first.max() - _TIE
    best &= second >= second[best].max() - _TIE
    return int(np.flatnonzero(best)[0])
