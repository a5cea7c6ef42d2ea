"""What is refused before a pretraining is what the net's training would refuse."""

import functools

import numpy as np
import pandas as pd
import pytest
import torch
from braindecode import EEGClassifier, EEGRegressor
from braindecode.datasets import BaseConcatDataset
from braindecode.training.scoring import PostEpochTrainScoring
from sklearn.model_selection import GroupKFold, KFold, ShuffleSplit
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from tiny import (
    FEW,
    NAMES,
    SFREQ,
    X,
    Y,
    classifier,
    distil,
    small,
    teacher,
    vector,
    windowed,
)
from torch import nn
from torch.utils.data import RandomSampler, Sampler

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    GCMAEStudent,
    GCMAETeacher,
)

ONEHOT = np.eye(2, dtype=np.float32)[Y]
WHO = np.arange(len(X)) // 6


def stage():
    return ("pretrain", GCMAEPretraining(teacher=None, max_epochs=1, batch_size=8))


def chained(*more, **given):
    """A net around a student that is pretrained, and distilled to a teacher at hand."""
    callbacks = [stage(), *distil(teacher()), *more]
    return classifier(callbacks=callbacks, **{"max_epochs": 1, **given})


def trains(net, y=Y, **told):
    net.fit(X, y, **told)
    assert len(net.history) == net.max_epochs and np.isfinite(
        net.history[-1, "train_loss"]
    )


# ----------------------------------------------------------------------------- labels
@pytest.mark.parametrize("cls", [EEGClassifier, GCMAEClassifier])
@pytest.mark.parametrize(
    "y",
    [
        pd.Series(Y, index=np.arange(100, 100 + len(Y))),
        pd.Series(Y, dtype="Int64"),
        pd.Series(pd.Categorical(Y)),
        Y.astype(object),
        Y.astype(bool),
        Y.astype(float),
        torch.from_numpy(Y),
    ],
    ids=["column", "Int64", "categories", "object", "bool", "float", "tensor"],
)
def test_labels_that_can_be_trained_on_are_not_refused(cls, y):
    trains(chained(cls=cls, module__n_outputs=2), y)


PLAIN = {
    "module__ch_names": NAMES,
    "module__sfreq": SFREQ,
    "module__electrodes": FEW,
    "module__n_times": X.shape[2],
    **small("module"),
    "max_epochs": 1,
    "batch_size": 8,
    "train_split": None,
    "verbose": 0,
}


@pytest.mark.parametrize(
    ("cls", "criterion", "n_outputs", "y"),
    [
        (NeuralNetClassifier, nn.CrossEntropyLoss, 2, ONEHOT * 0.8 + 0.1),
        (NeuralNet, nn.CrossEntropyLoss, 2, Y.tolist()),
        (NeuralNet, nn.BCEWithLogitsLoss, 2, ONEHOT),
        (NeuralNet, nn.BCEWithLogitsLoss, 1, ONEHOT[:, :1]),
        (NeuralNetBinaryClassifier, nn.BCEWithLogitsLoss, 1, Y.astype(np.float32)),
        (EEGRegressor, nn.MSELoss, 1, ONEHOT[:, :1]),
    ],
    ids=["probabilities", "a list", "several labels", "one", "binary", "values"],
)
@pytest.mark.parametrize("distilled", [False, True])
def test_targets_of_other_criteria_are_not_refused(
    cls, criterion, n_outputs, y, distilled
):
    of = teacher(n_outputs=n_outputs)
    more = distil(of, kd_weight=0.0, density=0.9) if distilled else []
    made = {"criterion": criterion, "module__n_outputs": n_outputs, **PLAIN}
    trains(cls(GCMAEStudent, callbacks=[stage(), *more], **made), y)


def test_labels_that_the_criterion_ignores_are_not_refused():
    y = np.where(WHO == 1, -1, Y)
    trains(chained(criterion__ignore_index=-1, module__n_outputs=2), y)
    with pytest.raises(ValueError, match="label -1 is none of the 2 classes"):
        chained(module__n_outputs=2).fit(X, y)


def test_a_later_part_may_be_too_small_for_a_teacher_that_is_trained():
    of = classifier(GCMAETeacher, batch_size=16, max_epochs=1)
    net = classifier(callbacks=distil(of), module__n_outputs=2, max_epochs=1)
    for part in (slice(None), slice(8)):
        net.partial_fit(X[part], Y[part], classes=[0, 1])
    assert len(net.history) == 2
    with pytest.raises(ValueError, match="no batch to train on: batch_size=8, 4 win"):
        net.partial_fit(X[:4], Y[:4], classes=[0, 1])
    with pytest.raises(ValueError, match="batch_size=16, 8 windows"):
        net.fit(X[:8], Y[:8])


def test_one_output_that_is_softened_is_refused_with_what_helps():
    made = {"module__n_outputs": 1, **PLAIN}
    callbacks = [stage(), *distil(teacher(n_outputs=1))]
    net = NeuralNetBinaryClassifier(GCMAEStudent, callbacks=callbacks, **made)
    with pytest.raises(ValueError, match="one output for each class.*kd_weight=0"):
        net.fit(X, Y.astype(np.float32))


@pytest.mark.parametrize("cls", [EEGClassifier, GCMAEClassifier])
def test_classes_that_a_score_needs_are_asked_for_before_others_train(cls):
    data = BaseConcatDataset([windowed(X, NAMES, target=k) for k in (0, 1)])

    def net(*more, **given):
        kind = {"cls": cls, "module__n_outputs": 2, "train_split": ValidSplit(3)}
        return chained(*more, **{**kind, **given})

    if cls is EEGClassifier:
        refused, told = net(), "'valid_acc' scores classes.*pass classes="
        with pytest.raises(ValueError, match=told):
            refused.fit(data)
        assert not dict(refused.callbacks_)["pretrain"].done_
    else:  # its classes are those of the model
        assert 0 <= net().fit(data).history[-1, "valid_acc"] <= 1
    for given in ({"classes": [0, 1]}, {"train_split": None}, {"max_epochs": 0}):
        net(**given).fit(data)
    net(callbacks__valid_acc=None).fit(data)


# ------------------------------------------------------------------------------ splits
class NoCopy(Dataset):
    """Windows of which there is no copy, such as those of an open file."""

    def __deepcopy__(self, memo):
        raise TypeError("cannot be copied")


@pytest.mark.parametrize("cls", [EEGClassifier, GCMAEClassifier])
@pytest.mark.parametrize(
    "split",
    [
        lambda: predefined_split(NoCopy(X, Y)),
        lambda: ValidSplit(fold for fold in KFold(3).split(X)),
        lambda: lambda dataset, y=None, **told: (dataset, dataset),
    ],
    ids=["set apart", "generator", "function"],
)
def test_splits_of_which_nothing_is_known_are_not_refused(cls, split):
    trains(chained(cls=cls, train_split=split()))


class Hears(GCMAEStudent):
    """A student that is told of groups, as skorch tells its modules."""

    def forward(self, x, groups=None):
        return super().forward(x)


def test_groups_that_split_and_module_alone_hear_of_are_not_missed():
    net = classifier(
        Hears,
        callbacks=[stage()],
        module__electrodes=FEW,
        max_epochs=1,
        train_split=ValidSplit(GroupKFold(2)),
    )
    net.fit(X, Y, groups=WHO)
    assert len(net.history) == 1


@pytest.mark.parametrize(
    "splitter",
    [
        lambda: 0.3,
        lambda: ShuffleSplit(1, test_size=0.3),
        lambda: ShuffleSplit(1, random_state=np.random.RandomState(3)),
    ],
)
def test_a_split_that_is_drawn_ahead_moves_no_bit(splitter, monkeypatch):
    def trained():
        np.random.seed(0)
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(0)
            net = classifier(
                callbacks=[stage()], train_split=ValidSplit(splitter()), max_epochs=1
            ).fit(X, Y)
        return vector(net), np.random.rand()

    ours = trained()
    path = "braindecode_gcmae.callbacks.stages.pretraining.check_ahead"
    monkeypatch.setattr(path, lambda *given: None)
    theirs = trained()
    assert torch.equal(ours[0], theirs[0]) and ours[1] == theirs[1]


# --------------------------------------------------------------------------- callbacks
def score(net, X, y):
    return 1.0


class Own(Callback):
    """A user's callback that validates in its own way."""

    def on_epoch_end(self, net, **kwargs):
        net.history.record("valid_loss", 0.0)


@pytest.mark.parametrize(
    "more",
    [
        [("stop", EarlyStopping("train_loss"))],
        [("own", Own()), ("stop", EarlyStopping())],
        [
            ("score", EpochScoring(score, name="valid_x", on_train=True)),
            ("stop", EarlyStopping("valid_x")),
        ],
        [
            ("score", PostEpochTrainScoring(score, False, name="valid_y")),
            ("stop", EarlyStopping("valid_y")),
        ],
        [("lr", LRScheduler("StepLR", monitor="valid_loss", step_size=1))],
        [("lr", LRScheduler("ReduceLROnPlateau"))],
        [("lr", LRScheduler("CosineAnnealingLR", T_max=3))],
    ],
    ids=["training", "own", "on_train", "after", "step", "plateau", "cosine"],
)
def test_monitors_and_schedules_that_have_what_they_need_are_not_refused(more):
    trains(chained(*more))


def test_a_monitor_of_the_validation_is_not_refused_where_there_is_one():
    trains(chained(("stop", EarlyStopping()), train_split=ValidSplit(3)))


class Twice(Sampler):
    """Draws each window twice, and does not say how many that are."""

    def __iter__(self):
        return iter([*range(len(X))] * 2)


@pytest.mark.parametrize(
    "sampler", [RandomSampler(X, replacement=True, num_samples=64), Twice()]
)
def test_a_sampler_may_draw_more_windows_than_there_are(sampler):
    assert len(X) < 32
    loader = {"batch_size": 32, "iterator_train__shuffle": False}
    trains(chained(iterator_train__sampler=sampler, **loader))


def test_a_policy_without_a_name_is_refused_like_any_other():
    policy = functools.partial(torch.optim.lr_scheduler.StepLR, gamma=0.5)
    with pytest.raises(TypeError, match="LRScheduler.*missing.*'step_size'"):
        chained(("lr", LRScheduler(policy))).fit(X, Y)


def test_a_net_that_is_only_pretrained_needs_no_batch():
    net = chained(batch_size=128, max_epochs=0).fit(X, Y)
    assert len(net.history) == 0 and dict(net.callbacks_)["pretrain"].done_


class Inspects(Callback):
    """A user's own, with a method of a name that our callbacks have, too."""

    def check(self, loss):
        return loss < 1


def test_a_users_callback_is_not_asked_what_ours_are():
    with pytest.raises(ValueError, match="kernel must be one of"):
        trains(classifier(callbacks=[Inspects(), *distil(kernel="angle")]))
    trains(classifier(callbacks=[*distil(), Inspects()]))


class Never(Callback):
    def on_train_begin(self, net, **kwargs):
        raise AssertionError("a pretraining began")


@pytest.mark.parametrize("whose", ["student", "teacher"])
@pytest.mark.parametrize(("weight", "words"), [
    (torch.ones(2, dtype=torch.float64), r"weight is torch.float64.*weight.float\(\)"),
    (torch.tensor([1, 5]), "weight is torch.int64, the model's outputs are"),
    (torch.ones(3), "weighs 3 classes"),
])  # fmt: skip
def test_class_weights_that_no_loss_takes_are_refused_before_others_train(
    whose, weight, words
):
    given = {"student": {}, "teacher": {}} | {whose: {"criterion__weight": weight}}
    first = {"callbacks": [("never", Never())], **small("teacher")}
    stage = GCMAEPretraining(max_epochs=1, batch_size=8, arguments=first)
    of = classifier(GCMAETeacher, **given["teacher"])
    callbacks = [("pretrain", stage), *distil(of)]
    with pytest.raises((TypeError, ValueError), match=words):
        classifier(callbacks=callbacks, **given["student"]).fit(X, Y)


def test_class_weights_of_the_models_own_precision_are_not_refused():
    of = classifier(GCMAETeacher, max_epochs=1, criterion__weight=torch.ones(2))
    trains(classifier(callbacks=distil(of), criterion__weight=torch.tensor([1.0, 5.0])))
