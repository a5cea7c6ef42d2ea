"""Ctrl-C and death in what comes before a training: the stage, and its teachers."""

import os
import signal

import numpy as np
import pytest
import torch
from interrupted_runs import same
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import ValidSplit
from tiny import X, Y, classifier, quietly, small, teacher, vector

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    GCMAETeacher,
    TopologyDistillation,
)
from braindecode_gcmae.callbacks import ResumableCheckpoint


class Ends(Callback):
    """Interrupts or dies in the second epoch of a stage; counts its epochs."""

    where, how, epochs = None, None, []

    def __init__(self, stage):
        self.stage = stage

    def on_epoch_begin(self, net, **kwargs):
        self.epochs.append(self.stage)

    def on_batch_begin(self, net, training=False, **kwargs):
        np.random.rand()  # what follows depends on all random states
        if training and self.where == self.stage and len(net.history) == 2:
            if self.how == "Ctrl-C":
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise ValueError("died")


@pytest.fixture
def ends(monkeypatch):
    """Set where and how the next run ends."""
    # What a shell starts in the background ignores Ctrl-C.
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def end(where=None, how=None):
        monkeypatch.setattr(Ends, "where", where)
        monkeypatch.setattr(Ends, "how", how)
        monkeypatch.setattr(Ends, "epochs", [])

    end()
    yield end
    signal.signal(signal.SIGINT, before)


def unfitted(name, *more, **given):
    callbacks = [*more, ("ends", Ends(name))]
    return classifier(GCMAETeacher, callbacks=callbacks, max_epochs=3, **given)


def pretraining(*more, **given):
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    inner["callbacks"] = [*more, ("ends", Ends("pretrain"))]
    return GCMAEPretraining(
        **{"max_epochs": 3, "batch_size": 8, "arguments": inner, **given}
    )


def chain(folder, inner=None, one=(), two=(), **given):
    """A pretraining, two unfitted teachers beside a fitted one, and the student."""
    committee = [unfitted("one", *one), teacher(), unfitted("two", *two, seed=4)]
    stage = inner or pretraining()
    callbacks = [
        ("resume", ResumableCheckpoint(folder)),
        ("pretrain", stage),
        ("distil", TopologyDistillation(committee)),
        ("ends", Ends("fit")),
    ]
    given = {"module__drop_prob": 0.3, "train_split": ValidSplit(0.25), **given}
    return classifier(callbacks=callbacks, **given)


def run(net, seed=0):
    """Fit with random states of its own."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed)
    return quietly(net.fit, X, Y)


def numbers(net):
    teachers = dict(net.callbacks_)["distil"]
    models = [teachers.teacher_, *teachers.others_]
    rows = [{k: v for k, v in row.items() if k != "dur"} for row in net.history]
    return vector(net), [m.state_dict() for m in models], rows


@pytest.mark.parametrize("stage", ["pretrain", "one", "two"])
def test_an_interrupt_in_a_stage_ends_the_whole_fit(tmp_path, ends, stage):
    ends(stage, "Ctrl-C")
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(chain(tmp_path))
    assert Ends.epochs[-2:] == [stage] * 2 and "fit" not in Ends.epochs
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stage_that_a_rule_ends_is_over(tmp_path, ends):
    """EarlyStopping raises what Ctrl-C does."""
    rule = ("rule", EarlyStopping("train_loss", patience=1, threshold=1e9))
    stage = pretraining(rule, max_epochs=9)
    net = run(chain(tmp_path, stage, one=[rule]))
    assert Ends.epochs.count("pretrain") == Ends.epochs.count("one") == 2
    assert Ends.epochs.count("fit") == 2 and dict(net.callbacks_)["pretrain"].done_


@pytest.mark.parametrize("how", ["Ctrl-C", "dies"])
@pytest.mark.parametrize("stage", ["pretrain", "one", "two", "fit"])
def test_a_finished_stage_is_never_lost(tmp_path, ends, stage, how):
    """What goes on has the bits of a run that nobody disturbed."""
    order = ["pretrain", "one", "two", "fit"]
    whole = run(chain(tmp_path / "whole"))
    ends(stage, how)
    try:
        run(chain(tmp_path / "cut"))
    except (KeyboardInterrupt, ValueError):
        pass
    first = order.index(stage)
    ends()
    # A run that left nothing behind begins with random states of its own.
    again = run(chain(tmp_path / "cut"), seed=8 if first else 0)
    done = [name for name in order[:first] if name in Ends.epochs]
    assert not done and set(order[first:]) <= set(Ends.epochs)
    for one, two in zip(numbers(whole), numbers(again), strict=True):
        assert same(one, two)


@pytest.mark.parametrize("stage", ["pretrain", "one", "two"])
def test_a_stage_with_a_checkpoint_of_its_own_goes_on_itself(tmp_path, ends, stage):
    def net(folder):
        resume = {
            name: ("resume", ResumableCheckpoint(folder / name))
            for name in ("pretrain", "one", "two")
        }
        return chain(
            folder, pretraining(resume["pretrain"]), [resume["one"]], [resume["two"]]
        )

    whole = run(net(tmp_path / "whole"))
    ends(stage, "Ctrl-C")
    with pytest.raises(KeyboardInterrupt):
        run(net(tmp_path / "cut"))
    ends()
    again = run(net(tmp_path / "cut"))
    assert Ends.epochs.count(stage) == 2  # of three
    for one, two in zip(numbers(whole), numbers(again), strict=True):
        assert same(one, two)


@pytest.mark.parametrize("cross_fit", [0, 2])
def test_a_teacher_of_a_resumed_run_is_not_trained_again_for_more(
    tmp_path, ends, cross_fit
):
    def net(max_epochs):
        distillation = TopologyDistillation(unfitted("one"), cross_fit=cross_fit)
        callbacks = [
            ("resume", ResumableCheckpoint(tmp_path)),
            ("distil", distillation),
        ]
        given = {"cls": GCMAEClassifier, "max_epochs": max_epochs}
        return classifier(callbacks=callbacks, **given)

    def people(fit):
        return quietly(fit, X, Y, subjects=np.arange(len(X)) % 4)

    people(net(1).fit)
    trained = len(Ends.epochs)
    assert trained == (9 if cross_fit else 3)
    resumed = people(net(2).fit)
    assert len(Ends.epochs) == trained
    resumed.callbacks_ = [c for c in resumed.callbacks_ if c[0] != "resume"]
    first = dict(resumed.callbacks_)["distil"].teacher_
    people(resumed.partial_fit)
    assert len(Ends.epochs) == trained
    again = dict(resumed.callbacks_)["distil"].teacher_
    assert again is not first
    assert same(first.state_dict(), again.state_dict())
