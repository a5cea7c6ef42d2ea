"""Electrode graphs: eigenvalues, slow loops, cases by hand, the paper's Fig. 2."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from scipy import signal

from braindecode_gcmae.features import Electrodes, SpectralFeatures
from braindecode_gcmae.graph import (
    CoherenceGraph,
    EdgeMean,
    FreeGraph,
    FunctionalGraph,
    GeometricGraph,
    LearnedGraph,
    MixedGraph,
    binarise,
    chebyshev_basis,
    coherence,
    geometric_adjacency,
    row_correlation,
    scaled_laplacian,
    topology_pairs,
)

CLOSE = {"rtol": 0, "atol": 1e-12}

pytestmark = pytest.mark.usefixtures("same_numbers_each_time")


def random_adjacency(*shape, seed=0, density=1.0):
    """Symmetric, non-negative, empty diagonal, float64."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(size=(*shape, shape[-1]))
    weight *= rng.uniform(size=weight.shape) < density
    upper = np.triu(weight, 1)
    return torch.from_numpy(upper + np.swapaxes(upper, -1, -2))


def boolean(names, edges):
    index = {name: i for i, name in enumerate(names)}
    graph = torch.zeros(len(names), len(names), dtype=torch.bool)
    for edge in edges:
        a, b = (index[name] for name in edge.split("-"))
        graph[a, b] = graph[b, a] = True
    return graph


def edges_of(graph, names):
    assert torch.equal(graph, graph.T)
    rows = graph.triu(1).nonzero().tolist()
    assert graph.sum() == 2 * len(rows)  # nothing on the diagonal
    return {"-".join(sorted((names[a], names[b]))) for a, b in rows}


def random_electrodes(n_windows=2, n=6, n_basis=5, seed=0, dtype=torch.float32):
    """Nodes anywhere, with any basis; the last of window 0 is padding, 1 is missing."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=(n_windows, n, 3))
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    exists = torch.ones(n_windows, n, dtype=torch.bool)
    exists[0, -1] = False
    present = exists.clone()
    present[:, 1] = False
    return Electrodes(
        torch.as_tensor(0.09 * direction, dtype=dtype),
        torch.as_tensor(rng.normal(size=(n_windows, n, n_basis)), dtype=dtype),
        exists,
        present,
    )


# ---------------------------------------------------------------- correlation


def test_row_correlation_agrees_with_numpy():
    x = torch.randn(3, 5, 40, dtype=torch.float64) * 7 + 100
    ours = row_correlation(x)
    for window, matrix in zip(x, ours, strict=True):
        torch.testing.assert_close(
            matrix, torch.from_numpy(np.corrcoef(window.numpy())), **CLOSE
        )


def test_row_correlation_is_the_gram_matrix_of_centred_unit_rows():
    # METHOD D13, written as a loop
    x = torch.randn(4, 9, dtype=torch.float64)
    unit = [(row - row.mean()) / (row - row.mean()).norm() for row in x]
    gram = torch.stack([torch.stack([a @ b for b in unit]) for a in unit])
    torch.testing.assert_close(row_correlation(x), gram, **CLOSE)


def test_row_correlation_by_hand():
    x = torch.tensor([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [1.0, 3.0, 1.0]])
    expected = [[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    torch.testing.assert_close(row_correlation(x), torch.tensor(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("constant", [0.0, 5.0, 0.1, 123456.7])
def test_a_constant_row_correlates_with_nothing(constant, dtype):
    x = torch.randn(3, 50, dtype=dtype)
    x[1] = constant
    x.requires_grad_()
    correlation = row_correlation(x)
    seen = correlation.detach()
    assert (seen[1] == 0).all() and (seen[:, 1] == 0).all()
    assert seen[0, 0].item() == pytest.approx(1, abs=1e-6)
    correlation.square().sum().backward()
    assert torch.isfinite(x.grad).all()
    assert (x.grad[1] == 0).all()


@pytest.mark.parametrize("scale", [1e-14, 1e-6, 1e6])
def test_row_correlation_has_no_unit(scale):
    # powers of signals in volts are around 1e-13 V²/Hz
    x = torch.randn(4, 30)
    torch.testing.assert_close(row_correlation(x * scale), row_correlation(x))


def test_a_small_variation_on_a_large_mean_still_correlates():
    x = torch.linspace(0, 1, 20, dtype=torch.float64).repeat(2, 1) + 1e5
    torch.testing.assert_close(
        row_correlation(x), torch.ones_like(x[:, :2]), rtol=0, atol=1e-6
    )


def test_row_correlation_gradient_agrees_with_finite_differences():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(row_correlation, (x,))


# ---------------------------------------------------------------- coherence


def fourier(x, sfreq, n_per_seg):
    """Coefficients (N, S, F) of scipy's segments: half overlap, Hann, mean-free."""
    starts = range(0, x.shape[-1] - n_per_seg + 1, n_per_seg - n_per_seg // 2)
    pieces = np.stack([x[:, s : s + n_per_seg] for s in starts], 1)
    pieces = signal.detrend(pieces, type="constant") * signal.get_window(
        "hann", n_per_seg
    )
    z = np.fft.rfft(pieces)[..., 1:]
    return torch.from_numpy(z.real)[None], torch.from_numpy(z.imag)[None]


def mixed_noise(n, n_times, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n)) @ rng.normal(size=(n, n_times))


@pytest.mark.parametrize("scale", [1.0, 1e-6])  # µV, and volts
def test_coherence_agrees_with_scipy_averaged_over_bins(scale):
    x = mixed_noise(4, 640)
    ours = coherence(*fourier(scale * x, 128, 64))[0]
    for i in range(4):
        for j in range(4):
            _, theirs = signal.coherence(x[i], x[j], fs=128, nperseg=64)
            assert ours[i, j] == pytest.approx(theirs[1:].mean(), abs=1e-10)
    torch.testing.assert_close(ours.diagonal(), torch.ones(4, dtype=torch.float64))


def test_coherence_of_a_silent_channel_is_zero():
    real, imag = torch.randn(2, 2, 3, 5, 7).unbind()
    real[:, 1] = imag[:, 1] = 0
    matrix = coherence(real, imag)
    assert (matrix[:, 1] == 0).all() and (matrix[:, :, 1] == 0).all()
    assert matrix[0, 0, 2] > 0


def test_coherence_by_hand():
    # two segments, one frequency: i = (1, 1), j = (1, 1j): |1 - 1j|² / (2 · 2) = 1/2
    real = torch.tensor([[[[1.0], [1.0]], [[1.0], [0.0]]]])
    imag = torch.tensor([[[[0.0], [0.0]], [[0.0], [1.0]]]])
    expected = torch.tensor([[[1.0, 0.5], [0.5, 1.0]]])
    torch.testing.assert_close(coherence(real, imag), expected)
    # a lag of a quarter period in both segments is full coherence
    imag[0, 1] = torch.tensor([[1.0], [1.0]])
    real[0, 1] = 0.0
    torch.testing.assert_close(coherence(real, imag), torch.ones(1, 2, 2))


@pytest.mark.parametrize(
    ("n_times", "n_segments"), [(576, 8), (500, 4), (9, 8), (480, 3), (960, 7)]
)
def test_coherence_graph_takes_half_overlapping_hann_segments(n_times, n_segments):
    x = mixed_noise(5, n_times)
    graph = CoherenceGraph(n_segments=n_segments)
    everywhere = torch.ones(1, 5, dtype=torch.bool)
    electrodes = Electrodes(torch.zeros(1, 5, 3), torch.zeros(1, 5, 1), everywhere,
                            everywhere)  # fmt: skip
    ours = graph(torch.from_numpy(x)[None], torch.zeros(1, 5, 2), electrodes)[0]
    length = 2 * n_times // (n_segments + 1)
    assert (n_times - length) // (length // 2) + 1 >= n_segments
    for i in range(5):
        assert ours[i, i] == 0
        for j in set(range(5)) - {i}:
            _, theirs = signal.coherence(
                x[i], x[j], nperseg=length, noverlap=length - length // 2
            )
            assert ours[i, j] == pytest.approx(theirs[1:].mean(), abs=1e-5)


# ---------------------------------------------------------------- geometry


def test_geometric_adjacency_by_hand():
    positions = torch.tensor([[0.0, 0, 0], [0.03, 0.04, 0], [0, 0, 0.1]])
    adjacency = geometric_adjacency(positions)
    expected = torch.zeros(3, 3)
    expected[0, 1] = expected[1, 0] = math.exp(-0.5)
    expected[0, 2] = expected[2, 0] = math.exp(-2)
    expected[1, 2] = expected[2, 1] = math.exp(-0.0125 / 0.005)
    torch.testing.assert_close(adjacency, expected)
    wide = geometric_adjacency(positions, scale=0.1)
    assert wide[0, 2] == pytest.approx(math.exp(-0.5))


def test_an_electrode_without_position_has_no_geometric_edge():
    positions = torch.rand(2, 4, 3) * 0.1
    positions[0, 2] = float("nan")
    positions[1, 0, 1] = float("inf")
    adjacency = geometric_adjacency(positions)
    assert torch.isfinite(adjacency).all()
    assert (adjacency[0, 2] == 0).all() and (adjacency[0, :, 2] == 0).all()
    assert (adjacency[1, 0] == 0).all() and (adjacency[1, :, 0] == 0).all()
    assert adjacency[0, 0, 1] > 0 and adjacency[1, 1, 2] > 0


def test_geometric_adjacency_does_not_know_where_the_head_is():
    positions = torch.rand(6, 3, dtype=torch.float64) * 0.1
    rotation, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64))
    moved = positions @ rotation + 0.3
    torch.testing.assert_close(
        geometric_adjacency(moved), geometric_adjacency(positions), **CLOSE
    )


# ---------------------------------------------------------------- Laplacian


def test_scaled_laplacian_by_hand():
    # a path of three with weights 1 and 3, degrees 1, 4, 3
    adjacency = torch.tensor([[0.0, 1, 0], [1, 0, 3], [0, 3, 0]])
    expected = torch.tensor([[0, 0.5, 0], [0.5, 0, 0.75**0.5], [0, 0.75**0.5, 0]])
    torch.testing.assert_close(scaled_laplacian(adjacency), -expected)


def test_scaled_laplacian_is_two_over_lambda_max_times_the_normalised_minus_one():
    adjacency = random_adjacency(3, 7)
    degree = torch.diag_embed(adjacency.sum(-1) ** -0.5)
    eye = torch.eye(7, dtype=torch.float64)
    normalised = eye - degree @ adjacency @ degree
    expected = 2 * normalised / 2.0 - eye
    torch.testing.assert_close(scaled_laplacian(adjacency), expected, **CLOSE)


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 12), density=st.floats(0, 1), seed=st.integers(0, 99))
def test_spectrum_of_the_scaled_laplacian_is_within_one(n, density, seed):
    laplacian = scaled_laplacian(random_adjacency(n, seed=seed, density=density))
    values = torch.linalg.eigvalsh(laplacian)
    assert values.abs().max() <= 1 + 1e-12
    torch.testing.assert_close(laplacian, laplacian.T, **CLOSE)


def test_scaled_laplacian_ignores_diagonal_and_scale():
    adjacency = random_adjacency(5)
    plain = scaled_laplacian(adjacency)
    torch.testing.assert_close(
        scaled_laplacian(adjacency + torch.eye(5, dtype=torch.float64)), plain, **CLOSE
    )
    torch.testing.assert_close(scaled_laplacian(1e-15 * adjacency), plain, **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_an_isolated_node_has_a_zero_row_and_a_finite_gradient(dtype):
    adjacency = random_adjacency(4).to(dtype)
    adjacency[2] = adjacency[:, 2] = 0
    adjacency.requires_grad_()
    laplacian = scaled_laplacian(adjacency)
    assert (laplacian[2] == 0).all() and (laplacian[:, 2] == 0).all()
    assert laplacian[0, 1] < 0
    laplacian.sum().backward()
    assert torch.isfinite(adjacency.grad).all()


def test_scaled_laplacian_gradient_agrees_with_finite_differences():
    adjacency = random_adjacency(4).requires_grad_()
    assert torch.autograd.gradcheck(scaled_laplacian, (adjacency,))


# ---------------------------------------------------------------- Chebyshev


@pytest.mark.parametrize("order", [1, 2, 3, 8])
def test_chebyshev_basis_agrees_with_numpy_on_the_eigenvalues(order):
    laplacian = scaled_laplacian(random_adjacency(9, density=0.5))
    values, vectors = np.linalg.eigh(laplacian.numpy())
    basis = chebyshev_basis(laplacian, order)
    assert basis.shape == (order, 9, 9)
    for k in range(order):
        polynomial = chebyshev.chebval(values, [0] * k + [1])
        theirs = torch.from_numpy(vectors * polynomial @ vectors.T)
        torch.testing.assert_close(basis[k], theirs, **CLOSE)


def test_chebyshev_basis_by_hand():
    # one edge: T_k alternates between the identity and the swap, with signs
    laplacian = -torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    eye = torch.eye(2)
    expected = torch.stack([eye, laplacian, eye, laplacian, eye])
    assert torch.equal(chebyshev_basis(laplacian, 5), expected)


def test_chebyshev_basis_of_a_batch_is_that_of_each():
    laplacian = scaled_laplacian(random_adjacency(2, 3, 5))
    basis = chebyshev_basis(laplacian, 4)
    assert basis.shape == (4, 2, 3, 5, 5)
    torch.testing.assert_close(
        basis[:, 1, 2], chebyshev_basis(laplacian[1, 2], 4), **CLOSE
    )


@pytest.mark.parametrize("order", [0, -1])
def test_chebyshev_order_below_one_is_an_error(order):
    with pytest.raises(ValueError, match=f"order must be at least 1, got {order}"):
        chebyshev_basis(torch.eye(2), order)


def test_chebyshev_polynomials_stay_bounded_on_a_bipartite_graph():
    # ANCHORS A6: on the unscaled Laplacian of such a graph T_9 has norm 70226
    path = torch.diag_embed(torch.ones(9, dtype=torch.float64), 1)
    basis = chebyshev_basis(scaled_laplacian(path + path.T), 20)
    assert torch.linalg.matrix_norm(basis, ord=2).max() <= 1 + 1e-9


# ---------------------------------------------------------------- binarising


def test_boolean_adjacency_is_taken_as_it_is_off_the_diagonal():
    graph = torch.rand(6, 6) < 0.5
    for arguments in ({}, {"density": 0.01}, {"threshold": 0.9}):
        ours = binarise(graph, **arguments)
        assert not ours.diagonal().any()
        assert torch.equal(ours | torch.eye(6, dtype=torch.bool),
                           graph | torch.eye(6, dtype=torch.bool))  # fmt: skip


@pytest.mark.parametrize("density", [None, 0.1, 0.3, 0.5, 1.0])
def test_density_is_the_share_of_off_diagonal_entries_kept(density):
    n = 21  # 420 entries
    adjacency = random_adjacency(n) * (torch.randint(0, 2, (n, n)) * 2 - 1)
    ours = binarise(adjacency + 9 * torch.eye(n), density=density)
    assert ours.sum() == round((density or 0.1) * n * (n - 1))
    assert not ours.diagonal().any()
    kept, left = adjacency.abs()[ours], adjacency.abs()[~ours]
    assert kept.min() > left.max() or density == 1.0


def test_the_strongest_edge_is_always_kept_and_an_absent_one_never():
    adjacency = torch.zeros(3, 3)
    adjacency[0, 2] = adjacency[2, 0] = -0.2
    expected = torch.zeros(3, 3, dtype=torch.bool)
    expected[0, 2] = expected[2, 0] = True
    assert torch.equal(binarise(adjacency), expected)  # 10 % of 6 rounds up to one
    assert torch.equal(binarise(adjacency, density=1.0), expected)
    assert not binarise(torch.zeros(3, 3)).any()
    assert not binarise(torch.zeros(3, 3), threshold=0.0).any()


def test_ties_stay_together():
    adjacency = torch.ones(5, 5)
    assert binarise(adjacency).sum() == 20


def test_density_by_hand():
    adjacency = torch.tensor(
        [[9.0, 0.5, 0.1], [0.5, 9.0, -0.3], [0.1, -0.3, 9.0]], dtype=torch.float64
    )
    one = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]]).bool()
    two = torch.tensor([[0, 1, 0], [1, 0, 1], [0, 1, 0]]).bool()
    assert torch.equal(binarise(adjacency, density=0.1), one)
    assert torch.equal(binarise(adjacency, density=0.34), one)
    assert torch.equal(binarise(adjacency, density=0.66), two)
    assert torch.equal(binarise(adjacency, density=1.0), ~torch.eye(3).bool())


def test_threshold_is_relative_to_the_strongest_edge_and_exclusive():
    adjacency = torch.tensor([[90.0, 4.0, 1.0], [4.0, 90.0, -2.0], [1.0, -2.0, 90.0]])
    none = torch.zeros(3, 3).bool()
    strong, middle, weak = none.clone(), none.clone(), none.clone()
    strong[0, 1] = strong[1, 0] = True
    middle[1, 2] = middle[2, 1] = True
    weak[0, 2] = weak[2, 0] = True
    assert torch.equal(binarise(adjacency, threshold=0.0), strong | middle | weak)
    assert torch.equal(binarise(adjacency, threshold=0.24), strong | middle | weak)
    assert torch.equal(binarise(adjacency, threshold=0.25), strong | middle)
    assert torch.equal(binarise(adjacency, threshold=0.3), strong | middle)
    assert torch.equal(binarise(adjacency, threshold=0.5), strong)
    assert torch.equal(binarise(adjacency * 1e3, threshold=0.5), strong)


def test_graphs_of_one_or_no_node_have_no_edges():
    for n in (0, 1):
        for arguments in ({}, {"threshold": 0.3}):
            graph = binarise(torch.ones(n, n), **arguments)
            assert graph.shape == (n, n) and graph.dtype == torch.bool
            assert not graph.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"density": 0.1, "threshold": 0.1}, "density or threshold, not both"),
        ({"density": 0.0}, r"density must be in \(0, 1\], got 0.0"),
        ({"density": 1.01}, r"density must be in \(0, 1\], got 1.01"),
        ({"density": -0.1}, "density must be in"),
        ({"threshold": 1.0}, r"threshold must be in \[0, 1\), got 1.0"),
        ({"threshold": 1.5}, "threshold must be in"),
        ({"threshold": -0.1}, "threshold must be in"),
    ],
)
def test_bad_density_or_threshold_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        binarise(torch.rand(4, 4), **arguments)


# ---------------------------------------------------------------- bridged pairs

HD = ["Fz", "C5", "Cz", "T8", "P5", "P8", "Oz"]
HD_EDGES = ["Fz-C5", "C5-Cz", "Cz-T8", "Cz-P5", "Cz-P8", "P5-Oz"]
LD = ["Fz", "T8", "P5", "P8", "Oz"]
LD_EDGES = ["Fz-T8", "Fz-P8", "Oz-P8"]
POSITIVE = {"Oz-P5", "P5-P8", "P5-T8", "P8-T8"}
NEGATIVE = {"Fz-T8", "Fz-P8", "Oz-P8"}


@pytest.mark.parametrize("order", [LD, LD[::-1], ["P8", "Fz", "Oz", "T8", "P5"]])
@pytest.mark.parametrize("as_tensor", [True, False])
def test_the_pairs_of_figure_two_in_any_order_of_electrodes(order, as_tensor):
    kept = [HD.index(name) for name in order]
    kept = torch.tensor(kept) if as_tensor else kept
    positive, negative = topology_pairs(
        boolean(order, LD_EDGES), boolean(HD, HD_EDGES), kept
    )
    assert positive.dtype == negative.dtype == torch.bool
    assert edges_of(positive, order) == POSITIVE
    assert edges_of(negative, order) == NEGATIVE  # Fz-T8 is three hops away


def test_figure_two_from_real_valued_graphs():
    teacher, student = boolean(HD, HD_EDGES).double(), boolean(LD, LD_EDGES).double()
    kept = [HD.index(name) for name in LD]
    for arguments in ({"threshold": 0.3}, {"density": 0.2}, {}):
        positive, negative = topology_pairs(student, -3 * teacher, kept, **arguments)
        assert edges_of(positive, LD) == POSITIVE
        assert edges_of(negative, LD) == NEGATIVE


def test_with_all_electrodes_kept_only_direct_links_are_positive():
    # Eq. 12: nothing is removed, so nothing is bridged
    teacher, student = boolean(HD, HD_EDGES), boolean(HD, [*LD_EDGES, "Fz-C5"])
    positive, negative = topology_pairs(student, teacher, torch.arange(7))
    assert torch.equal(positive, teacher)
    assert torch.equal(negative, student & ~teacher)


def slow_pairs(student, teacher, kept):
    """The definition, electrode by electrode."""
    n, m = len(student), len(teacher)
    removed = [k for k in range(m) if k not in kept]
    positive, negative = np.zeros((n, n), bool), np.zeros((n, n), bool)
    for i in range(n):
        for j in range(n):
            if i == j:
                continue
            a, b = kept[i], kept[j]
            direct = teacher[a, b] or teacher[b, a]
            bridge = any(
                (teacher[a, k] or teacher[k, a]) and (teacher[k, b] or teacher[b, k])
                for k in removed
            )
            positive[i, j] = direct or bridge
            linked = student[i, j] or student[j, i]
            negative[i, j] = linked and not positive[i, j]
    return torch.from_numpy(positive), torch.from_numpy(negative)


@settings(max_examples=60, deadline=None)
@given(
    m=st.integers(1, 12),
    data=st.data(),
    density=st.sampled_from([0.1, 0.3, 0.6]),
    seed=st.integers(0, 999),
)
def test_pairs_agree_with_the_definition_electrode_by_electrode(m, data, density, seed):
    # METHOD B-23, B-24: any number of removed electrodes, kept ones in any place
    n = data.draw(st.integers(1, m))
    rng = np.random.default_rng(seed)
    kept = rng.permutation(m)[:n]
    teacher, student = rng.random((m, m)) < density, rng.random((n, n)) < density
    positive, negative = topology_pairs(
        torch.from_numpy(student), torch.from_numpy(teacher), torch.from_numpy(kept)
    )
    slow_positive, slow_negative = slow_pairs(student, teacher, list(kept))
    assert torch.equal(positive, slow_positive)
    assert torch.equal(negative, slow_negative)
    assert not (positive & negative).any()
    assert not positive.diagonal().any() and not negative.diagonal().any()


def test_pairs_follow_the_order_of_the_student():
    teacher, student = random_adjacency(20), random_adjacency(8, seed=1)
    kept, order = torch.randperm(20)[:8], torch.randperm(8)
    pairs = topology_pairs(student, teacher, kept, density=0.3)
    moved = topology_pairs(student[order][:, order], teacher, kept[order], density=0.3)
    for ours, permuted in zip(pairs, moved, strict=True):
        assert torch.equal(permuted, ours[order][:, order])


@pytest.mark.parametrize(
    ("m", "n"), [(54, 31), (54, 12), (64, 16), (128, 64), (128, 32)]
)
def test_default_density_leaves_negative_pairs_and_a_dense_graph_does_not(m, n):
    # METHOD B-24, B-28, D6: at the public code's density all pairs become positive
    teacher, student = random_adjacency(m), random_adjacency(n, seed=1)
    kept = torch.randperm(m)[:n]
    positive, negative = topology_pairs(student, teacher, kept)
    share = positive.sum() / (n * (n - 1))
    assert 0.1 < share < 0.85
    assert negative.sum() >= 2
    dense_positive, dense_negative = topology_pairs(
        student, teacher, kept, density=0.84
    )
    assert dense_positive.sum() > 0.99 * n * (n - 1)
    assert dense_negative.sum() <= 0.01 * n * (n - 1)
    assert dense_positive.sum() >= positive.sum()


@pytest.mark.parametrize(
    ("student", "teacher", "kept", "message"),
    [
        (2, 3, [0], r"each of the 2 student electrodes, got shape \(1,\)"),
        (2, 3, [[0], [1]], r"got shape \(2, 1\)"),
        (2, 3, [0, 3], "rows of the teacher's 3 electrodes"),
        (2, 3, [0, 4], "rows of the teacher's 3 electrodes"),
        (2, 300, [0, 300], "rows of the teacher's 300 electrodes"),
        (2, 300, [0, 301], "rows of the teacher's 300 electrodes"),
        (2, 3, [-1, 1], "rows of the teacher's 3 electrodes"),
        (2, 3, [1, 1], "same teacher electrode twice"),
        (2, 3, [0, 1, 2], "each of the 2 student electrodes"),
    ],
)
def test_kept_that_does_not_fit_is_an_error(student, teacher, kept, message):
    with pytest.raises(ValueError, match=message):
        topology_pairs(torch.rand(student, student), torch.rand(teacher, teacher), kept)


def test_the_first_and_the_last_teacher_row_can_be_kept():
    positive, _ = topology_pairs(torch.rand(2, 2), torch.ones(3, 3).bool(), [0, 2])
    assert positive[0, 1] and positive[1, 0]


def test_pairs_take_adjacency_with_gradient():
    student = random_adjacency(3).requires_grad_()
    positive, negative = topology_pairs(student, random_adjacency(5), [4, 0, 2])
    assert not positive.requires_grad and not negative.requires_grad


# ---------------------------------------------------------------- graph classes

GRAPHS = {
    "geometric": lambda: GeometricGraph(5),
    "functional": lambda: FunctionalGraph(5),
    "coherence": lambda: CoherenceGraph(5),
    "learned": lambda: LearnedGraph(5),
    "mixed": lambda: MixedGraph(5),
    "free": lambda: FreeGraph(5, 6),
}
every_graph = pytest.mark.parametrize("kind", GRAPHS)


def window_of(electrodes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    b, n = electrodes.exists.shape
    x = torch.randn(b, n, 128, generator=generator)
    return x, torch.randn(b, n, 7, generator=generator)


@every_graph
def test_every_graph_is_symmetric_non_negative_and_without_self_loops(kind):
    electrodes = random_electrodes()
    adjacency = GRAPHS[kind]()(*window_of(electrodes), electrodes)
    adjacency = adjacency.expand(2, 6, 6)
    torch.testing.assert_close(adjacency, adjacency.transpose(1, 2))
    assert (adjacency >= 0).all() and torch.isfinite(adjacency).all()
    assert (adjacency.diagonal(dim1=1, dim2=2) == 0).all()
    assert adjacency.max() <= 1 + 1e-6
    assert (adjacency[0, :5, :5].sum(-1)[[0, 2, 3, 4]] > 0).all()


@every_graph
def test_padding_has_no_edge_and_changes_no_other(kind):
    electrodes = random_electrodes()
    x, features = window_of(electrodes)
    x[0, -1], features[0, -1] = float("nan"), float("nan")
    graph = GRAPHS[kind]()
    adjacency = graph(x, features, electrodes).expand(2, 6, 6)
    assert (adjacency[0, -1] == 0).all() and (adjacency[0, :, -1] == 0).all()
    if kind == "free":
        return  # one montage only
    short = Electrodes(*(part[:, :-1] for part in electrodes[:4]))
    unpadded = graph(x[:, :-1], features[:, :-1], short)
    torch.testing.assert_close(adjacency[:, :-1, :-1], unpadded.expand(2, 5, 5))


@pytest.mark.parametrize("kind", ["functional", "coherence"])
def test_a_missing_electrode_has_no_functional_edge_whatever_it_holds(kind):
    electrodes = random_electrodes()
    x, features = window_of(electrodes)
    graph = GRAPHS[kind]()
    before = graph(x, features, electrodes)
    x[:, 1], features[:, 1] = float("nan"), float("inf")
    after = graph(x, features, electrodes)
    assert torch.equal(before, after)
    assert (after[:, 1] == 0).all() and (after[:, :, 1] == 0).all()


@pytest.mark.parametrize("kind", ["geometric", "learned", "free", "mixed"])
def test_a_missing_electrode_keeps_the_edges_that_need_no_data(kind):
    electrodes = random_electrodes()
    adjacency = GRAPHS[kind]()(*window_of(electrodes), electrodes)
    assert (adjacency[0, 1, [0, 2, 3, 4]] > 0).all()


@every_graph
def test_graphs_follow_the_order_of_the_electrodes(kind):
    if kind == "free":
        return  # METHOD B-30: one free weight per pair knows rows only
    electrodes = random_electrodes()
    x, features = window_of(electrodes)
    graph = GRAPHS[kind]()
    order = torch.randperm(6)
    permuted = Electrodes(*(part[:, order] for part in electrodes[:4]))
    adjacency = graph(x, features, electrodes)
    moved = graph(x[:, order], features[:, order], permuted)
    torch.testing.assert_close(moved, adjacency[:, order][:, :, order])


@every_graph
def test_a_window_s_graph_does_not_depend_on_its_batch_mates(kind):
    electrodes = random_electrodes(3)
    x, features = window_of(electrodes)
    graph = GRAPHS[kind]()
    together = graph(x, features, electrodes).expand(3, 6, 6)
    for b in range(3):
        single = Electrodes(*(part[b : b + 1] for part in electrodes[:4]))
        alone = graph(x[b : b + 1], features[b : b + 1], single)
        torch.testing.assert_close(together[b : b + 1], alone)


@every_graph
def test_scripted_graphs_are_the_eager_ones(kind):
    electrodes = random_electrodes()
    x, features = window_of(electrodes)
    graph = GRAPHS[kind]()
    scripted = torch.jit.script(graph)
    torch.testing.assert_close(
        scripted(x, features, electrodes), graph(x, features, electrodes)
    )


def test_geometric_graph_has_the_scale_it_was_given():
    electrodes = random_electrodes()
    ours = GeometricGraph(scale=0.02)(*window_of(electrodes), electrodes)
    distance = torch.cdist(electrodes.positions, electrodes.positions)
    expected = torch.exp(-(distance**2) / (2 * 0.02**2))
    torch.testing.assert_close(ours[1, 0, 1:], expected[1, 0, 1:])


def test_functional_graph_is_the_absolute_correlation_of_features():
    electrodes = random_electrodes()
    x, features = window_of(electrodes)
    ours = FunctionalGraph()(x, features, electrodes)
    theirs = np.abs(np.corrcoef(features[1].numpy()))
    assert ours[1, 0, 3] == pytest.approx(theirs[0, 3], abs=1e-5)
    assert ours[1, 2, 5] == pytest.approx(theirs[2, 5], abs=1e-5)


def test_learned_graph_is_the_logistic_function_of_inner_products():
    electrodes = random_electrodes()
    graph = LearnedGraph(5, rank=3)
    assert graph.embed.weight.shape == (3, 5) and graph.embed.bias is None
    assert graph.bias.item() == -2.0  # sparse to begin with
    code = electrodes.basis[1].numpy() @ graph.embed.weight.detach().numpy().T
    adjacency = graph(*window_of(electrodes), electrodes)
    expected = 1 / (1 + np.exp(-(code[0] @ code[3] - 2.0)))
    assert adjacency[1, 0, 3].item() == pytest.approx(expected, rel=1e-5)


def test_learned_graph_starts_at_a_moderate_scale():
    weight = LearnedGraph(100, rank=400).embed.weight
    assert weight.std().item() == pytest.approx(0.05, rel=0.03)


def test_free_graph_is_the_rectified_symmetric_matrix_of_the_public_code():
    electrodes = random_electrodes()
    graph = FreeGraph(n_nodes=6)
    assert graph.weight.min() >= 0.01 and graph.weight.max() <= 0.5
    assert FreeGraph(n_nodes=64).weight.mean().item() == pytest.approx(0.255, abs=0.01)
    with torch.no_grad():
        graph.weight[2, 3] = -1.0
    adjacency = graph(*window_of(electrodes), electrodes)
    w = graph.weight
    assert adjacency[1, 2, 3] == w[3, 2]
    assert adjacency[1, 0, 4] == w[0, 4] + w[4, 0]


@pytest.mark.parametrize("kind", ["learned", "mixed", "free"])
def test_learned_edges_get_gradients_from_a_graph_filter(kind):
    # METHOD B-27: thresholding kept the gradient from the adjacency
    electrodes = random_electrodes()
    graph = GRAPHS[kind]()
    adjacency = graph(*window_of(electrodes), electrodes)
    weight = torch.randn(2, 6, 6)
    (chebyshev_basis(scaled_laplacian(adjacency), 3)[2] * weight).sum().backward()
    for name, parameter in graph.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99))
def test_functional_edges_of_powers_have_no_unit(seed):
    # a spectrum in V²/Hz and one in µV²/Hz have the same topology
    x = torch.randn(1, 4, 256, generator=torch.Generator().manual_seed(seed)) * 1e-5
    spectral = SpectralFeatures(128, 256)
    volts, microvolts = spectral.observe(x), spectral.observe(x * 1e6)
    torch.testing.assert_close(
        row_correlation(volts), row_correlation(microvolts), rtol=0, atol=1e-4
    )


# ---------------------------------------------------------------- means of graphs


def test_the_mean_of_edges_agrees_with_a_slow_loop():
    adjacency = random_adjacency(12, 5)
    present = torch.from_numpy(np.random.default_rng(1).uniform(size=(12, 5)) < 0.6)
    present[:, 4] = False
    present[:, 3] = torch.arange(12) == 7  # one window alone has it
    mean = EdgeMean()
    for rows in (slice(0, 5), slice(5, 12)):
        mean.add(adjacency[rows], present[rows])
    ours = mean.value()
    for i in range(5):
        for j in range(5):
            both = [w for w in range(12) if present[w, i] and present[w, j]]
            chosen = both or range(12)
            expected = sum(float(adjacency[w, i, j]) for w in chosen) / len(chosen)
            assert float(ours[i, j]) == pytest.approx(expected, abs=1e-12)


def test_the_mean_of_whole_graphs_is_their_mean():
    adjacency = random_adjacency(6, 4)
    mean = EdgeMean()
    mean.add(adjacency, torch.ones(6, 4, dtype=torch.bool))
    assert torch.equal(mean.value(), adjacency.sum(0) / 6)


def test_there_is_no_mean_of_no_graph():
    with pytest.raises(ValueError, match="no graph was added"):
        EdgeMean().value()
    empty = EdgeMean()
    empty.add(torch.zeros(0, 3, 3), torch.ones(0, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="no graph was added"):
        empty.value()
