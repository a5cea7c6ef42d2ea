"""Windows and models come in many ways, and mean the same in all of them."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from test_data import mixed, recording
from tiny import (
    FEW,
    NAMES,
    SFREQ,
    X,
    Y,
    classifier,
    epochs,
    fit,
    info,
    pretrainer,
    quietly,
    small,
    student,
    teacher,
    vector,
    weights,
    windowed,
    windows,
)
from torch.utils.data import Subset

from braindecode_gcmae import GCMAEPretraining, GCMAETeacher, TopologyDistillation
from braindecode_gcmae.pretraining import UnlabelledWindows

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")


def turned(x):
    return epochs(x).reorder_channels(NAMES[::-1])


# ------------------------------------------------------------- channels go by name
@pytest.mark.parametrize("go_on", ["warm start", "partial fit", "loaded"])
def test_later_windows_in_another_order_change_no_bit(go_on, tmp_path):
    first, later = epochs(windows()), windows(seed=5)

    def trained(order):
        net = pretrainer(max_epochs=1, warm_start=go_on == "warm start").fit(first)
        if go_on == "loaded":
            net.save_pretrained(tmp_path)
            net = pretrainer(max_epochs=1).load_pretrained(tmp_path)
        return (net.fit if go_on == "warm start" else net.partial_fit)(order(later))

    expected, found = trained(epochs), trained(turned)
    assert torch.equal(weights(found.student_), weights(expected.student_))


def test_models_that_are_there_already_take_channels_by_their_names():
    models = {"student": student(), "teacher": teacher()}
    found = pretrainer(max_epochs=1, **models).fit(turned(windows()))
    expected = pretrainer(max_epochs=1, **models).fit(epochs(windows()))
    assert torch.equal(weights(found.student_), weights(expected.student_))


def test_models_that_are_there_already_refuse_another_rate():
    made = epochs(windows(20))
    made.info._unlocked = True
    made.info["sfreq"] = 2 * SFREQ
    with pytest.raises(ValueError, match="200 Hz.*built for 100 Hz"):
        pretrainer(student=student(), teacher=teacher()).fit(made)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"student": student(), "student__depth": 3}, "student__depth= would be ignor"),
        ({"teacher": teacher(), "teacher__typo": 3}, "teacher__typo= would be ignored"),
        (
            {"student": student(), "electrodes": ["F3", "F4"]},
            "electrodes=.*F3.*would be ignored",
        ),
        (
            {"student": student(sfreq=200.0), "teacher": teacher()},
            "built for 100 and 200 Hz",
        ),
        (
            {"student": student(ch_names=NAMES[::-1]), "teacher": teacher()},
            "another order.*F3.*PZ",
        ),
    ],
)
def test_what_a_model_would_not_hear_of_is_refused(arguments, message):
    with pytest.raises(ValueError, match=rf"(?i)(?s){message}"):
        pretrainer(**arguments).fit(epochs(windows()))


def test_electrodes_that_the_student_has_are_no_contradiction():
    net = pretrainer(student=student(), electrodes=FEW, max_epochs=1)
    assert net.fit(windows()).student_.network.n_nodes == len(FEW)


def test_a_pretraining_stage_refuses_arguments_for_the_nets_student():
    stage = GCMAEPretraining(max_epochs=1, arguments={"student__emb_dim": 8})
    with pytest.raises(ValueError, match="student__emb_dim= would be ignored"):
        fit(classifier(callbacks=[("pretrain", stage)]))


# --------------------------------------------------------------- every kind of input
def test_mixed_montages_may_be_validated():
    net = pretrainer(train_split=ValidSplit(2), max_epochs=1, chs_info=info()["chs"])
    history = net.fit(mixed()).history
    assert np.isfinite(history[-1]["valid_loss"])


@pytest.mark.parametrize("kind", ["dataset", "recording", "turned"])
def test_a_predefined_split_holds_whatever_fit_takes(kind):
    x = windows(8, seed=1)
    validated = {
        "dataset": Dataset(x),  # skorch's
        "recording": windowed(x, NAMES),
        "turned": windowed(x[:, ::-1], NAMES[::-1]),
    }
    given = {"max_epochs": 1, "objective": "reconstruction"}
    losses = [
        pretrainer(**given, train_split=predefined_split(held_out))
        .fit(windows())
        .history[-1, "valid_loss"]
        for held_out in (UnlabelledWindows(x), validated[kind])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_people_of_a_predefined_split_are_those_of_training_or_nobody_there():
    held_out = UnlabelledWindows(windows(4, seed=1), ["b", "new", None, "a"])
    trained = UnlabelledWindows(windows(3), ["a", "c", "b"])
    net = pretrainer(max_epochs=1, batch_size=3, train_split=predefined_split(held_out))
    net.fit(trained)
    train, valid = net.get_split_datasets(trained)
    assert train is trained and trained.groups.tolist() == [0, 1, 2]
    assert valid.groups.tolist() == [2, 3, -1, 0]
    assert held_out.groups.tolist() == [0, 1, -1, 2]  # the user's own


def test_a_subset_is_embedded_as_its_windows_are():
    net, recorded = pretrainer(max_epochs=1).fit(windows()), recording(1)
    whole = net.transform(recorded)
    part = net.transform(Subset(recorded, [2, 0]))
    np.testing.assert_allclose(part, whole[[2, 0]], atol=1e-5)


def test_a_recording_that_begins_in_zeros_is_accepted():
    recorded = recording(1, n=6)
    recorded.datasets[0].raw._data[:, : 2 * windows().shape[2]] = 0.0
    assert len(UnlabelledWindows(recorded)) == 6
    recorded.datasets[0].raw._data[:] = 0.0
    with pytest.raises(ValueError, match="all channels are flat"):
        UnlabelledWindows(recorded)


def test_one_point_zero_is_the_person_one():
    parts = [
        UnlabelledWindows(windows(2), np.array([1, 2])),
        UnlabelledWindows(windows(2), np.array([1.0, 2.0])),
    ]
    assert UnlabelledWindows(parts).groups.tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("column", ["subject", "participant_id"])
def test_cut_epochs_know_whose_they_are_and_share_their_data(column):
    from braindecode_gcmae.datasets import unlabelled_windows

    made = epochs(windows(4), **{column: [1, 1, 2, 2]})
    cut = quietly(unlabelled_windows, made, 0.4)
    assert sorted(set(UnlabelledWindows(cut).ids)) == [1, 2]
    firsts = [part.windows for part in cut.datasets if part.description["subject"] == 1]
    assert len(firsts) == 4
    assert all(np.shares_memory(one._data, firsts[0]._data) for one in firsts)


# ------------------------------------------------------------------------ going on
@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_a_copied_net_goes_on_with_the_teacher_that_it_trained(copier):
    net = classifier(
        callbacks=[
            ("pretrain", GCMAEPretraining(max_epochs=1, arguments=small("teacher"))),
            ("distil", TopologyDistillation(classifier(GCMAETeacher, max_epochs=1))),
        ],
        max_epochs=1,
    )
    again = copier(quietly(fit, net))
    for one in (net, again):
        torch.manual_seed(0)
        quietly(one.partial_fit, X, Y)
    assert torch.equal(vector(again), vector(net))


def test_inpainting_leaves_the_training_mode_as_it_was():
    net = pretrainer(max_epochs=1).fit(epochs(windows()))
    net.module_.train()
    net.reconstruct(epochs(windows(2)), ["Cz"])
    assert all(module.training for module in net.module_.modules())


def test_a_subject_column_of_floats_is_the_same_people():
    x = windows(4)
    whole = epochs(x, subject=pd.Series([1, 1, 2, 2]))
    gaps = epochs(x, subject=pd.Series([1, 1, 2, 2]).astype(float))
    both = UnlabelledWindows([whole, gaps])
    assert both.groups.tolist() == [0, 0, 1, 1] * 2
