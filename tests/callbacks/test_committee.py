"""A committee of teachers: what it says is what its members say, averaged."""

import numpy as np
import pytest
import torch
from braindecode import EEGRegressor
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from tiny import (
    FEW,
    X,
    Y,
    classifier,
    distil,
    fit,
    small,
    student,
    teacher,
    weights,
    windows,
)

from braindecode_gcmae import (
    GCMAEPretraining,
    GCMAEStudent,
    GCMAETeacher,
    ResumableCheckpoint,
    TopologyDistillation,
)
from braindecode_gcmae.callbacks.distillation.answers import (
    TeacherAnswers,
    committee_logits,
)


def trained_student(seed):
    model = student(seed=seed)
    torch.nn.init.normal_(model.final_layer.weight)
    torch.nn.init.constant_(model.final_layer.bias, 1e-3)
    return model.eval()


def test_its_logits_are_the_logarithm_of_the_mean_probability():
    logits = [torch.randn(5, 3, dtype=torch.float64) for _ in range(4)]
    probability = committee_logits(logits).softmax(-1)
    mean = sum(one.softmax(-1) for one in logits) / 4
    torch.testing.assert_close(probability, mean)
    torch.testing.assert_close(committee_logits(logits).exp(), mean)
    torch.testing.assert_close(committee_logits(logits[:1]), logits[0].log_softmax(-1))


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_values_of_a_regression_are_averaged(n_outputs):
    outputs = [torch.randn(5, n_outputs) for _ in range(4)]
    found = committee_logits(outputs, regression=True)
    torch.testing.assert_close(found, sum(outputs) / 4)
    members = [teacher(seed=s, n_outputs=n_outputs).eval() for s in (1, 2)]
    x = torch.as_tensor(windows(3))
    answers = TeacherAnswers(members[0], others=members[1:], regression=True)
    with torch.no_grad():
        torch.testing.assert_close(answers({"x": x})[0], sum(m(x) for m in members) / 2)


def test_all_members_decide_and_the_first_has_the_nodes():
    first, second = teacher().eval(), trained_student(4)
    x = torch.as_tensor(windows(5))
    logits, nodes = TeacherAnswers(first, others=[second])({"x": x})
    with torch.no_grad():
        expected = (first(x).softmax(-1) + second(x).softmax(-1)) / 2
    torch.testing.assert_close(logits.softmax(-1), expected)
    assert torch.equal(nodes, TeacherAnswers(first)({"x": x})[1])


def test_a_committee_of_one_is_its_member():
    found = [
        weights(fit(classifier(callbacks=distil(given))).module_)
        for given in (teacher(), [teacher()], (teacher(),))
    ]
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-5)


def test_a_committee_of_likes_says_what_each_says():
    # Not Adam: it divides by the gradient's size, so rounding becomes a step.
    sgd = {"optimizer": torch.optim.SGD, "lr": 0.1}
    alone, several = (
        weights(fit(classifier(callbacks=distil(given), **sgd)).module_)
        for given in (teacher(), [teacher()] * 3)
    )
    torch.testing.assert_close(alone, several, rtol=0, atol=1e-4)


def test_its_members_are_copies_and_stay_as_they_are():
    members = [teacher(), trained_student(4), trained_student(5)]
    before = [weights(m).clone() for m in members]
    net = fit(classifier(callbacks=distil(members)))
    callback = dict(net.callbacks_)["distil"]
    assert len(callback.others_) == 2
    for old, member in zip(before, members, strict=True):
        assert torch.equal(old, weights(member))


def unfitted(module, **arguments):
    return classifier(module, max_epochs=1, **arguments)


def test_unfitted_members_are_trained_in_the_fold_each_with_its_own_numbers():
    like = unfitted(GCMAEStudent)
    net = classifier(callbacks=distil([unfitted(GCMAETeacher), like, like]))
    callback = dict(fit(net).callbacks_)["distil"]
    second, third = callback.others_
    assert not torch.equal(weights(second), weights(third))
    assert like.initialized_ is False
    again = dict(fit(clone(net)).callbacks_)["distil"]
    assert torch.equal(weights(again.others_[1]), weights(third))
    assert np.isfinite(cross_val_score(net, X, Y, cv=2)).all()


def test_a_clone_shares_fitted_members_and_clones_unfitted_ones():
    fitted, fresh = teacher(), unfitted(GCMAEStudent)
    callback = TopologyDistillation([fitted, fresh])
    copied = clone(callback)
    assert copied.teacher[0] is fitted and copied.teacher[1] is not fresh
    assert repr(copied) == repr(callback)
    assert repr(TopologyDistillation([teacher(seed=9), fresh])) != repr(callback)


def test_after_a_pretraining_students_start_from_the_student():
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    stage = GCMAEPretraining(max_epochs=1, batch_size=8, arguments=inner)
    members = [
        classifier(module, max_epochs=1, lr=1e-9)
        for module in (GCMAETeacher, GCMAEStudent)
    ]
    net = classifier(callbacks=[("pretrain", stage), *distil(members)], lr=1e-9)
    found = dict(fit(net).callbacks_)
    pairs = [
        (found["pretrain"].teacher_, found["distil"].teacher_),
        (net.module_, found["distil"].others_[0]),
    ]
    for start, trained in pairs:
        for a, b in zip(
            start.network.parameters(), trained.network.parameters(), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_committee_is_resumed_with_the_training(tmp_path):
    def net(epochs, folder):
        members = [unfitted(GCMAETeacher), unfitted(GCMAEStudent)]
        checkpoint = ("resume", ResumableCheckpoint(tmp_path / folder))
        return classifier(callbacks=[checkpoint, *distil(members)], max_epochs=epochs)

    whole = fit(net(4, "whole"))
    fit(net(2, "parts"))
    parts = fit(net(4, "parts"), seed=77)
    one, other = (dict(n.callbacks_)["distil"].others_[0] for n in (whole, parts))
    assert torch.equal(weights(one), weights(other))
    assert torch.equal(weights(whole.module_), weights(parts.module_))


def test_a_committee_of_regressors_is_asked_for_its_mean():
    members = [teacher(n_outputs=1), teacher(n_outputs=1, seed=5)]
    net = classifier(
        student(n_outputs=1),
        cls=EEGRegressor,
        callbacks=distil(members, gtd_weight=0.0),
        max_epochs=1,
    )
    fit(net, y=Y[:, None].astype(np.float32))
    assert np.isfinite(net.history[-1]["train_kd"])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "empty list"),
        ([teacher(), teacher(n_outputs=3)], "n_outputs is 3 and 2"),
        ([teacher(electrodes=FEW[:2]), teacher()], "not among the teacher's"),
        ([teacher(), student()], "no trained head"),
    ],
)
def test_members_that_do_not_fit_are_refused(members, message):
    with pytest.raises(ValueError, match=message):
        fit(classifier(callbacks=[("distil", TopologyDistillation(members))]))
