"""Electrode graphs: adjacency, Laplacian, Chebyshev basis, bridged pairs.

An adjacency is symmetric, non-negative and has an empty diagonal. Electrode graphs
have at most a few hundred nodes, so all of it is dense and batched; torch-geometric
is met only at the edges (:func:`to_pyg`, :func:`from_pyg`).
"""

from .exchange import from_pyg, to_pyg
from .formulas import (
    chebyshev_basis,
    coherence,
    geometric_adjacency,
    row_correlation,
    scaled_laplacian,
)
from .mean import EdgeMean
from .modules import (
    CoherenceGraph,
    FreeGraph,
    FunctionalGraph,
    GeometricGraph,
    LearnedGraph,
    MixedGraph,
)
from .pairs import binarise, topology_pairs

__all__ = [
    "CoherenceGraph",
    "EdgeMean",
    "FreeGraph",
    "FunctionalGraph",
    "GeometricGraph",
    "LearnedGraph",
    "MixedGraph",
    "binarise",
    "chebyshev_basis",
    "coherence",
    "from_pyg",
    "geometric_adjacency",
    "row_correlation",
    "scaled_laplacian",
    "to_pyg",
    "topology_pairs",
]
