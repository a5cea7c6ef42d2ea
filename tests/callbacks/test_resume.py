"""ResumableCheckpoint: parts of training put together are the whole."""

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupted_runs import chain_net, end_of, pretraining_net, same
from sklearn.base import clone
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit
from tiny import (
    X,
    Y,
    classifier,
    distil,
    fit,
    pretrainer,
    quietly,
    small,
    teacher,
    vector,
    windows,
)
from torch.optim import lr_scheduler
from torch.utils.data import Dataset

from braindecode_gcmae import GCMAEPretraining, TopologyDistillation
from braindecode_gcmae.callbacks import CollapseMonitor, ResumableCheckpoint
from braindecode_gcmae.models import CheckpointError

SUBJECTS = np.repeat(np.arange(4), 4)
# Of callbacks that are there in one of two parts of a run; test_one_run warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*written with other callbacks")


class Dies(Callback):
    """Raises in a certain step of a certain epoch; or does not."""

    def __init__(self, epoch=None, batch=1, error=KeyboardInterrupt):
        self.epoch, self.batch, self.error = epoch, batch, error

    def on_batch_end(self, net, training=False, **kwargs):
        row = net.history[-1]
        if (len(net.history), len(row["batches"])) == (self.epoch, self.batch):
            raise self.error("died")


class Counts(Callback):
    """Counts the steps of this process."""

    def __init__(self):
        self.steps = []

    def on_batch_end(self, net, training=False, **kwargs):
        self.steps.append(len(net.history))


def supervised(folder, *more, **arguments):
    """A classifier with dropout: its steps draw from the global random state."""
    callbacks = [("resume", ResumableCheckpoint(folder)), *more]
    given = {"max_epochs": 4, "module__drop_prob": 0.4, **arguments}
    return classifier(callbacks=callbacks, **given)


def contrastive(folder, *more, every_n_steps=None, **arguments):
    callbacks = [("resume", ResumableCheckpoint(folder, every_n_steps)), *more]
    return pretrainer(callbacks=callbacks, **{"max_epochs": 4, **arguments})


def told(net):
    return [{k: v for k, v in row.items() if k != "dur"} for row in net.history]


# ------------------------------------------------------------------- the same bits
@pytest.mark.parametrize("epoch", [1, 3, 4])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_epoch_that_was_cut_short_is_done_again(tmp_path, epoch, error):
    whole = fit(supervised(tmp_path / "whole"))
    try:
        fit(supervised(tmp_path / "cut", ("dies", Dies(epoch, 2, error))))
    except ValueError:
        pass
    again = fit(supervised(tmp_path / "cut"), seed=99)
    assert torch.equal(vector(whole), vector(again))
    assert told(whole) == told(again)


@pytest.mark.parametrize("batch", [1, 2])
def test_inside_an_epoch_nothing_is_done_twice(tmp_path, batch):
    x, counts = windows(32), Counts()
    whole = contrastive(tmp_path / "whole", every_n_steps=1)
    whole.fit(x, groups=np.repeat(SUBJECTS, 2))
    cut = contrastive(tmp_path / "cut", ("d", Dies(2, batch)), every_n_steps=1)
    cut.fit(x, groups=np.repeat(SUBJECTS, 2))
    again = contrastive(tmp_path / "cut", ("counts", counts), every_n_steps=1)
    again.fit(x, groups=np.repeat(SUBJECTS, 2))
    assert torch.equal(vector(whole), vector(again))
    assert told(whole) == told(again)
    assert again.history[:, "train_batch_count"] == [4, 4, 4, 4]
    # The step in which it died was done, but not written.
    assert len(counts.steps) == 16 - (4 + batch - 1)


def test_epochs_added_later_are_the_epochs_of_a_longer_run(tmp_path):
    whole = fit(supervised(tmp_path / "whole", max_epochs=5))
    fit(supervised(tmp_path / "parts", max_epochs=2))
    parts = fit(supervised(tmp_path / "parts", max_epochs=5), seed=4)
    assert torch.equal(vector(whole), vector(parts)) and told(whole) == told(parts)


def test_epochs_of_pretraining_added_later_see_all_windows(tmp_path):
    whole = contrastive(tmp_path / "whole", every_n_steps=1).fit(
        windows(), groups=SUBJECTS
    )
    part = contrastive(tmp_path / "parts", every_n_steps=1, max_epochs=2)
    part.fit(windows(), groups=SUBJECTS)
    again = contrastive(tmp_path / "parts", every_n_steps=1)
    again.fit(windows(), groups=SUBJECTS)
    assert torch.equal(vector(whole), vector(again)) and told(whole) == told(again)


def test_what_is_finished_is_not_done_again(tmp_path):
    counts = Counts()
    first = fit(supervised(tmp_path))
    second = fit(supervised(tmp_path, ("counts", counts)), seed=8)
    assert not counts.steps and second.max_epochs == 4
    assert torch.equal(vector(first), vector(second)) and told(first) == told(second)
    assert same(first.optimizer_.state_dict(), second.optimizer_.state_dict())


def test_the_objective_of_a_resumed_epoch_is_that_of_the_whole_run(tmp_path):
    arguments = {"objective": "sequential", "max_epochs": 6}
    whole = contrastive(tmp_path / "a", **arguments).fit(windows(), groups=SUBJECTS)
    cut = contrastive(tmp_path / "b", ("dies", Dies(3)), **arguments)
    cut.fit(windows(), groups=SUBJECTS)
    again = contrastive(tmp_path / "b", **arguments).fit(windows(), groups=SUBJECTS)
    assert told(whole) == told(again)
    assert torch.equal(vector(whole), vector(again))


def test_the_callbacks_of_the_method_and_monitors_go_on(tmp_path):
    monitor = [("collapse", CollapseMonitor())]
    ends = []
    for name, epoch in (("whole", None), ("cut", 3), ("cut", None)):
        net = contrastive(tmp_path / name, *monitor, ("dies", Dies(epoch)))
        ends.append(told(net.fit(windows(), groups=SUBJECTS)))
    assert ends[0] == ends[2] != ends[1]


SCHEDULES = [
    {"policy": lr_scheduler.OneCycleLR, "max_lr": 0.1, "total_steps": 12},
    {"policy": "CosineAnnealingLR", "T_max": 12},
    {"policy": "StepLR", "step_size": 5},
    {"policy": lr_scheduler.MultiStepLR, "milestones": [2, 7]},
    {"policy": "LambdaLR", "lr_lambda": lambda step: 0.9**step},
    {"policy": "WarmRestartLR"},
]


def two_in_a_row(optimizer, last_epoch=-1):
    """A scheduler made of schedulers."""
    warm = lr_scheduler.LinearLR(optimizer, total_iters=4)
    slow = lr_scheduler.ExponentialLR(optimizer, 0.8)
    return lr_scheduler.SequentialLR(optimizer, [warm, slow], [4])


@pytest.mark.parametrize(
    "schedule",
    [
        *SCHEDULES[:5],
        {"policy": "ReduceLROnPlateau", "patience": 0, "monitor": "train_loss"},
    ],
    ids=lambda s: getattr(s["policy"], "__name__", s["policy"]),
)
def test_learning_rates_go_on(tmp_path, schedule):
    every = "epoch" if "monitor" in schedule else "batch"
    ends = []
    for name, epoch in (("whole", None), ("cut", 3), ("cut", None)):
        plan = LRScheduler(step_every=every, **schedule)
        more = ("schedule", plan), ("dies", Dies(epoch, 2))
        net = fit(supervised(tmp_path / name, *more), seed=len(ends) // 2)
        ends.append((told(net), vector(net), plan.lr_scheduler_.optimizer.param_groups))
    (whole, weights, _), _, (again, resumed, _) = ends
    assert whole == again and torch.equal(weights, resumed)


def test_early_stopping_counts_on_and_stops_again(tmp_path):
    """The best weights, too, are those of before the interruption."""

    def stopping():
        # A loss that gets no better after the second epoch.
        return EarlyStopping("measure", patience=3, threshold=0, load_best=True)

    class Measure(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.history.record("measure", [5, 3, 4, 4, 4, 4][len(net.history) - 1])

    ends = []
    for name, epoch in (("whole", None), ("cut", 4), ("cut", None), ("cut", None)):
        more = ("measure", Measure()), ("dies", Dies(epoch)), ("stop", stopping())
        net = fit(supervised(tmp_path / name, *more, max_epochs=6), seed=len(ends) // 2)
        ends.append((told(net), vector(net)))
    whole, _, again, once_more = ends
    assert len(whole[0]) == 5  # stopped by rule, with the weights of the second epoch
    for row, weights in (again, once_more):
        assert row == whole[0] and torch.equal(weights, whole[1])


def test_a_random_split_is_drawn_as_it_was(tmp_path):
    """In one process: what test_interruption does by killing."""
    ends = []
    for name, epoch in (("whole", None), ("cut", 6), ("cut", None)):
        net = chain_net(tmp_path / name, max_epochs=8)
        net.set_params(callbacks=[*net.callbacks, ("dies", Dies(epoch))])
        np.random.seed(7 * (len(ends) // 2))
        quietly(fit, net, len(ends) // 2)
        ends.append(end_of(net))
    for part in ("module", "optimizer", "teacher", "lr"):
        assert same(ends[0][part], ends[2][part]), part
    drawn = [json.loads(end["history"]) for end in ends]
    for one, two in zip(drawn[0], drawn[2], strict=True):
        one, two = ({k: v for k, v in r.items() if k != "batches"} for r in (one, two))
        assert one == two


class Jitters(Dataset):
    """Windows whose loudness is drawn by numpy whenever they are read."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        return X[i] * np.float32(np.random.uniform(0.5, 2)), int(Y[i])


def test_to_look_at_windows_that_are_drawn_by_numpy_moves_no_step(tmp_path):
    ends, made = [], {"module__n_times": X.shape[2], "module__n_outputs": 2}
    for name, epoch in (("whole", None), ("cut", 3), ("cut", None)):
        more = [*distil(teacher()), ("dies", Dies(epoch))]
        net = supervised(tmp_path / name, *more, **made)
        np.random.seed(len(ends) // 2)
        ends.append(vector(fit(net, len(ends) // 2, Jitters(), None)))
    assert torch.equal(ends[0], ends[2])


def test_max_epochs_is_what_it_was(tmp_path):
    fit(supervised(tmp_path, max_epochs=2))
    net = supervised(tmp_path, ("dies", Dies(3, 1, ValueError)), max_epochs=5)
    with pytest.raises(ValueError, match="died"):
        fit(net)
    assert net.max_epochs == 5

    class Refuses(Callback):
        def on_train_begin(self, net, **kwargs):
            raise ValueError("refused")

    net = supervised(tmp_path, ("refuses", Refuses()), max_epochs=5)
    with pytest.raises(ValueError, match="refused"):
        fit(net)
    net.set_params(callbacks__refuses=None)
    assert fit(net).max_epochs == 5 and len(net.history) == 5


def test_what_is_set_after_a_fit_that_died_stays(tmp_path):
    """Whether it died before its first epoch or somebody asks in the meantime."""

    class Refuses(Callback):
        def on_train_begin(self, net, **kwargs):
            raise ValueError("refused")

    fit(supervised(tmp_path, max_epochs=4))
    net = supervised(tmp_path, ("refuses", Refuses()), max_epochs=6)
    with pytest.raises(ValueError, match="refused"):
        fit(net)
    assert net.max_epochs == clone(net).max_epochs == 6
    net.callbacks[-1] = ("refuses", None)
    net.set_params(max_epochs=9)
    assert len(fit(net).history) == net.max_epochs == 9


def test_max_epochs_that_are_set_before_the_first_epoch_stay(tmp_path):
    class Split(ValidSplit):
        died = False

        def __call__(self, *args, **kwargs):
            if Split.died:
                raise ValueError("refused")
            return super().__call__(*args, **kwargs)

    net = supervised(tmp_path, max_epochs=4, train_split=Split(4))
    fit(net)
    Split.died = True
    with pytest.raises(ValueError, match="refused"):
        fit(net.set_params(max_epochs=6))
    Split.died = False
    net.set_params(max_epochs=9)
    assert len(fit(net).history) == net.max_epochs == 9


class EndsAnEpoch(Callback):
    """Interrupts when an epoch ends."""

    def __init__(self, epoch=None):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("epoch", [2, 3])
def test_an_epoch_that_was_not_over_for_all_is_done_again(tmp_path, epoch):
    """Also the last one, before a callback that has something to do at its end."""
    ends = []
    for name, stop, n in (("whole", None, 5), ("cut", epoch, 3), ("cut", None, 5)):
        schedule = LRScheduler("StepLR", step_size=1, gamma=0.5)
        more = ("ends", EndsAnEpoch(stop)), ("schedule", schedule)
        net = fit(supervised(tmp_path / name, *more, max_epochs=n), seed=len(ends) // 2)
        assert "after_all" not in dict(net.callbacks_)
        ends.append((told(net), vector(net)))
    assert ends[0][0] == ends[2][0] and torch.equal(ends[0][1], ends[2][1])


# ------------------------------------------------------------------ what is refused
def written(folder):
    fit(supervised(folder, max_epochs=1))
    return folder / "training.pt"


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_damaged(tmp_path, share):
    file = written(tmp_path)
    data = file.read_bytes()
    file.write_bytes(data[: int(share * len(data))])
    with pytest.raises(CheckpointError, match="training.pt is damaged"):
        fit(supervised(tmp_path))


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.65])
def test_a_flipped_bit_is_never_taken_for_a_weight(tmp_path, share):
    file = written(tmp_path)
    expected = vector(fit(supervised(tmp_path, max_epochs=1)))
    data = bytearray(file.read_bytes())
    data[int(share * len(data))] ^= 0x10
    file.write_bytes(data)
    try:
        found = vector(fit(supervised(tmp_path, max_epochs=1)))
    except CheckpointError as error:
        assert "training.pt is damaged" in str(error)
    else:  # it lay between the parts
        assert torch.equal(found, expected)


def test_each_weight_is_guarded_by_a_check_sum(tmp_path):
    file = written(tmp_path)
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    data = bytearray(file.read_bytes())
    data[largest.header_offset + largest.file_size // 2 + 100] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="wrong check sum"):
        fit(supervised(tmp_path))


class Hostile:
    """Would leave a trace, if anybody unpickled it."""

    def __reduce__(self):
        return Path.touch, (Path("trace"),)


@pytest.mark.parametrize("write", [pickle.dump, torch.save], ids=["pickle", "torch"])
def test_a_pickle_runs_no_code(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    with open(tmp_path / "training.pt", "wb") as file:
        write({"format": 1, "net": Hostile()}, file)
    with pytest.raises(CheckpointError, match="is damaged"):
        fit(supervised(tmp_path))
    assert not Path("trace").exists()


def test_a_file_of_another_net_is_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(CheckpointError, match="of a GCMAEStudent, not of a Joint"):
        contrastive(tmp_path).fit(windows(), groups=SUBJECTS)


def test_a_file_of_another_architecture_is_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(
        CheckpointError, match="does not fit.*emb_dim.*sizes of the mod"
    ):
        fit(supervised(tmp_path, module__emb_dim=16))


def test_a_file_of_another_optimiser_is_refused(tmp_path):
    written(tmp_path)
    state = torch.load(tmp_path / "training.pt", weights_only=True)
    state["tensors"]["optimizer"]["param_groups"].append({"params": []})
    torch.save(state, tmp_path / "training.pt")
    with pytest.raises(CheckpointError, match="does not fit this net"):
        fit(supervised(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(format=99), "another format"),
        (lambda s: s.pop("history"), "has no history"),
        (lambda s: s.update(random=[]), "has no random"),
        (lambda s: s.update(history="no json"), "is damaged"),
        (lambda s: s["random_at_begin"].pop("torch"), "is damaged"),
        (lambda s: s["tensors"].pop("module"), "does not fit this net"),
        (lambda s: s["callbacks"].update(distil={"class": "os"}), "is damaged"),
    ],
    ids=["format", "part", "kind", "history", "random", "tensors", "class"],
)
def test_a_file_with_something_else_in_it_is_refused(tmp_path, change, message):
    net = classifier(callbacks=[("resume", ResumableCheckpoint(tmp_path)), *distil()])
    fit(net)
    state = torch.load(tmp_path / "training.pt", weights_only=True)
    change(state)
    torch.save(state, tmp_path / "training.pt")
    again = classifier(callbacks=[("resume", ResumableCheckpoint(tmp_path)), *distil()])
    with pytest.raises(CheckpointError, match=message):
        fit(again)


def test_a_file_that_is_no_state_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "training.pt")
    with pytest.raises(CheckpointError, match="another format"):
        fit(supervised(tmp_path))


def test_what_would_be_done_twice_must_come_later(tmp_path):
    resume = ("resume", ResumableCheckpoint(tmp_path))
    with pytest.raises(ValueError, match="must come before TopologyDistillation"):
        fit(classifier(callbacks=[*distil(), resume]))
    assert not list(tmp_path.iterdir())


def test_callbacks_of_others_may_come_before(tmp_path):
    ends = []
    for name, epoch in (("whole", None), ("cut", 3), ("cut", None)):
        callbacks = [
            ("schedule", LRScheduler("StepLR", step_size=1)),
            ("resume", ResumableCheckpoint(tmp_path / name)),
            ("dies", Dies(epoch)),
        ]
        net = classifier(callbacks=callbacks, max_epochs=4, module__drop_prob=0.4)
        ends.append(vector(fit(net, seed=len(ends) // 2)))
    assert torch.equal(ends[0], ends[2])


def test_a_resumed_teacher_is_the_one_that_taught_before(tmp_path):
    def net(epoch=None):
        teach = TopologyDistillation(classifier(max_epochs=1))
        callbacks = [("resume", ResumableCheckpoint(tmp_path)), ("distil", teach)]
        return classifier(callbacks=[*callbacks, ("dies", Dies(epoch))], max_epochs=4)

    first = fit(net(3), x=X, y=Y)
    taught = dict(first.callbacks_)["distil"].teacher_
    again = fit(net(), seed=5)
    teaches = dict(again.callbacks_)["distil"].teacher_
    assert same(taught.state_dict(), teaches.state_dict())


def test_a_run_within_a_folder_that_is_not_there_yet_makes_it(tmp_path):
    pretraining_net(tmp_path / "a" / "b", max_epochs=1).fit(windows(), groups=SUBJECTS)
    assert (tmp_path / "a" / "b" / "training.pt").is_file()


@pytest.mark.parametrize("with_teacher", [True, False])
def test_a_resumed_pretraining_still_has_its_teacher_and_history(
    tmp_path, with_teacher
):
    def net(epoch=None):
        given = {"max_epochs": 2, "arguments": {"queue_size": 64, **small("teacher")}}
        if not with_teacher:
            given = {**given, "teacher": None, "arguments": {"queue_size": 64}}
        callbacks = [
            ("resume", ResumableCheckpoint(tmp_path)),
            ("pretrain", GCMAEPretraining(**given)),
            ("dies", Dies(epoch)),
        ]
        return classifier(callbacks=callbacks, max_epochs=4)

    before = dict(quietly(fit, net(3)).callbacks_)["pretrain"]
    after = dict(quietly(fit, net(), seed=5).callbacks_)["pretrain"]
    assert after.done_ and (after.teacher_ is not None) == with_teacher
    if with_teacher:
        assert same(before.teacher_.state_dict(), after.teacher_.state_dict())
    assert after.history_[:, "train_loss"] == before.history_[:, "train_loss"]
    assert len(after.history_) == 2


@pytest.mark.parametrize("name", ["dirname", "_private_", "f_params", "__dict__"])
def test_a_file_sets_nothing_of_a_callback_but_what_it_learnt(tmp_path, name):
    from skorch.callbacks import Checkpoint

    def net(**given):
        kept = Checkpoint(dirname=str(tmp_path / "mine"), monitor=None)
        callbacks = [("resume", ResumableCheckpoint(tmp_path)), ("kept", kept)]
        return classifier(callbacks=callbacks, **given)

    quietly(fit, net(max_epochs=1))
    file = tmp_path / "training.pt"
    state = torch.load(file, weights_only=True)
    state["learnt"]["kept"] = {name: str(tmp_path / "victim")}
    torch.save(state, file)
    with pytest.raises(CheckpointError, match=f"'{name}' is nothing"):
        quietly(fit, net(max_epochs=2))
    assert not (tmp_path / "victim").exists()


def test_what_a_callback_learnt_under_a_private_name_is_restored(tmp_path):
    from skorch.callbacks import Callback

    class Counts(Callback):
        def initialize(self):
            self._epochs_ = 0
            return self

        def on_epoch_end(self, net, **kwargs):
            self._epochs_ += 1

    def run(max_epochs):
        counts = Counts()
        callbacks = [("resume", ResumableCheckpoint(tmp_path)), ("counts", counts)]
        net = quietly(fit, classifier(callbacks=callbacks, max_epochs=max_epochs))
        return dict(net.callbacks_)["counts"]._epochs_

    assert run(2) == 2
    assert run(3) == 3
