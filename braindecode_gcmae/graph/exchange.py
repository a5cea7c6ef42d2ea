"""Exchange with torch-geometric: dense graphs and its batches."""

from torch import Tensor

__all__ = [
    "from_pyg",
    "to_pyg",
]


def to_pyg(features: Tensor, adjacency: Tensor, present: Tensor | None = None):
    """Exchange with torch-geometric: dense graphs -> ``Batch``.

    Parameters
    ----------
    features : Tensor, shape (B, N, F)
    adjacency : Tensor, shape (B, N, N)
        Non-zero entries become edges; true is a weight of one.
    present : Tensor of bool, shape (B, N), optional
        Nodes that exist; the others are left out.

    Returns
    -------
    torch_geometric.data.Batch
        With ``x``, ``edge_index``, ``edge_weight``.
    """
    from torch_geometric.data import Batch, Data

    graphs = []
    for b in range(features.shape[0]):
        rows = slice(None) if present is None else present[b]
        edges = adjacency[b][rows][:, rows]
        index = edges.nonzero().T
        weight = edges[tuple(index)].to(features.dtype)
        graphs.append(Data(x=features[b][rows], edge_index=index, edge_weight=weight))
    return Batch.from_data_list(graphs)


def from_pyg(batch) -> tuple[Tensor, Tensor, Tensor]:
    """Exchange with torch-geometric: ``Batch`` (or ``Data``) -> dense, padded graphs.

    Parameters
    ----------
    batch : torch_geometric.data.Batch or Data
        With ``x`` and ``edge_index``, and ``edge_weight`` if edges have weights.

    Returns
    -------
    features : Tensor, shape (B, N, F)
        Each graph's nodes first, then zeros up to the largest graph's N.
    adjacency : Tensor, shape (B, N, N)
        ``edge_weight``, or ones.
    present : Tensor of bool, shape (B, N)
    """
    from torch_geometric.utils import to_dense_adj, to_dense_batch

    # Said, not guessed from the edges: the last nodes or graphs may have none.
    n_graphs = getattr(batch, "num_graphs", 1)
    features, present = to_dense_batch(batch.x, batch.batch, batch_size=n_graphs)
    adjacency = to_dense_adj(
        batch.edge_index,
        batch.batch,
        getattr(batch, "edge_weight", None),
        max_num_nodes=features.shape[1],
        batch_size=n_graphs,
    )
    return features, adjacency, present
