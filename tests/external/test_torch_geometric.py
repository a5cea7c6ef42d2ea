"""Dense layers against torch-geometric's sparse ones, and the exchange with it."""

import pytest
import torch
from torch import nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import (
    ChebConv,
    DenseGCNConv,
    GATConv,
    GatedGraphConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GraphConv,
    MessagePassing,
    SAGEConv,
    TAGConv,
    TransformerConv,
)
from torch_geometric.utils import dense_to_sparse, get_laplacian, to_dense_adj

from braindecode_gcmae.encoders import (
    ChebyshevConvolution,
    ConvolutionEncoder,
    GraphTransformerEncoder,
    build_encoder,
    strong_edges,
)
from braindecode_gcmae.graph import (
    MixedGraph,
    from_pyg,
    scaled_laplacian,
    to_pyg,
)

CLOSE = {"rtol": 0, "atol": 1e-12}

pytestmark = pytest.mark.usefixtures("same_numbers_each_time")


def graphs(*shape, density=0.6):
    weight = torch.rand(*shape, shape[-1], dtype=torch.float64)
    weight = (weight * (torch.rand_like(weight) < density)).triu(1)
    return weight + weight.transpose(-1, -2)


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("density", [0.2, 0.6, 1.0])
def test_scaled_laplacian_agrees_with_get_laplacian(density):
    adjacency = graphs(9, density=density)
    index, weight = get_laplacian(*dense_to_sparse(adjacency), "sym", num_nodes=9)
    theirs = to_dense_adj(index, edge_attr=weight, max_num_nodes=9)[0]
    eye = torch.eye(9, dtype=torch.float64)
    # an isolated node has no edge: its row of L - I is zero, as ours is
    linked = (adjacency.sum(-1) > 0).double()[:, None]
    torch.testing.assert_close(
        scaled_laplacian(adjacency), (theirs - eye) * linked, **CLOSE
    )


def twins(in_dim, out_dim, order):
    ours = ChebyshevConvolution(in_dim, out_dim, order).double()
    theirs = ChebConv(in_dim, out_dim, order, normalization="sym").double()
    with torch.no_grad():
        nn.init.normal_(ours.bias)
        theirs.bias.copy_(ours.bias)
        for weight, linear in zip(ours.weight, theirs.lins, strict=True):
            linear.weight.copy_(weight.T)
    return ours, theirs


@pytest.mark.parametrize("order", [1, 2, 3, 8])
@pytest.mark.parametrize("density", [0.2, 0.6])
def test_chebyshev_convolution_agrees_with_chebconv(order, density):
    ours, theirs = twins(5, 4, order)
    adjacency, x = graphs(9, density=density), torch.randn(9, 5, dtype=torch.float64)
    torch.testing.assert_close(
        ours(x[None], scaled_laplacian(adjacency)[None])[0],
        theirs(x, *dense_to_sparse(adjacency), lambda_max=2.0),
        **CLOSE,
    )


def test_a_dense_batch_agrees_with_a_sparse_batch():
    ours, theirs = twins(5, 4, 4)
    adjacency, x = graphs(3, 7), torch.randn(3, 7, 5, dtype=torch.float64)
    batch = to_pyg(x, adjacency)
    expected = theirs(
        batch.x, batch.edge_index, batch.edge_weight, batch.batch, lambda_max=2.0
    )
    torch.testing.assert_close(
        ours(x, scaled_laplacian(adjacency)), expected.reshape(3, 7, 4), **CLOSE
    )


CONVOLUTIONS = [
    GCNConv,
    ChebConv,
    GATConv,
    SAGEConv,
    GraphConv,
    GATv2Conv,
    TAGConv,
    TransformerConv,
]
any_convolution = pytest.mark.parametrize(
    "convolution", CONVOLUTIONS, ids=lambda c: c.__name__
)


def encoder_of(convolution, depth=2):
    arguments = {"depth": depth, "n_heads": 2, "order": 3, "activation": nn.ELU}
    encoder = build_encoder(convolution, 8, **arguments, drop_prob=0.1)
    assert type(encoder) is ConvolutionEncoder
    nn.init.uniform_(encoder.gains, 0.5, 1.5)  # they start at zero
    return encoder.double().eval()


@any_convolution
def test_any_convolution_is_an_encoder_of_the_graph_and_its_weights(convolution):
    encoder = encoder_of(convolution)
    h, adjacency = torch.randn(2, 6, 8, dtype=torch.float64), graphs(2, 6)
    exists = torch.ones(2, 6, dtype=torch.bool)
    adjacency.requires_grad_()
    ours = encoder(h, adjacency, exists)
    assert ours.shape == (2, 6, 8)
    assert (ours - encoder(h, graphs(2, 6, density=0.3), exists)).abs().max() > 1e-3
    ours.square().sum().backward()
    for name, parameter in encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
    weighted = convolution in (GCNConv, ChebConv, GraphConv, TAGConv)
    assert (adjacency.grad is not None) == weighted
    if weighted:
        assert adjacency.grad.abs().sum() > 0


@any_convolution
def test_any_convolution_encodes_a_batch_as_its_windows_one_by_one(convolution):
    encoder = encoder_of(convolution)
    h, adjacency = torch.randn(3, 6, 8, dtype=torch.float64), graphs(3, 6)
    exists = torch.ones(3, 6, dtype=torch.bool)
    together = encoder(h, adjacency, exists)
    for b in range(3):
        one = slice(b, b + 1)
        alone = encoder(h[one], adjacency[one], exists[one])
        torch.testing.assert_close(alone, together[one], **CLOSE)


@any_convolution
def test_any_convolution_follows_the_order_of_electrodes_and_ignores_padding(
    convolution,
):
    encoder = encoder_of(convolution)
    h, adjacency = torch.randn(2, 6, 8, dtype=torch.float64), graphs(2, 6)
    exists = torch.ones(2, 6, dtype=torch.bool)
    ours, order = encoder(h, adjacency, exists), torch.randperm(6)
    moved = encoder(h[:, order], adjacency[:, order][:, :, order], exists)
    torch.testing.assert_close(moved, ours[:, order], **CLOSE)
    wide = torch.zeros(2, 8, 8, dtype=torch.float64)
    wide[:, :6, :6] = adjacency
    padded = torch.cat([h, 100 * torch.ones(2, 2, 8, dtype=torch.float64)], 1)
    there = torch.arange(8).expand(2, 8) < 6
    torch.testing.assert_close(encoder(padded, wide, there)[:, :6], ours, **CLOSE)


def test_a_stack_of_convolutions_agrees_with_the_layers_called_by_hand():
    encoder = encoder_of(GCNConv, depth=2)
    h, adjacency = torch.randn(2, 5, 8, dtype=torch.float64), graphs(2, 5)
    expected = h.clone()
    for b in range(2):
        edges = dense_to_sparse(adjacency[b])
        layers = zip(encoder.norms, encoder.layers, encoder.gains, strict=True)
        for norm, layer, gain in layers:
            update = nn.functional.elu(layer(norm(expected[b]), *edges))
            expected[b] = expected[b] + gain * update
    ours = encoder(h, adjacency, torch.ones(2, 5, dtype=torch.bool))
    torch.testing.assert_close(ours, expected, **CLOSE)


@any_convolution
def test_a_complete_graph_is_told_from_another_by_its_weights(convolution):
    encoder = encoder_of(convolution)
    h = torch.randn(1, 6, 8, dtype=torch.float64)
    exists = torch.ones(1, 6, dtype=torch.bool)
    one, other = (graphs(1, 6, density=1.0) for _ in range(2))
    assert ((one > 0) == (other > 0)).all()
    assert (encoder(h, one, exists) - encoder(h, other, exists)).abs().max() > 1e-3


def test_strong_edges_are_those_above_the_mean_of_their_window():
    adjacency = graphs(4, 7, density=0.7)
    kept = strong_edges(adjacency)
    for graph, strong in zip(adjacency, kept, strict=True):
        mean = graph[graph > 0].mean()
        torch.testing.assert_close(strong, graph * (graph >= mean))
    alike = (adjacency > 0).double() / 3
    assert torch.equal(strong_edges(alike), alike)
    assert torch.equal(strong_edges(0 * alike), 0 * alike)


def test_the_chebyshev_order_reaches_a_convolution_that_takes_one():
    encoder = build_encoder(ChebConv, 8, depth=1, order=5)
    assert len(encoder.layers[0].lins) == 5
    assert encoder.dropout.p == 0.0
    assert isinstance(encoder.activation, nn.GELU)


class Isomorphism(GINConv):
    """Its own layer inside, as torch-geometric's takes one."""

    def __init__(self, in_channels, out_channels):
        super().__init__(nn.Linear(in_channels, out_channels))


def test_a_class_derived_from_a_convolution_is_wrapped_as_one():
    encoder = build_encoder(Isomorphism, 8, depth=2, n_heads=1, order=3)
    assert type(encoder) is ConvolutionEncoder
    exists = torch.ones(2, 5, dtype=torch.bool)
    out = encoder(torch.randn(2, 5, 8), graphs(2, 5).float(), exists)
    assert out.shape == (2, 5, 8)


class Whole(MessagePassing):
    """An encoder of one's own, of the arguments that encoders have."""

    def __init__(self, dim, depth, n_heads, order, activation, drop_prob):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, dim) for _ in range(depth)])

    def forward(self, h, adjacency, exists):
        for layer in self.layers:
            h = layer(adjacency @ h)
        return h * exists.unsqueeze(-1)


def test_an_encoder_that_passes_messages_is_no_convolution():
    arguments = {"n_heads": 1, "order": 3, "activation": nn.ELU, "drop_prob": 0.0}
    assert type(build_encoder(Whole, 8, depth=2, **arguments)) is Whole


@pytest.mark.parametrize("convolution", [GINConv, GatedGraphConv])
def test_a_convolution_of_other_arguments_is_refused_when_it_is_built(convolution):
    # of two widths one would make its network, the other its number of layers
    with pytest.raises(TypeError, match="in_channels, out_channels: derive a class"):
        build_encoder(convolution, 8, depth=1)


def test_a_convolution_of_dense_graphs_is_refused_when_it_is_built():
    with pytest.raises(TypeError, match="DenseGCNConv takes a dense adjacency"):
        build_encoder(DenseGCNConv, 8, depth=1)


def test_our_modules_script_beside_torch_geometric():
    # it replaces torch.index_select when imported
    encoder = GraphTransformerEncoder(8, 1)
    h, adjacency = torch.randn(2, 5, 8), graphs(2, 5).float()
    given = h, adjacency, torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(torch.jit.script(encoder)(*given), encoder(*given))
    assert torch.jit.script(MixedGraph(4)).scale == MixedGraph(4).scale


# ---------------------------------------------------------------- exchange


def test_round_trip_through_torch_geometric():
    features, adjacency = torch.randn(3, 6, 4, dtype=torch.float64), graphs(3, 6)
    adjacency[2] = 0
    batch = to_pyg(features, adjacency)
    assert isinstance(batch, Batch) and batch.num_graphs == 3
    back, edges, present = from_pyg(batch)
    assert torch.equal(back, features) and torch.equal(edges, adjacency)
    assert present.shape == (3, 6) and present.all()


def test_every_edge_stays_in_its_own_graph():
    # METHOD B-31: the public code turned edges into self-loops of graph 0
    features, adjacency = torch.randn(3, 6, 4), graphs(3, 6).float()
    batch = to_pyg(features, adjacency)
    assert torch.equal(batch.batch, torch.arange(3).repeat_interleave(6))
    assert not batch.has_self_loops() and batch.is_undirected()
    source, target = batch.edge_index
    assert torch.equal(batch.batch[source], batch.batch[target])
    graph, i, j = batch.batch[source], source % 6, target % 6
    assert torch.equal(adjacency[graph, i, j], batch.edge_weight)
    assert len(batch.edge_weight) == (adjacency != 0).sum()


def test_absent_nodes_are_left_out_and_come_back_as_padding():
    features, adjacency = torch.randn(3, 5, 4), graphs(3, 5, density=1.0).float()
    present = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 0, 0, 0], [0, 1, 1, 1, 1]]).bool()
    batch = to_pyg(features, adjacency, present)
    assert batch.ptr.tolist() == [0, 3, 3, 7]
    back, edges, there = from_pyg(batch)
    assert there.tolist() == [[True] * 3 + [False], [False] * 4, [True] * 4]
    for b in range(3):
        rows = present[b].nonzero()[:, 0]
        n = len(rows)
        assert torch.equal(back[b, :n], features[b, rows])
        assert torch.equal(edges[b, :n, :n], adjacency[b][rows][:, rows])
        assert (edges[b, n:] == 0).all() and (edges[b, :, n:] == 0).all()
        assert (back[b, n:] == 0).all()


def test_a_last_window_without_nodes_is_not_lost():
    features, adjacency = torch.randn(2, 3, 4), graphs(2, 3).float()
    present = torch.tensor([[True, True, True], [False, False, False]])
    back, edges, there = from_pyg(to_pyg(features, adjacency, present))
    assert back.shape == (2, 3, 4) and edges.shape == (2, 3, 3)
    assert torch.equal(there, present)


def test_a_graph_made_elsewhere_without_weights_or_with_isolated_nodes_comes_in():
    graph = Data(x=torch.randn(4, 2), edge_index=torch.tensor([[0, 1], [1, 0]]))
    features, adjacency, present = from_pyg(graph)
    expected = torch.zeros(1, 4, 4)
    expected[0, 0, 1] = expected[0, 1, 0] = 1
    assert torch.equal(adjacency, expected)
    assert torch.equal(features[0], graph.x) and present.all()


def test_gradients_pass_through_the_exchange():
    features = torch.randn(2, 4, 3, requires_grad=True)
    adjacency = graphs(2, 4, density=1.0).float().requires_grad_()
    back, edges, _ = from_pyg(to_pyg(features, adjacency))
    (back.sum() + 2 * edges.sum()).backward()
    assert (features.grad == 1).all()
    off = ~torch.eye(4, dtype=torch.bool)
    assert (adjacency.grad[:, off] == 2).all()


def test_a_boolean_adjacency_has_weights_of_one():
    adjacency = graphs(2, 4) > 0.3
    batch = to_pyg(torch.randn(2, 4, 3), adjacency)
    assert batch.edge_weight.dtype == torch.float32
    assert (batch.edge_weight == 1).all()
    assert torch.equal(from_pyg(batch)[1], adjacency.float())
