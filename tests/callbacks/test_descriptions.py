"""What differs is described differently, and what is the same alike."""

import copy

import numpy as np
import pytest
import torch
from braindecode.augmentation import AugmentedDataLoader, FTSurrogate
from moabb.analysis.results import get_string_rep
from sklearn.base import clone
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from tiny import NAMES, X, Y, classifier, quietly, windowed, windows
from torch import nn

from braindecode_gcmae import (
    GCMAEPretraining,
    GCMAETeacher,
    RecordingAlignment,
    TopologyDistillation,
)
from braindecode_gcmae.callbacks import AuxiliaryLoss
from braindecode_gcmae.callbacks.describe import describe


class Weighed(nn.Module):
    """A criterion with a setting of its own, and one in a part."""

    def __init__(self, weight, rate=0.1):
        super().__init__()
        self._weight = weight
        self.part = nn.Sequential(nn.Dropout(rate))


class Kept:
    """An object without a ``repr``, that knows what knows it."""

    def __init__(self, value):
        self.value, self.own, self.method = value, self, self.known

    def known(self):
        return self.value


def smooth(value):
    return {"criterion": nn.CrossEntropyLoss(label_smoothing=value)}


def augmented(rate):
    transforms = {"iterator_train__transforms": [FTSurrogate(rate)]}
    return {"iterator_train": AugmentedDataLoader, **transforms}


TEACHERS = {
    "criterion": (smooth(0.0), smooth(0.5)),
    "criterion of one's own": [{"criterion": Weighed(w)} for w in (1.0, 2.0)],
    "augmentation": (augmented(0.5), augmented(0.9)),
    "split": [{"train_split": ValidSplit(n)} for n in (3, 5)],
    "another split": [{"train_split": predefined_split(X[:n])} for n in (3, 5)],
}


@pytest.mark.parametrize("name", TEACHERS)
def test_moabb_tells_callbacks_apart_whose_unfitted_teachers_differ(name):
    made = [
        TopologyDistillation(classifier(GCMAETeacher, **given))
        for given in TEACHERS[name]
    ]
    texts = [get_string_rep(callback) for callback in made]
    assert texts[0] != texts[1]
    for copied in (clone, copy.deepcopy):
        assert texts == [get_string_rep(copied(callback)) for callback in made]


def test_moabb_tells_pools_apart_that_are_the_same_recordings_otherwise_prepared():
    plain, louder = (windowed(a * windows(6), NAMES) for a in (1.0, 2.0))
    jittered = copy.deepcopy(plain)
    jittered.datasets[0].transform = lambda x: x + np.random.normal(size=x.shape)
    aligned = RecordingAlignment(shrinkage=0.0).transform(plain)
    pools = [plain, louder, jittered, aligned]
    callbacks = [GCMAEPretraining(None, pool) for pool in pools]
    texts = [get_string_rep(callback) for callback in callbacks]
    assert len(set(texts)) == len(pools)
    assert texts == [get_string_rep(clone(callback)) for callback in callbacks]
    state = np.random.get_state()[1].copy()
    describe(jittered)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_a_pool_is_described_alike_before_and_after_it_is_pretrained_on():
    pool = windowed(windows(6), NAMES, montage="standard_1005")
    stage = GCMAEPretraining(None, pool, max_epochs=1, batch_size=8)
    before = get_string_rep(stage)
    quietly(classifier(callbacks=[("pretrain", stage)]).fit, X, Y)
    assert get_string_rep(stage) == before


@pytest.mark.parametrize(
    "values",
    [
        (Weighed(1.0), Weighed(2.0)),
        (Weighed(1.0, 0.1), Weighed(1.0, 0.2)),
        (nn.ReLU(), nn.ELU()),
        (Kept(1), Kept(2)),
        (Kept(np.zeros(2)), Kept(np.ones(2))),
        (Kept(Kept(1)), Kept(Kept(2))),
    ],
    ids=["private", "part", "class", "object", "array", "nested"],
)
def test_modules_and_objects_are_described_by_what_they_hold(values):
    texts = [describe(value) for value in values]
    assert texts[0] != texts[1]
    assert texts == [describe(copy.deepcopy(value)) for value in values]
    assert not any("0x" in text for text in texts)


class Plain(AuxiliaryLoss):
    """A loss without arguments."""


class HandsOn(TopologyDistillation):
    """One argument more, and those of the class it is derived from."""

    def __init__(self, teacher, more_weight=1.0, **arguments):
        super().__init__(teacher, **arguments)
        self.more_weight = more_weight


def test_a_callback_without_arguments_is_described_and_cloned():
    assert repr(Plain()) == "Plain()"
    assert type(clone(Plain())) is Plain


def test_a_callback_that_hands_arguments_on_is_described_and_cloned_with_them():
    one = HandsOn("teacher", more_weight=2.0, kd_weight=3.0, seed=5)
    told = "HandsOn(teacher='teacher', more_weight=2.0, kd_weight=3.0, gtd_weight="
    assert repr(one).startswith(told) and repr(one).endswith("seed=5)")
    assert repr(clone(one)) == repr(one)


def test_use_does_not_change_a_description():
    module = Weighed(1.0)
    before = describe(module)
    module.eval()
    module.register_forward_hook(lambda *args: None)
    module.noted_ = 7
    assert describe(module) == before


def test_what_cannot_be_described_is_no_obstacle():
    class Hostile:
        def __repr__(self):
            raise ValueError("no")

    assert "Hostile" in describe(Kept(Hostile()))
    assert describe(Kept(torch.Generator())) == describe(Kept(torch.Generator()))
