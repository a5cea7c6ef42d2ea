"""A person's soft labels come from a teacher that has not seen the person."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from braindecode.augmentation import AugmentedDataLoader
from braindecode.datasets import BaseConcatDataset
from interrupted_runs import same
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from tiny import (
    NAMES,
    X,
    Y,
    classifier,
    epochs,
    quietly,
    student,
    teacher,
    vector,
    windowed,
    windows,
)
from torch.utils.data import ConcatDataset, DataLoader, Dataset, default_collate

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    GCMAEStudent,
    GCMAETeacher,
    ResumableCheckpoint,
    TopologyDistillation,
)
from braindecode_gcmae.callbacks.distillation.answers import committee_logits
from braindecode_gcmae.callbacks.distillation.cross_fit import (
    CrossFitted,
    folds_of_people,
    window_keys,
)

PEOPLE = np.repeat(["a", "b", "c", "d"], 6)


class Witness(Callback):
    """Notes the windows that each teacher of a run is trained on."""

    seen: list = []

    def on_train_begin(self, net, X=None, **kwargs):
        arrays = isinstance(X, np.ndarray)
        self.seen.append({(x if arrays else x[0]).tobytes() for x in X})


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(Witness, "seen", [])
    return Witness.seen


def unfitted(seed=1, **given):
    """A teacher whose training without a fold draws nothing: it is one batch."""
    model = teacher(seed=seed, drop_prob=0.0)
    given = {"batch_size": 12, "callbacks": [("witness", Witness())], **given}
    return classifier(model, cls=GCMAEClassifier, **given)


def net(*members, callbacks=(), module=GCMAEStudent, distil=None, **given):
    """A student with teachers that are cross-fitted in two folds of people."""
    members = list(members) or [unfitted()]
    terms = {"cross_fit": 2, "gtd_weight": 0.0, **(distil or {})}
    distillation = TopologyDistillation(
        members if len(members) > 1 else members[0], **terms
    )
    callbacks = [*callbacks, ("distil", distillation)]
    return classifier(module, cls=GCMAEClassifier, callbacks=callbacks, **given)


def fit(model, x=X, y=Y, **told):
    told = told or {"subjects": PEOPLE}
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        return quietly(model.fit, x, y, **told)


def of(model):
    return dict(model.callbacks_)["distil"]


def recordings(people, targets):
    """A data set with a recording of six windows of each of four people."""
    told = zip(np.split(X, 4), people, targets, strict=True)
    return BaseConcatDataset(
        [windowed(x, NAMES, subject=person, target=y) for x, person, y in told]
    )


def logits_of(fitted, x):
    module = fitted.module_.eval()
    with torch.no_grad():
        return module(torch.as_tensor(x))


# -------------------------------------------------------------------- the formula
def test_each_person_is_asked_of_a_teacher_trained_on_the_others():
    found = of(fit(net()))
    for fold in folds_of_people(PEOPLE, 2, 0):
        others = np.setdiff1d(np.arange(24), fold)
        by_hand = quietly(clone(unfitted()).fit, X[others], Y[others])
        inputs = {"x": torch.as_tensor(X[fold])}
        logits, nodes = found.answers_(inputs)
        torch.testing.assert_close(
            logits, logits_of(by_hand, X[fold]), atol=1e-4, rtol=1e-4
        )
        _, whole = type(found.answers_)(found.teacher_)(inputs)
        torch.testing.assert_close(nodes, whole)  # the topology is the whole teacher's


def test_no_teacher_has_seen_the_people_that_it_is_asked_about(seen):
    found = of(fit(net()))
    whole, *parts = seen
    assert len(whole) == 24 and len(parts) == 2
    for fold, part in zip(folds_of_people(PEOPLE, 2, 0), parts, strict=True):
        held = {x.tobytes() for x in X[fold]}
        assert not held & part and held | part == whole
    assert len(found.cross_.keys) == 24


def test_a_committee_is_left_out_of_together():
    members = unfitted(1), unfitted(2)
    found = of(fit(net(*members)))
    fold = folds_of_people(PEOPLE, 2, 0)[0]
    others = np.setdiff1d(np.arange(24), fold)
    by_hand = [quietly(clone(m).fit, X[others], Y[others]) for m in members]
    expected = committee_logits([logits_of(one, X[fold]) for one in by_hand])
    logits, _ = found.answers_({"x": torch.as_tensor(X[fold])})
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_windows_of_nobody_in_the_folds_are_the_whole_teachers():
    model = fit(net(distil={"unlabelled": windows(8, seed=7)}, max_epochs=1))
    found, others = of(model), torch.as_tensor(windows(5, seed=8))
    with torch.no_grad():
        torch.testing.assert_close(
            found.answers_({"x": others})[0], found.teacher_(others)
        )
    assert {"train_kd", "train_kd_unlabelled"} <= set(model.history[-1])


def test_the_student_learns_from_these_answers():
    plain, crossed = fit(net(distil={"cross_fit": 0})), fit(net())
    assert plain.history[0, "train_kd"] != crossed.history[0, "train_kd"]
    assert not torch.allclose(vector(plain), vector(crossed))


@pytest.mark.parametrize("n_folds", [2, 3, 4])
def test_folds_share_out_the_windows_and_split_nobody(n_folds):
    folds = folds_of_people(PEOPLE[::-1], n_folds, seed=3)
    assert sorted(np.concatenate(folds)) == list(range(24)) and len(folds) == n_folds
    for fold in folds:
        inside = set(PEOPLE[::-1][fold])
        assert not inside & set(np.delete(PEOPLE[::-1], fold))


@pytest.mark.parametrize("n_folds", [2, 3])
@pytest.mark.parametrize("alike", [(1, "1"), (1, 1.0), ("1", np.float64(1))])
def test_a_person_is_one_however_the_id_is_written(n_folds, alike):
    people = np.array([*alike, 2, "c"], dtype=object).repeat(6)
    folds = folds_of_people(people, n_folds, seed=0)
    assert sum(bool(np.isin([0, 6], fold).any()) for fold in folds) == 1


# ------------------------------------------------------------------- finding windows
def test_the_key_of_a_window_is_a_sum_of_products_that_wraps_around():
    x = torch.as_tensor(windows(3))
    words = x.flatten(1).numpy().view(np.int32)
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(-(2**62), 2**62, (words.shape[1],), generator=generator)
    for row, key in zip(words.tolist(), window_keys(x).tolist(), strict=True):
        pairs = zip(row, numbers.tolist(), strict=True)
        total = sum(word * (2 * number + 1) for word, number in pairs)
        assert (total - key) % 2**64 == 0


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16]
)
def test_windows_are_told_apart_by_any_of_their_samples(dtype):
    x = torch.as_tensor(windows(6)).to(dtype)
    x[4, 2] = float("nan")
    keys = window_keys(x)
    assert len(set(keys.tolist())) == 6
    assert torch.equal(window_keys(x.flip(0)).flip(0), keys)
    assert torch.equal(window_keys(x[2:3]), keys[2:3])
    changed = x.clone()
    changed[:, 1, 7] += 1
    assert not set(window_keys(changed).tolist()) & set(keys.tolist())
    assert not set(window_keys(x.roll(1, dims=1)).tolist()) & set(keys.tolist())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n_values", [2, 16])
def test_windows_of_few_values_are_told_apart(dtype, n_values):
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(n_values, (3000, 4, 20), generator=generator).to(dtype)
    assert len(set(window_keys(x).tolist())) == 3000


def test_known_windows_get_their_answers_and_others_keep_theirs():
    x = torch.as_tensor(windows(9))
    stored = torch.arange(12.0).reshape(6, 2)
    found = CrossFitted(window_keys(x[:6]), stored)
    other = -torch.ones(4, 2)
    asked = found(x[[5, 8, 0, 7]], other)
    assert torch.equal(asked, torch.stack([stored[5], other[0], stored[0], other[0]]))


# ------------------------------------------------------------------- whose they are
def test_epochs_and_groups_tell_the_people_too():
    expected = of(fit(net())).cross_
    by_groups = of(fit(net(), groups=PEOPLE)).cross_
    torch.testing.assert_close(by_groups.logits, expected.logits)
    found = net(module=student(), batch_size=24)
    told = epochs(X, Y, subject=PEOPLE)
    with torch.random.fork_rng():
        quietly(found.fit, told, Y)
    torch.testing.assert_close(
        of(found).cross_.logits.sort(0)[0],
        expected.logits.sort(0)[0],
        atol=1e-2,
        rtol=0,
    )


def test_who_is_validated_on_is_in_no_fold(seen):
    model = fit(net(unfitted(batch_size=6), train_split=ValidSplit(0.25)))
    n_trained = len(of(model).cross_.keys)
    assert n_trained == 18 == len(seen[0])


def test_splits_that_are_drawn_are_drawn_once(seen):
    split = ValidSplit(0.25)  # by chance, of the student's windows and the teachers'
    held: list = []

    class Held(Callback):
        def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
            held.append({x.tobytes() for x, _ in dataset_valid})

    model = net(unfitted(batch_size=4, train_split=split), train_split=split)
    model.callbacks.append(("held", Held()))
    fit(model)
    _, *parts = seen
    whose = dict(zip([x.tobytes() for x in X], PEOPLE, strict=True))
    people = [{whose[x] for x in part} for part in parts]
    assert not people[0] & people[1]
    assert not held[0] & set().union(*parts)


def test_data_sets_tell_the_people_whatever_the_type_of_their_ids(seen):
    model = net(module=student(), distil={"cross_fit": 3})
    quietly(model.fit, recordings([1, 1.0, 2, 3], [0, 1, 0, 1]), None)
    own = [{x.tobytes() for x in part} for part in np.split(X, 4)]
    _, *parts = seen
    for part in parts:
        assert bool(part & own[0]) == bool(part & own[1])


# -------------------------------------------------------------- what cannot be
@pytest.mark.parametrize(
    ("given", "told", "message"),
    [
        ({"cross_fit": 1}, {}, "0 or 2 folds or more"),
        ({"cross_fit": -2}, {}, "0 or 2 folds or more"),
        ({"kd_weight": 0}, {}, "for soft labels, and kd_weight is 0"),
        ({"cross_fit": True}, {}, "0 or 2 folds or more"),
        ({"cross_fit": 2.5}, {}, "0 or 2 folds or more"),
        ({"cross_fit": 5}, {}, "cross_fit=5, and the windows are of 4 people"),
        ({}, {"groups": None, "subjects": None}, "does not know whose"),
        ({}, {"subjects": [float("nan"), *PEOPLE[1:]]}, "does not know whose"),
        ({}, {"subjects": Y}, r"without \['1'\] no window of \[1\]"),
    ],
)
def test_what_cannot_be_is_refused_before_a_teacher_is_trained(
    seen, given, told, message
):
    with pytest.raises(ValueError, match=message):
        fit(net(distil=given), **told)
    assert not seen


def test_a_fitted_teacher_is_refused():
    fitted = quietly(unfitted().fit, X, Y)
    with pytest.raises(ValueError, match="unfitted EEGClassifier"):
        fit(net(fitted))


def test_augmentations_are_refused(seen):
    with pytest.raises(ValueError, match="augmentation of AugmentedDataLoader"):
        fit(net(iterator_train=AugmentedDataLoader))
    assert not seen


def noisy(items):
    x, y = default_collate(items)
    return x + torch.rand(1), y


class Noisy(Dataset):
    """Other windows each time."""

    def __len__(self):
        return 24

    def __getitem__(self, i):
        return X[i] + np.random.rand(6, 1).astype(np.float32), Y[i]


@pytest.mark.parametrize(
    ("x", "given"),
    [
        (X, {"iterator_train__collate_fn": noisy}),
        (X, {"iterator_train": partial(DataLoader, collate_fn=noisy)}),
        (Noisy(), {}),
    ],
)
def test_windows_that_are_others_in_training_are_refused(seen, x, given):
    with pytest.raises(ValueError, match="by their content"):
        fit(net(module=student(), **given), x)
    assert not seen


def test_a_loader_that_is_a_function_is_taken():
    found = of(fit(net(iterator_train=partial(DataLoader))))
    assert len(found.cross_.keys) == 24


def test_a_class_that_a_data_set_has_of_one_person_alone_is_refused(seen):
    model = net(module=student(), distil={"cross_fit": 4})
    with pytest.raises(ValueError, match=r"without \['4'\] no window of \[1\]"):
        quietly(model.fit, recordings([1, 2, 3, 4], [0, 0, 0, 1]), None)
    assert not seen


class Told(Dataset):
    """Windows of one person, with the probabilities of their classes."""

    def __init__(self, person):
        self.description = pd.Series({"subject": person})
        self.rows = np.flatnonzero(PEOPLE == person)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return X[self.rows[i]], np.eye(2, dtype=np.float32)[Y[self.rows[i]]]


def test_probabilities_of_classes_are_taken_for_labels():
    given = {"criterion": torch.nn.CrossEntropyLoss, "classes": [0, 1]}
    given["cls"] = NeuralNetClassifier
    distil = TopologyDistillation(classifier(teacher(), **given), cross_fit=2)
    model = classifier(student(), callbacks=[("distil", distil)], **given)
    people = ConcatDataset(map(Told, "abcd"))
    quietly(model.fit, people, np.eye(2, dtype=np.float32)[Y])
    assert len(of(model).cross_.keys) == 24


def test_a_teacher_whose_checkpoint_has_one_folder_is_refused(seen, tmp_path):
    callbacks = [("resume", ResumableCheckpoint(tmp_path)), ("witness", Witness())]
    for given in (callbacks, [callback for _, callback in callbacks]):
        with pytest.raises(ValueError, match="ResumableCheckpoint has one folder"):
            fit(net(unfitted(callbacks=given)))
    assert not seen


def test_a_fold_that_leaves_no_batch_is_refused(seen):
    given = {"batch_size": 20, "iterator_train__drop_last": True}
    with pytest.raises(ValueError, match="no batch to train on: batch_size=20"):
        fit(net(unfitted(**given)))
    assert not seen


# ------------------------------------------------------------------ life of a fit
def test_a_warm_start_trains_no_teacher_again(seen):
    model = fit(net())
    keys = of(model).cross_.keys
    with torch.random.fork_rng():
        quietly(model.partial_fit, X, Y, subjects=PEOPLE)
    assert len(seen) == 3 and torch.equal(of(model).cross_.keys, keys)
    fit(model)
    assert len(seen) == 6


@pytest.mark.parametrize("told", [{}, {"subjects": PEOPLE[:8]}])
def test_a_warm_start_needs_no_people_to_leave_out(seen, told):
    model = pickle.loads(pickle.dumps(fit(net())))
    with torch.random.fork_rng():
        quietly(model.partial_fit, X[:8], Y[:8], **told)
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("name", "value", "n_trained"),
    [("cross_fit", 4, 4), ("seed", 1, 2), ("teacher", unfitted(5), 3)],
)
def test_a_warm_start_with_other_folds_or_teachers_asks_these(
    seen, name, value, n_trained
):
    model = fit(net())
    before = of(model).cross_
    model.set_params(**{f"callbacks__distil__{name}": value})
    with torch.random.fork_rng():
        quietly(model.partial_fit, X, Y, subjects=PEOPLE)
    assert len(seen) == 3 + n_trained
    assert not torch.equal(of(model).cross_.logits, before.logits)


def test_a_warm_start_without_folds_asks_the_whole_teacher():
    model = fit(net()).set_params(callbacks__distil__cross_fit=0)
    with torch.random.fork_rng():
        quietly(model.partial_fit, X, Y)
    found, x = of(model), torch.as_tensor(X)
    with torch.no_grad():
        expected = found.teacher_(x)
    torch.testing.assert_close(found.answers_({"x": x})[0], expected)


def test_a_fitted_student_can_be_pickled_and_cloned():
    model = fit(net())
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert of(fit(clone(model))).cross_fit == 2


def test_teachers_start_from_the_pretraining_of_the_same_net(seen):
    inner = {"projection_dim": 5, "queue_size": 64}
    stage = GCMAEPretraining(teacher(), max_epochs=1, batch_size=8, arguments=inner)
    model = fit(net(callbacks=[("pretrain", stage)]))
    assert len(seen) == 3 and len(of(model).cross_.keys) == 24


class Dies(Callback):
    """Dies when the n-th training of this kind begins; draws a number before."""

    at, begun = None, 0

    def on_train_begin(self, net, **kwargs):
        Dies.begun += 1
        np.random.rand()
        if Dies.begun == Dies.at:
            raise RuntimeError("died")


@pytest.mark.parametrize("at", [2, 3, "in the fit"])
def test_a_run_that_died_goes_on_to_the_same_bits(tmp_path, monkeypatch, at):
    class Late(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if at == "in the fit" and Dies.at and len(net.history) == 2:
                raise RuntimeError("died")

    def run(folder, at=None):
        monkeypatch.setattr(Dies, "at", at)
        monkeypatch.setattr(Dies, "begun", 0)
        mine = classifier(
            GCMAETeacher, cls=GCMAEClassifier, callbacks=[("dies", Dies())]
        )
        callbacks = [("resume", ResumableCheckpoint(folder))]
        model = net(mine, callbacks=callbacks, module__drop_prob=0.3)
        model.callbacks.append(("late", Late()))
        return fit(model)

    whole = run(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="died"):
        run(tmp_path / "cut", 9 if at == "in the fit" else at)
    again = run(tmp_path / "cut")
    assert Dies.begun == {2: 2, 3: 1, "in the fit": 0}[at]
    assert same(vector(whole), vector(again))
    assert same(vars(of(whole).cross_), vars(of(again).cross_))
