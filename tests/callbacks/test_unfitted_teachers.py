"""Unfitted teachers as somebody will build them: names, callbacks, people, sizes."""

import warnings

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier, EEGRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit
from tiny import (
    X,
    Y,
    classifier,
    distil,
    fit,
    pretrainer,
    small,
    teacher,
    weights,
    windows,
)

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretrainer,
    GCMAEPretraining,
    GCMAETeacher,
    TopologyDistillation,
)
from braindecode_gcmae.encoders import ChebyshevEncoder

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")
PEOPLE = np.repeat([3, 4, 5, 6], 6)


def stage(**given):
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    given = {"max_epochs": 1, "batch_size": 8, "arguments": inner, **given}
    return "pretrain", GCMAEPretraining(**given)


def unfitted(module=GCMAETeacher, **given):
    return classifier(module, **{"max_epochs": 1, **given})


def teacher_of(net):
    return dict(net.callbacks_)["distil"].teacher_


# ------------------------------------------------------------------------- by name
def test_a_teacher_of_inputs_with_names_knows_their_length_from_its_student():
    length = {"module__n_times": X.shape[2], "module__n_outputs": 2}
    nets = [
        fit(classifier(callbacks=distil(unfitted()), **length), x=x)
        for x in (X, {"x": X})
    ]
    assert torch.equal(*(weights(teacher_of(net)) for net in nets))


def test_a_teacher_by_its_registered_name_is_the_class():
    nets = [
        fit(classifier(callbacks=[stage(teacher=form), *distil(unfitted(form))]))
        for form in ("GCMAETeacher", GCMAETeacher)
    ]
    assert torch.equal(*(weights(teacher_of(net)) for net in nets))


def test_a_pretrainer_takes_registered_names():
    people = np.repeat([0, 1], 8)
    named = {"teacher": "GCMAETeacher", "student": "GCMAEStudent"}
    made = [
        pretrainer(max_epochs=1, **given).fit(windows(), groups=people)
        for given in (named, {})
    ]
    assert torch.equal(*(weights(m.student_) for m in made))


def test_a_name_that_is_not_registered_is_named():
    with pytest.raises(ValueError, match="no model of the name 'GCMATeacher'.*pass"):
        pretrainer(teacher="GCMATeacher").fit(windows())
    with pytest.raises(ValueError, match="no model of the name 'GCMATeacher'"):
        fit(classifier(callbacks=distil(unfitted("GCMATeacher"))))


# ------------------------------------------------------------------ its callbacks
class Seen(Callback):
    """Notes the callbacks beside it when training begins."""

    seen: list = []

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.seen[:] = [name for name, _ in net.callbacks_]


def pretrained(expert):
    """A fitted student after a pretraining, and whether its teacher began there."""
    net = fit(classifier(callbacks=[stage(), *distil(expert)]))
    weight = dict(net.callbacks_)["pretrain"].teacher_.network.embed.weight
    return torch.allclose(weight, teacher_of(net).network.embed.weight, atol=1e-6)


def test_a_teacher_with_a_callback_called_start_keeps_it():
    schedule = LRScheduler("StepLR", step_size=1)
    given = [("start", schedule), Seen(), "balanced_accuracy"]
    assert pretrained(unfitted(callbacks=given, lr=1e-9))
    assert {"start", "start_", "Seen"} <= set(Seen.seen)


def test_a_teacher_whose_callbacks_are_disabled_has_none_but_its_start():
    class Silent(EEGClassifier):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            Seen.seen[:] = [name for name, _ in net.callbacks_]

    assert pretrained(unfitted(cls=Silent, callbacks="disable", lr=1e-9))
    assert Seen.seen == ["start"]


# ------------------------------------------------------------------------- people
class Groups(GCMAEClassifier):
    """Notes what it is told."""

    told: list = []

    def fit(self, X, y=None, *, subjects=None, groups=None, **given):
        self.told.append((X, subjects, groups))
        return super().fit(X, y, subjects=subjects, groups=groups, **given)


@pytest.mark.parametrize("split", [None, ValidSplit(3)])
def test_a_teacher_hears_whose_the_windows_are(split):
    Groups.told = []
    expert = unfitted(cls=Groups, train_split=ValidSplit(GroupKFold(2)), batch_size=4)
    net = classifier(cls=GCMAEClassifier, callbacks=distil(expert), train_split=split)
    net.fit(X, Y, groups=PEOPLE, subjects=list(PEOPLE))
    ((x, subjects, groups),) = Groups.told
    assert len(x) == (24 if split is None else 16)
    rows = [int(np.flatnonzero((X == window).all((1, 2)))[0]) for window in x]
    np.testing.assert_array_equal(groups, PEOPLE[rows])
    np.testing.assert_array_equal(subjects, PEOPLE[rows])


def test_the_pretraining_of_a_teacher_knows_people():
    expert = unfitted(cls=GCMAEClassifier, callbacks=[stage(teacher=None)])
    expert.set_params(callbacks__pretrain__arguments={"queue_size": 64})
    net = classifier(cls=GCMAEClassifier, callbacks=distil(expert), max_epochs=1)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "some windows have no subject id")
        net.fit(X, Y, subjects=PEOPLE)


# -------------------------------------------------------------------------- sizes
def test_a_teacher_of_another_size_than_the_pretrained_is_told_the_way_out(
    monkeypatch,
):
    expert = unfitted(module__emb_dim=16, module__encoder=ChebyshevEncoder)
    with monkeypatch.context() as patched:
        patched.setattr(GCMAEPretrainer, "fit", lambda *_: pytest.fail("was trained"))
        with pytest.raises(ValueError, match="emb_dim is 16 and 8") as caught:
            fit(classifier(callbacks=[stage(), *distil(expert)]))
    told = str(caught.value)
    assert "checkpoint" not in told
    way = 'arguments={"teacher__encoder": ChebyshevEncoder, "teacher__emb_dim": 16})'
    assert way in told
    arguments = {
        **stage()[1].arguments,
        **{"teacher__encoder": ChebyshevEncoder, "teacher__emb_dim": 16},
    }
    net = fit(classifier(callbacks=[stage(arguments=arguments), *distil(expert)]))
    assert teacher_of(net).network.embed.out_features == 16


def test_a_pretrained_model_of_another_size_is_to_be_built_alike():
    expert = unfitted(module__depth=2)
    with pytest.raises(ValueError, match="depth is 2 and 1. build its teacher= alike"):
        fit(classifier(callbacks=[stage(teacher=teacher()), *distil(expert)]))


# ----------------------------------------------------------- searches and pipelines
class Trained(Callback):
    """Counts trainings."""

    times = 0

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        Trained.times += 1


def test_a_search_over_models_folders_or_callbacks_trains_no_teacher(tmp_path):
    counted = {"callbacks": [("trained", Trained())]}
    one, other = (fit(unfitted(**counted, lr=lr)) for lr in (1e-2, 0.1))
    one.module_.save_pretrained(tmp_path)
    Trained.times = 0
    net = classifier(callbacks=distil(one), max_epochs=1)
    grids = (
        {"callbacks__distil__teacher": [one.module_, other.module_, tmp_path]},
        {"callbacks__distil": [c for t in (one, other) for _, c in distil(t)]},
    )
    for grid in grids:
        GridSearchCV(net, grid, cv=2, error_score="raise").fit(X, Y)
    assert not Trained.times


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda net: make_pipeline(FunctionTransformer(), net), r"pipe\[-1\]"),
        (
            lambda net: GridSearchCV(net, {"lr": [0.1]}, cv=2),
            r"search\.best_estimator_",
        ),
    ],
)
def test_a_net_inside_a_pipeline_or_a_search_is_to_be_handed_over(wrap, name):
    for given in (wrap(unfitted()), wrap(unfitted()).fit(X, Y)):
        with pytest.raises(TypeError, match=f"got .*: hand over .*{name}.*alike"):
            fit(classifier(callbacks=distil(given)))
    with pytest.raises(TypeError, match="or a folder, got LogisticRegression$"):
        fit(classifier(callbacks=distil(LogisticRegression())))
    nothing = unfitted(cls=EEGRegressor).fit(X, Y)
    with pytest.raises(TypeError, match="NoneType: .*EEGRegressor.fit returns None"):
        fit(classifier(callbacks=[("distil", TopologyDistillation(nothing))]))
