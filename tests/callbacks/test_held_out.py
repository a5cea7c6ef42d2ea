"""What a student is validated on, its teacher and its pool do not learn from."""

import random
import warnings

import numpy as np
import pytest
import torch
from braindecode.datasets import BaseConcatDataset
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from skorch.helper import SliceDataset, predefined_split
from tiny import NAMES, X, Y, classifier, distil, fit, small, windowed, windows
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from braindecode_gcmae import GCMAEClassifier, GCMAEPretraining, GCMAETeacher
from braindecode_gcmae.pretraining import UnlabelledWindows
from braindecode_gcmae.pretraining.arranged import arranged
from braindecode_gcmae.pretraining.twins import without_twins

SIGNAL = {"module__n_times": X.shape[2], "module__n_outputs": 2, "classes": [0, 1]}


class Seen(Callback):
    """Notes which windows a net is trained and validated on, by its name."""

    notes: dict = {}

    def __init__(self, name):
        self.name = name

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.notes[self.name] = contents(dataset_train), contents(dataset_valid)


class Draws(Callback):
    """Draws from every global generator in every batch."""

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        np.random.rand()
        random.random()
        torch.rand(1)


class OnDisk(Dataset):
    """Windows of which nothing is known but by reading them, such as an open file's."""

    def __init__(self, x=X):
        self.x = x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], int(Y[i % len(Y)])

    def __deepcopy__(self, memo):
        raise TypeError("cannot be copied")


def contents(dataset) -> set:
    rows = range(0 if dataset is None else len(dataset))
    return {np.asarray(dataset[i][0], np.float32).tobytes() for i in rows}


def seen_by_both(split, x=X, y=Y, cls=None, beside=(), **teachers):
    """(Training, validation) windows of an unfitted teacher, and of its student."""
    kind = {**SIGNAL, **({} if cls is None else {"cls": cls})}
    callbacks = [("seen", Seen("teacher")), *beside]
    given = {**kind, "max_epochs": 1, "callbacks": callbacks, **teachers}
    callbacks = [("seen", Seen("student")), *distil(unfitted(**given))]
    classifier(callbacks=callbacks, train_split=split, **kind).fit(x, y)
    return Seen.notes.pop("teacher"), Seen.notes.pop("student")


def unfitted(**given):
    return classifier(GCMAETeacher, **given)


def people():
    """Three recordings of braindecode, of eight windows each."""
    return BaseConcatDataset(
        [
            windowed(X[8 * i : 8 * i + 8], NAMES, subject=i + 1, target=i % 2)
            for i in range(3)
        ]
    )


# -------------------------------------------------------------------------- teachers
def stage(**given):
    inner = {"projection_dim": 5, "queue_size": 64, "callbacks": [("draws", Draws())]}
    inner.update(small("teacher"))
    given = {"max_epochs": 1, "batch_size": 8, "arguments": inner, **given}
    return "pretrain", GCMAEPretraining(**given)


@pytest.mark.parametrize(
    "given",
    [{"beside": [("draws", Draws())]}, {"train_split": ValidSplit(0.25)}],
    ids=["a callback", "a split"],
)
def test_what_is_drawn_for_a_teacher_does_not_move_the_split_of_its_student(given):
    np.random.seed(1)
    teacher, student = seen_by_both(ValidSplit(0.25), **given)
    assert len(student[1]) == 6 and not student[1] & (teacher[0] | teacher[1])
    assert teacher[0] | teacher[1] == student[0]


def test_no_member_of_a_committee_is_trained_on_what_its_student_is_validated_on():
    np.random.seed(1)
    split = ValidSplit(0.25)
    notes = "one", "two", "student"
    one, two = (
        unfitted(callbacks=[("seen", Seen(name))], train_split=split, **SIGNAL)
        for name in notes[:2]
    )
    callbacks = [("seen", Seen("student")), *distil([one, two], gtd_weight=0.0)]
    fit(classifier(callbacks=callbacks, train_split=split, **SIGNAL))
    first, second, student = (Seen.notes.pop(name) for name in notes)
    assert len(student[1]) == 6
    for member in (first, second):
        assert member[0] | member[1] == student[0]


@pytest.mark.filterwarnings("ignore:some windows have no subject")
def test_a_pretraining_does_not_move_the_split_that_a_pool_was_told():
    np.random.seed(1)
    callbacks = [("seen", Seen("student")), stage(), *distil(unlabelled=X)]
    fit(classifier(callbacks=callbacks, train_split=ValidSplit(0.25)))
    pool, valid = dict(callbacks)["distil"].windows_, Seen.notes.pop("student")[1]
    learnt = {np.asarray(pool[i][0]["x"]).tobytes() for i in range(len(pool))}
    assert len(learnt) == 18 and len(valid) == 6 and not learnt & valid


@pytest.mark.filterwarnings("ignore:some windows have no subject")
def test_outside_of_teacher_and_pretraining_nothing_has_been_drawn():
    class Next(Callback):
        def on_train_begin(self, net, X=None, y=None, **kwargs):
            drawn.append((np.random.rand(), random.random(), torch.rand(1).item()))

    drawn: list = []
    expert = unfitted(max_epochs=1, callbacks=[("draws", Draws())])
    for callbacks in ([], [stage(), *distil(expert)]):
        np.random.seed(1)
        random.seed(1)
        fit(classifier(callbacks=[*callbacks, ("next", Next())], max_epochs=1))
    assert drawn[0] == drawn[1]


def by_person(dataset, y=None, **kwargs):
    """Data sets, as braindecode splits them, and no Subsets."""
    parts = dataset.split("subject")
    return BaseConcatDataset([parts["1"], parts["2"]]), parts["3"]


def in_steps(dataset, y=None, **kwargs):
    """A choice from a choice."""
    some = Subset(dataset, range(23, -1, -1))
    return Subset(some, range(6, 24)), Subset(some, range(6))


def of_its_own(dataset, y=None, **kwargs):
    """New data sets of skorch."""
    make = type(dataset)
    return make(dataset.X[6:], dataset.y[6:]), make(dataset.X[:6], dataset.y[:6])


@pytest.mark.parametrize(
    ("split", "make"),
    [
        (by_person, people),
        (in_steps, lambda: X),
        (in_steps, lambda: TensorDataset(torch.tensor(X), torch.tensor(Y))),
        (of_its_own, lambda: X),
    ],
)
@pytest.mark.parametrize("cls", [None, GCMAEClassifier])
def test_however_a_split_is_made_its_validation_part_is_held_out(split, make, cls):
    x = make()
    labels = Y if isinstance(x, np.ndarray) else None
    teacher, student = seen_by_both(split, x, labels, cls=cls)
    assert student[1] and teacher[0] == student[0]
    assert not student[1] & teacher[0]


@pytest.mark.parametrize("cls", [None, GCMAEClassifier])
def test_a_data_set_that_is_set_apart_need_not_be_copied_for_a_teacher(cls):
    apart = predefined_split(OnDisk(windows(8, seed=9)))
    teacher, student = seen_by_both(apart, cls=cls)
    assert teacher[0] == student[0] == contents(OnDisk())
    assert len(student[1]) == 8


# ----------------------------------------------------------------------------- pools
def pool_of(x, pool, y=None, split=None):
    callbacks = distil(unlabelled=pool)
    given = {**SIGNAL, "train_split": split or ValidSplit(3), "max_epochs": 1}
    net = classifier(callbacks=callbacks, **given)
    net.fit(x, y)
    return dict(net.callbacks_)["distil"].windows_


DISK, TENSORS = OnDisk(), TensorDataset(torch.tensor(X), torch.tensor(Y))
WHOLE = people()


@pytest.mark.parametrize(
    ("x", "pool", "y"),
    [
        (SliceDataset(TENSORS), X, Y),
        (TENSORS, X, None),
        (TENSORS, TENSORS, None),
        (X, TENSORS, Y),
        (SliceDataset(DISK), Subset(DISK, range(24)), Y),
        (DISK, SliceDataset(DISK), None),
        (ConcatDataset([Subset(DISK, range(8)), Subset(DISK, range(8, 24))]), DISK, 0),
        (WHOLE, WHOLE, None),
    ],
)
def test_windows_that_the_student_is_validated_on_are_known_in_any_data_set(x, pool, y):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be compared")
        with pytest.warns(UserWarning, match="8 of the .* validated on, and are left"):
            kept = pool_of(x, pool, y if isinstance(y, np.ndarray) else None)
    assert len(kept) == 16
    valid = [X[i].tobytes() for i in range(8)]
    if x is not WHOLE:
        assert not {np.asarray(kept[i][0]["x"]).tobytes() for i in range(16)} & {*valid}


def test_people_that_are_set_apart_are_left_out_of_the_pool():
    with pytest.warns(UserWarning, match="8 of the unlabelled.*validated on"):
        kept = pool_of(WHOLE, WHOLE, split=by_person)
    assert {*kept.ids} == {1, 2}


@pytest.mark.parametrize("whole", [WHOLE, DISK], ids=["recordings", "other"])
def test_a_data_set_that_is_set_apart_is_known_in_a_pool(whole):
    apart = predefined_split(Subset(whole, range(8)))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*could not be compared")
        with pytest.warns(UserWarning, match="8 of the .* validated on, and are left"):
            assert len(pool_of(Subset(whole, range(8, 24)), whole, split=apart)) == 16


def test_of_what_cannot_be_compared_a_warning_tells():
    with pytest.warns(UserWarning, match="24 of the .* could not be compared"):
        assert len(pool_of(X, DISK, Y)) == 24
    with pytest.warns(UserWarning, match="3 of the .* could not be compared"):
        assert len(pool_of(DISK, windows(3, seed=9))) == 3
    with pytest.warns(UserWarning, match="24 of the .* could not be compared"):
        pool_of(OnDisk(), DISK)


def test_recordings_of_other_people_need_no_comparing():
    parts = WHOLE.split("subject")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*(could not be compared|unlabelled windows)")
        pool = pool_of(BaseConcatDataset([parts["1"], parts["2"]]), parts["3"])
    assert len(pool) == 8


def test_a_cross_validation_over_its_own_data_set_as_pool_says_so():
    fold = SliceDataset(DISK)[np.arange(16)]
    net = classifier(callbacks=distil(unlabelled=DISK), max_epochs=1, **SIGNAL)
    with pytest.warns(UserWarning, match="16 of the .*train on windows that it tests"):
        net.fit(fold, Y[:16])


@pytest.mark.filterwarnings("ignore:some windows have no subject")
def test_a_pretraining_leaves_out_windows_of_the_data_set_that_is_fitted():
    more = ConcatDataset([DISK, TensorDataset(torch.tensor(windows(8, seed=9)))])
    pretrain = stage(unlabelled=more)
    net = classifier(callbacks=[pretrain], max_epochs=0, **SIGNAL)
    with pytest.warns(UserWarning, match="16 of the unlabelled.*left out"):
        net.fit(Subset(DISK, range(16)))
    assert len(pretrain[1]._windows(net.initialize(), DISK)) == 24 + 8


def test_windows_are_the_same_with_their_channels_in_another_order():
    given = UnlabelledWindows(WHOLE)
    turned = arranged(UnlabelledWindows(Subset(WHOLE, [5, 20])), NAMES[::-1])
    assert turned.sources[0].positions.shape == (len(NAMES), 3)
    kept, n_twins = without_twins(given, turned)
    assert n_twins == 2
    whole = [given[i][0]["x"] for i in range(24) if i not in (5, 20)]
    np.testing.assert_array_equal([kept[i][0]["x"] for i in range(22)], whole)
