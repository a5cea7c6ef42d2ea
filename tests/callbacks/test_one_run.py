"""One folder is for one run: ResumableCheckpoint goes on with no other."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupted_runs import chain_net
from one_run import SUBJECTS, WHO, accepted, another, pretraining, refused, run
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    PredefinedSplit,
    cross_val_score,
)
from skorch.callbacks import Callback, LRScheduler, PrintLog, ProgressBar
from skorch.dataset import ValidSplit
from tiny import (
    X,
    Y,
    classifier,
    distil,
    epochs,
    fit,
    labelled,
    quietly,
    student,
    teacher,
    vector,
    windows,
)
from torch import nn

from braindecode_gcmae import (
    GCMAEStudent,
    GCMAETeacher,
    StartFrom,
    TopologyDistillation,
)
from braindecode_gcmae.callbacks import CollapseMonitor
from braindecode_gcmae.models import CheckpointError


class Shapes(Callback):
    """A callback of a user, who may train with it or watch."""

    def __init__(self, strength=1):
        self.strength = strength
        self.noted = []

    def on_batch_end(self, net, **kwargs):
        self.noted.append(len(net.history))


def scheduler(step_size=1):
    return "schedule", LRScheduler("StepLR", step_size=step_size)


# ------------------------------------------------------------------ one folder for many
def test_a_cross_validation_with_one_folder_is_refused(tmp_path):
    """Its second fold would be tested on what the first was trained on."""
    folds = {"groups": WHO, "cv": GroupKFold(4), "error_score": "raise"}
    with pytest.raises(CheckpointError, match="differ in data.*cross-validation"):
        cross_val_score(run(tmp_path), X, Y, **folds)
    # Where scikit-learn goes on after errors, there is no score but the first.
    folds["error_score"] = np.nan
    scores = quietly(cross_val_score, run(tmp_path / "b"), X, Y, **folds)
    assert np.isnan(scores).tolist() == [False, True, True, True]


def test_a_folder_a_fold_is_a_cross_validation(tmp_path):
    for fold, (train, _) in enumerate(GroupKFold(4).split(X, Y, WHO)):
        fit(run(tmp_path / str(fold)), x=X[train], y=Y[train])


def test_a_grid_search_with_one_folder_is_refused(tmp_path):
    """Also where every candidate has the same windows."""
    split = PredefinedSplit(np.where(WHO < 3, -1, 0))
    grid = {"lr": [1e-2, 1e-3]}
    search = GridSearchCV(run(tmp_path), grid, cv=split, error_score="raise")
    with pytest.raises(CheckpointError, match=r"lr \(0.01 there, 0.001 here\): one"):
        search.fit(X, Y)


# --------------------------------------------------------------- what is another run
@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that is over; what refuses it leaves it as it is."""
    folder = tmp_path_factory.mktemp("begun")
    fit(run(folder, scheduler(), optimizer__weight_decay=0.1))
    return folder


OTHERS = {
    "nothing": ({}, None),
    "a sample": ({"x": another(7)}, "data: "),
    "another order": ({"x": X[::-1].copy()}, "data: "),
    "fewer windows": ({"x": X[:-2], "y": Y[:-2]}, "data, labels: "),
    "another label": ({"y": np.r_[1 - Y[:1], Y[1:]]}, "labels: "),
    "lr": ({"lr": 1.0}, r"lr \(0.01 there, 1.0 here\): "),
    "drop_prob": ({"module__drop_prob": 0.4}, "module__drop_prob .0.0 there, 0.4 he"),
    "width": ({"module__emb_dim": 16}, "module__emb_dim .*, sizes of the module: "),
    "electrodes": ({"module__electrodes": ["C3", "C4"]}, "module__electrodes "),
    "optimizer": ({"optimizer": torch.optim.SGD}, "optimizer "),
    "decay": ({"optimizer__weight_decay": 0.2}, "optimizer__weight_decay "),
    "criterion": ({"criterion": nn.NLLLoss}, "criterion "),
    "class weights": ({"criterion__weight": torch.ones(2)}, "criterion__weight "),
    "batch_size": ({"batch_size": 4}, r"batch_size \(8 there, 4 here\): "),
    "drop_last": ({"iterator_train__drop_last": False}, "iterator_train__drop_last "),
    "validation": ({"train_split": ValidSplit(4)}, "train_split"),
    "schedule": ({"more": [scheduler(2)]}, "callbacks__schedule: "),
    "no schedule": ({"more": []}, "callbacks__schedule: "),
    "one more": ({"more": [scheduler(), *distil()]}, "callbacks__distil: "),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused_and_it_is_said_in_what(begun, name):
    given, words = OTHERS[name]
    given = {"optimizer__weight_decay": 0.1, "more": [scheduler()], **given}
    data = {name: given.pop(name) for name in ("x", "y") if name in given}
    net = run(begun, *given.pop("more"), **given)
    accepted(net, **data) if words is None else refused(net, words, **data)


HOW = {
    "no words": {"verbose": 1},
    "device": {"device": torch.device("cpu")},
    "validation loader": {"iterator_valid__batch_size": 3},
    "pinned": {"iterator_train__pin_memory": False},
    "loggers": {"more": [("bar", ProgressBar()), ("print", PrintLog(sink=print))]},
}


@pytest.mark.parametrize("name", HOW)
def test_how_it_is_trained_makes_no_other_run(begun, name, capsys):
    given = {"optimizer__weight_decay": 0.1, **HOW[name]}
    accepted(run(begun, scheduler(), *given.pop("more", ()), **given))


def test_more_epochs_in_a_moved_folder_are_the_same_run(tmp_path):
    fit(run(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    net = run(tmp_path / "there", max_epochs=3)
    assert len(fit(net, seed=5).history) == 3


def test_splits_are_told_apart_by_their_settings(tmp_path):
    fit(run(tmp_path, train_split=ValidSplit(4, stratified=True)))
    accepted(run(tmp_path, train_split=ValidSplit(4, stratified=True)))
    refused(run(tmp_path, train_split=ValidSplit(3, stratified=True)), "train_split")


def test_a_module_that_was_made_by_the_user_is_known_by_its_arguments(tmp_path):
    """Not by its weights: a script that goes on makes it anew, without a seed."""
    fit(run(tmp_path, module=student(seed=1)))
    accepted(run(tmp_path, module=student(seed=2)))
    net = run(tmp_path, module=student(drop_prob=0.4))
    refused(net, "module: ")
    again = run(tmp_path / "instance", module=student())
    weights = vector(fit(again)).clone()
    accepted(again)  # the instance itself was trained
    assert torch.equal(weights, vector(again))


def test_class_weights_in_a_criterion_are_told_apart(tmp_path):
    fit(run(tmp_path, criterion=nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))))
    accepted(run(tmp_path, criterion=nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]))))
    net = run(tmp_path, criterion=nn.CrossEntropyLoss(torch.tensor([1.0, 3.0])))
    refused(net, "criterion: ")


def test_teachers_are_told_apart_by_their_weights_or_settings(tmp_path):
    fit(run(tmp_path / "a", *distil(teacher(1))))
    accepted(run(tmp_path / "a", *distil(teacher(1))))
    refused(run(tmp_path / "a", *distil(teacher(2))), "callbacks__distil: ")
    refused(run(tmp_path / "a", *distil(teacher(1), kd_weight=2)), "callbacks__dis")

    def taught(**given):
        given = {"max_epochs": 1, **given}
        return "distil", TopologyDistillation(classifier(**given))

    fit(run(tmp_path / "b", taught()))
    accepted(run(tmp_path / "b", taught(verbose=False, device=torch.device("cpu"))))
    refused(run(tmp_path / "b", taught(lr=1.0)), "callbacks__distil: ")
    refused(run(tmp_path / "b", taught(max_epochs=2)), "callbacks__distil: ")


@pytest.mark.parametrize("kind", ["teacher", "committee", "start"])
def test_a_checkpoint_is_known_by_what_it_holds_and_not_by_where(
    tmp_path, monkeypatch, kind
):
    teacher(1).save_pretrained(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "moved")
    teacher(2).save_pretrained(tmp_path / "other")
    teacher(1, drop_prob=0.5).save_pretrained(tmp_path / "else")
    monkeypatch.chdir(tmp_path)

    def net(where):
        make = {
            "teacher": TopologyDistillation,
            "committee": lambda where: TopologyDistillation([where, teacher()]),
            "start": StartFrom,
        }[kind]
        module = GCMAETeacher if kind == "start" else GCMAEStudent
        return run(tmp_path / "run", (kind, make(where)), module=module)

    fit(net(tmp_path / "here"))
    for where in (str(tmp_path / "here"), "here", "moved/", tmp_path / "moved"):
        accepted(net(where))
    for where in ("other", "else"):
        refused(net(where), f"callbacks__{kind}: ")


def test_of_a_callback_of_the_user_a_warning_tells(tmp_path):
    """Nobody knows whether it trains; what it notes is not what it was given."""
    net = run(tmp_path, ("mine", Shapes()))
    fit(net)
    assert dict(net.callbacks)["mine"].noted
    accepted(net)
    with pytest.warns(UserWarning, match="other callbacks: callbacks__mine"):
        fit(run(tmp_path, ("mine", Shapes(2))))
    with pytest.warns(UserWarning, match="callbacks__mine"):
        fit(run(tmp_path))
    with pytest.warns(UserWarning, match="callbacks__more"):
        fit(run(tmp_path, ("mine", Shapes()), ("more", Shapes())))

    class Stops(LRScheduler):
        """Derived of one that is known to train."""

    fit(run(tmp_path / "b", ("stops", Stops("StepLR", step_size=1))))
    refused(run(tmp_path / "b"), "callbacks__stops: ")


# -------------------------------------------------------------------------- processes
def everything(folder):
    """A run with all that could be another in another process."""
    net = chain_net(folder, max_epochs=1)
    kinds, factor = {"power", "phase", "graph", "time"}, 0.5

    def rate(epoch):
        return factor if "power" in {"power", "phase", "graph"} else 1.0

    more = [
        ("rate", LRScheduler("LambdaLR", lr_lambda=rate)),
        ("object", LRScheduler("LambdaLR", lr_lambda=[Rate(kinds).of])),
        ("distil", TopologyDistillation(teacher(), kd_weight=lambda e: Rate(e).of(e))),
    ]
    callbacks = [c for c in net.callbacks if c[0] not in ("pretrain", "distil")]
    return net.set_params(
        callbacks=[*callbacks, *more], train_split=ValidSplit(0.25, random_state=1)
    )


class Rate:
    """An object without a name of its own, only an address."""

    def __init__(self, kinds):
        self.kinds = kinds

    def of(self, epoch):
        return 1.0


def test_in_a_new_process_it_is_the_same_run(tmp_path):
    """Another start of the random hashes, other addresses, other weights."""
    x, y = labelled(32)
    fit(everything(tmp_path / "net"), x=x, y=y)
    pretraining(tmp_path / "pretrainer").fit(epochs(windows()), groups=SUBJECTS)
    here = Path(__file__).parent
    paths = [str(p) for p in (here, here.parent, here.parents[1])]
    script = (
        "import sys, torch; from test_one_run import *; x, y = labelled(32);"
        "accepted(everything(sys.argv[1] + '/net'), x, y);"
        "pre = pretraining(sys.argv[1] + '/pretrainer');"
        "accepted(pre, epochs(windows()), None, groups=SUBJECTS)"
    )
    found = os.environ.get("PYTHONPATH", "")
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*paths, found]),
            "PYTHONHASHSEED": "77",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]


# ----------------------------------------------------------------------------- files
def test_a_file_that_does_not_tell_its_run_is_refused(tmp_path):
    """It was written by an earlier version: it could be of any run."""
    fit(run(tmp_path))
    file = tmp_path / "training.pt"
    state = torch.load(file, weights_only=True)
    written = state.pop("run")
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="earlier version.*one folder is for"):
        fit(run(tmp_path))
    for run_ in ({}, [], {**written, "run": {"lr": 3}}, {**written, "foreign": 1}):
        torch.save({**state, "run": run_}, file)
        with pytest.raises(CheckpointError, match="damaged: it "):
            fit(run(tmp_path))


def test_parameters_that_nobody_can_tell_are_no_obstacle(tmp_path):
    class Odd:
        def __repr__(self):
            raise RuntimeError("no")

    fit(run(tmp_path, ("mine", Shapes(Odd())), ("text", Shapes("x" * 5000))))
    accepted(run(tmp_path, ("mine", Shapes(Odd())), ("text", Shapes("x" * 5000))))


class Schedule:
    """An object of a user without a ``repr``, which counts how often it is asked."""

    def __init__(self, weights):
        self.weights, self.asked, self.own = weights, 0, self

    def __call__(self, epoch):
        self.asked += 1
        return 1.0

    at = __call__


@pytest.mark.parametrize("way", [lambda s: s, lambda s: s.at], ids=["object", "method"])
def test_what_an_object_of_the_user_notes_makes_no_other_run(tmp_path, way):
    weights = np.linspace(0, 1, 600)

    def distilled(schedule):
        return run(tmp_path, *distil(teacher(), kd_weight=way(schedule)))

    used = Schedule(weights)
    fit(distilled(used))
    assert used.asked
    accepted(distilled(used))
    accepted(distilled(Schedule(weights + 1e-12)))  # rounded differently
    refused(distilled(Schedule(weights[::-1])), "callbacks__distil")


def test_a_monitor_is_part_of_the_run(tmp_path):
    net = pretraining(tmp_path)
    net.set_params(callbacks=[*net.callbacks, ("collapse", CollapseMonitor())])
    net.fit(windows(), groups=SUBJECTS)
    refused(pretraining(tmp_path), "callbacks__coll", windows(), None, groups=SUBJECTS)
