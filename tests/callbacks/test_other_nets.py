"""Nets, criteria, splits and orders of callbacks that somebody will come with."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from braindecode import EEGRegressor
from braindecode.datasets import BaseConcatDataset, pad_channels_collate
from sklearn.model_selection import cross_val_score
from skorch import NeuralNet, NeuralNetRegressor
from skorch.callbacks import Checkpoint, LoadInitState
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from tiny import (
    NAMES,
    X,
    Y,
    classifier,
    distil,
    epochs,
    fit,
    pretrainer,
    quietly,
    small,
    student,
    teacher,
    vector,
    windowed,
    windows,
)
from torch import nn

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    GCMAEStudent,
    GCMAETeacher,
    StartFrom,
)
from braindecode_gcmae.callbacks import (
    CollapseMonitor,
    ProbeMonitor,
    ResumableCheckpoint,
)

STAGE = GCMAEPretraining(max_epochs=1, arguments=small("teacher"))


@pytest.fixture
def folder(tmp_path):
    student(n_outputs=None, seed=11).save_pretrained(tmp_path / "student")
    return tmp_path / "student"


def saved(folder):
    return network(GCMAEStudent.from_pretrained(folder))


def network(net):
    """Parameters of a network; statistics of the data move by themselves."""
    found = getattr(net, "module_", net).network.parameters()
    return nn.utils.parameters_to_vector(found).detach().clone()


# ------------------------------------------------------------------ where it starts
def test_a_module_that_is_made_anew_starts_from_the_checkpoint_again(folder):
    net = fit(classifier(callbacks=[("start", StartFrom(folder))], lr=0.1))
    assert not torch.equal(network(net), saved(folder))
    net.set_params(module__drop_prob=0.1, lr=0.0)  # skorch makes another module
    net.partial_fit(X, Y)
    assert torch.equal(network(net), saved(folder))


def test_a_module_that_is_made_anew_is_pretrained_again():
    net = fit(classifier(callbacks=[("pretrain", copy.deepcopy(STAGE))], max_epochs=0))
    stage = dict(net.callbacks_)["pretrain"]
    first = stage.history_
    net.set_params(module__drop_prob=0.1).partial_fit(X, Y)
    assert stage.history_ is not first
    net.partial_fit(X, Y)
    assert stage.is_done(net)


def test_a_callback_in_two_nets_starts_both(folder):
    shared = StartFrom(folder)
    given = {"callbacks": [("start", shared)], "lr": 0.0, "module__n_times": 160}
    nets = [classifier(**given) for _ in range(2)]
    for net in nets:
        net.initialize()
    for net in nets:
        net.partial_fit(X, Y)
        assert torch.equal(network(net), saved(folder))


@pytest.mark.parametrize(
    "copier", [copy.deepcopy, lambda n: pickle.loads(pickle.dumps(n))]
)
def test_a_copy_goes_on_from_where_it_is(folder, copier):
    again = copier(fit(classifier(callbacks=[("start", StartFrom(folder))], lr=0.1)))
    before = network(again)
    again.set_params(lr=0.0).partial_fit(X, Y)
    assert torch.equal(network(again), before)


def test_a_state_that_skorch_loaded_is_left_alone(folder, tmp_path):
    kept = Checkpoint(dirname=tmp_path / "kept", monitor=None)
    fit(classifier(callbacks=[("kept", kept)], lr=0.1))
    given = [("load", LoadInitState(kept)), ("start", StartFrom(folder))]
    net = fit(classifier(callbacks=given, max_epochs=0))
    plain = fit(classifier(callbacks=[("load", LoadInitState(kept))], max_epochs=0))
    assert torch.equal(network(net), network(plain))


def test_a_checkpoint_that_would_replace_a_pretraining_is_refused(folder):
    given = [("pretrain", copy.deepcopy(STAGE)), ("start", StartFrom(folder))]
    with pytest.raises(ValueError, match="StartFrom would replace.*put it first"):
        fit(classifier(callbacks=given))
    fit(classifier(callbacks=given[::-1]))


def test_a_fitted_net_is_started_from_and_a_pretrainer_is_refused(folder):
    first = fit(classifier(lr=0.1))
    net = fit(classifier(callbacks=[("start", StartFrom(first))], max_epochs=0))
    assert torch.equal(network(net), network(first))
    both = pretrainer(max_epochs=1).fit(windows(), groups=np.arange(16) // 4)
    with pytest.raises(TypeError, match="pretrainer.student_.*GCMAEPretrainer"):
        fit(classifier(callbacks=[("start", StartFrom(both))]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("f_min", 8.0), ("segment_seconds", 0.8), ("activation", nn.ELU)],
)
def test_weights_that_would_mean_something_else_are_refused(folder, name, value):
    given = {f"module__{name}": value, "callbacks": [("start", StartFrom(folder))]}
    with pytest.raises(ValueError, match=f"architecture: {name} is .* and "):
        fit(classifier(**given))


def test_a_run_that_is_over_says_that_nothing_is_left_to_do(tmp_path):
    net = fit(classifier(callbacks=[("resume", ResumableCheckpoint(tmp_path))]))
    with pytest.warns(UserWarning, match="nothing left to do.*max_epochs"):
        net.partial_fit(X, Y)


# --------------------------------------------------------------- what is distilled
def test_an_unfitted_teacher_has_the_students_classes_though_the_fold_lacks_one():
    labels = np.where(Y == 0, 0, 3)
    net = classifier(
        callbacks=distil(classifier(GCMAETeacher, max_epochs=1)),
        module__n_outputs=4,
        classes=[0, 1, 2, 3],
    )
    net.fit(X, labels)
    assert net.predict_proba(X).shape == (len(X), 4)


def test_a_topology_that_has_nothing_to_teach_says_so():
    far = ["F3", "Pz"]
    net = classifier(callbacks=distil(teacher()), module__electrodes=far)
    with pytest.warns(UserWarning, match="links no two of the student's 2 electrodes"):
        net.fit(X, Y)
    assert net.history[-1]["train_gtd"] == 0
    wide = classifier(callbacks=distil(teacher(), density=0.9), module__electrodes=far)
    with pytest.warns(UserWarning, match="was 0 in every epoch: two electrodes"):
        wide.fit(X, Y)
    assert wide.history[-1]["train_gtd"] == 0
    all_six = distil(teacher(), density=0.3)
    both = classifier(callbacks=all_six, module__electrodes=NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        both.fit(X, Y)
    assert both.history[-1]["train_gtd"] > 0


def test_a_run_that_is_over_and_taught_no_topology_is_found_again(tmp_path):
    def net():
        taught = distil(teacher(), density=0.9)
        callbacks = [("resume", ResumableCheckpoint(tmp_path)), *taught]
        return classifier(callbacks=callbacks, module__electrodes=["F3", "Pz"])

    with pytest.warns(UserWarning, match="was 0 in every epoch"):
        first = net().fit(X, Y)
    again = quietly(net().fit, X, Y)
    assert (again.predict_proba(X) == first.predict_proba(X)).all()


def test_a_validation_set_apart_is_held_out_of_the_pool():
    net = classifier(
        callbacks=distil(teacher(), unlabelled=np.concatenate([X, windows(3, seed=9)])),
        train_split=predefined_split(Dataset(X[8:], Y[8:])),
    )
    with pytest.warns(UserWarning, match="16 of the unlabelled.*validated on"):
        net.fit(X[:8], Y[:8])
    pool = dict(net.callbacks_)["distil"].windows_
    assert len(pool) == len(X) - 16 + 3


@pytest.mark.parametrize("given", [X, epochs(X, Y)], ids=["array", "epochs"])
def test_a_pool_that_a_cross_validation_would_test_on_is_said(given):
    more = windows(5, seed=9)
    module = {} if given is X else {"module__ch_names": None}

    def net(pool):
        return classifier(callbacks=distil(unlabelled=pool), max_epochs=1, **module)

    with pytest.warns(UserWarning, match="24 of.* also among those of fit.*tests on"):
        pool = fit(net(given), x=given)
    assert len(dict(pool.callbacks_)["distil"].windows_) == len(X)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "[0-9]+ of the unlabelled")
        fit(net(more if given is X else epochs(more)), x=given)


def test_a_cross_validation_over_its_own_pool_says_so():
    net = classifier(callbacks=distil(unlabelled=X), max_epochs=1)
    with pytest.warns(UserWarning, match="16 of the .*train on windows that it tests"):
        cross_val_score(net, X, Y, cv=3, error_score="raise")


class Regressor(NeuralNetRegressor):
    """skorch's own, which has no mode."""


@pytest.mark.parametrize("net_class", [EEGRegressor, Regressor])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_values_are_distilled_as_values(net_class, n_outputs):
    y = np.random.default_rng(0).normal(size=(len(X), n_outputs)).astype(np.float32)
    net = net_class(
        student(n_outputs=n_outputs),
        criterion=nn.MSELoss,
        callbacks=distil(teacher(n_outputs=n_outputs), gtd_weight=0.0),
        max_epochs=1,
        batch_size=len(X),
        lr=0.0,
        train_split=None,
        verbose=0,
    )
    net.fit(X, y)
    x = torch.from_numpy(X)
    with torch.no_grad():
        expert = teacher(n_outputs=n_outputs).eval()
        expected = nn.functional.mse_loss(net.module_.eval()(x), expert(x))
    assert net.history[-1]["train_kd"] == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_soft_labels_of_outputs_that_decide_alone_are_refused(n_outputs):
    y = np.zeros((len(X), n_outputs), np.float32)
    y[::2] = 1

    def net(**weights):
        return NeuralNet(
            student(n_outputs=n_outputs),
            nn.BCEWithLogitsLoss,
            callbacks=distil(teacher(n_outputs=n_outputs), **weights),
            max_epochs=1,
            batch_size=8,
            train_split=None,
            verbose=0,
        )

    with pytest.raises(ValueError, match="one output for each class.*BCEWithLogits"):
        net().fit(Dataset(X, y), None)
    net(kd_weight=0.0, density=0.9).fit(Dataset(X, y), None)


# ------------------------------------------------------------------- who gets what
@pytest.mark.parametrize("kind", [CollapseMonitor, ProbeMonitor])
def test_a_monitor_of_pretraining_is_refused_elsewhere_before_a_step(kind):
    given = () if kind is CollapseMonitor else (X, Y, X, Y)
    net = classifier(callbacks=[("monitor", kind(*given))])
    with pytest.raises(TypeError, match=f"{kind.__name__} watches a GCMAEPretrainer"):
        net.fit(X, Y)
    assert len(net.history) == 0


def test_recordings_in_different_orders_are_refused_together():
    def dataset(names):
        rows = [NAMES.index(name) for name in names]
        return windowed(windows(4)[:, rows], names, target=1)

    both = quietly(lambda: BaseConcatDataset([dataset(NAMES), dataset(NAMES[::-1])]))
    same = quietly(lambda: BaseConcatDataset([dataset(NAMES), dataset(NAMES)]))
    given = classifier(callbacks=distil(teacher()), classes=[0, 1])
    net = quietly(fit, GCMAEClassifier(**given.get_params(deep=False)))
    quietly(net.predict_proba, same)
    with pytest.raises(ValueError, match="model in its order.*reorder_channels"):
        net.predict_proba(both)


def test_epochs_with_channels_that_are_no_eeg_say_what_helps():
    made = epochs(windows(4))
    eog = made.copy().pick(["Cz"]).rename_channels({"Cz": "VEOG"})
    eog.set_channel_types({"VEOG": "eog"}, verbose=False)
    both = made.add_channels([eog])
    given = classifier(classes=[0, 1])
    net = quietly(fit, GCMAEClassifier(**given.get_params(deep=False)))
    with pytest.raises(ValueError, match=r"no EEG, \['VEOG'\].*epochs.pick\('eeg'\)"):
        net.predict_proba(both)


VALUES = np.random.default_rng(0).normal(size=(len(X), 2)).astype("float32")
REGRESSOR = {"cls": EEGRegressor, "module__n_outputs": 2}


@pytest.mark.parametrize("fitted", [True, False])
def test_who_tells_values_cannot_teach_who_tells_classes_or_back(fitted):
    told_values = classifier(GCMAETeacher, **REGRESSOR)
    told_classes = classifier(GCMAETeacher, module__n_outputs=2)
    plain = classifier(GCMAETeacher, cls=NeuralNet, criterion=nn.MSELoss)
    if fitted:
        told_values.fit(X, VALUES)
        told_classes.fit(X, Y)
    of_classes = classifier(callbacks=distil(told_values))
    with pytest.raises(TypeError, match="teacher is a EEGRegressor.* learns classes"):
        of_classes.fit(X, Y)
    of_values = classifier(callbacks=distil(told_classes), **REGRESSOR)
    with pytest.raises(TypeError, match="teacher is a EEGClassifier.* learns values"):
        of_values.fit(X, VALUES)
    with pytest.raises(TypeError, match="teacher is a NeuralNet.* learns classes"):
        classifier(callbacks=distil(plain)).fit(X, Y)


def test_values_that_are_not_finite_are_refused_before_the_pretraining():
    lost = VALUES.copy()
    lost[5, 1] = np.nan
    net = classifier(callbacks=[("pretrain", copy.deepcopy(STAGE))], **REGRESSOR)
    with pytest.raises(ValueError, match="1 of 24 values .* not finite.* window 5"):
        quietly(net.fit, X, lost)


@pytest.mark.parametrize(
    "given", [lambda x: x, torch.from_numpy, lambda x: Dataset(x, Y), "epochs"]
)
def test_windows_of_the_students_electrodes_alone_say_how_to_do_without_a_teacher(
    given,
):
    net = quietly(classifier(callbacks=distil()).fit, X, Y)
    kept = net.module_.network.rows.tolist()
    if given == "epochs":
        sparse = epochs(X, Y).pick([NAMES[row] for row in kept])
    else:
        sparse = given(np.ascontiguousarray(X[:, kept]))
    with pytest.raises(ValueError, match="electrodes alone.*copy.deepcopy.net.module_"):
        quietly(net.partial_fit, sparse, Y)
    before = vector(net)
    calibrated = classifier(copy.deepcopy(net.module_)).fit(X[:, kept], Y)
    assert torch.equal(vector(net), before)
    assert not torch.equal(vector(calibrated), before)


def test_a_pretrainer_is_no_teacher_before_it_has_seen_labels():
    run = quietly(pretrainer(max_epochs=1).fit, X)
    for unlabelled in (run, pretrainer()):
        with pytest.raises(TypeError, match="GCMAEPretrainer, which has learnt no cl"):
            classifier(callbacks=distil(unlabelled)).fit(X, Y)


def test_partial_fit_of_a_classifier_is_told_whose_the_windows_are():
    given = classifier(callbacks=[("pretrain", copy.deepcopy(STAGE))], classes=[0, 1])
    net = GCMAEClassifier(**given.get_params(deep=False))
    quietly(net.partial_fit, X, Y, subjects=np.arange(len(X)) // 6)
    assert net.fit_metadata_ == {}
    with pytest.raises(ValueError, match="subjects must name the subject of each"):
        net.partial_fit(X, Y, subjects=[1])


def of_two_caps():
    """A data set of two caps that brings positions, and what a net needs for it."""

    def dataset(names, target):
        x = windows(4, len(names))
        return windowed(x, names, montage="standard_1005", target=target)

    caps = [dataset(NAMES, 0), dataset([*NAMES[::-1], "O1", "O2"], 1)]
    given = {
        "classes": [0, 1],
        "batch_size": 4,
        "iterator_train__collate_fn": pad_channels_collate,
        "iterator_valid__collate_fn": pad_channels_collate,
        "module__n_times": 160,
        "module__n_outputs": 2,
    }
    return BaseConcatDataset(caps).set_return_ch_pos(True), given


def test_caps_that_bring_their_positions_are_no_wrong_order():
    both, given = of_two_caps()
    net = GCMAEClassifier(**classifier(**given).get_params(deep=False))
    quietly(net.fit, both, None)
    assert quietly(net.predict_proba, both).shape == (8, 2)


def test_a_student_of_several_caps_is_told_to_choose_electrodes():
    both, given = of_two_caps()
    given |= {"module__electrodes": None, "callbacks": distil()}
    with pytest.raises(ValueError, match="the student needs electrodes="):
        quietly(classifier(**given).fit, both, None)
