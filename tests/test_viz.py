"""Figures: what is drawn is what the numbers say, on the axes that were given."""

import warnings
from itertools import combinations
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import to_rgb

from braindecode_gcmae import (
    GCMAEStudent,
    GCMAETeacher,
    plot_density_curve,
    plot_electrode_graph,
    plot_embedding,
    plot_reconstruction,
    plot_topology_gap,
    plot_training_curves,
)
from braindecode_gcmae.montage import (
    electrode_positions,
    make_chs_info,
    montage_preset,
)
from braindecode_gcmae.pretraining import Reconstruction
from braindecode_gcmae.selection import mean_graph
from braindecode_gcmae.viz import project_positions
from braindecode_gcmae.viz.heads import RADIUS, edge_paths, node_radius
from braindecode_gcmae.viz.reconstruction import masked_correlation
from braindecode_gcmae.viz.style import MARKERS, PALETTE, UNKNOWN
from braindecode_gcmae.viz.writing import short_names

HD = montage_preset("10-10-64")
FEW = montage_preset("motor-8")
NET = [f"E{i}" for i in range(1, 257)]
NUMBERED = [
    info | {"ch_name": f"EEG{i:03}"} for i, info in enumerate(make_chs_info(HD))
]


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def random_graph(n, seed=0):
    graph = np.random.default_rng(seed).random((n, n))
    return np.triu(graph, 1) + np.triu(graph, 1).T


def edges_on(ax):
    """Ends of the drawn edges: (E, 2 ends, 2 coordinates)."""
    (lines,) = (c for c in ax.collections if isinstance(c, LineCollection))
    return np.array([path[[0, -1]] for path in lines.get_segments()])


def discs_on(ax):
    """Centres of the drawn electrodes, all collections together."""
    return [
        np.array([path.get_extents().get_points().mean(0) for path in c.get_paths()])
        for c in ax.collections
        if isinstance(c, PatchCollection)
    ]


def nodes_on(ax):
    """The one collection of discs."""
    (discs,) = (c for c in ax.collections if isinstance(c, PatchCollection))
    return discs


def is_grey(discs):
    discs.update_scalarmappable()
    grey = (discs.get_facecolor()[:, :3] == to_rgb(UNKNOWN)).all(1)
    return np.broadcast_to(grey, len(discs.get_paths()))  # one colour for all, or each


def written_on(ax):
    return [text.get_text() for text in ax.texts]


# ------------------------------------------------------------------------ heads
def test_the_projection_is_that_of_mne():
    """MNE's sensor plot of a spherical head; its circle is at 90 degrees, not 105."""
    import mne

    names = ["Fz", "C3", "O2", "T7", "Fpz", "P4", "AF8"]
    centre = np.array([0.0, 0.015, 0.044])
    positions = electrode_positions(names) - centre
    positions *= RADIUS / np.linalg.norm(positions, axis=1, keepdims=True)
    positions += centre
    info = mne.create_info(names, 100.0, "eeg")
    info.set_montage(
        mne.channels.make_dig_montage(
            dict(zip(names, positions, strict=True)), coord_frame="head"
        )
    )
    _, ax = plt.subplots()
    mne.viz.plot_sensors(info, axes=ax, sphere=(*centre, RADIUS), show=False)
    theirs = np.array(ax.collections[0].get_offsets()) - centre[:2]
    np.testing.assert_allclose(
        project_positions(positions), theirs * 90 / 105, atol=1e-6 * RADIUS
    )


def test_the_head_holds_the_cap():
    xy = project_positions(electrode_positions(HD))
    radius = dict(zip(HD, np.linalg.norm(xy, axis=1), strict=True))
    assert all(radius[name] < RADIUS for name in ("Fpz", "T7", "Oz", "Iz", "F8"))
    assert RADIUS < radius["T9"] < 1.3 * RADIUS
    assert radius["Cz"] < 0.1 * RADIUS
    # right is right, front is up
    assert xy[HD.index("C4"), 0] > 0.2 * RADIUS > xy[HD.index("Cz"), 0]
    assert xy[HD.index("Fz"), 1] > 0.2 * RADIUS


@pytest.mark.parametrize("names", [HD, FEW, ["Cz"]])
def test_discs_of_electrodes_do_not_touch(names):
    xy = project_positions(electrode_positions(names))
    gaps = [np.linalg.norm(a - b) for a, b in combinations(xy, 2)]
    assert 2 * node_radius(xy) < min(gaps, default=np.inf)


def test_an_edge_goes_around_the_electrodes_on_its_way():
    xy = np.array([[0.0, 0.0], [1.0, 0.01], [2.0, 0.0], [0.0, 1.0]])
    straight, bent = edge_paths(xy, [(0, 3), (0, 2)], 0.2)
    assert len(straight) == 2
    assert np.linalg.norm(bent - xy[1], axis=1).min() > 0.2
    np.testing.assert_array_equal(bent[[0, -1]], xy[[0, 2]])


@pytest.mark.parametrize("names", [NET, HD])
def test_the_frame_holds_all_discs_of_a_net_that_reaches_the_cheeks(names):
    n = len(names)
    kept = list(range(0, n, 8))
    alone = plot_electrode_graph(random_graph(n), names, names=False)
    student = random_graph(len(kept))
    pair = plot_topology_gap(student, random_graph(n), channels=names, kept=kept)
    for ax in (alone, *pair):
        low, high = ax.get_ylim()
        for discs in ax.collections[1:]:
            box = [path.get_extents().get_points() for path in discs.get_paths()]
            assert low < np.min(box) and np.max(box) < high
        assert high == pytest.approx(1.3 * RADIUS) or n == 256


def test_two_channels_at_one_place_are_drawn_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        ax = plot_electrode_graph(random_graph(3), ["C3-A1", "C3-A2", "C4"])
    assert len(edges_on(ax)) == 3


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["EEG001", "EEG012"], ["001", "012"]),
        (["EEG Fp1-REF", "EEG Fp2-REF"], ["Fp1", "Fp2"]),
        (["EEG 001", "EEG 002", "Cz"], ["EEG 001", "EEG 002", "Cz"]),
        (["EEG_12", "EEG_"], ["EEG_12", "EEG_"]),
        (["EEG001"], ["EEG001"]),
        (["E11", "E12"], ["E11", "E12"]),
    ],
)
def test_long_names_lose_the_words_that_all_of_them_share(names, short):
    assert short_names(names) == short


# ----------------------------------------------------------------------- graphs
@pytest.mark.parametrize(
    ("choice", "expected"),
    [({"top_k": 5}, 5), ({"density": 0.25}, 7), ({}, 24), ({"top_k": 0}, 0)],
)
def test_the_strongest_edges_are_drawn_between_their_electrodes(choice, expected):
    graph = random_graph(8)
    _, ax = plt.subplots()
    assert plot_electrode_graph(graph, FEW, ax=ax, **choice) is ax
    xy = project_positions(electrode_positions(FEW))
    ranked = sorted(combinations(range(8), 2), key=lambda pair: -graph[pair])
    wanted = {frozenset(map(tuple, xy[list(pair)])) for pair in ranked[:expected]}
    drawn = {frozenset(map(tuple, ends)) for ends in edges_on(ax)}
    assert drawn == wanted


def test_edges_above_a_threshold_and_only_real_ones_are_drawn():
    graph = random_graph(8)
    ax = plot_electrode_graph(graph, FEW, threshold=0.5)
    assert len(edges_on(ax)) == (np.triu(graph) > 0.5 * graph.max()).sum()
    graph[:] = 0
    graph[1, 2] = -0.7
    assert len(edges_on(plot_electrode_graph(graph, FEW))) == 1
    assert len(edges_on(plot_electrode_graph(np.zeros((8, 8)), FEW))) == 0


def test_the_stronger_the_edge_the_wider_and_the_more_opaque_it_is():
    ax = plot_electrode_graph(random_graph(8), FEW)
    (lines,) = (c for c in ax.collections if isinstance(c, LineCollection))
    for values in (lines.get_array(), lines.get_linewidths(), lines.get_alpha()):
        assert (np.diff(values) >= 0).all() and np.ptp(values) > 0


@pytest.mark.parametrize("names", [HD, FEW])
def test_every_electrode_is_named_inside_its_disc(names):
    ax = plot_electrode_graph(random_graph(len(names)), make_chs_info(names))
    assert written_on(ax) == names
    figure = ax.figure
    figure.draw_without_rendering()
    radius = node_radius(project_positions(electrode_positions(names)))
    height = np.diff(ax.transData.transform([[0, -radius], [0, radius]])[:, 1])[0]
    boxes = [text.get_window_extent() for text in ax.texts]
    assert all(box.width < height and box.height < height for box in boxes)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


@pytest.mark.parametrize("channels", [NUMBERED, NET[:128]])
def test_names_do_not_run_into_each_other(channels):
    graph = random_graph(len(channels))
    ax = plot_electrode_graph(graph, channels, names=True)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == len(channels)
    assert not any(a.overlaps(b) for a, b in combinations(boxes, 2))


def test_kept_electrodes_stand_out_and_are_named_on_a_dense_cap():
    ax = plot_electrode_graph(random_graph(64), HD, kept=FEW)
    (discs,) = (c for c in ax.collections if isinstance(c, PatchCollection))
    rims = [tuple(colour[:3]) == to_rgb(PALETTE[1]) for colour in discs.get_edgecolor()]
    assert [HD[i] for i in np.flatnonzero(rims)] == [n for n in HD if n in FEW]
    egi = [f"E{i}" for i in range(1, 129)]
    dense = plot_electrode_graph(random_graph(128), egi, kept=["E11", "E36"])
    assert written_on(dense) == ["E11", "E36"]
    assert written_on(plot_electrode_graph(random_graph(8), FEW, names=False)) == []


def test_values_of_electrodes_take_the_colour_and_its_bar():
    values = np.linspace(0, 3, 8)
    ax = plot_electrode_graph(
        random_graph(8), FEW, node_values=values, node_label="importance (%)"
    )
    (discs,) = (c for c in ax.collections if isinstance(c, PatchCollection))
    np.testing.assert_array_equal(discs.get_array(), values)
    assert ax.child_axes[0].get_ylabel() == "importance (%)"


def test_electrodes_without_a_value_are_grey_and_off_the_scale():
    values = np.array([1, np.nan, 2, 3])
    ax = plot_electrode_graph(random_graph(4), FEW[:4], node_values=values)
    discs = nodes_on(ax)
    assert discs.get_clim() == (1, 3)
    np.testing.assert_array_equal(is_grey(discs), np.isnan(values))
    assert ax.child_axes[0].get_ylabel() == "electrode value (grey: unknown)"


def test_values_that_are_all_unknown_have_no_colour_bar():
    ax = plot_electrode_graph(random_graph(3), FEW[:3], node_values=[np.nan] * 3)
    assert is_grey(nodes_on(ax)).all() and not ax.child_axes


@pytest.mark.parametrize("way", [{"density": 0.5}, {"threshold": 0.2}, {}])
def test_a_flat_channel_loses_its_own_edges_alone(way):
    graph = random_graph(8)
    flat = graph.copy()
    flat[2], flat[:, 2] = np.nan, np.nan
    graph[2], graph[:, 2] = 0, 0
    with pytest.warns(UserWarning, match=r"1 of 8 electrodes all are: \['C3'\]"):
        ax = plot_electrode_graph(flat, FEW, **way)
    expected = edges_on(plot_electrode_graph(graph, FEW, **way))
    assert len(expected)
    np.testing.assert_array_equal(edges_on(ax), expected)


def test_a_weight_that_is_nan_in_one_direction_is_that_of_the_other():
    graph = random_graph(8)
    one_way = np.where(np.tri(8, dtype=bool), np.nan, graph)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ax = plot_electrode_graph(one_way, FEW)
    np.testing.assert_array_equal(
        edges_on(ax), edges_on(plot_electrode_graph(graph, FEW))
    )


def test_flat_channels_of_a_student_are_named_by_its_electrodes():
    student, teacher = random_graph(8), random_graph(64)
    student[1], student[:, 1] = np.nan, np.nan
    with pytest.warns(UserWarning, match=r"1 of 8 electrodes all are: \['F4'\]"):
        axes = plot_topology_gap(student, teacher, channels=HD, kept=FEW, density=0.3)
    assert counts(axes[1])["edge"] > 0


@pytest.mark.parametrize("as_given", [np.asarray, list])
def test_kept_electrodes_may_be_a_mask(as_given):
    mask = as_given(np.isin(FEW, ["C3", "P4"]))
    discs = nodes_on(plot_electrode_graph(random_graph(8), FEW, kept=mask))
    rims = [tuple(colour[:3]) == to_rgb(PALETTE[1]) for colour in discs.get_edgecolor()]
    assert rims == list(mask)
    axes = plot_topology_gap(random_graph(2), random_graph(8), channels=FEW, kept=mask)
    assert written_on(axes[1]) == ["C3", "P4"]


def test_positions_alone_give_the_names_of_their_sites():
    positions = electrode_positions(FEW)
    positions[2] += 0.02
    ax = plot_electrode_graph(random_graph(8), positions)
    assert written_on(ax) == [n if i != 2 else "2" for i, n in enumerate(FEW)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((random_graph(8),), "channels="),
        ((random_graph(7), FEW), "7 nodes, but 8"),
        ((random_graph(8), np.ones((10, 8, 3))), r"positions \(N, 3\).*\(10, 8, 3\)"),
        ((np.ones((2, 3)), FEW), r"\(N, N\)"),
        ((random_graph(2), ["C3", "nose"]), "nose"),
    ],
)
def test_a_graph_that_cannot_be_placed_is_an_error(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_electrode_graph(*arguments)


def test_contradicting_arguments_of_a_graph_are_errors():
    with pytest.raises(ValueError, match="one of density"):
        plot_electrode_graph(random_graph(8), FEW, density=0.1, top_k=3)
    with pytest.raises(ValueError, match="node_values"):
        plot_electrode_graph(random_graph(8), FEW, node_values=[1, 2])
    with pytest.raises(IndexError, match="8 is out of bounds"):
        plot_electrode_graph(random_graph(8), FEW, kept=[8])
    with pytest.raises(ValueError, match="a mask of 3, but there are 8"):
        plot_electrode_graph(random_graph(8), FEW, kept=[True, False, True])
    with pytest.raises(ValueError, match="needs 3 axes, got 1"):
        plot_topology_gap(
            random_graph(8), random_graph(8), channels=FEW, axes=plt.subplots()[1]
        )


SMALL = {"n_outputs": 2, "n_times": 160, "sfreq": 80, "emb_dim": 16, "depth": 1}


@pytest.fixture(scope="module")
def pair():
    info = make_chs_info(montage_preset("10-20-19"))
    teacher = GCMAETeacher(chs_info=info, n_heads=2, **SMALL)
    student = GCMAEStudent(chs_info=info, n_heads=2, electrodes=FEW, **SMALL)
    x = np.random.default_rng(0).standard_normal((3, 19, 160)).astype(np.float32)
    return student.eval(), teacher.eval(), x


def test_a_model_is_drawn_by_its_mean_graph(pair):
    student, _, x = pair
    ax = plot_electrode_graph(student, windows=x)
    (lines,) = (c for c in ax.collections if isinstance(c, LineCollection))
    assert lines.get_array().max() == pytest.approx(mean_graph(student, x).max())
    assert written_on(ax) == FEW


def counts(ax):
    """Numbers of edges by legend entry."""
    found = {}
    for text in ax.get_legend().get_texts():
        label, number = text.get_text().rsplit(" (", 1)
        found[label] = int(number.rstrip(")"))
    return found


def test_the_gap_of_the_papers_example_is_its_pairs():
    """METHOD A.7, Fig. 2: four positive pairs, three negative ones."""
    names = ["Fz", "C5", "Cz", "T8", "P5", "P8", "Oz"]
    high = symmetric(names, ["Fz-C5", "C5-Cz", "Cz-T8", "Cz-P5", "Cz-P8", "P5-Oz"])
    kept = ["Fz", "T8", "P5", "P8", "Oz"]
    low = symmetric(kept, ["Fz-T8", "Fz-P8", "Oz-P8"])
    axes = plot_topology_gap(
        torch.tensor(low), high, channels=names, kept=kept, threshold=0.5
    )
    assert counts(axes[0]) == {"direct": 1, "through removed ones": 3}
    assert counts(axes[1]) == {"edge": 3}
    assert counts(axes[2]) == {"teacher only": 4, "student only": 3}
    assert axes[2].get_title() == "overlap (Jaccard) 0.00"


def symmetric(names, edges):
    graph = np.zeros((len(names), len(names)))
    for edge in edges:
        i, j = (names.index(name) for name in edge.split("-"))
        graph[i, j] = graph[j, i] = 1.0
    return graph


def test_equal_graphs_have_no_gap():
    graph = random_graph(8)
    axes = plot_topology_gap(graph, graph, channels=FEW, density=0.3)
    assert axes[2].get_title() == "overlap (Jaccard) 1.00"
    assert list(counts(axes[2])) == ["both"]


def test_by_default_both_graphs_have_as_many_pairs(pair):
    student, teacher, x = pair
    _, given = plt.subplots(1, 3)
    axes = plot_topology_gap(student, teacher, x, axes=given)
    assert list(axes) == list(given)
    assert sum(counts(axes[0]).values()) == counts(axes[1])["edge"]
    assert all(written_on(ax) == FEW for ax in axes)
    assert len(discs_on(axes[0])[0]) == 19 - 8


def test_a_student_whose_electrodes_are_not_told_is_an_error():
    with pytest.raises(ValueError, match="pass kept="):
        plot_topology_gap(random_graph(8), random_graph(64), channels=HD)


# --------------------------------------------------------------- reconstruction
def reconstruction(names, masked, n=12):
    rng = np.random.default_rng(0)
    target = rng.standard_normal((n, len(names), 4))
    rebuilt = 0.6 * target + 0.8 * rng.standard_normal(target.shape)
    hidden = np.isin(names, masked)
    return Reconstruction(target, rebuilt, hidden, electrode_positions(names))


def test_masked_correlation_is_pearsons_over_the_windows():
    target, rebuilt = reconstruction(FEW, ["C3"])[:2]
    for i in range(8):
        x, y = (
            np.concatenate([p[:, i, f] - p[:, i, f].mean() for f in range(4)])
            for p in (target, rebuilt)
        )
        assert masked_correlation(target, rebuilt)[i] == pytest.approx(
            np.corrcoef(x, y)[0, 1]
        )
    assert masked_correlation(target, target) == pytest.approx(1)
    # the mean window, over and over, has followed nothing
    mean = np.broadcast_to(target.mean(0), target.shape)
    assert masked_correlation(target, mean) == pytest.approx(0)


@pytest.mark.parametrize(
    ("names", "mapped"),
    [
        (HD, True),
        (montage_preset("10-20-16"), True),
        ([name for name in HD if name[-1] in "13579"], False),
        (montage_preset("no-central-16"), False),
        (FEW, False),
    ],
)
def test_a_map_is_drawn_only_where_electrodes_cover_the_head(names, mapped):
    axes = plot_reconstruction(reconstruction(names, names[:2]))
    assert [bool(ax.images) for ax in axes[:2]] == [mapped] * 2
    if not mapped:
        assert len(nodes_on(axes[0]).get_paths()) == len(names)


class Lacking(NamedTuple):
    """A reconstruction from windows that lack electrodes."""

    target: np.ndarray
    reconstruction: np.ndarray
    masked: np.ndarray
    positions: np.ndarray
    present: np.ndarray  # (n, N)


def lacking(names, masked, gone):
    """As the pretrainer gives it: an absent electrode has the mean of all, 0."""
    whole = reconstruction(names, masked)
    present = np.broadcast_to(~np.isin(names, gone), whole.target.shape[:2]).copy()
    target = np.where(present[..., None], whole.target, 0)
    return Lacking(target, *whole[1:4], present)


@pytest.mark.parametrize("names", [HD, FEW])
def test_electrodes_without_data_are_grey_and_have_no_correlation(names):
    gone = ["C4", "Pz"]
    axes = plot_reconstruction(lacking(names, ["C3", "Pz", "F4"], gone))
    labels = {tick.get_text() for tick in axes[2].get_yticklabels()}
    assert labels == {"C3", "F4"}
    assert "no data" in axes[0].get_title()
    wanted = project_positions(electrode_positions([n for n in names if n in gone]))
    for ax in axes[:2]:
        discs = [c for c in ax.collections if isinstance(c, PatchCollection)][-1]
        grey = discs_on(ax)[-1][is_grey(discs)]
        np.testing.assert_allclose(grey, wanted, atol=1e-6)


def test_windows_without_an_electrode_do_not_count_for_it():
    result = lacking(FEW, ["C3"], [])
    result.present[3:9, 2] = False
    result.target[3:9, 2] = 0
    axes = plot_reconstruction(result)
    seen = result.present[:, 2]
    expected = masked_correlation(result.target[seen], result.reconstruction[seen])[2]
    assert axes[2].lines[0].get_xdata() == pytest.approx(expected)
    mean = result.target[seen, 2].mean()
    assert nodes_on(axes[0]).get_array()[2] == pytest.approx(mean)
    one = plot_reconstruction(result, window=4)
    assert is_grey(nodes_on(one[0])).tolist() == [name == "C3" for name in FEW]


def test_electrodes_are_called_alike_on_the_head_and_beside_it():
    result = reconstruction(FEW, ["F3", "Pz"])
    clinical = [f"EEG {name}-REF" for name in FEW]
    axes = plot_reconstruction(result, channels=clinical)
    written = {text.get_text() for text in axes[0].texts}
    listed = {tick.get_text() for tick in axes[2].get_yticklabels()}
    assert listed == {"F3", "Pz"} and listed < written


def test_before_and_after_differ_at_masked_electrodes_alone():
    result = reconstruction(FEW, ["F3", "Pz"])
    axes = plot_reconstruction(result, window=2, feature=1)
    before, after = (
        next(c for c in ax.collections if isinstance(c, PatchCollection))
        for ax in axes[:2]
    )
    np.testing.assert_allclose(before.get_array(), result.target[2, :, 1])
    expected = np.where(
        result.masked, result.reconstruction[2, :, 1], result.target[2, :, 1]
    )
    np.testing.assert_allclose(after.get_array(), expected)
    assert before.get_clim() == after.get_clim()
    assert before.get_clim()[0] == -before.get_clim()[1]


@pytest.mark.parametrize("names", [HD, FEW])
def test_each_masked_electrode_is_ringed_and_scored(names):
    masked = ["C3", "Pz", "F4"]
    result = reconstruction(names, masked)
    _, given = plt.subplots(1, 3)
    axes = plot_reconstruction(result, axes=given)
    assert list(axes) == list(given)
    labels = [tick.get_text() for tick in axes[2].get_yticklabels()]
    score = masked_correlation(result.target, result.reconstruction)
    by_score = sorted(masked, key=lambda name: score[names.index(name)])
    assert labels == by_score
    if len(names) == 64:
        ringed = discs_on(axes[1])[1]
        wanted = project_positions(electrode_positions([n for n in HD if n in masked]))
        np.testing.assert_allclose(ringed, wanted, atol=1e-6)


def test_one_window_is_scored_over_its_features_and_names_can_be_given():
    names = [f"{name}." for name in FEW]
    axes = plot_reconstruction(reconstruction(FEW, ["C3"], n=1), names)
    assert axes[2].get_xlabel() == "correlation over features"
    assert axes[2].get_yticklabels()[0].get_text() == "C3."


def test_nothing_masked_and_unknown_places_are_errors():
    with pytest.raises(ValueError, match="no electrode was masked"):
        plot_reconstruction(reconstruction(FEW, []))
    with pytest.raises(ValueError, match="no masked electrode has data"):
        plot_reconstruction(lacking(FEW, ["C3"], ["C3"]))
    lost = reconstruction(FEW, ["C3"])
    lost.positions[1] = np.nan
    with pytest.raises(ValueError, match=r"\['1'\] are unknown"):
        plot_reconstruction(lost)


# ----------------------------------------------------------------------- curves
def density_table(n_methods):
    rows = [
        {
            "method": f"method {i}",
            "n_electrodes": n,
            "score": 0.5 + 0.01 * i + 0.001 * n,
            "low": 0.45,
            "high": 0.7,
        }
        for i in range(n_methods)
        for n in (64, 4, 16)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("n_methods", [2, 6])
def test_density_curves_are_the_tables_rows_in_percent(n_methods):
    table = density_table(n_methods)
    _, ax = plt.subplots()
    assert plot_density_curve(table, ax=ax) is ax
    curves = [line for line in ax.lines if line.get_label().startswith("method")]
    for i, line in enumerate(curves):
        np.testing.assert_allclose(
            line.get_ydata(), 100 * (0.5 + 0.01 * i + 0.001 * np.array([4, 16, 64]))
        )
        x = line.get_xdata() / np.array([4, 16, 64])
        np.testing.assert_allclose(x, x[0])
        assert 0.8 < x[0] < 1.25 and (n_methods > 3 or x[0] == 1)
    assert len({(line.get_color(), line.get_marker()) for line in curves}) == n_methods
    assert len(ax.collections) == n_methods  # one interval each
    assert [t.get_text() for t in ax.get_xticklabels()] == ["4", "16", "64"]
    assert ax.get_ylabel() == "accuracy (%), 95 % CI"
    best_first = [text.get_text() for text in ax.get_legend().get_texts()]
    assert best_first == [f"method {i}" for i in reversed(range(n_methods))]


def test_density_curves_without_intervals_unit_or_chance():
    table = density_table(3).drop(columns=["low", "high"])
    ax = plot_density_curve(
        table, metric="AUROC", unit="", chance=None, order=["method 2"]
    )
    assert ax.get_ylabel() == "AUROC" and len(ax.lines) == 1 and not ax.collections
    assert ax.lines[0].get_ydata().max() < 1


def test_a_table_that_is_no_curve_is_an_error():
    table = density_table(2)
    with pytest.raises(ValueError, match="no column.*score"):
        plot_density_curve(table.drop(columns="score"))
    with pytest.raises(ValueError, match="no rows of.*tangent"):
        plot_density_curve(table, order=["tangent"])
    with pytest.raises(ValueError, match="'method 0' has several rows for 64"):
        plot_density_curve(pd.concat([table, table[:1]]))


def history(n=5):
    return [
        {
            "epoch": i + 1,
            "dur": 0.1,
            "batches": [{"train_loss": 1.0}],
            "train_loss": 3.0 - i,
            "train_loss_best": True,
            "valid_loss": 3.5 - i,
            "valid_acc": 0.5,
            "train_gtd": 1.0,
            "rec_teacher": 2.0,
            "rec_student": 2.5,
            "probe_knn": 0.6,
            "event_lr": 0.1,
            **({"contrast_student": 4.0} if i < 2 else {}),
        }
        for i in range(n)
    ]


def test_training_curves_are_one_panel_per_term_with_its_lines():
    axes = plot_training_curves(history())
    panels = {ax.get_title(): [line.get_label() for line in ax.lines] for ax in axes}
    assert panels == {
        "loss": ["training", "validation"],
        "accuracy": ["validation"],
        "graph topology (GTD)": ["training"],
        "reconstruction": ["teacher", "student"],
        "probe accuracy\n(k-NN, held-out people)": ["_child0"],  # without a legend
        "contrast": ["student"],
    }
    assert [ax.get_legend() is None for ax in axes] == [False] * 4 + [True, False]
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), [3, 2, 1, 0, -1])
    np.testing.assert_array_equal(
        axes[5].lines[0].get_ydata(), [4, 4, np.nan, np.nan, np.nan]
    )


def test_a_training_loss_with_distillation_is_told_from_the_loss_of_validation():
    rows = [{"train_loss": 3.0, "valid_loss": 0.7, "train_distil": 2.3}]
    loss, distilled = plot_training_curves(rows)
    labels = [line.get_label() for line in loss.lines]
    assert labels == ["training, with distillation", "validation"]
    assert [line.get_label() for line in distilled.lines] == ["training"]


def test_training_curves_of_chosen_terms_from_a_net_on_given_axes():
    class Net:
        history = history(40)

    _, given = plt.subplots(1, 2)
    axes = plot_training_curves(Net(), ["rec", "loss"], axes=given)
    assert list(axes) == list(given)
    with pytest.raises(ValueError, match=r"no term \['kd'\]"):
        plot_training_curves(history(), ["kd"])
    with pytest.raises(ValueError, match="empty"):
        plot_training_curves([])


# -------------------------------------------------------------------- embedding
def embeddings(n=60, dim=6):
    return np.random.default_rng(0).standard_normal((n, dim)) * [9, 3, 1, 1, 1, 1][:dim]


def scattered(ax):
    return np.concatenate([
        c.get_offsets() for c in ax.collections if not isinstance(c, LineCollection)
    ])  # fmt: skip


def test_the_plane_is_that_of_the_largest_singular_values():
    x = embeddings()
    ax = plot_embedding(x)
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(scattered(ax)), np.abs(u[:, :2] * s[:2]))
    share = 100 * s[0] ** 2 / (s**2).sum()
    assert ax.get_xlabel() == f"PC 1 ({share:.0f} % of variance)"


def test_classes_have_a_colour_and_few_subjects_a_marker_each():
    labels = np.array(["left", "right"])[np.arange(60) % 2]
    ax = plot_embedding(embeddings(), labels, np.arange(60) % 3, label_name="fist")
    assert len(ax.collections) == 3
    colours = {tuple(c[:3]) for part in ax.collections for c in part.get_facecolor()}
    assert colours == {to_rgb(PALETTE[0]), to_rgb(PALETTE[1])}
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["fist", "left", "right", "subject", "0", "1", "2"]


def test_many_subjects_get_their_mean_and_lines_to_it():
    x, subjects = embeddings(), np.arange(60) % 12
    ax = plot_embedding(x, np.arange(60) % 2, subjects)
    (spokes,) = (c for c in ax.collections if isinstance(c, LineCollection))
    plane = scattered(ax)
    for (centre, end), point, subject in zip(
        spokes.get_segments(), plane, subjects, strict=True
    ):
        np.testing.assert_allclose(end, point)
        np.testing.assert_allclose(centre, plane[subjects == subject].mean(0))


def test_subjects_alone_are_told_by_colour_and_marker():
    ax = plot_embedding(embeddings(), subjects=np.arange(60) % 4)
    keys = ax.get_legend().legend_handles[1:]
    assert [key.get_marker() for key in keys] == list(MARKERS[:4])
    assert [key.get_color() for key in keys] == list(PALETTE[:4])


def test_real_labels_are_on_a_colour_scale_and_tsne_is_repeatable():
    age = np.linspace(20.0, 80.0, 20)
    first, again = (
        plot_embedding(embeddings(20), age, method="tsne", label_name="age (years)")
        for _ in range(2)
    )
    np.testing.assert_array_equal(scattered(first), scattered(again))
    assert first.collections[0].get_clim() == (20, 80)
    assert first.figure.axes[1].get_ylabel() == "age (years)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(3),), r"\(n, D\)"),
        ((np.full((4, 2), np.nan),), "finite"),
        ((embeddings(), [1, 2]), "labels must have"),
        ((embeddings(), None, [1]), "subjects must have"),
    ],
)
def test_embeddings_that_cannot_be_drawn_are_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        plot_embedding(*arguments)
    with pytest.raises(ValueError, match="pca"):
        plot_embedding(embeddings(), method="umap")


def test_one_dimension_and_many_classes_are_drawn_too():
    ax = plot_embedding(embeddings(dim=1), np.arange(60) % 9)
    assert len({tuple(c) for c in ax.collections[0].get_facecolor()}) == 9
    assert (scattered(ax)[:, 1] == 0).all()


def test_figures_leave_the_callers_current_axes_alone():
    _, (mine, current) = plt.subplots(1, 2)
    plt.sca(current)
    plot_electrode_graph(random_graph(8), FEW, ax=mine)
    plot_density_curve(density_table(2), ax=mine)
    assert plt.gca() is current
