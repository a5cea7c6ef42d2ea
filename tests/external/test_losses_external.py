"""Losses against answers that nobody here wrote."""

import torch

from braindecode_gcmae.graph import topology_pairs
from braindecode_gcmae.losses import (
    info_nce,
    local_structure_loss,
    topology_distillation_loss,
)


def graph(n=9, seed=0):
    generator = torch.Generator().manual_seed(seed)
    linked = torch.rand(n, n, generator=generator) < 0.4
    linked = (linked | linked.T) & ~torch.eye(n, dtype=torch.bool)
    nodes = torch.randn(2, n, 5, dtype=torch.float64, generator=generator)
    return nodes[:1], nodes[1:], linked


def test_local_structure_is_a_sparse_softmax_over_edges_of_pyg():
    from torch_geometric.utils import dense_to_sparse, scatter, softmax

    student, teacher, linked = graph()
    got = local_structure_loss(
        student, teacher, linked, torch.arange(9), kernel="linear", temperature=2.0
    )
    row, column = dense_to_sparse(linked.long())[0]
    shares = []
    for nodes in (student[0], teacher[0]):
        edge = (nodes[row] * nodes[column]).sum(-1) / 2.0
        shares.append(softmax(edge, row, num_nodes=9))
    q, p = shares
    divergence = scatter(p * (p / q).log(), row, dim=0, dim_size=9, reduce="sum")
    torch.testing.assert_close(got, divergence.mean())


def test_topology_loss_is_a_sparse_softmax_over_the_complete_graph_of_pyg():
    from torch_geometric.utils import dense_to_sparse, softmax

    student, teacher, linked = graph()
    off = ~torch.eye(9, dtype=torch.bool)
    positive, negative = linked, off & ~linked
    got = topology_distillation_loss(
        student, teacher, positive, negative, torch.arange(9), eps=0.01,
        kernel="linear", temperature=2.0,
    )  # fmt: skip
    row, column = dense_to_sparse(off.long())[0]
    shares = []
    for nodes in (student[0], teacher[0]):
        edge = (nodes[row] * nodes[column]).sum(-1) / 2.0
        shares.append(softmax(edge, row, num_nodes=9))
    q, p = shares
    term = p * (p / q).log() - p + q
    near, far = term[positive[row, column]].mean(), term[negative[row, column]].mean()
    torch.testing.assert_close(got, near / (far + 0.01))


def test_topology_loss_takes_the_pairs_of_the_graph_module():
    student, teacher, linked = graph()
    kept = torch.tensor([0, 2, 3, 7])
    positive, negative = topology_pairs(linked[kept][:, kept], linked, kept)
    loss = topology_distillation_loss(
        student[:, kept], teacher, positive, negative, kept
    )
    assert loss > 0
    own = topology_distillation_loss(
        teacher[:, kept], teacher, positive, negative, kept
    )
    assert own == 0


def test_info_nce_is_the_cross_entropy_of_torch():
    generator = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    queue = torch.randn(11, 4, dtype=torch.float64, generator=generator)
    got = info_nce(queries, keys.unsqueeze(1), queue, temperature=0.3)
    q, k, negatives = (
        torch.nn.functional.normalize(x, dim=1) for x in (queries, keys, queue)
    )
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ negatives.T], dim=1) / 0.3
    theirs = torch.nn.functional.cross_entropy(logits, torch.zeros(6).long())
    torch.testing.assert_close(got, theirs)
