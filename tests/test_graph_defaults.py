"""What the graphs are when nothing is said, and how small or large they may be."""

import pytest
import torch

from braindecode_gcmae.features import Electrodes
from braindecode_gcmae.graph import (
    CoherenceGraph,
    FreeGraph,
    FunctionalGraph,
    GeometricGraph,
    LearnedGraph,
    MixedGraph,
    binarise,
    chebyshev_basis,
    geometric_adjacency,
    row_correlation,
    topology_pairs,
)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def electrodes(n=4, n_windows=2, n_basis=36):
    there = torch.ones(n_windows, n, dtype=torch.bool)
    places = 0.05 * noise(n_windows, n, 3)
    return Electrodes(places, noise(n_windows, n, n_basis, seed=1), there, there)


def test_the_geometric_kernel_is_five_centimetres_wide():
    """METHOD A.2: neighbours on a head are two to six centimetres apart."""
    where = electrodes()
    expected = torch.exp(-(torch.cdist(where.positions, where.positions) ** 2) / 0.005)
    off = ~torch.eye(4, dtype=torch.bool)
    for found in (
        GeometricGraph()(noise(2, 4, 9), noise(2, 4, 3), where),
        geometric_adjacency(where.positions),
    ):
        torch.testing.assert_close(found[:, off], expected[:, off])


def test_the_learned_graph_takes_harmonics_up_to_degree_five_by_default():
    graph = LearnedGraph().double()
    assert graph.embed.weight.shape == (16, (5 + 1) ** 2)
    assert graph(noise(2, 4, 9), noise(2, 4, 3), electrodes()).shape == (2, 4, 4)


@pytest.mark.parametrize("n_basis", [4, 36, 400])
def test_the_learned_graph_starts_as_wide_with_any_number_of_harmonics(n_basis):
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        weight = LearnedGraph(n_basis, rank=500).embed.weight.detach()
    assert weight.std().item() == pytest.approx(0.5 * n_basis**-0.5, rel=0.05)


def test_coherence_is_of_eight_segments_by_default():
    x, where = noise(2, 4, 900), electrodes()
    found = CoherenceGraph()(x, noise(2, 4, 3), where)
    assert torch.equal(found, CoherenceGraph(n_segments=8)(x, noise(2, 4, 3), where))
    assert not torch.equal(found, CoherenceGraph(n_segments=9)(x, x, where))


def test_the_unit_of_one_row_does_not_matter_to_any():
    """A row of volts among rows of microvolts is no constant row."""
    x = noise(5, 7)
    units = torch.tensor([1e-6, 1.0, 1e6, 1e-3, 1e3], dtype=torch.float64)
    torch.testing.assert_close(row_correlation(units[:, None] * x), row_correlation(x))


def test_three_hundred_polynomials_are_the_cosines_of_multiples():
    angles = torch.tensor([0.3, 1.2, 2.9], dtype=torch.float64)
    basis = chebyshev_basis(torch.diag(angles.cos()), 300)
    expected = (torch.arange(300)[:, None] * angles).cos()
    torch.testing.assert_close(basis.diagonal(dim1=1, dim2=2), expected)


def test_a_window_of_a_few_samples_has_a_graph():
    found = CoherenceGraph()(noise(2, 4, 5), noise(2, 4, 3), electrodes())
    assert found.shape == (2, 4, 4)


def test_each_part_of_a_mixture_has_its_own_share():
    graph, where = MixedGraph().double(), electrodes()
    x, features = noise(2, 4, 9), noise(2, 4, 7, seed=2)
    parts = [part(x, features, where) for part in graph.parts]
    assert [type(p) for p in graph.parts] == [
        GeometricGraph,
        FunctionalGraph,
        LearnedGraph,
    ]
    for mixture in (
        [0.0, 0.0, 0.0],
        [1.0, 0.0, -1.0],
        [-1.0, 2.0, 0.5],
        [0.0, -3.0, 3.0],
    ):
        mixture = torch.tensor(mixture, dtype=torch.float64)
        graph.mixture.data.copy_(mixture)
        shares = mixture.exp() / mixture.exp().sum()
        expected = sum(s * part for s, part in zip(shares, parts, strict=True))
        torch.testing.assert_close(graph(x, features, where), expected)


def test_the_free_graph_is_of_sixty_four_electrodes_by_default():
    assert FreeGraph().weight.shape == (64, 64)


@pytest.mark.parametrize("n_basis", [9, 36])
def test_graphs_that_know_no_harmonics_are_the_same_with_any_number(n_basis):
    x, features, where = noise(2, 4, 900), noise(2, 4, 7, seed=2), electrodes()
    for cls in (GeometricGraph, FunctionalGraph, CoherenceGraph):
        assert torch.equal(cls(n_basis)(x, features, where), cls()(x, features, where))


# ---------------------------------------------------------------------- pairs of nodes
@pytest.mark.parametrize("density", [1e-6, 0.01, 0.05, 0.1])
def test_the_strongest_edge_is_left_however_small_the_density(density):
    adjacency = torch.tensor([[0.0, 3, 1], [2, 0, 1], [1, 1, 0]])
    expected = torch.zeros(3, 3, dtype=torch.bool)
    expected[0, 1] = True
    assert torch.equal(binarise(adjacency, density=density), expected)


@pytest.mark.parametrize("shape", [(3, 5), (3, 2), (5, 3), (3, 2, 2)])
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_a_graph_is_square(whose, shape):
    graphs = {"student": noise(3, 3), "teacher": noise(3, 3)} | {whose: noise(*shape)}
    with pytest.raises(ValueError, match=f"{whose}_adjacency must be one square"):
        topology_pairs(*graphs.values(), torch.arange(3))


def test_three_hundred_kept_electrodes_have_pairs():
    graph = torch.ones(300, 300, dtype=torch.bool)
    positive, negative = topology_pairs(graph, graph, torch.arange(300))
    assert positive.sum() == 300 * 299 and not negative.any()


def test_graphs_go_by_place_or_name_and_settings_by_name_alone():
    graphs = {"student_adjacency": noise(3, 3), "teacher_adjacency": noise(4, 4)}
    given = {**graphs, "kept": torch.arange(3)}
    for ours, other in zip(
        topology_pairs(**given), topology_pairs(*given.values()), strict=True
    ):
        assert torch.equal(ours, other)
    assert torch.equal(binarise(adjacency=noise(3, 3)), binarise(noise(3, 3)))
    for function, tensors in ((topology_pairs, given), (binarise, {"a": noise(3, 3)})):
        with pytest.raises(TypeError, match="positional"):
            function(*tensors.values(), 0.5)
