"""Encoders: slow loops, permutations, padding, depth; the graph has to matter."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from braindecode_gcmae.encoders import (
    ChebyshevConvolution,
    ChebyshevEncoder,
    ConvolutionEncoder,
    Dropout,
    GraphDecoder,
    GraphTransformerEncoder,
    build_encoder,
)
from braindecode_gcmae.graph import chebyshev_basis, scaled_laplacian

DIM = 8
ENCODERS = {
    "chebyshev": lambda depth=2: ChebyshevEncoder(DIM, depth),
    "transformer": lambda depth=2: GraphTransformerEncoder(DIM, depth, n_heads=2),
    "decoder": lambda depth=1: GraphDecoder(DIM, 5, n_heads=2),
}
every_encoder = pytest.mark.parametrize("kind", ENCODERS)

pytestmark = pytest.mark.usefixtures("same_numbers_each_time")


def graphs(*shape, dtype=torch.float64):
    weight = torch.rand(*shape, shape[-1], dtype=dtype).triu(1)
    return weight + weight.transpose(-1, -2)


def trained(module, gain=1.0):
    """As after some training: the gains of the updates start at zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.rpartition(".")[2].startswith("gain"):
                parameter.copy_(gain * (0.5 + torch.rand_like(parameter)))
    return module


def encoder_of(kind, **arguments):
    return trained(ENCODERS[kind](**arguments).double().eval())


def window(b=2, n=6):
    h = torch.randn(b, n, DIM, dtype=torch.float64)
    return h, graphs(b, n), torch.ones(b, n, dtype=torch.bool)


# ---------------------------------------------------------------- convolution


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@pytest.mark.parametrize("bias", [True, False])
def test_chebyshev_convolution_agrees_with_the_sum_over_polynomials(order, bias):
    layer = ChebyshevConvolution(4, 3, order, bias).double()
    if bias:
        nn.init.normal_(layer.bias)
    x, laplacian = torch.randn(2, 5, 4).double(), scaled_laplacian(graphs(2, 5))
    basis = chebyshev_basis(laplacian, order)
    expected = torch.zeros(2, 5, 3, dtype=torch.float64)
    for k in range(order):
        for b in range(2):
            expected[b] += basis[k, b] @ x[b] @ layer.weight[k].detach()
    expected = expected + (layer.bias if bias else 0)
    torch.testing.assert_close(layer(x, laplacian), expected, rtol=0, atol=1e-12)
    assert (layer.bias is not None) == bias


def test_chebyshev_convolution_by_hand():
    layer = ChebyshevConvolution(1, 1, 3)
    with torch.no_grad():
        layer.weight[:] = torch.tensor([1.0, 10.0, 100.0])[:, None, None]
        layer.bias.fill_(0.5)
    swap = torch.tensor([[0.0, -1.0], [-1.0, 0.0]])  # one edge: T_2 = I
    x = torch.tensor([[[2.0], [3.0]]])
    expected = torch.tensor([[[2 - 30 + 200.5], [3 - 20 + 300.5]]])
    torch.testing.assert_close(layer(x, swap), expected)


@pytest.mark.parametrize("order", [1, 3, 7])
@pytest.mark.parametrize("bias", [True, False])
def test_one_laplacian_serves_all_windows(order, bias):
    layer = ChebyshevConvolution(4, 3, order, bias).double()
    x = torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)
    laplacian = scaled_laplacian(graphs(5)).requires_grad_()
    sources = [x, laplacian, *layer.parameters()]

    def value_and_gradients(laplacians):
        value = layer(x, laplacians)
        loss = value.square().sum()
        gradients = torch.autograd.grad(loss, sources, materialize_grads=True)
        return value, *gradients

    shared = value_and_gradients(laplacian)
    apart = value_and_gradients(laplacian.expand(3, 5, 5))
    torch.testing.assert_close(shared, apart, rtol=1e-12, atol=1e-12)


def test_chebyshev_weights_start_as_xavier_per_polynomial():
    layer = ChebyshevConvolution(60, 90, 4)
    bound = math.sqrt(6 / 150)
    for weight in layer.weight:
        assert weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert (layer.bias == 0).all()


def test_chebyshev_convolution_gradient_agrees_with_finite_differences():
    layer = ChebyshevConvolution(2, 2).double()
    x = torch.randn(1, 3, 2, dtype=torch.float64, requires_grad=True)
    adjacency = graphs(1, 3).requires_grad_()

    def through(x, adjacency, weight):
        parameters = {"weight": weight, "bias": layer.bias}
        inputs = (x, scaled_laplacian(adjacency))
        return torch.func.functional_call(layer, parameters, inputs)

    weight = layer.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(through, (x, adjacency, weight))


@pytest.mark.parametrize("order", [0, -2])
def test_order_below_one_is_an_error(order):
    with pytest.raises(ValueError, match=f"order must be at least 1, got {order}"):
        ChebyshevConvolution(2, 2, order)


# ---------------------------------------------------------------- attention


def softmax_attention(block, h, adjacency, exists):
    """One pre-norm block, head by head and node by node, in numpy."""
    b, n, dim = h.shape
    width = dim // block.n_heads
    q, k, v = np.split(block.qkv(block.norm1(h)).detach().numpy(), 3, -1)
    mixed = np.zeros((b, n, dim))
    for w in range(b):
        nodes = [j for j in range(n) if exists[w, j]]
        for head in range(block.n_heads):
            part = slice(head * width, (head + 1) * width)
            for i in range(n):
                score = [
                    q[w, i, part] @ k[w, j, part] / math.sqrt(width)
                    + block.edge[head].item() * adjacency[w, i, j].item()
                    for j in nodes
                ]
                weight = np.exp(score) / np.exp(score).sum()
                mixed[w, i, part] = sum(
                    a * v[w, j, part] for a, j in zip(weight, nodes, strict=True)
                )
    h = h + block.gains[0] * block.out(torch.from_numpy(mixed))
    return h + block.gains[1] * block.feed_forward(block.norm2(h))


def test_attention_agrees_with_a_slow_loop():
    encoder = encoder_of("transformer", depth=1)
    block = encoder.layers[0]
    nn.init.normal_(block.edge)
    h, adjacency, exists = window()
    exists[1, 4:] = False
    expected = softmax_attention(block, h, adjacency, exists)
    ours = encoder(h, adjacency, exists)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)


def test_a_width_that_the_heads_do_not_divide_is_an_error():
    with pytest.raises(ValueError, match="emb_dim=10 is not a multiple of n_heads=4"):
        GraphTransformerEncoder(10, 1, 4)


# ---------------------------------------------------------------- laws of all


@every_encoder
def test_a_batch_is_encoded_as_its_windows_one_by_one(kind):
    encoder = encoder_of(kind)
    h, adjacency, exists = window(3)
    exists[1, 5] = False
    together = encoder(h, adjacency, exists)
    for b in range(3):
        one = slice(b, b + 1)
        alone = encoder(h[one], adjacency[one], exists[one])
        torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-12)


@every_encoder
def test_permuting_the_electrodes_permutes_their_embeddings(kind):
    encoder = encoder_of(kind)
    h, adjacency, exists = window()
    exists[0, 2] = False
    order = torch.randperm(6)
    ours = encoder(h, adjacency, exists)
    moved = encoder(h[:, order], adjacency[:, order][:, :, order], exists[:, order])
    torch.testing.assert_close(moved, ours[:, order], rtol=0, atol=1e-12)


@every_encoder
def test_the_graph_matters(kind):
    # METHOD B-29: the public transformer was blind to it
    encoder = encoder_of(kind)
    h, adjacency, exists = window()
    adjacency.requires_grad_()
    ours = encoder(h, adjacency, exists)
    other = encoder(h, graphs(2, 6), exists)
    assert (ours - other).abs().max() > 1e-3
    ours.square().sum().backward()
    assert adjacency.grad.abs().sum() > 0


@every_encoder
def test_one_node_reaches_the_others(kind):
    # METHOD B-13: the public decoder mixed features, never nodes
    encoder = encoder_of(kind)
    h, adjacency, exists = window()
    before = encoder(h, adjacency, exists)
    h[:, 5] = torch.randn(DIM)
    after = encoder(h, adjacency, exists)
    assert ((after - before)[:, :5].abs().amax(-1) > 1e-6).all()


@every_encoder
def test_padding_changes_nothing(kind):
    encoder = encoder_of(kind)
    h, adjacency, exists = window()
    expected = encoder(h, adjacency, exists)
    padded = torch.cat([h, 1e3 * torch.randn(2, 3, DIM)], 1).requires_grad_()
    wide = torch.zeros(2, 9, 9, dtype=torch.float64)
    wide[:, :6, :6] = adjacency
    there = torch.arange(9).expand(2, 9) < 6
    ours = encoder(padded, wide, there)
    torch.testing.assert_close(ours[:, :6], expected, rtol=0, atol=1e-12)
    assert torch.isfinite(ours).all()
    ours[:, :6].square().sum().backward()
    assert (padded.grad[:, 6:] == 0).all() and (padded.grad[:, :6] != 0).any()


@every_encoder
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_window_of_padding_alone_is_finite_in_any_precision(kind, dtype):
    encoder = ENCODERS[kind]().to(dtype)
    h, adjacency, _ = (part.to(dtype) for part in window())
    exists = torch.tensor([[True] * 6, [False] * 6])
    assert torch.isfinite(encoder(h, adjacency, exists)).all()


@every_encoder
def test_any_number_of_electrodes_with_the_same_weights(kind):
    encoder = encoder_of(kind)
    for n in (1, 4, 64):
        ours = encoder(*window(2, n))
        assert ours.shape == (2, n, 5 if kind == "decoder" else DIM)
        assert torch.isfinite(ours).all()


@pytest.mark.parametrize("kind", ["chebyshev", "transformer"])
@pytest.mark.parametrize("depth", [8, 24])
def test_deep_stacks_stay_bounded_and_learn(kind, depth):
    # METHOD B-30: eight layers of K = 10 without norm grew from 0.9 to 159
    encoder = encoder_of(kind, depth=depth)
    if kind == "chebyshev":
        encoder = trained(ChebyshevEncoder(DIM, depth, order=10).double())
    h, adjacency, exists = window(4, 20)
    ours = encoder(h, adjacency, exists)
    # every update is of the scale of one layer: no faster than the depth
    assert ours.abs().mean() < 2 * depth * h.abs().mean()
    ours.square().mean().backward()
    for name, parameter in encoder.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", ["chebyshev", "transformer"])
def test_an_untrained_stack_passes_the_nodes_through_and_can_start_to_learn(kind):
    encoder = ENCODERS[kind](depth=3).double()
    h, adjacency, exists = window()
    ours = encoder(h, adjacency, exists)
    assert torch.equal(ours, h)
    (ours * torch.randn_like(ours)).sum().backward()
    gains = [p.grad for name, p in encoder.named_parameters() if "gain" in name]
    assert len(gains) == 3 and all((g != 0).all() for g in gains)


@every_encoder
def test_scripted_encoders_are_the_eager_ones(kind):
    encoder = encoder_of(kind)
    scripted = torch.jit.script(encoder)
    parts = window()
    torch.testing.assert_close(scripted(*parts), encoder(*parts))
    layer = torch.jit.script(ChebyshevConvolution(3, 2, bias=False))
    assert layer(torch.randn(1, 4, 3), torch.eye(4)).shape == (1, 4, 2)


@pytest.mark.parametrize("kind", [ChebyshevEncoder, GraphTransformerEncoder])
def test_activation_depth_and_dropout_are_those_asked_for(kind):
    encoder = trained(kind(DIM, 3, 2, activation=nn.ELU, drop_prob=0.25))
    assert len(encoder.layers) == 3
    modules = list(encoder.modules())
    assert sum(isinstance(m, nn.ELU) for m in modules) == 3
    assert not any(isinstance(m, nn.GELU) for m in modules)
    assert {m.p for m in modules if isinstance(m, nn.Dropout)} == {0.25}
    parts = [part.float() if part.is_floating_point() else part for part in window()]
    encoder.train()
    assert not torch.equal(encoder(*parts), encoder(*parts))
    encoder.eval()
    assert torch.equal(encoder(*parts), encoder(*parts))


def test_chebyshev_encoder_has_the_order_asked_for():
    encoder = ChebyshevEncoder(DIM, 1, order=4)
    assert encoder.layers[0].convolution.weight.shape == (4, DIM, DIM)


# ---------------------------------------------------------------- decoder


def test_a_masked_node_is_painted_from_its_neighbours():
    # METHOD B-13: three nodes see the wave, the masked one has to be told
    decoder = GraphDecoder(DIM, 1, n_heads=2)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.01)
    adjacency = graphs(64, 4, dtype=torch.float32)
    exists = torch.ones(64, 4, dtype=torch.bool)
    level = torch.randn(64, 1, 1)
    h = torch.randn(DIM) + torch.randn(DIM) * level.expand(64, 4, 1)
    h = torch.where(torch.arange(4)[:, None] == 3, torch.zeros(()), h)
    for _ in range(200):
        optimizer.zero_grad()
        loss = (decoder(h, adjacency, exists)[:, 3] - level[:, 0]).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * level.var()


def test_decoder_starts_at_unit_scale():
    assert GraphDecoder(100, 400, 4).out.weight.std().item() == pytest.approx(
        0.1, rel=0.02
    )


# ---------------------------------------------------------------- building


class Plain(nn.Module):
    def __init__(self, dim, depth, n_heads, order, activation, drop_prob):
        super().__init__()
        self.given = (dim, depth, n_heads, order, activation, drop_prob)


def test_build_encoder_hands_over_every_argument():
    arguments = {
        "depth": 3,
        "n_heads": 2,
        "order": 4,
        "activation": nn.ReLU,
        "drop_prob": 0.1,
    }
    assert build_encoder(Plain, 8, **arguments).given == (8, 3, 2, 4, nn.ReLU, 0.1)
    for kind in (ChebyshevEncoder, GraphTransformerEncoder):
        built = build_encoder(kind, 8, **arguments)
        assert type(built) is kind and len(built.layers) == 3
        assert any(isinstance(m, nn.ReLU) for m in built.modules())


class MeanOfNeighbours(nn.Module):
    """A convolution of one's own, without edge weights."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x, edge_index):
        source, target = edge_index
        total = torch.zeros_like(x).index_add(0, target, x[source])
        degree = torch.bincount(target, minlength=len(x)).clamp_min(1)
        return self.linear(total / degree[:, None])


def test_a_convolution_sees_each_window_s_own_edges():
    # METHOD B-31: the public code linked every graph of a batch into the first
    encoder = ConvolutionEncoder(DIM, 1, convolution=MeanOfNeighbours).double()
    encoder = trained(encoder)
    h, adjacency, exists = window()
    adjacency = adjacency * (adjacency > 0.5)
    linear = encoder.layers[0].linear
    z = encoder.norms[0](h)
    expected = torch.zeros_like(h)
    for b in range(2):
        for i in range(6):
            # of a convolution that takes no weights, those above the window's mean
            strong = adjacency[b][adjacency[b] > 0].mean()
            near = [j for j in range(6) if adjacency[b, i, j] > strong]
            mean = z[b, near].mean(0) if near else torch.zeros_like(z[b, 0])
            update = nn.functional.gelu(linear(mean))
            expected[b, i] = h[b, i] + encoder.gains[0] * update
    torch.testing.assert_close(
        encoder(h, adjacency, exists), expected, rtol=0, atol=1e-10
    )


def test_dropout_is_no_operation_in_inference_and_torchs_in_training():
    x = torch.randn(64, 8)
    dropout = Dropout(0.5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ours = dropout(x)
        torch.manual_seed(0)
        theirs = torch.nn.Dropout(0.5)(x)
    assert torch.equal(ours, theirs)
    assert dropout.eval()(x) is x
