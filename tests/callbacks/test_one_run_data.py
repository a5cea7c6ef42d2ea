"""Whose windows, labels and people they are makes a run: ResumableCheckpoint looks."""

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode import EEGRegressor
from braindecode.datasets import BaseConcatDataset, RawDataset
from one_run import SUBJECTS, WHO, accepted, another, pretraining, refused, run
from skorch.helper import SliceDataset
from tiny import (
    N_TIMES,
    SFREQ,
    X,
    Y,
    classifier,
    epochs,
    fit,
    info,
    labelled,
    quietly,
    teacher,
    vector,
    windows,
)
from torch.utils.data import Dataset, Subset, TensorDataset

from braindecode_gcmae import GCMAEClassifier, GCMAEPretraining, TopologyDistillation
from braindecode_gcmae.callbacks.resuming import fingerprint
from braindecode_gcmae.callbacks.resuming.sketch import alike, sketch
from braindecode_gcmae.datasets import unlabelled_windows


# --------------------------------------------------------------------- all our nets
def test_a_pretrainer_goes_on_with_its_windows_and_people_only(tmp_path):
    x = windows()
    pretraining(tmp_path).fit(x, groups=SUBJECTS)
    accepted(pretraining(tmp_path), x, None, groups=SUBJECTS)
    refused(pretraining(tmp_path), "groups: ", x, None, groups=SUBJECTS[::-1])
    refused(pretraining(tmp_path), "groups: ", x, None, groups=SUBJECTS + 1)
    other = windows(seed=1)
    refused(pretraining(tmp_path), "data: ", other, None, groups=SUBJECTS)
    for given in ({"momentum": 0.9}, {"seed": 1}, {"student__drop_prob": 0.5}):
        (name,) = given
        net = pretraining(tmp_path, **given)
        refused(net, f"{name} ", x, None, groups=SUBJECTS)


def test_every_window_of_a_pretraining_counts(tmp_path):
    """Also one that lies between those of which all is looked at."""
    x, who = windows(40), np.repeat(np.arange(4), 10)
    pretraining(tmp_path).fit(x, groups=who)
    for i in range(0, 40, 3):
        changed = x.copy()
        changed[i] = windows(1, seed=9)
        refused(pretraining(tmp_path), "data: ", changed, None, groups=who)


def test_a_classifier_that_is_told_of_people_knows_them(tmp_path):
    def net():
        stage = ("pretrain", GCMAEPretraining(max_epochs=0))
        return run(tmp_path, stage, cls=GCMAEClassifier)

    net().fit(X, Y, subjects=WHO)
    accepted(net(), subjects=WHO)
    refused(net(), "subjects: ", subjects=WHO[::-1])
    refused(net(), "subjects: ")
    refused(net(), "X_target_unlabeled", subjects=WHO, X_target_unlabeled=X[:4])


def test_a_regressor_knows_its_targets(tmp_path):
    y = np.linspace(0, 1, len(X), dtype=np.float32)[:, None]

    def net():
        return run(tmp_path, cls=EEGRegressor)

    net().fit(X, y)
    accepted(net(), y=y)
    refused(net(), "labels: ", y=y + 0.1)


# -------------------------------------------------------------------------- rounding
@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy, epochs])
def test_windows_that_were_rounded_otherwise_are_the_same(tmp_path, make):
    """As filters and alignment do with other threads or on another processor."""
    noise = np.random.default_rng(0).uniform(-2e-4, 2e-4, X.shape).astype(np.float32)
    more = "distil", TopologyDistillation(teacher(), unlabelled=windows(8) + 1)
    fit(run(tmp_path, more), x=make(X))
    rounded = (
        "distil",
        TopologyDistillation(teacher(), unlabelled=windows(8) + 1 + noise[:8]),
    )
    accepted(run(tmp_path, rounded), make(X + noise), Y)
    refused(run(tmp_path, rounded), "data: ", make(X + 1000 * noise), Y)
    refused(run(tmp_path, rounded), "data: ", make(X * np.float32(1.01)), Y)
    other = "distil", TopologyDistillation(teacher(), unlabelled=windows(8, seed=5))
    refused(run(tmp_path, other), "callbacks__distil: ", make(X), Y)


def test_every_value_and_the_order_of_many_windows_count():
    x = np.random.default_rng(0).normal(size=(3000, 3, 8)).astype(np.float32)
    first = sketch(x)
    assert alike(first, sketch(x.copy())) and len(first) < 4000
    for change in (lambda x: x[::-1], lambda x: np.roll(x, 1, 0), lambda x: -x):
        assert not alike(first, sketch(change(x)))
    for i in range(0, 3000, 100):
        changed = x.copy()
        changed[i, 1, 3] += 1
        assert not alike(first, sketch(changed))


@pytest.mark.parametrize("value", [0.0, 1e-6, np.nan, np.inf])
def test_flat_and_broken_windows_are_told_too(value):
    x = np.full((8, 100), value, dtype=np.float32)
    assert alike(sketch(x), sketch(x.copy()))
    assert not alike(sketch(x), sketch(x[:4]))
    assert not alike(sketch(x), sketch(np.full_like(x, 2e-6)))


# ----------------------------------------------------------------------- lazy data
class Counted(Dataset):
    """Windows that somebody asks for, one by one."""

    def __init__(self, x, y):
        self.windows, self.labels, self.asked = x, y, []

    def __len__(self):
        return len(self.windows)

    def __getitem__(self, i):
        self.asked.append(i)
        return self.windows[i], self.labels[i]


def told(x, y=None, **arguments):
    """What a net would be known by, without training."""
    net = classifier(**arguments).initialize()
    return fingerprint.fingerprint(net, x, y, [])["run"]


SIGNAL = {"module__n_chans": 6, "module__n_times": N_TIMES, "module__n_outputs": 2}


def test_of_windows_on_disk_few_are_read():
    x, y = labelled(200)
    data = Counted(x, y)
    first = told(data, **SIGNAL)
    assert len(data.asked) <= 16 and {0, 199} <= set(data.asked)
    assert told(Counted(x, y), **SIGNAL) == first
    for i in (0, 199):
        changed = x.copy()
        changed[i, 0, 0] += 1
        assert told(Counted(changed, y), **SIGNAL)["data"] != first["data"]


def test_folds_of_windows_on_disk_are_told_apart_by_their_rows():
    """Also where the windows that are read are the same."""
    x, y = labelled(200)
    data, rows = Counted(x, y), np.arange(0, 180)
    read = fingerprint._rows(180)
    swapped = rows.copy()
    swapped[read[0] + 1] = 190
    for fold in (lambda r: Subset(data, r), lambda r: SliceDataset(data, 0, r)):
        first, second = told(fold(rows), **SIGNAL), told(fold(swapped), **SIGNAL)
        assert first["data"] != second["data"]
        assert told(fold(rows.copy()), **SIGNAL) == first


@pytest.mark.parametrize("kind", ["array", "tensor", "tensors"])
def test_every_window_of_a_large_array_counts(monkeypatch, kind):
    x, y = labelled(64)
    make = {
        "array": lambda x: x,
        "tensor": torch.from_numpy,
        "tensors": lambda x: TensorDataset(torch.from_numpy(x), torch.from_numpy(y)),
    }[kind]
    monkeypatch.setattr(fingerprint, "_WHOLE", 1000)
    first = told(make(x), y, **SIGNAL)
    assert told(make(x.copy()), y, **SIGNAL) == first
    for i in range(64):
        changed = x.copy()
        changed[i] = windows(1, seed=9)
        assert told(make(changed), y, **SIGNAL)["data"] != first["data"]


def test_of_a_mapped_array_few_windows_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(fingerprint, "_WHOLE", 1000)
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert told(mapped, Y, **SIGNAL) == told(mapped, Y, **SIGNAL)
    assert told(mapped[1:], Y, **SIGNAL) != told(mapped, Y, **SIGNAL)


def recorded(*people, seed=0):
    """Recordings of braindecode, cut when a window is asked for."""
    made = []
    for who in people:
        raw = mne.io.RawArray(
            np.concatenate(list(windows(8, seed=seed + who)), axis=1) * 1e-6,
            info(),
            verbose=False,
        )
        made.append(RawDataset(raw, pd.Series({"subject": f"s{who}"})))
    return unlabelled_windows(BaseConcatDataset(made), N_TIMES / SFREQ)


def test_recordings_of_braindecode_are_one_run_and_others_another(tmp_path):
    quietly(pretraining(tmp_path, ch_names=None).fit, recorded(0, 1))

    def net():
        return pretraining(tmp_path, ch_names=None)

    accepted(net(), recorded(0, 1), None)
    refused(net(), "data, groups: ", recorded(0, 2), None)
    refused(net(), "data: ", recorded(0, 1, seed=5), None)
    part = Subset(recorded(0, 1), range(15))
    refused(net(), "data, groups: ", part, None)


def lazy(x, y):
    """Epochs that are not in memory; nobody has looked yet which are bad."""
    raw = mne.io.RawArray(np.concatenate(list(x), axis=1) * 1e-6, info(), verbose=False)
    events = np.c_[np.arange(len(x)) * N_TIMES, 0 * y, y].astype(int)
    end = (N_TIMES - 1) / SFREQ
    return mne.Epochs(raw, events, tmin=0, tmax=end, baseline=None, verbose=False)


@pytest.mark.parametrize("make", [epochs, lazy], ids=["in memory", "lazy"])
def test_epochs_are_one_run_and_others_another(tmp_path, make):
    fit(run(tmp_path), x=make(X, Y))
    accepted(run(tmp_path), make(X, Y), Y)
    refused(run(tmp_path), "data: ", make(another(0), Y), Y)
    refused(run(tmp_path), "data, labels: ", make(X[1:], Y[1:]), Y[1:])


class Augmented(Dataset):
    """Draws from the global random states whenever a window is read."""

    def __len__(self):
        return len(X)

    def __getitem__(self, i):
        noise = np.random.randn(*X[i].shape) + float(torch.randn(()))
        return X[i] + noise.astype(np.float32), int(Y[i])


def test_windows_augmented_at_random_are_the_same_and_draw_as_without(tmp_path):
    nets = [run(tmp_path), classifier(max_epochs=1), run(tmp_path)]
    for net in nets:
        net.set_params(**SIGNAL, iterator_train__drop_last=False)
        np.random.seed(3)
        fit(net, x=Augmented(), y=None)
    assert torch.equal(vector(nets[0]), vector(nets[1]))
    assert torch.equal(vector(nets[0]), vector(nets[2]))
