"""Pretraining as a stage, every form of teacher, digests, errors, MOABB."""

import inspect
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier, EEGRegressor
from braindecode.models import EEGNet
from moabb.analysis.results import get_digest
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from skorch.callbacks import Callback, Freezer
from skorch.dataset import ValidSplit
from tiny import (
    FEW,
    NAMES,
    SFREQ,
    SIGNAL,
    SMALL,
    X,
    Y,
    classifier,
    distil,
    epochs,
    fit,
    labelled,
    pretrainer,
    small,
    student,
    teacher,
    vector,
    weights,
    windows,
)
from torch.nn.utils import parameters_to_vector

import braindecode_gcmae.callbacks.stages.pretraining as module_of_stage
from braindecode_gcmae import (
    GCMAEPretrainer,
    GCMAEPretraining,
    GCMAEStudent,
    GCMAETeacher,
    TopologyDistillation,
)
from braindecode_gcmae import (
    callbacks as ours,
)
from braindecode_gcmae.callbacks.describe import DescribedCallback, describe

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")
ALL = [
    cls
    for cls in (getattr(ours, name) for name in ours.__all__)
    if isinstance(cls, type) and issubclass(cls, Callback)
]


def pretrained_windows(unlabelled, groups=None):
    """The windows that a stage would pretrain on when X is fitted."""
    net = SimpleNamespace(module_=student())
    found = GCMAEPretraining(unlabelled=unlabelled, groups=groups)._windows(net, X)
    return np.stack([found[i][0]["x"] for i in range(len(found))])


def test_windows_that_are_also_fitted_are_not_pretrained_on_twice():
    more = windows(5, seed=77)
    assert len(pretrained_windows(more)) == len(X) + 5
    with pytest.warns(UserWarning, match="3 of the unlabelled windows are also"):
        found = pretrained_windows([more, X[3:6]])
    np.testing.assert_array_equal(found, np.concatenate([X, more]))
    with pytest.warns(UserWarning, match=f"{len(X)} of the unlabelled windows"):
        np.testing.assert_array_equal(pretrained_windows(X), X)


def stage(**arguments):
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    given = {"max_epochs": 2, "batch_size": 8, "arguments": inner, **arguments}
    return ("pretrain", GCMAEPretraining(**given))


# ------------------------------------------------------- skorch's own law of callbacks
@pytest.mark.parametrize("cls", ALL)
def test_every_method_of_a_callback_takes_further_arguments(cls):
    for name in dir(Callback):
        if name.startswith("on_"):
            parameters = inspect.signature(getattr(cls, name)).parameters
            assert "kwargs" in parameters, name


@pytest.mark.parametrize("cls", ALL)
def test_arguments_of_a_callback_are_stored_untouched(cls):
    names = [n for n in inspect.signature(cls.__init__).parameters if n != "self"]
    if "args" in names:
        return  # a base class without arguments
    given = {name: object() for name in names}
    made = cls(**given)
    assert all(getattr(made, name) is value for name, value in given.items())
    assert set(made.get_params(deep=False)) == set(names)
    assert all(getattr(clone(made), n) is v for n, v in given.items())
    with pytest.raises(ValueError, match="foo"):
        made.set_params(foo=1)


# ------------------------------------------------------------------------- the stage
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


def test_the_student_starts_from_what_was_pretrained(spy):
    net = classifier(callbacks=[stage()], max_epochs=0)
    fit(net)
    plain = fit(classifier(max_epochs=0))
    assert not torch.equal(vector(net), vector(plain))
    callback = dict(net.callbacks_)["pretrain"]
    assert isinstance(callback.teacher_, GCMAETeacher)
    assert {"rec_student", "contrast_teacher"} <= set(callback.history_[-1])
    assert torch.equal(net.module_.final_layer.weight, plain.module_.final_layer.weight)


def test_pretraining_runs_once_an_initialisation(spy):
    net = fit(classifier(callbacks=[stage()]))
    net.partial_fit(X, Y)
    assert len(spy) == 1
    fit(net)
    assert len(spy) == 2


def test_pretraining_moves_no_random_number_of_the_training():
    class Draws(Callback):
        def on_epoch_begin(self, net, **kwargs):
            self.draw_ = torch.rand(3)

    with_stage, without = (
        fit(classifier(callbacks=[*first, ("draws", Draws())]))
        for first in ([stage()], [])
    )
    assert torch.equal(
        *(dict(n.callbacks_)["draws"].draw_ for n in (with_stage, without))
    )


def test_a_fold_is_pretrained_on_its_own_windows_and_the_unlabelled_ones(spy):
    more = windows(5, seed=8)
    cross_val_score(
        classifier(callbacks=[stage(unlabelled=more)]), X, Y, cv=3, error_score="raise"
    )
    assert len(spy) == 3
    folds = []
    for seen in spy:
        found = np.stack([seen[i][0]["x"] for i in range(len(seen))])
        np.testing.assert_array_equal(found[-5:], more)
        fold = {i for i in range(len(X)) if (found[:-5] == X[i]).all((1, 2)).any()}
        assert len(fold) == len(found) - 5 == 16
        folds.append(fold)
    assert len(set.intersection(*folds)) == 0, "each window was once held out"


def test_subjects_come_from_the_metadata_of_epochs(spy):
    subject = np.repeat([4, 9], 12)
    given = epochs(X, Y, subject=subject)
    net = classifier(callbacks=[stage(unlabelled=windows(3), groups=[9, 9, 1])])
    net.set_params(module__ch_names=None)
    fit(net, x=given)
    assert spy[0].groups.tolist() == [0] * 12 + [1] * 14 + [2]


def test_a_frozen_student_is_pretrained_and_stays_frozen():
    """A linear probe of pretrained weights, not of random ones."""
    net = classifier(student(), callbacks=[("freeze", Freezer("network.*")), stage()])
    for _ in range(2):  # the second finds the instance frozen
        net.module.network.load_state_dict(student().network.state_dict())
        probe = fit(net).module_.network
        learnt = fit(classifier(student(), callbacks=[stage()], max_epochs=0))
        pairs = zip(
            learnt.module_.network.parameters(), probe.parameters(), strict=True
        )
        for one, two in pairs:
            assert torch.equal(one, two) and not two.requires_grad


def test_who_tells_no_subjects_of_the_windows_of_fit_hears_where_to():
    net = classifier(callbacks=[stage(teacher=None, groups=np.arange(len(X)))])
    with pytest.warns(UserWarning, match="no subject id.*subjects= .*GCMAEClassifier"):
        fit(net)


def test_a_student_alone_is_pretrained_without_a_teacher():
    inner = {"projection_dim": 5, "queue_size": 64}
    net = fit(classifier(callbacks=[stage(teacher=None, arguments=inner)]))
    assert dict(net.callbacks_)["pretrain"].teacher_ is None


@pytest.mark.parametrize("first", [stage(), *distil()])
def test_another_module_is_an_error(first):
    net = EEGClassifier(EEGNet, max_epochs=1, callbacks=[first], train_split=None)
    with pytest.raises(TypeError, match="GCMAEStudent.*EEGNet"):
        fit(net)


# -------------------------------------------------------------------- forms of teacher
def test_a_teacher_comes_back_bit_equal_and_without_gradient(tmp_path):
    expert = fit(classifier(GCMAETeacher))
    expert.module_.save_pretrained(tmp_path)
    module = expert.module_.eval()
    before = vector(expert)
    results = []
    for form in (expert, module, tmp_path, str(tmp_path)):
        net = fit(classifier(callbacks=distil(form)))
        results.append(vector(net))
        frozen = dict(net.callbacks_)["distil"].teacher_
        assert torch.equal(weights(frozen), before)
        assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())
        assert not frozen.training
    assert torch.equal(vector(expert), before)
    assert all(p.requires_grad for p in module.parameters())
    assert all(torch.equal(result, results[0]) for result in results)


class Fold(Callback):
    """Notes the data of a fit."""

    seen: list = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.seen.append((X, y))


def test_an_unfitted_teacher_is_trained_on_the_same_fold_and_stays_unfitted():
    Fold.seen = []
    unfitted = classifier(GCMAETeacher, callbacks=[("fold", Fold())])
    unfitted.set_params(module__ch_names=None, module__sfreq=SFREQ)
    net = fit(classifier(callbacks=distil(unfitted)))
    assert len(Fold.seen) == 1
    assert Fold.seen[0][0] is X and Fold.seen[0][1] is Y
    assert not unfitted.initialized_
    found = dict(net.callbacks_)["distil"].teacher_
    assert found._braindecode_init_kwargs["ch_names"] == NAMES


def test_an_unfitted_teacher_starts_from_the_pretrained_weights():
    unfitted = classifier(GCMAETeacher, max_epochs=1, lr=1e-9)
    net = fit(classifier(callbacks=[stage(), *distil(unfitted)]))
    found = dict(net.callbacks_)
    pretrained, used = found["pretrain"].teacher_, found["distil"].teacher_
    a, b = (parameters_to_vector(m.network.parameters()) for m in (pretrained, used))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "untrained",
    [
        GCMAETeacher(n_outputs=2, **SIGNAL, **SMALL),
        classifier(GCMAETeacher(n_outputs=2, **SIGNAL, **SMALL)).initialize(),
        classifier(GCMAETeacher, max_epochs=0),
    ],
    ids=["model", "initialised", "no epochs"],
)
def test_a_teacher_that_was_never_trained_is_refused(untrained):
    with pytest.raises(ValueError, match="no trained head"):
        fit(classifier(callbacks=distil(untrained)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"module__emb_dim": 4}, "architecture"),
        ({"module__electrodes": NAMES[:2]}, "not among the teacher's"),
        ({"module__n_outputs": 3}, "n_outputs is 3 and 2"),
    ],
)
def test_an_unfitted_teacher_that_will_not_fit_is_refused_before_any_is_trained(
    arguments, message, monkeypatch
):
    def train(*args, **kwargs):
        raise AssertionError("something was trained first")

    monkeypatch.setattr(GCMAEPretrainer, "fit", train)
    unfitted = classifier(GCMAETeacher, **arguments)
    with pytest.raises(ValueError, match=message):
        fit(classifier(callbacks=[stage(), *distil(unfitted)]))


def test_what_the_student_is_validated_on_is_held_out_from_its_teacher():
    class Seen(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            seen.append((np.asarray(X), np.asarray(y)))

    seen = []
    unfitted = classifier(GCMAETeacher, max_epochs=1, callbacks=[("seen", Seen())])
    for split in (ValidSplit(3), ValidSplit(0.25, random_state=0)):
        net = classifier(callbacks=distil(unfitted), train_split=split)
        fit(net)
        train, valid = net.get_split_datasets(X, Y)
        np.testing.assert_array_equal(seen[-1][0], X[train.indices])
        np.testing.assert_array_equal(seen[-1][1], Y[train.indices])
    net = classifier(
        callbacks=[("distil", TopologyDistillation(teacher(), unlabelled=X))],
        train_split=ValidSplit(3),
    )
    with pytest.warns(UserWarning, match="validated on, and are left out"):
        fit(net)
    assert len(dict(net.callbacks_)["distil"].windows_) == len(
        net.get_split_datasets(X, Y)[0]
    )


def test_a_teacher_before_its_pretraining_is_an_error():
    unfitted = classifier(GCMAETeacher, max_epochs=0)
    with pytest.raises(ValueError, match="must come before"):
        fit(classifier(callbacks=[*distil(unfitted), stage()]))


def test_a_teacher_of_another_architecture_than_the_pretrained_is_an_error():
    unfitted = classifier(GCMAETeacher, max_epochs=0, module__emb_dim=4)
    with pytest.raises(ValueError, match="architecture"):
        fit(classifier(callbacks=[stage(), *distil(unfitted)]))


def test_the_teacher_is_matched_by_name_and_not_by_row():
    names = ["C4", "F3", "Cz"]
    expert = teacher(electrodes=[*names[::-1], "C3"])
    net = fit(classifier(callbacks=distil(expert), module__electrodes=names))
    assert dict(net.callbacks_)["distil"].kept_.tolist() == [2, 1, 0]


# ------------------------------------------------------------------------------ errors
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (lambda: teacher(ch_names=NAMES[:5]), ValueError, "n_chans is 5 and 6"),
        (lambda: teacher(ch_names=NAMES[::-1]), ValueError, "another order"),
        (lambda: teacher(sfreq=128.0), ValueError, "sfreq is 128"),
        (lambda: teacher(n_times=200), ValueError, "n_times is 200 and 160"),
        (lambda: teacher(n_outputs=3), ValueError, "n_outputs is 3 and 2"),
        (lambda: teacher(n_outputs=None), ValueError, "no trained head"),
        (lambda: teacher(electrodes=["C3", "Cz"]), ValueError, r"\['C4'\]"),
        (lambda: EEGNet(6, 2, n_times=160), TypeError, "EEGNet.*AuxiliaryLoss"),
        (lambda: EEGClassifier(EEGNet), TypeError, "EEGNet.*AuxiliaryLoss"),
        (lambda: 3, TypeError, "int"),
    ],
)
def test_a_teacher_that_does_not_fit_is_named(given, error, message):
    with pytest.raises(error, match=message):
        fit(classifier(callbacks=distil(given())))


@pytest.mark.parametrize(
    ("unlabelled", "message"),
    [(windows(4)[..., :150], "n_times 150"), (windows(4, 5), "n_chans 5")],
)
def test_unlabelled_windows_that_do_not_fit_are_named(unlabelled, message):
    with pytest.raises(ValueError, match=message):
        fit(classifier(callbacks=distil(unlabelled=unlabelled)))


def test_cropped_training_is_an_error():
    with pytest.raises(ValueError, match="cropped"):
        fit(classifier(callbacks=distil(), cropped=True))


def test_regression_distils_by_squared_error():
    y = labelled()[1].astype(np.float32)[:, None]
    shared = {"cls": EEGRegressor, "max_epochs": 2, "module__n_outputs": 1}
    expert = teacher(n_outputs=1)
    net = classifier(callbacks=distil(expert, gtd_weight=0), lr=0.0, **shared)
    fit(net, y=y)
    student_, teacher_ = net.module_, expert.eval()
    with torch.no_grad():
        x = torch.from_numpy(X)
        gap = (student_.train()(x) - teacher_(x)).square().mean()
    assert net.history[-1]["train_kd"] == pytest.approx(float(gap), rel=0.2)


# ----------------------------------------------------------------------------- digests
def folder(path, seed):
    teacher(seed=seed).save_pretrained(path)
    return path


def test_callbacks_that_differ_have_different_digests(tmp_path):
    made = [
        TopologyDistillation(teacher(seed=1)),
        TopologyDistillation(teacher(seed=2)),
        TopologyDistillation(teacher(seed=1), gtd_weight=2.0),
        TopologyDistillation(teacher(seed=1), kd_weight=lambda epoch: 0.1 * epoch),
        TopologyDistillation(teacher(seed=1), kd_weight=lambda epoch: 0.2 * epoch),
        TopologyDistillation(fit(classifier(GCMAETeacher))),
        TopologyDistillation(classifier(GCMAETeacher)),
        TopologyDistillation(classifier(GCMAETeacher, lr=0.5)),
        TopologyDistillation(folder(tmp_path / "a", 1)),
        TopologyDistillation(folder(tmp_path / "b", 1)),
        GCMAEPretraining(),
        GCMAEPretraining(max_epochs=3),
        GCMAEPretraining(unlabelled=windows(3)),
        GCMAEPretraining(unlabelled=windows(3, seed=1)),
        GCMAEPretraining(unlabelled=epochs(windows(3))),
        GCMAEPretraining(unlabelled=windows(3), groups=np.array(["a", "b", None])),
        GCMAEPretraining(unlabelled=windows(3), groups=np.array(["a", "c", None])),
        GCMAEPretraining(arguments={"teacher__depth": 2}),
    ]
    digests = [get_digest(classifier(callbacks=[("c", c)])) for c in made]
    assert len(set(digests)) == len(made)
    again = [get_digest(classifier(callbacks=[("c", clone(c))])) for c in made]
    assert again == digests


def test_a_folder_written_anew_has_another_digest(tmp_path):
    first = describe(folder(tmp_path, 1))
    assert describe(str(tmp_path)) == first == describe(folder(tmp_path, 1))
    assert describe(folder(tmp_path, 2)) != first


def test_a_description_is_the_same_in_another_object_of_the_same_content():
    pairs = [
        (torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.bfloat16)),
        (np.array(["a", None]), np.array(["a", None])),
        (partial(labelled, 4), partial(labelled, 4)),
        ({"a": [1, "x"]}, {"a": [1, "x"]}),
        (teacher(), teacher()),
    ]
    for one, two in pairs:
        assert describe(one) == describe(two)
    assert describe(partial(labelled, 4)) != describe(partial(labelled, 5))
    assert describe(np.zeros(2)) != describe(np.zeros(2, np.float32))
    assert issubclass(TopologyDistillation, DescribedCallback)


# ------------------------------------------------------------------------------- MOABB
@pytest.mark.parametrize("return_epochs", [False, True])
def test_moabb_evaluates_the_whole_chain(tmp_path, return_epochs):
    from moabb.datasets.fake import FakeDataset
    from moabb.evaluations import CrossSubjectEvaluation
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
    inner = {"module__sfreq": SFREQ, "train_split": None}
    unfitted = classifier(GCMAETeacher, max_epochs=1, **inner)
    net = classifier(
        callbacks=[stage(max_epochs=1), *distil(unfitted)],
        train_split=ValidSplit(3, stratified=True),
    )
    if return_epochs:
        for each in (net, unfitted):
            each.set_params(module__ch_names=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = CrossSubjectEvaluation(
            paradigm=LeftRightImagery(),
            datasets=[dataset],
            hdf5_path=str(tmp_path),
            overwrite=True,
            return_epochs=return_epochs,
        )
        results = evaluation.process({"distilled": net})
    assert len(results) == 3 and np.isfinite(results["score"]).all()


def test_the_parts_of_the_design_go_together(tmp_path):
    made = pretrainer(max_epochs=1).fit(windows(), groups=np.repeat([0, 1], 8))
    made.save_pretrained(tmp_path)
    expert = GCMAETeacher.from_pretrained(tmp_path / "teacher", n_outputs=2)
    pupil = GCMAEStudent.from_pretrained(tmp_path / "student", n_outputs=2)
    net = fit(classifier(pupil, callbacks=distil(fit(classifier(expert)))))
    rows = [NAMES.index(name) for name in FEW]
    np.testing.assert_array_equal(net.predict_proba(X), net.predict_proba(X[:, rows]))
    assert student().network.embed.out_features == SMALL["emb_dim"]
