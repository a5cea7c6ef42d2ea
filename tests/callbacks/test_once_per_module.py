"""What is done once is done once for each module, whatever is set in between."""

import copy

import pytest
import torch
from skorch.callbacks import Callback, Checkpoint, LoadInitState, PrintLog
from tiny import X, Y, classifier, distil, fit, small, student, vector, weights

from braindecode_gcmae import GCMAEPretraining, GCMAETeacher, StartFrom

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")


def stage(**given):
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    given = {"max_epochs": 1, "batch_size": 8, "arguments": inner, **given}
    return "pretrain", GCMAEPretraining(**given)


def start():
    return "start", StartFrom(student(n_outputs=None, seed=11))


def callback(net, name):
    return dict(net.callbacks_)[name]


# ------------------------------------------------------------------ set_params
@pytest.mark.parametrize("first", [start, stage])
@pytest.mark.parametrize("module", ["class", "instance"])
def test_parameters_of_a_callback_leave_trained_weights_alone(first, module):
    given = {} if module == "class" else {"module": student()}
    log = ("log", PrintLog(sink=lambda text: None))
    net = fit(classifier(callbacks=[first(), log], lr=0.1, **given))
    before = vector(net)
    net.set_params(callbacks__log__sink=lambda text: None, lr=0.0, max_epochs=0)
    net.partial_fit(X, Y)
    assert torch.equal(vector(net), before)


def test_a_module_of_the_users_is_begun_anew_by_each_fit():
    net = classifier(student(), callbacks=[start(), stage()], max_epochs=0)
    began, histories = [], []
    for _ in range(2):
        fit(net)
        began.append(vector(net))
        histories.append(callback(net, "pretrain").history_)
        with torch.no_grad():
            for p in net.module_.network.parameters():
                p.add_(1.0)
    assert histories[0] is not histories[1], "pretrained twice, from the same weights"
    assert torch.equal(*began)


def test_parameters_of_a_callback_train_no_other_teacher():
    net = classifier(callbacks=distil(classifier(GCMAETeacher)), max_epochs=1)
    first = callback(fit(net), "distil").teacher_
    net.set_params(callbacks__distil__kd_weight=0.5).partial_fit(X, Y)
    found = callback(net, "distil")
    assert torch.equal(weights(found.teacher_), weights(first))
    assert found.kd_weight == 0.5


def test_another_teacher_that_is_set_is_trained():
    net = classifier(callbacks=distil(classifier(GCMAETeacher)), max_epochs=1)
    first = callback(fit(net), "distil").teacher_
    other = classifier(GCMAETeacher, module__emb_dim=4)
    net.set_params(callbacks__distil__teacher=other).partial_fit(X, Y)
    assert callback(net, "distil").teacher_.network.embed.out_features == 4
    assert first.network.embed.out_features == 8


def test_a_weight_that_is_set_within_a_fit_holds_from_there():
    class Ends(Callback):
        def on_epoch_end(self, net, **kwargs):
            net.set_params(callbacks__distil__kd_weight=0.0)

    net = classifier(callbacks=[*distil(gtd_weight=0.0), ("ends", Ends())])
    history = fit(net).history
    assert history[0]["train_distil"] > 0 == history[1]["train_distil"]


# ------------------------------------------------------------- what skorch loaded
def test_a_state_that_skorch_loaded_is_not_pretrained_over(tmp_path):
    kept = Checkpoint(dirname=tmp_path, monitor=None)
    trained = fit(classifier(callbacks=[stage(), ("kept", kept)], lr=0.1))
    load = ("load", LoadInitState(copy.deepcopy(kept)))
    teach = distil(classifier(GCMAETeacher, max_epochs=1))
    net = fit(classifier(callbacks=[load, stage(), *teach], max_epochs=0))
    assert torch.equal(vector(net), vector(trained))
    assert callback(net, "pretrain").teacher_ is None
    net.set_params(module__drop_prob=0.1).partial_fit(X, Y)  # another module
    assert callback(net, "pretrain").teacher_ is not None


@pytest.mark.parametrize("first", [start, stage])
def test_a_state_that_is_not_there_replaces_nothing(first, tmp_path):
    kept = Checkpoint(dirname=tmp_path, monitor=None)
    callbacks = [("kept", kept), ("load", LoadInitState(kept)), first()]
    net = fit(classifier(callbacks=callbacks, max_epochs=0))
    expected = fit(classifier(callbacks=[first()], max_epochs=0))
    assert torch.equal(vector(net), vector(expected))
    plain = fit(classifier(max_epochs=0))
    assert not torch.equal(vector(net), vector(plain))
