"""Figures: matplotlib axes in, axes out; heads are MNE's; colours read by everybody."""

from .curves import plot_density_curve, plot_training_curves
from .embedding import plot_embedding
from .graphs import plot_electrode_graph, plot_topology_gap
from .heads import draw_head, project_positions
from .reconstruction import plot_reconstruction

__all__ = [
    "draw_head",
    "plot_density_curve",
    "plot_electrode_graph",
    "plot_embedding",
    "plot_reconstruction",
    "plot_topology_gap",
    "plot_training_curves",
    "project_positions",
]
