"""Which electrodes to keep: laws of the choice, formulas by second derivations."""

from itertools import combinations

import mne
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from torch import nn
from torch.utils.data import Subset

from braindecode_gcmae import GCMAEStudent, GCMAETeacher, select_electrodes
from braindecode_gcmae.graph import FunctionalGraph, MixedGraph, geometric_adjacency
from braindecode_gcmae.montage import electrode_positions, make_chs_info, montage_preset
from braindecode_gcmae.selection import (
    coverage,
    electrode_weights,
    farthest_points,
    graph_closeness,
    greedy_coverage,
    mean_graph,
    occlusion_importance,
)
from tests.tiny import windowed

NAMES = montage_preset("10-20-19")
SMALL = {
    **{"n_outputs": 2, "n_times": 160, "sfreq": 80},
    **{"emb_dim": 16, "depth": 1, "n_heads": 2},
}


def make_model(names=NAMES, cls=GCMAETeacher, seed=0, **arguments):
    with torch.random.fork_rng():
        torch.random.default_generator.manual_seed(seed)
        signal = {"chs_info": make_chs_info(names), **SMALL, **arguments}
        return cls(**signal).eval()


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def windows():
    noise = np.random.default_rng(0).standard_normal((6, len(NAMES), 160))
    mixed = np.cumsum(noise, 1) + 2 * noise  # neighbours in the list correlate
    return (10 * mixed).astype(np.float32)


def random_graph(n, seed):
    rng = np.random.default_rng(seed)
    graph = rng.random((n, n)) * (rng.random((n, n)) < 0.6)
    return np.triu(graph, 1) + np.triu(graph, 1).T


graphs = st.builds(random_graph, st.integers(2, 8), st.integers(0, 10_000))


# ------------------------------------------------------------------- closeness
@settings(max_examples=25, deadline=None)
@given(graph=graphs)
def test_closeness_is_that_of_the_shortest_path(graph):
    """Floyd and Warshall's three loops."""
    n = len(graph)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(graph > 0, graph.max() / graph, np.inf)
    np.fill_diagonal(distance, 0)
    for k in range(n):
        for i in range(n):
            for j in range(n):
                distance[i, j] = min(distance[i, j], distance[i, k] + distance[k, j])
    joined = distance[np.isfinite(distance) & ~np.eye(n, dtype=bool)]
    scale = np.median(joined) if joined.size else 1.0
    np.testing.assert_allclose(graph_closeness(graph), np.exp(-distance / scale))


@settings(max_examples=25, deadline=None)
@given(graph=graphs, scale=st.floats(1e-3, 1e3))
def test_closeness_is_symmetric_bounded_a_metric_and_without_unit(graph, scale):
    close = graph_closeness(graph)
    assert (close == close.T).all() and (np.diag(close) == 1).all()
    assert (close >= 0).all() and (close <= 1).all()
    gap = 1 - close
    assert (gap[:, None, :] <= gap[:, :, None] + gap[None, :, :] + 1e-9).all()
    np.testing.assert_allclose(graph_closeness(scale * graph), close, atol=1e-9)


def test_a_stronger_edge_brings_closer_and_a_missing_one_separates():
    path = np.zeros((4, 4))
    path[0, 1], path[1, 2] = 1.0, 0.5
    close = graph_closeness(path)  # one direction is enough
    assert close[0, 1] > close[1, 2] > close[0, 2] > 0
    assert (close[3, :3] == 0).all()


def test_closeness_of_a_graph_without_edges_is_the_identity():
    assert (graph_closeness(np.zeros((3, 3))) == np.eye(3)).all()


@pytest.mark.parametrize("bad", [np.ones((2, 3)), np.full((2, 2), np.nan)])
def test_closeness_refuses_what_is_no_graph(bad):
    with pytest.raises(ValueError, match="adjacency"):
        graph_closeness(bad)


# --------------------------------------------------------------------- weights
def test_weights_sum_to_one_and_mix_importance_with_a_uniform_share():
    weights = electrode_weights([0, 1, 3], 0.4)
    np.testing.assert_allclose(weights, 0.4 / 3 + 0.6 * np.array([0, 0.25, 0.75]))
    np.testing.assert_allclose(electrode_weights([0, 0], 0.0), [0.5, 0.5])


@pytest.mark.parametrize(
    ("importance", "uniform", "named"),
    [([-1, 2], 0.5, "importance"), ([np.nan], 0, "importance"), ([1], 1.1, "uniform")],
)
def test_weights_refuse_what_is_no_weight(importance, uniform, named):
    with pytest.raises(ValueError, match=named):
        electrode_weights(importance, uniform)


# -------------------------------------------------------------------- choosing
def problem(graph, seed=0):
    weights = electrode_weights(np.random.default_rng(seed).random(len(graph)), 0.3)
    return graph_closeness(graph), weights


def test_coverage_is_the_slow_sum():
    close, weights = problem(random_graph(7, 1))
    slow = sum(weights[j] * max(close[j, k] for k in (1, 4)) for j in range(7))
    assert coverage(close, weights, [1, 4]) == pytest.approx(slow)
    assert coverage(close, weights, []) == 0
    assert coverage(close, weights, range(7)) == pytest.approx(1)


@settings(max_examples=30, deadline=None)
@given(graph=graphs, seed=st.integers(0, 99))
def test_greedy_is_near_the_best_subset_and_exact_for_one_and_for_all(graph, seed):
    close, weights = problem(graph, seed)
    n = len(graph)
    for k in range(1, n + 1):
        best = max(coverage(close, weights, c) for c in combinations(range(n), k))
        reached = coverage(close, weights, greedy_coverage(close, weights, k, range(n)))
        bound = 1 if k in (1, n) else 1 - 1 / np.e
        assert reached >= bound * best - 1e-5


@settings(max_examples=20, deadline=None)
@given(graph=graphs)
def test_farthest_points_are_within_twice_the_best_radius(graph):
    n = len(graph)
    close, weights = graph_closeness(graph), np.full(n, 1 / n)

    def radius(kept):
        return 1 - close[:, list(kept)].max(1).min()

    for k in range(1, n + 1):
        best = min(radius(c) for c in combinations(range(n), k))
        reached = radius(farthest_points(close, weights, k, range(n)))
        assert reached <= 2 * best + 1e-4


@pytest.mark.parametrize("choose", [greedy_coverage, farthest_points])
def test_fewer_electrodes_are_the_first_of_more(choose):
    close, weights = problem(random_graph(8, 3))
    whole = choose(close, weights, 8, range(8))
    assert sorted(whole) == list(range(8))
    assert all(choose(close, weights, k, range(8)) == whole[:k] for k in range(1, 8))


@pytest.mark.parametrize("choose", [greedy_coverage, farthest_points])
def test_two_clusters_give_one_electrode_each(choose):
    graph = np.zeros((7, 7))
    graph[:4, :4] = 1.0
    graph[4:, 4:] = 0.9
    weights = electrode_weights([3, 2, 2, 2, 2, 2, 1], 0.5)
    kept = choose(graph_closeness(graph), weights, 2, range(7))
    assert {row < 4 for row in kept} == {True, False}


@pytest.mark.parametrize("choose", [greedy_coverage, farthest_points])
def test_equals_are_told_apart_by_the_order_of_the_candidates(choose):
    close, weights = np.eye(4), np.full(4, 0.25)
    assert choose(close, weights, 2, [2, 0, 3, 1]) == [2, 0]


# ------------------------------------------------------------ graph of a model
def test_the_mean_graph_is_the_mean_over_windows(model, windows):
    with torch.no_grad():
        one = [model.network.graph_of(torch.tensor(w[None]))[2][0] for w in windows]
    expected = torch.stack(one).mean(0).numpy()
    np.testing.assert_allclose(mean_graph(model, windows), expected, atol=1e-6)


@pytest.mark.parametrize("graph", [MixedGraph, FunctionalGraph])
def test_an_edge_is_averaged_over_the_windows_that_have_both_electrodes(graph, windows):
    model, row, lacking = make_model(graph=graph), NAMES.index("Cz"), windows.copy()
    lacking[:4, row] = np.nan
    graphs = mean_graph(model, lacking), mean_graph(model, windows[4:])
    np.testing.assert_allclose(graphs[0][row], graphs[1][row], atol=1e-6)


def test_importance_is_asked_of_the_windows_that_have_the_electrode(model, windows):
    row, lacking = NAMES.index("Cz"), windows.copy()
    lacking[:4, row] = np.nan
    some = occlusion_importance(model, lacking)[row]
    assert some == pytest.approx(occlusion_importance(model, windows[4:])[row])
    lacking[:, row] = np.nan
    assert occlusion_importance(model, lacking)[row] == 0


def test_without_windows_the_graph_is_geometric_and_learned(model):
    positions = torch.as_tensor(electrode_positions(NAMES), dtype=torch.float32)
    basis = model.network.basis
    parts = model.network.graph.parts
    code = basis @ parts[2].embed.weight.T
    learned = torch.sigmoid(code @ code.T + parts[2].bias).fill_diagonal_(0)
    mixture = torch.softmax(model.network.graph.mixture, 0)
    expected = mixture[0] * geometric_adjacency(positions) + mixture[2] * learned
    np.testing.assert_allclose(mean_graph(model), expected.detach(), atol=1e-6)


def test_a_functional_graph_needs_windows(windows):
    functional = make_model(graph=FunctionalGraph)
    with pytest.raises(ValueError, match="FunctionalGraph.*windows="):
        select_electrodes(functional, 3)
    assert len(select_electrodes(functional, 3, windows=windows)) == 3


def test_long_recordings_are_sampled_evenly(model, windows):
    few = mean_graph(model, windows, max_windows=3)
    np.testing.assert_allclose(few, mean_graph(model, windows[[0, 2, 5]]), atol=1e-6)


# ------------------------------------------------------------------ importance
def test_occlusion_is_the_change_of_the_logits_under_a_channel_mask(model, windows):
    """The second way to say "missing": ``ch_mask``."""
    x = torch.tensor(windows)
    with torch.no_grad():
        whole = model(x)
        for row in (0, 7):
            mask = torch.ones(x.shape[:2], dtype=torch.bool)
            mask[:, row] = False
            change = whole - model(x, ch_mask=mask)
            margin = (change[:, 0] - change[:, 1]).square().mean() / 2
            found = occlusion_importance(model, windows)[row]
            assert found == pytest.approx(margin.item(), rel=1e-3)


def test_occlusion_sees_the_electrodes_of_a_model_that_selects_its_own(windows):
    kept = ["C4", "Pz", "C3"]
    student = make_model(cls=GCMAEStudent, electrodes=kept)
    rows = [NAMES.index(name) for name in kept]
    whole_cap = occlusion_importance(student, windows)
    own = occlusion_importance(student, windows[:, rows])
    np.testing.assert_allclose(whole_cap, own, rtol=1e-5)
    reordered = make_model(cls=GCMAEStudent, electrodes=NAMES[::-1])
    plain = make_model(cls=GCMAEStudent)
    np.testing.assert_allclose(
        occlusion_importance(reordered, windows)[::-1],
        occlusion_importance(plain, windows),
        rtol=1e-3,
    )


class OneElectrode(nn.Module):
    """An encoder that lets one node through."""

    def __init__(self, row):
        super().__init__()
        self.row = row

    def forward(self, h, adjacency, exists):
        return h * (torch.arange(h.shape[1]) == self.row)[:, None]


@pytest.mark.parametrize("planted", ["T8", "O1", "Fz"])
@pytest.mark.parametrize("method", ["greedy", "farthest"])
def test_the_only_informative_electrode_is_chosen(windows, planted, method):
    teacher = make_model(second_moments=False)
    network = teacher.network
    network.encoder = OneElectrode(NAMES.index(planted))
    network.features.forward = lambda x, electrodes: (
        x.new_ones(*x.shape[:1], network.n_nodes, network.features.n_features)
        * electrodes.present.unsqueeze(-1)
    )
    chosen = select_electrodes(teacher, 1, windows=windows, method=method, uniform=0.1)
    assert chosen == [planted]


# ---------------------------------------------------------------- names in, out
@pytest.mark.parametrize("method", ["greedy", "farthest"])
@pytest.mark.parametrize("importance", ["occlusion", "topology", "uniform"])
def test_k_different_names_nested_and_always_the_same(
    model, windows, method, importance
):
    options = {"windows": windows, "method": method, "importance": importance}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = select_electrodes(model, 6, **options)
    assert len(set(chosen)) == 6 and set(chosen) <= set(NAMES)
    assert select_electrodes(model, 3, **options) == chosen[:3]
    assert select_electrodes(model, 6, **options) == chosen
    assert all(bool((v == before[n]).all()) for n, v in model.state_dict().items())


@pytest.mark.parametrize("method", ["greedy", "farthest"])
def test_the_order_of_the_channels_does_not_matter(model, windows, method):
    order = np.random.default_rng(1).permutation(len(NAMES))
    shuffled = make_model([NAMES[i] for i in order])
    shuffled.load_state_dict(model.state_dict())
    assert select_electrodes(
        shuffled, 5, windows=windows[:, order], method=method
    ) == select_electrodes(model, 5, windows=windows, method=method)


def test_names_come_back_as_the_teacher_spells_them():
    dotted = make_model([f"{name}." for name in NAMES])
    plain = make_model()
    assert select_electrodes(dotted, 4) == [
        f"{name}." for name in select_electrodes(plain, 4)
    ]


def test_only_candidates_are_kept_and_aliases_are_understood(model):
    chosen = select_electrodes(model, 3, candidates=["T3", "Cz", "T4"])
    assert set(chosen) == {"T7", "Cz", "T8"}


def test_importance_by_name_decides_where_it_is_all_the_weight(model):
    values = dict.fromkeys(NAMES, 0.0) | {"P4": 5.0}
    assert select_electrodes(model, 1, importance=values, uniform=0) == ["P4"]
    with pytest.raises(ValueError, match="no finite value for.*Fp2"):
        select_electrodes(model, 1, importance={"Fp1": 1.0})


def test_a_default_teacher_spreads_its_choice_over_the_head(model):
    positions = electrode_positions(NAMES)
    rows = [NAMES.index(name) for name in select_electrodes(model, 6)]
    gap = np.linalg.norm(positions[:, None] - positions[rows], axis=-1).min(1)
    rng = np.random.default_rng(0)
    draws = [rng.choice(len(NAMES), 6, replace=False) for _ in range(200)]
    chance = [
        np.linalg.norm(positions[:, None] - positions[d], axis=-1).min(1).mean()
        for d in draws
    ]
    assert gap.mean() < np.quantile(chance, 0.2)


# ---------------------------------------------------------------- whose teacher
def test_nets_and_pretrainers_are_teachers_once_they_are_fitted(model, windows):
    from braindecode import EEGClassifier

    from braindecode_gcmae import GCMAEPretrainer

    net = EEGClassifier(model, classes=[0, 1])
    with pytest.raises(NotFittedError, match="fit"):
        select_electrodes(net, 2)
    net.initialize()
    assert select_electrodes(net, 4, windows=windows) == select_electrodes(
        model, 4, windows=windows
    )
    pretrainer = GCMAEPretrainer(teacher=model, student=None, batch_size=6)
    with pytest.raises(NotFittedError):
        select_electrodes(pretrainer, 2)
    pretrainer.set_params(max_epochs=1, sfreq=80, verbose=0, lr=1e-9)
    pretrainer.fit(windows, groups=np.arange(6))
    by_embedding = occlusion_importance(pretrainer, windows)
    assert by_embedding.shape == (19,) and (by_embedding > 0).all()
    assert len(select_electrodes(pretrainer, 4, windows=windows)) == 4


def test_epochs_and_datasets_are_windows(model, windows):
    epochs = make_epochs(windows)
    dataset = [(window, 0, None) for window in windows]
    expected = mean_graph(model, windows)
    np.testing.assert_allclose(mean_graph(model, epochs), expected, atol=1e-5)
    np.testing.assert_allclose(mean_graph(model, dataset), expected, atol=1e-6)


def make_epochs(windows, names=NAMES, sfreq=80.0, bads=()):

    info = mne.create_info(list(names), sfreq, "eeg")
    info["bads"] = list(bads)
    return mne.EpochsArray(windows * 1e-6, info, verbose="error")


def test_bad_channels_of_epochs_are_missing(model, windows):
    marked, missing = make_epochs(windows, bads=["O1", "Cz"]), windows.copy()
    missing[:, [NAMES.index("O1"), NAMES.index("Cz")]] = np.nan
    for look in (mean_graph, occlusion_importance):
        np.testing.assert_allclose(
            look(model, marked), look(model, make_epochs(missing)), atol=1e-6
        )
    assert len(select_electrodes(model, 4, windows=marked)) == 4


def test_of_channels_marked_bad_nothing_is_said(model, windows, recwarn):
    mean_graph(model, make_epochs(windows, bads=["O1", "Cz"]))
    mean_graph(model, windowed(windows, NAMES, 80.0, bads=["O1", "Cz"]))
    assert not [w for w in recwarn if "never finite" in str(w.message)]
    windows = windows.copy()
    windows[:, 3] = np.nan
    with pytest.warns(UserWarning, match=rf"\['{NAMES[3]}'\] are never finite"):
        mean_graph(model, make_epochs(windows, bads=["O1", "Cz"]))


def test_epochs_are_those_that_are_left_when_they_are_read(model, windows):
    info = mne.create_info(NAMES, 80, "eeg")
    raw = mne.io.RawArray(1e-6 * np.concatenate(windows, 1), info, verbose="error")
    raw.set_annotations(mne.Annotations([2.5], [0.5], ["bad"]))
    lazy = mne.make_fixed_length_epochs(raw, 2.0, verbose="error")
    expected = mean_graph(model, windows[[0, 2, 3, 4, 5]])
    np.testing.assert_allclose(mean_graph(model, lazy), expected, atol=1e-5)


def test_what_holds_no_windows_is_refused_by_its_type(model, windows):
    info = mne.create_info(NAMES, 80, "eeg")
    nothing = np.zeros((len(NAMES), 160))
    raw = mne.io.RawArray(nothing, info, verbose="error")
    for what in (raw, mne.EvokedArray(nothing, info)):
        with pytest.raises(TypeError, match=f"a {type(what).__name__} is none"):
            mean_graph(model, what)
    with pytest.raises(TypeError, match="or a windowed dataset, got list"):
        mean_graph(model, [windows, windows])


def test_channels_of_epochs_are_taken_by_name(model, windows):
    order = np.random.default_rng(2).permutation(len(NAMES))
    names = [f"EEG {NAMES[row].upper()}-REF" for row in order]
    more = np.concatenate([windows[:, order], 50 + windows[:, :1]], axis=1)
    for epochs in (
        make_epochs(windows[:, order], [NAMES[row] for row in order]),
        make_epochs(more, [*names, "FCz"]),
    ):
        for look in (mean_graph, occlusion_importance):
            expected = look(model, make_epochs(windows))
            np.testing.assert_array_equal(look(model, epochs), expected)


def test_epochs_may_hold_just_the_electrodes_of_a_student(windows):
    kept = ["C4", "Pz", "C3"]
    student = make_model(cls=GCMAEStudent, electrodes=kept)
    own = make_epochs(
        windows[:, [NAMES.index(name) for name in kept[::-1]]], kept[::-1]
    )
    whole = make_epochs(windows)
    np.testing.assert_array_equal(mean_graph(student, own), mean_graph(student, whole))


def test_two_derivations_of_one_electrode_are_told_apart_by_their_spelling(windows):
    epochs = make_epochs(windows, ["Fp1-A1", "Fp1-A2", *NAMES[2:]])
    model = make_model(chs_info=epochs.info["chs"])
    expected = mean_graph(model, windows)
    np.testing.assert_allclose(mean_graph(model, epochs), expected, atol=1e-5)


def test_epochs_of_a_model_without_names_are_taken_in_their_order(windows):
    with pytest.warns(UserWarning, match="positions"):
        nameless = GCMAETeacher(n_chans=len(NAMES), **SMALL)
    np.testing.assert_allclose(
        mean_graph(nameless, make_epochs(windows)),
        mean_graph(nameless, windows),
        atol=1e-5,
    )


def test_epochs_of_another_cap_are_an_error_that_names_what_is_not_there(
    model, windows
):
    others = ["AF7" if name == "O1" else name for name in NAMES]
    with pytest.raises(ValueError, match="windows.*channels of the GCMAETeacher.*'O1'"):
        select_electrodes(model, 4, windows=make_epochs(windows, others))


def test_epochs_without_eeg_are_an_error(model, windows):
    epochs = make_epochs(windows).set_channel_types(dict.fromkeys(NAMES, "eog"))
    with pytest.raises(ValueError, match="none of.*Fp1.*is of type EEG"):
        select_electrodes(model, 4, windows=epochs)


def test_epochs_at_another_rate_are_an_error_that_names_both(model, windows):
    with pytest.raises(ValueError, match="250 Hz.*80 Hz"):
        select_electrodes(model, 4, windows=make_epochs(windows, sfreq=250.0))


@pytest.mark.parametrize("k", [0, -1, 20, 2.0, True, "3"])
def test_a_number_of_electrodes_out_of_range_is_an_error(model, k):
    with pytest.raises(ValueError, match="from 1 to 19"):
        select_electrodes(model, k)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "random"}, "method must be one of"),
        ({"importance": "loud"}, "importance must be one of"),
        ({"importance": "occlusion"}, "needs windows="),
        ({"candidates": ["C3", "Nose"]}, "Nose"),
        ({"windows": np.zeros((0, 19, 160))}, "no windows"),
        ({"windows": np.zeros((19, 160))}, r"\(n_windows, n_chans, n_times\)"),
    ],
)
def test_errors_name_what_is_wrong(model, options, message):
    with pytest.raises(ValueError, match=message):
        select_electrodes(model, 1, **options)


def test_a_teacher_without_names_is_an_error():
    with pytest.warns(UserWarning, match="positions"):
        nameless = GCMAETeacher(n_chans=5, **SMALL)
    with pytest.raises(ValueError, match="no names"):
        select_electrodes(nameless, 2)


def test_another_model_is_an_error():
    with pytest.raises(TypeError, match="got Linear"):
        select_electrodes(nn.Linear(2, 2), 1)


def test_looking_leaves_the_mode_of_every_part_as_it_was(windows):
    model = make_model().train()
    model.network.token.eval()
    modes = [module.training for module in model.modules()]
    select_electrodes(model, 2, windows=windows)
    assert [module.training for module in model.modules()] == modes


class Louder(Subset):
    """A part that changes what it is a part of."""

    def __getitem__(self, i):
        x, *told = super().__getitem__(i)
        return 2 * x, *told

    def __getitems__(self, indices):
        return list(map(self.__getitem__, indices))


def test_channels_of_a_dataset_are_taken_by_name(model, windows):
    def dataset(order, bads=()):
        names = [NAMES[row] for row in order]
        return windowed(windows[:, order], names, 80.0, bads=bads)

    order = np.random.default_rng(3).permutation(len(NAMES))
    plain = occlusion_importance(model, dataset(np.arange(len(NAMES))))
    turned = occlusion_importance(model, dataset(order))
    np.testing.assert_allclose(turned, plain, rtol=1e-5)
    fold = Subset(dataset(order), range(len(windows)))
    np.testing.assert_array_equal(occlusion_importance(model, fold), turned)
    louder = occlusion_importance(model, Louder(dataset(order), range(len(windows))))
    twice = occlusion_importance(model, 2 * windows)
    np.testing.assert_allclose(louder, twice, rtol=1e-4)
    lost = occlusion_importance(model, dataset(order, bads=["Cz"]))
    assert lost[NAMES.index("Cz")] == 0 and np.delete(lost, NAMES.index("Cz")).any()
