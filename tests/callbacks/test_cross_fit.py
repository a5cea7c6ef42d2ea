"""A person's soft labels come from a teacher that has not seen the person."""

import pickle

import numpy as np
import pytest
import torch
from braindecode.augmentation import AugmentedDataLoader
from interrupted_runs import same
from sklearn.base import clone
from skorch.callbacks import Callback
from skorch.dataset import ValidSplit
from tiny import X, Y, classifier, epochs, quietly, student, teacher, vector, windows

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    GCMAEStudent,
    GCMAETeacher,
    ResumableCheckpoint,
    TopologyDistillation,
)
from braindecode_gcmae.callbacks.answers import committee_logits
from braindecode_gcmae.callbacks.cross_fit import (
    CrossFitted,
    folds_of_people,
    window_keys,
)

PEOPLE = np.repeat(["a", "b", "c", "d"], 6)


class Witness(Callback):
    """Notes the windows that each teacher of a run is trained on."""

    seen: list = []

    def on_train_begin(self, net, X=None, **kwargs):
        self.seen.append({np.asarray(x).tobytes() for x in X})


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


# -------------------------------------------------------------- what cannot be
@pytest.mark.parametrize(
    ("given", "told", "message"),
    [
        ({"cross_fit": 1}, {}, "0 or 2 folds or more"),
        ({"cross_fit": -2}, {}, "0 or 2 folds or more"),
        ({"cross_fit": True}, {}, "0 or 2 folds or more"),
        ({"cross_fit": 2.5}, {}, "0 or 2 folds or more"),
        ({"cross_fit": 5}, {}, "cross_fit=5, and the windows are of 4 people"),
        ({}, {"groups": None, "subjects": None}, "does not know whose"),
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
