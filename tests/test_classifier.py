"""GCMAEClassifier: what fit is told reaches the callbacks, and never the network."""

import copy
import pickle
import warnings

import mne
import numpy as np
import pytest
import sklearn
import torch
from braindecode import EEGClassifier
from braindecode.datasets import BaseConcatDataset
from braindecode.models import EEGNet
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import get_scorer, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator
from skorch.callbacks import Callback, Checkpoint
from skorch.dataset import ValidSplit
from skorch.helper import SliceDataset
from tiny import (
    NAMES,
    SFREQ,
    X,
    Y,
    classifier,
    distil,
    epochs,
    fit,
    info,
    pretrainer,
    quietly,
    small,
    student,
    vector,
    windowed,
    windows,
)
from torch.utils.data import Subset

import braindecode_gcmae.callbacks.stages.pretraining as module_of_stage
from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    GCMAEStudent,
    RecordingAlignment,
)

SUBJECTS = np.repeat([7, 8, 9], 8)


class Spy(module_of_stage.GCMAEPretrainer):
    """Notes which windows a pretraining saw."""

    seen: list = []

    def fit(self, X, y=None, *, groups=None):
        self.seen.append(X)
        return super().fit(X, y, groups=groups)


@pytest.fixture
def spy(monkeypatch):
    Spy.seen = []
    monkeypatch.setattr(module_of_stage, "GCMAEPretrainer", Spy)
    return Spy.seen


def net(**given):
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    stage = GCMAEPretraining(max_epochs=1, batch_size=8, arguments=inner)
    given = {"callbacks": [("pretrain", stage)], "max_epochs": 1, **given}
    return classifier(**{"cls": GCMAEClassifier, **given})


def test_without_metadata_it_is_an_eegclassifier():
    ours = fit(classifier(cls=GCMAEClassifier))
    assert torch.equal(vector(ours), vector(fit(classifier())))


def test_subjects_and_target_windows_reach_the_pretraining_only(spy):
    target = windows(5, seed=3)
    made = net().fit(X, Y, subjects=SUBJECTS, X_target_unlabeled=target)
    (seen,) = spy
    assert len(seen) == len(X) + 5
    assert seen.groups.tolist() == [0] * 8 + [1] * 8 + [2] * 8 + [3] * 5
    np.testing.assert_array_equal(seen[len(X) + 1][0]["x"], target[1])
    assert made.fit_metadata_ == {}
    assert made.history[-1]["train_batch_count"] == 3, "labelled windows alone"


def test_target_epochs_bring_their_own_subjects(spy):
    target = epochs(windows(3, seed=3), subject=["x", "y", "x"])
    net(module__ch_names=None).fit(
        epochs(X, Y), Y, groups=SUBJECTS, X_target_unlabeled=target
    )
    assert spy[0].groups[-3:].tolist() == [3, 4, 3]


def test_subjects_precede_groups(spy):
    net().fit(X, Y, groups=np.zeros(24), subjects=SUBJECTS)
    assert set(spy[0].groups) == {0, 1, 2}


@pytest.mark.parametrize("name", ["subjects", "groups"])
def test_a_wrong_number_of_subjects_is_an_error(name):
    with pytest.raises(ValueError, match=f"{name} must name.*24 windows, got 3"):
        net().fit(X, Y, **{name: [1, 2, 3]})


def test_an_argument_that_nobody_takes_is_an_error_before_the_pretraining(spy):
    for method in (net().fit, net().partial_fit):
        with pytest.raises(TypeError, match=r"\['subject'\], which .* told subjects"):
            method(X, Y, subject=SUBJECTS)
    assert not spy


@pytest.mark.parametrize("given", [{"epochs": 2}, {"classes": [0, 1]}, {"pos": None}])
def test_arguments_of_skorch_and_of_the_model_are_taken(given):
    made = net(callbacks=None).fit(X, Y, **given)
    assert len(made.history) == given.get("epochs", 1)


def test_inputs_by_name_are_as_many_as_their_windows():
    made = net(callbacks=None, module__n_times=X.shape[2], module__n_outputs=2)
    made.fit({"x": X}, Y, groups=SUBJECTS)
    with pytest.raises(ValueError, match="groups must name.*24 windows, got 1"):
        made.fit({"x": X}, Y, groups=[1])


@pytest.mark.parametrize("callbacks", [None, distil()])
def test_a_part_of_the_windows_may_be_of_one_class(callbacks):
    made = classifier(
        cls=GCMAEClassifier,
        callbacks=callbacks,
        module__n_outputs=2,
        module__n_times=X.shape[2],
    )
    for part in (Y == 1, slice(None), Y == 0):
        made.partial_fit(X[part], Y[part], classes=[0, 1])
    assert len(made.history) == 6
    with pytest.raises(ValueError, match="the label 2 is none of the 2 classes"):
        made.partial_fit(X[Y == 0], Y[Y == 0] + 2, classes=[0, 1])
    with pytest.raises(ValueError, match="two classes"):
        made.fit(X[Y == 0], Y[Y == 0])


def test_a_later_part_of_one_class_is_distilled_by_any_net():
    made = classifier(callbacks=distil(), module__n_outputs=2)
    made.partial_fit(X, Y, classes=[0, 1])
    made.partial_fit(X[Y == 0], Y[Y == 0], classes=[0, 1])
    assert len(made.history) == 4


def test_a_part_of_one_class_does_not_turn_the_classes_round():
    made = net(callbacks=None, module__n_outputs=2, lr=1e-9).fit(X, Y)
    auc, positive = get_scorer("roc_auc"), made.predict_proba(X)[:, 1]
    assert auc(made, X, Y) == pytest.approx(roc_auc_score(Y, positive))
    made.partial_fit(X[Y == 1], Y[Y == 1])
    np.testing.assert_array_equal(made.classes_, [0, 1])
    positive = made.predict_proba(X)[:, 1]
    assert auc(made, X, Y) == pytest.approx(roc_auc_score(Y, positive))
    calibrated = CalibratedClassifierCV(FrozenEstimator(made)).fit(X, Y)
    assert calibrated.predict_proba(X).shape == (len(X), 2)


def test_a_class_that_a_fold_lacks_has_its_column():
    made = net(callbacks=None, module__n_outputs=3)
    labels = np.where(SUBJECTS == 9, 2, Y)  # of one person alone
    said = cross_val_predict(
        made, X, labels, groups=SUBJECTS, cv=GroupKFold(3), method="predict_proba"
    )
    assert said.shape == (len(X), 3)
    made.fit(X, Y)
    np.testing.assert_array_equal(made.classes_, [0, 1, 2])


def test_classes_are_the_users_where_told_and_unknown_before_a_fit():
    told = net(callbacks=None, classes=[0, 1, 2], module__n_outputs=2).fit(X, Y)
    np.testing.assert_array_equal(told.classes_, [0, 1, 2])
    new = net(callbacks=None)
    assert not hasattr(new, "classes_")
    assert not hasattr(clone(told.set_params(classes=None)), "classes_")


@pytest.mark.parametrize(
    ("cls", "callbacks"),
    [
        (GCMAEClassifier, None),
        (GCMAEClassifier, "distil"),
        (GCMAEClassifier, "pretrain"),
        (EEGClassifier, "distil"),
        (EEGClassifier, "pretrain"),
    ],
)
def test_a_part_that_fills_no_batch_is_refused_and_changes_nothing(cls, callbacks):
    chosen = {"distil": distil(), "pretrain": net().callbacks, None: None}[callbacks]
    made = quietly(classifier(cls=cls, callbacks=chosen).fit, X, Y)
    before = vector(made)
    with pytest.raises(ValueError, match="no batch to train on: batch_size=8, 5 win"):
        made.partial_fit(X[:5], Y[:5])
    assert torch.equal(vector(made), before)


@pytest.mark.parametrize("cls", [GCMAEClassifier, EEGClassifier])
def test_cropped_training_is_refused_before_the_pretraining(cls, spy):
    with pytest.raises(ValueError, match="cropped training is not supported"):
        quietly(net(cls=cls, cropped=True).fit, X, Y)
    with pytest.raises(ValueError, match="GCMAEClassifier takes whole windows"):
        net(cropped=True, callbacks=None).fit(X, Y)
    assert not spy


class Split(Callback):
    """Notes the windows of both halves."""

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.halves_ = [
            {int(SUBJECTS[(X == x).all((1, 2))][0]) for x, _ in data}
            for data in (dataset_train, dataset_valid)
        ]


@pytest.mark.parametrize(
    "told",
    [{"groups": SUBJECTS}, {"subjects": SUBJECTS}],
    ids=["groups", "subjects"],
)
@pytest.mark.parametrize("more", [[], net().callbacks], ids=["alone", "pretrained"])
def test_a_validation_split_by_groups_gets_them(told, more):
    callbacks = [*more, ("split", Split())]
    made = net(callbacks=callbacks, train_split=ValidSplit(GroupKFold(3)))
    made.fit(X, Y, **told)
    train, valid = dict(made.callbacks_)["split"].halves_
    assert train | valid == {7, 8, 9} and not train & valid


def test_a_validation_split_is_by_groups_where_both_are_told():
    made = net(callbacks=[("split", Split())], train_split=ValidSplit(GroupKFold(3)))
    made.fit(X, Y, groups=SUBJECTS, subjects=np.arange(len(X)))
    train, valid = dict(made.callbacks_)["split"].halves_
    assert not train & valid


class Copies(Callback):
    """Copies its net while that is trained."""

    def on_epoch_end(self, net, **kwargs):
        if not hasattr(self, "copy_"):
            self.copy_ = copy.deepcopy(net)


def test_a_net_that_is_copied_within_a_fit_holds_no_data_and_hears_of_others(tmp_path):
    stored = Checkpoint(f_pickle="net.pkl", dirname=tmp_path, monitor=None)
    copies = ("copies", Copies())
    callbacks = [*net().callbacks, ("split", Split()), ("stored", stored), copies]
    made = net(callbacks=callbacks, train_split=ValidSplit(GroupKFold(3)))
    target = windows(3, seed=3)
    made.fit(X, Y, subjects=SUBJECTS, X_target_unlabeled=target)
    written = (tmp_path / "net.pkl").read_bytes()
    assert target.tobytes() not in written
    for again in (pickle.loads(written), dict(made.callbacks_)["copies"].copy_):
        assert again.fit_metadata_ == {} and again.others_ == set()
        with pytest.raises(ValueError, match="subjects must name.*24 windows, got 1"):
            again.partial_fit(X, Y, subjects=[1])
        again.partial_fit(X, Y, subjects=np.arange(len(X)) % 3)
        train, valid = dict(again.callbacks_)["split"].halves_
        assert train == valid == {7, 8, 9}, "split by those that it was told now"


class Taker(Callback):
    """A callback of the user that takes the target windows."""

    def on_train_begin(self, net, **kwargs):
        self.taken_ = net.fit_metadata_["X_target_unlabeled"]


def test_target_windows_are_for_callbacks_of_the_user_as_well():
    made = net(callbacks=[("taker", Taker())])
    made.fit(X, Y, X_target_unlabeled="anything")
    assert dict(made.callbacks_)["taker"].taken_ == "anything"
    with pytest.raises(ValueError, match="X_target_unlabeled is for GCMAEPretraining"):
        net(callbacks=None).partial_fit(X, Y, X_target_unlabeled=X[:3])


def test_target_windows_are_for_a_classifier_of_the_user_as_well():
    class Adapts(GCMAEClassifier):
        def get_dataset(self, X, y=None):
            taken.append(self.fit_metadata_["X_target_unlabeled"])
            return super().get_dataset(X, y)

    taken: list = []
    net(cls=Adapts, callbacks=None).fit(X, Y, X_target_unlabeled="anything")
    assert {*taken} == {"anything"}


def test_what_is_asked_of_a_router_is_told_by_the_repr_alone():
    plain = net()
    expected = EEGClassifier.__repr__(plain)
    assert repr(plain) == expected and "set_fit_request" not in expected
    assert repr(clone(plain)) == expected
    with sklearn.config_context(enable_metadata_routing=True):
        asking = net().set_fit_request(X_target_unlabeled=True, subjects=True)
    asked = ".set_fit_request(X_target_unlabeled=True, subjects=True)"
    assert repr(asking) == repr(clone(asking)) == expected + asked


def test_moabb_tells_a_pipeline_that_asks_for_target_windows_from_one_that_does_not():
    from moabb.analysis.results import get_digest

    with sklearn.config_context(enable_metadata_routing=True):
        asking = net().set_fit_request(X_target_unlabeled=True)
    digests = [get_digest(make_pipeline(clone(n))) for n in (net(), net(), asking)]
    assert digests[0] == digests[1] != digests[2]


def test_metadata_is_routed_through_a_pipeline(spy):
    with sklearn.config_context(enable_metadata_routing=True):
        asking = net().set_fit_request(subjects=True)
        pipeline = make_pipeline(FunctionTransformer(), asking)
        scores = cross_val_score(
            clone(pipeline), X, Y, cv=3, params={"subjects": SUBJECTS}
        )
    assert np.isfinite(scores).all() and len(spy) == 3
    assert all((seen.groups >= 0).all() for seen in spy)


def test_groups_may_be_routed_to_the_splitter_and_subjects_to_the_net(spy):
    told = {"subjects": SUBJECTS, "groups": SUBJECTS}
    with sklearn.config_context(enable_metadata_routing=True):
        asking = net().set_fit_request(subjects=True, groups=False)
        cross_val_score(
            asking, X, Y, cv=GroupKFold(3), params=told, error_score="raise"
        )
    assert [sorted(set(seen.groups)) for seen in spy] == [[0, 1]] * 3


def test_moabb_hands_the_target_windows_to_the_pretraining(tmp_path, spy):
    from moabb.datasets.fake import FakeDataset
    from moabb.evaluations import CrossSubjectEvaluation
    from moabb.evaluations.protocols import CrossSubjectMode
    from moabb.paradigms import LeftRightImagery

    dataset = FakeDataset(
        ["left_hand", "right_hand"],
        n_sessions=1,
        n_runs=1,
        n_subjects=3,
        channels=tuple(NAMES),
        sfreq=SFREQ,
        n_events=12,
        seed=1,
    )
    with sklearn.config_context(enable_metadata_routing=True):
        asking = net().set_fit_request(X_target_unlabeled=True, subjects=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = CrossSubjectEvaluation(
            paradigm=LeftRightImagery(),
            datasets=[dataset],
            hdf5_path=str(tmp_path),
            overwrite=True,
            cs_mode=CrossSubjectMode.TRAIN_AND_TARGET_UNLABELED_50P,
        )
        results = evaluation.process({"adapted": asking})
    assert len(results) == 3 and len(spy) == 3
    for seen in spy:
        counts = np.bincount(seen.groups)
        assert len(counts) == 3 and counts[2] < counts[0], "two people and half of one"


# -------------------------------------------------------- scikit-learn's own examiner
def failed(estimator):
    """Names of the checks that an estimator fails, and of those it passes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None, on_skip=None)
    found = {status: set() for status in ("failed", "passed")}
    for result in results:
        found.setdefault(result["status"], set()).add(result["check_name"])
    return found["failed"], found["passed"]


@pytest.mark.parametrize(
    "ours",
    [
        lambda: EEGClassifier(GCMAEStudent, max_epochs=1, verbose=0),
        lambda: GCMAEClassifier("EEGNet", max_epochs=1, verbose=0),
        pretrainer,
    ],
)
def test_nothing_fails_that_braindecode_passes(ours):
    # A ratchet: its own checks (2-D tables of numbers) EEG windows cannot all pass.
    theirs_failed, theirs_passed = failed(EEGClassifier("EEGNet", max_epochs=1))
    ours_failed, _ = failed(ours())
    assert theirs_failed, "the examiner examines"
    assert ours_failed & theirs_passed == set()


def test_windows_that_carry_positions_are_predicted_as_they_are():
    class Placed(torch.utils.data.Dataset):
        """Windows as dicts, each with its own positions."""

        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return {"x": X[i], "pos": np.zeros((len(NAMES), 3), np.float32) + i}, Y[i]

    model = classifier(student(electrodes=None), cls=GCMAEClassifier)
    model.fit(Placed(), None)
    assert model.predict_proba(Placed()).shape == (len(X), 2)


def test_a_data_set_without_labels_is_told_what_windows_are():
    class Bare(torch.utils.data.Dataset):
        def __len__(self):
            return len(X)

        def __getitem__(self, i):
            return torch.as_tensor(X[i])

    with pytest.raises(ValueError, match="expected windows of shape"):
        classifier(student(), cls=GCMAEClassifier).fit(Bare(), Y)


# ----------------------------------------------------- what is lost, what is no EEG
@pytest.mark.parametrize("lost", [0.0, np.nan])
def test_lost_windows_are_predicted_whatever_they_are_given_as(lost):
    model = fit(classifier(cls=GCMAEClassifier))
    x = X.copy()
    x[:9] = lost
    expected = model.predict_proba(x)
    np.testing.assert_allclose(model.predict_proba(epochs(x)), expected, atol=1e-5)
    gone = np.full_like(X[:4], lost)
    assert model.predict_proba(epochs(gone)).shape == (4, 2)
    recording = windowed(gone, NAMES, target=1)
    np.testing.assert_allclose(
        model.predict_proba(recording), model.predict_proba(gone), atol=1e-5
    )


def test_recordings_are_compared_by_their_names_and_rate_without_their_signal():
    model = fit(classifier(cls=GCMAEClassifier))
    lost = np.zeros_like(X[:4])
    turned = windowed(lost, NAMES[::-1], target=1)
    for what in (turned, SliceDataset(turned)):
        with pytest.raises(ValueError, match=r"reorder_channels\(\['F3', "):
            model.predict_proba(what)
    other = windowed(lost, NAMES, sfreq=128.0, target=1)
    with pytest.raises(ValueError, match="128 Hz, the model was built for 100 Hz"):
        model.predict_proba(other)
    both = BaseConcatDataset([windowed(lost, NAMES, target=1), other])
    first, second = Subset(both, [0, 2]), Subset(both, [1, 5])
    assert model.predict_proba(first).shape == (2, 2)
    with pytest.raises(ValueError, match="128 Hz"):
        model.predict_proba(second)


@pytest.mark.parametrize("callbacks", ["none", "distil", "pretrain"])
def test_epochs_whose_other_channels_the_model_was_inferred_from_are_refused(callbacks):
    made = epochs(X, Y)
    eye = made.copy().pick(["Cz"]).rename_channels({"Cz": "VEOG"})
    eye.set_channel_types({"VEOG": "eog"}, verbose=False)
    given = {
        "none": None,
        "distil": distil(),
        "pretrain": [("pretrain", GCMAEPretraining(max_epochs=1))],
    }
    model = net(callbacks=given[callbacks], module__ch_names=None)
    with pytest.raises(ValueError, match=r"no EEG, \['VEOG'\].*epochs.pick\('eeg'\)"):
        quietly(model.fit, made.add_channels([eye]), Y)


# ------------------------------------------------------ epochs that were not read yet
@pytest.fixture
def unread():
    """Makes Epochs of which mne does not know yet which are bad: one is."""
    x = X * 1e-6
    x[5, 2, :80] = 1.0
    raw = mne.io.RawArray(np.concatenate(list(x), axis=1), info(), verbose=False)
    starts = np.arange(len(X)) * X.shape[2]
    events = np.c_[starts, 0 * Y, Y].astype(int)
    timing = {"tmin": 0, "tmax": (X.shape[2] - 1) / SFREQ, "baseline": None}
    reject = {"eeg": 0.1}
    return lambda: mne.Epochs(raw, events, **timing, reject=reject, verbose=False)


KEPT = np.arange(len(X)) != 5


@pytest.mark.parametrize("callbacks", [None, net().callbacks, distil()])
def test_epochs_that_are_read_late_are_trained_and_predicted_as_others(
    unread, callbacks
):
    given = {"module__ch_names": None, "callbacks": callbacks}
    if callbacks and callbacks[0][0] == "distil":
        del given["module__ch_names"]
    late, whole = unread(), unread().load_data()
    told = {"subjects": SUBJECTS[KEPT], "groups": SUBJECTS[KEPT]}
    models = []
    for x in (late, whole):
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(0)
            models.append(quietly(net(**given).fit, x, Y[KEPT], **told))
    assert torch.equal(*map(vector, models))
    ours = models[0].predict_proba(unread())
    np.testing.assert_array_equal(ours, models[0].predict_proba(whole))
    assert models[0].score(unread(), Y[KEPT]) == models[0].score(whole, Y[KEPT])
    quietly(models[0].partial_fit, unread(), Y[KEPT], **told)
    with pytest.raises(RuntimeError, match="length of the Epochs is not known"):
        len(late)  # those of the user are as they were


@pytest.mark.parametrize("cls", [GCMAEClassifier, EEGClassifier])
def test_a_search_takes_epochs_as_if_it_had_cut_them_itself(cls):
    def made(drop_prob=0.0):
        one = classifier(cls=cls, module__drop_prob=drop_prob, module__ch_names=None)
        aligned = make_pipeline(RecordingAlignment(), one)
        return one if cls is GCMAEClassifier else aligned

    data, folds = (
        epochs(X, Y, subject=SUBJECTS),
        list(GroupKFold(3).split(X, Y, SUBJECTS)),
    )
    name = (
        "module__drop_prob"
        if cls is GCMAEClassifier
        else "eegclassifier__module__drop_prob"
    )
    search = GridSearchCV(made(), {name: [0.0, 0.5]}, cv=folds, error_score="raise")
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        search.fit(data, Y)
    torch.manual_seed(0)
    by_hand = [
        quietly(made(drop_prob).fit, data[train], Y[train]).score(data[test], Y[test])
        for drop_prob in (0.0, 0.5)
        for train, test in folds
    ]
    found = [search.cv_results_[f"split{i}_test_score"] for i in range(3)]
    np.testing.assert_array_equal(np.transpose(found).ravel(), by_hand)


@pytest.mark.parametrize("callbacks", [None, net().callbacks])
def test_labels_and_subjects_are_those_of_the_epochs_that_are_kept(unread, callbacks):
    made = net(module__ch_names=None, callbacks=callbacks)
    with pytest.raises(ValueError, match="inconsistent lengths"):
        quietly(made.fit, unread(), Y)
    with pytest.raises(ValueError, match="each of the 23 windows, got 24"):
        made.fit(unread(), Y[KEPT], subjects=SUBJECTS)


def test_a_model_of_others_is_refused_by_its_name():
    foreign = EEGNet(n_chans=6, n_outputs=2, n_times=160, sfreq=100)
    with pytest.raises(TypeError, match=r"EEGNet: use braindecode\.EEGClassifier"):
        fit(classifier(foreign, cls=GCMAEClassifier))


def test_labels_may_come_in_a_list():
    expected = vector(fit(net(callbacks=None)))
    for y in (Y.tolist(), list(Y), tuple(Y)):
        assert torch.equal(vector(fit(net(callbacks=None), y=y)), expected)
