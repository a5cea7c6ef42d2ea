"""Which electrodes to keep: coverage of the teacher's graph, by importance."""

from .coverage import (
    coverage,
    electrode_weights,
    farthest_points,
    graph_closeness,
    greedy_coverage,
)
from .select import select_electrodes
from .teacher import mean_graph, occlusion_importance

__all__ = [
    "coverage",
    "electrode_weights",
    "farthest_points",
    "graph_closeness",
    "greedy_coverage",
    "mean_graph",
    "occlusion_importance",
    "select_electrodes",
]
