"""What callbacks of one's own have noted is theirs again, or a warning says not."""

import copy
import warnings

import numpy as np
import pytest
import torch
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler
from skorch.dataset import ValidSplit
from tiny import classifier, distil, fit, teacher
from torch.optim.swa_utils import AveragedModel

from braindecode_gcmae.callbacks import ResumableCheckpoint
from braindecode_gcmae.callbacks.resuming.learnt import learnt, restore_learnt
from braindecode_gcmae.models import CheckpointError


class Notes(Callback):
    """Counts epochs in a value that is made by ``make``."""

    def __init__(self, make):
        self.make = make

    def initialize(self):
        self.noted_ = self.make(0)
        return self

    def on_epoch_end(self, net, **kwargs):
        self.noted_ = self.make(len(net.history))
        self.late_ = self.make(1)


class Holds(Callback):
    """Nothing but attributes."""

    def __init__(self, **given):
        vars(self).update(given)


def same(one, two):
    """Values and all types and shapes within."""
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return type(one) is type(two) and all(map(same, one, two))
    if isinstance(one, np.ndarray):
        same_kind = type(two) is np.ndarray and one.dtype.newbyteorder("=") == two.dtype
        return same_kind and one.shape == two.shape and (one == two).all()
    if isinstance(one, torch.Tensor):
        return type(one) is type(two) and one.dtype == two.dtype and one.equal(two)
    return type(one) is type(two) and one == two


def net(folder, callback, max_epochs=2, **given):
    callbacks = [("resume", ResumableCheckpoint(folder)), ("own", callback)]
    return classifier(callbacks=callbacks, max_epochs=max_epochs, **given)


VALUES = {
    "tensor": lambda n: torch.tensor([n, 2.5]),
    "parameter": lambda n: torch.nn.Parameter(torch.tensor([n, 2.5])),
    "array": lambda n: np.array([[n, 2.5]]),
    "array of one number": lambda n: np.array(n),
    "array of another order": lambda n: np.arange(6.0).reshape(2, 3).T[::-1] + n,
    "big endian": lambda n: np.array([n, 2], ">f8"),
    "truth values": lambda n: np.array([n > 1, True]),
    "list": lambda n: [torch.tensor(n), np.ones(n), "text", None],
    "nested": lambda n: {"a": {"b": (np.ones(n, np.complex64), torch.tensor(n))}},
}


@pytest.mark.parametrize("make", VALUES.values(), ids=VALUES)
def test_tensors_and_arrays_of_a_callback_go_on(tmp_path, make):
    first = fit(net(tmp_path, Notes(make)))
    again = fit(net(tmp_path, Notes(make)))
    for name in ("noted_", "late_"):
        expected, found = (
            getattr(dict(n.callbacks_)["own"], name) for n in (first, again)
        )
        assert same(expected, found)


def test_tensors_of_a_device_go_back_to_the_device():
    kept = learnt(Holds(mean_=torch.ones(3, device="meta"), all_=[torch.ones(2)]))
    kept["mean_"] = {name: torch.ones(3) for name in kept["mean_"]}  # as it is read
    callback = Holds()
    restore_learnt(callback, kept, "meta")
    assert (
        callback.mean_.device.type == "meta" and callback.all_[0].device.type == "cpu"
    )


def test_a_file_holds_what_was_noted_when_it_was_written():
    callback = Holds(mean_=np.zeros(2))
    kept = learnt(callback)
    callback.mean_ += 1
    restore_learnt(callback, kept)
    assert not callback.mean_.any()


def test_what_is_validated_on_is_not_written(tmp_path):
    scoring = EpochScoring("accuracy", name="own_acc")
    fit(net(tmp_path, scoring, train_split=ValidSplit(3)))
    assert scoring.y_preds_ == []
    scoring.y_preds_ = [torch.ones(4)]
    assert "y_preds_" not in learnt(scoring) and "best_score_" in learnt(scoring)


@pytest.mark.parametrize(
    "tensor",
    [torch.ones(2, dtype=torch.bfloat16), torch.ones(2, requires_grad=True)],
    ids=["bfloat16", "with a gradient"],
)
def test_an_array_that_is_none_is_damaged(tensor):
    kept = learnt(Holds(mean_=np.zeros(2)))
    kept["mean_"] = dict.fromkeys(kept["mean_"], tensor)
    with pytest.raises(CheckpointError, match="'mean_' is damaged"):
        restore_learnt(Holds(), kept)


# ------------------------------------------------------------------ what is not kept
class Averages(Callback):
    """A mean of the weights, as it is written in many a notebook."""

    def on_train_begin(self, net, **kwargs):
        self.average_ = AveragedModel(net.module_)
        self.plain, self.score_ = object(), 1.0

    def on_epoch_end(self, net, **kwargs):
        self.average_.update_parameters(net.module_)


def said(run):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in caught if "is not kept" in str(w.message)]


def test_what_cannot_be_kept_is_said_once_by_callback_and_name(tmp_path):
    (text,) = said(lambda: fit(net(tmp_path, Averages(), max_epochs=3)))
    assert text.startswith("average_ of the callback 'own' is not kept in ")
    assert len(said(lambda: fit(net(tmp_path, Averages(), max_epochs=5)))) == 1


class Subclassed(EpochScoring):
    """One of skorch's, of a user."""


def test_callbacks_of_skorch_and_of_this_package_are_no_reason_to_warn(tmp_path):
    callbacks = [
        ("resume", ResumableCheckpoint(tmp_path)),
        *distil(teacher()),
        ("stop", EarlyStopping("train_loss", load_best=True)),
        ("plan", LRScheduler("ReduceLROnPlateau", monitor="train_loss")),
        ("score", Subclassed("accuracy", name="own_acc")),
        ("notes", Notes(float)),
        ("code", Holds(function_=len, class_=dict, method_=copy.deepcopy)),
    ]
    given = {"train_split": ValidSplit(3), "callbacks": callbacks}
    assert said(lambda: fit(classifier(**given))) == []
