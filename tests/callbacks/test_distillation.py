"""The distillation hook: one loss, one backward, and nothing left behind."""

import copy
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
)
from skorch.dataset import ValidSplit
from tiny import X, Y, classifier, distil, fit, labelled, student, teacher, vector
from torch import nn

from braindecode_gcmae import GCMAETeacher, TopologyDistillation
from braindecode_gcmae.models.wrapped import unwrap


def pickled(net):
    return pickle.loads(pickle.dumps(net))


def hooks_of(net):
    module = unwrap(net.module_)
    found = [*net.criterion_._forward_hooks.values()]
    for each in module.modules():
        found += [*each._forward_pre_hooks.values(), *each._forward_hooks.values()]
    return found


# ----------------------------------------------------------------------- the one loss
class ByHand(EEGClassifier):
    """The same terms through ``get_loss``, the way skorch's authors recommend."""

    def get_loss(self, y_pred, y_true, X=None, training=False, **kwargs):
        loss = super().get_loss(y_pred, y_true, X=X, training=training)
        if not training:
            return loss
        terms = self.terms_.compute({"x": X}, *self.seen_, y_pred, training=True)
        return loss + sum(weight * value for weight, value in terms.values())


class Reference(Callback):
    """Sets up the terms for ``ByHand``, without any hook on the criterion."""

    def __init__(self, terms):
        self.terms = terms

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.terms.initialize()
        self.terms.setup(net, X, y)
        net.terms_ = self.terms
        net.module_.network.readout.register_forward_pre_hook(
            lambda m, args: setattr(net, "seen_", args)
        )

    def on_epoch_begin(self, net, **kwargs):
        self.terms.on_epoch_begin(net, **kwargs)


ALL_TERMS = {"lsp_weight": 0.3, "gcrd_weight": 0.2, "kd_weight": 0.7, "gtd_weight": 2.0}


def test_weights_are_those_of_a_get_loss_subclass():
    hooked = fit(classifier(callbacks=distil(**ALL_TERMS)))
    terms = TopologyDistillation(teacher(), **ALL_TERMS)
    by_hand = fit(classifier(cls=ByHand, callbacks=[("ref", Reference(terms))]))
    torch.testing.assert_close(vector(hooked), vector(by_hand), atol=1e-6, rtol=0)
    losses = hooked.history[:, "train_loss"], by_hand.history[:, "train_loss"]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    plain = fit(classifier())
    assert not torch.allclose(vector(plain), vector(hooked), atol=1e-4)


def test_weights_of_zero_leave_training_as_it_is():
    # Neither the teacher nor the look at the graphs moves the random numbers.
    plain = fit(classifier(module__drop_prob=0.5))
    zero = fit(
        classifier(module__drop_prob=0.5, callbacks=distil(kd_weight=0, gtd_weight=0))
    )
    assert torch.equal(vector(plain), vector(zero))


def test_the_history_has_each_term_and_their_weighted_sum():
    net = fit(classifier(callbacks=distil(**ALL_TERMS)))
    for row in net.history:
        total = sum(
            ALL_TERMS[f"{n}_weight"] * row[f"train_{n}"]
            for n in ("kd", "gtd", "lsp", "gcrd")
        )
        assert row["train_distil"] == pytest.approx(total, rel=1e-5)


def test_validation_records_the_terms_and_its_loss_is_the_task_alone():
    split = ValidSplit(3, stratified=True)
    net = fit(classifier(callbacks=distil(), train_split=split))
    row = net.history[-1]
    assert {"valid_kd", "valid_gtd", "valid_distil"} <= set(row)
    plain = copy.deepcopy(net)
    _, valid = plain.get_split_datasets(X, Y)
    logits = torch.cat([plain.forward(valid)]).log_softmax(1)
    target = torch.tensor([int(y) for _, y in valid])
    assert row["valid_loss"] == pytest.approx(
        float(nn.functional.nll_loss(logits, target)), rel=1e-4
    )


class Peek(Callback):
    """Looks at probabilities while hooks hang."""

    def on_epoch_end(self, net, **kwargs):
        self.seen_ = net.predict_proba(X)


def test_probabilities_stay_probabilities_while_training():
    net = fit(classifier(callbacks=[*distil(), ("peek", Peek())]))
    seen = dict(net.callbacks_)["peek"].seen_
    np.testing.assert_allclose(seen.sum(1), 1, rtol=1e-5)
    assert isinstance(net.criterion_, nn.CrossEntropyLoss)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    same = student()
    torch.nn.init.constant_(same.final_layer.bias, 1e-3)  # a trained head
    same.network.norm.observe(torch.randn(9000, 1, 6), torch.ones(9000, 1).bool())
    net = classifier(copy.deepcopy(same), callbacks=distil(same), max_epochs=1, lr=0.0)
    fit(net)
    assert net.history[-1]["train_kd"] == pytest.approx(0, abs=1e-6)
    assert net.history[-1]["train_gtd"] == pytest.approx(0, abs=1e-6)


def test_distillation_brings_the_student_to_its_teacher():
    expert = fit(classifier(GCMAETeacher, max_epochs=15))
    callbacks = distil(expert, gtd_weight=0.0, kd_weight=5.0)
    pupil = fit(classifier(callbacks=callbacks, max_epochs=20), y=1 - Y)
    history = pupil.history[:, "train_kd"]
    assert history[-1] < history[0]


def test_a_scheduled_weight_is_asked_for_every_epoch():
    asked = []

    def schedule(epoch):
        asked.append(epoch)
        return 0.0 if epoch == 1 else 1.0

    net = fit(classifier(callbacks=distil(kd_weight=schedule, gtd_weight=0)))
    assert set(asked) == {1, 2}
    assert net.history[0]["train_distil"] == 0 < net.history[1]["train_distil"]


def test_unlabelled_windows_are_learnt_from_and_their_order_is_the_seeds():
    more = labelled(10, seed=7)[0]
    nets = [
        fit(classifier(callbacks=distil(unlabelled=more, seed=s))) for s in (0, 0, 1)
    ]
    assert {"train_kd_unlabelled", "train_gtd_unlabelled"} <= set(nets[0].history[-1])
    assert torch.equal(vector(nets[0]), vector(nets[1]))
    assert not torch.equal(vector(nets[0]), vector(nets[2]))


# ------------------------------------------------------------- the host's other habits
class Accumulating(EEGClassifier):
    """Two batches a step."""

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs) / 2

    def train_step(self, batch, **fit_params):
        n_train = len(self.history[-1, "batches"])
        step = self.train_step_single(batch, **fit_params)
        if n_train % 2 == 0:
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


class AccumulatingByHand(Accumulating, ByHand):
    """Accumulation of the reference."""


def test_accumulated_gradients_divide_the_terms_with_the_loss():
    hooked = fit(classifier(cls=Accumulating, callbacks=distil(), batch_size=6))
    reference = Reference(TopologyDistillation(teacher()))
    by_hand = fit(
        classifier(cls=AccumulatingByHand, callbacks=[("ref", reference)], batch_size=6)
    )
    # The hook is inside the division only if it hangs on the criterion itself.
    torch.testing.assert_close(vector(hooked), vector(by_hand), atol=1e-6, rtol=0)


class Autocast(EEGClassifier):
    def infer(self, x, **fit_params):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().infer(x, **fit_params)


def test_autocast_gives_nearly_the_same():
    full, half = (
        fit(classifier(cls=cls, callbacks=distil(), max_epochs=1))
        for cls in (EEGClassifier, Autocast)
    )
    for name in ("train_kd", "train_gtd"):
        a, b = full.history[-1][name], half.history[-1][name]
        assert np.isfinite(b) and b == pytest.approx(a, rel=0.2, abs=0.05)


def test_a_closure_that_is_called_more_than_once_sees_the_term_every_time():
    lbfgs = {"optimizer": torch.optim.LBFGS, "optimizer__max_iter": 3, "lr": 0.1}
    hooked = fit(classifier(callbacks=distil(), **lbfgs))
    reference = Reference(TopologyDistillation(teacher()))
    by_hand = fit(classifier(cls=ByHand, callbacks=[("ref", reference)], **lbfgs))
    torch.testing.assert_close(vector(hooked), vector(by_hand), atol=1e-5, rtol=0)


@pytest.mark.slow
# Its compiler ends in a KeyError (2.7) or a crash (2.8) on these losses.
@pytest.mark.skipif(
    torch.__version__.startswith(("2.7.", "2.8.")), reason="a defect of this torch"
)
def test_a_compiled_net_learns_the_same():
    # Not Adam: it divides by the gradient's size, so rounding becomes a step.
    sgd = {"optimizer": torch.optim.SGD, "lr": 0.1}
    eager = fit(classifier(callbacks=distil(), **sgd))
    compiled = fit(classifier(callbacks=distil(), compile=True, **sgd))
    torch.testing.assert_close(vector(eager), vector(compiled), atol=1e-4, rtol=0)
    plain = fit(classifier(**sgd))
    assert (vector(eager) - vector(plain)).abs().max() > 1e-3  # the terms do move it
    terms = ("train_loss", "train_kd", "train_gtd")
    for one, two in zip(eager.history, compiled.history, strict=True):
        assert [two[t] for t in terms] == pytest.approx([one[t] for t in terms], 1e-3)
    assert hooks_of(compiled) == []


@pytest.mark.filterwarnings("error:Dynamo does not know how to trace")
def test_compiled_nets_that_follow_each_other_learn_like_eager_ones():
    """Graphs of an earlier net, or of a prediction, are without the hooks."""
    given = {"compile": True, "compile__backend": "aot_eager", "max_epochs": 1}
    given |= {"optimizer": torch.optim.SGD, "lr": 0.1}
    given["train_split"] = ValidSplit(3, stratified=True)
    eager = {**given, "compile": False}
    expected = fit(classifier(callbacks=distil(), **eager)).history[-1]
    plain = fit(classifier(**given))
    plain.predict(X)
    for _ in range(2):
        net = fit(classifier(callbacks=distil(), **given))
        for name in ("train_gtd", "valid_distil"):
            assert net.history[-1][name] == pytest.approx(expected[name], rel=1e-3)
        net.predict(X)


def test_all_the_usual_callbacks_together(tmp_path):
    callbacks = [
        *distil(),
        ("clip", GradientNormClipping(1.0)),
        ("lr", LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=4)),
        ("bar", ProgressBar(detect_notebook=False)),
        ("stop", EarlyStopping(monitor="valid_distil", patience=2)),
        (
            "best",
            Checkpoint(
                monitor="valid_distil_best",
                dirname=tmp_path,
                load_best=True,
                f_pickle="net.pkl",
            ),
        ),
    ]
    split = ValidSplit(3, stratified=True)
    net = fit(classifier(callbacks=callbacks, train_split=split, max_epochs=4))
    best = min(net.history[:, "valid_distil"])
    assert np.isfinite(best) and hooks_of(net) == []
    inside = pickle.loads((tmp_path / "net.pkl").read_bytes())  # taken inside fit
    assert inside.predict(X).shape == Y.shape
    assert all(type(hook).__name__ == "_NoHook" for hook in hooks_of(inside))
    inside.partial_fit(X, Y)
    assert np.isfinite(inside.history[-1]["train_distil"])


# -------------------------------------------------------------------- nothing is left
def test_hooks_are_gone_after_fit():
    net = fit(classifier(callbacks=distil()))
    assert hooks_of(net) == []
    callback = dict(net.callbacks_)["distil"]
    assert callback.inputs_ is None and callback.nodes_ is None


class Dies(Callback):
    """Raises in a step of training."""

    def __init__(self, when="on_grad_computed"):
        self.when = when

    def on_grad_computed(self, net, **kwargs):
        if self.when == "on_grad_computed":
            raise RuntimeError("died")

    def on_epoch_end(self, net, **kwargs):
        if self.when == "on_epoch_end":
            raise RuntimeError("died")


@pytest.mark.parametrize("when", ["on_grad_computed", "on_epoch_end"])
def test_after_an_exception_the_net_predicts_and_trains_as_if_nothing_was(when):
    net = classifier(callbacks=[*distil(), ("dies", Dies(when))])
    with pytest.raises(RuntimeError, match="died"):
        fit(net)
    net.predict(X)
    if when == "on_grad_computed":
        assert hooks_of(net) == []
    assert dict(net.callbacks_)["distil"].nodes_ is None
    net.set_params(callbacks__dies=None)
    fit(net)
    assert torch.equal(vector(net), vector(fit(classifier(callbacks=distil()))))
    assert hooks_of(net) == []


@pytest.mark.parametrize("copier", [copy.deepcopy, pickled])
def test_copies_predict_alike_and_train_on(copier):
    net = fit(classifier(callbacks=distil()))
    other = copier(net)
    np.testing.assert_array_equal(net.predict_proba(X), other.predict_proba(X))
    for each in (net, other):
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(5)
            each.partial_fit(X, Y)
    assert torch.equal(vector(net), vector(other)) and hooks_of(other) == []


class CopiesInside(Callback):
    """Copies the net while its hooks hang."""

    def on_batch_end(self, net, **kwargs):
        self.copy_ = copy.deepcopy(net.module_), copy.deepcopy(net.criterion_)


def test_copies_made_inside_fit_carry_no_live_hook():
    net = fit(classifier(callbacks=[*distil(), ("copy", CopiesInside())]))
    module, criterion = dict(net.callbacks_)["copy"].copy_
    found = [*criterion._forward_hooks.values(), *module._forward_pre_hooks.values()]
    assert found and all(type(hook).__name__ == "_NoHook" for hook in found)
    module(torch.from_numpy(X))


def test_copies_made_inside_fit_are_as_any_other_once_they_were_called():
    net = fit(classifier(callbacks=[*distil(), ("copy", CopiesInside())]))
    module, criterion = dict(net.callbacks_)["copy"].copy_
    with pytest.raises(AttributeError, match="inside fit.*call it once"):
        torch.jit.script(module)
    logits = module.eval()(torch.from_numpy(X))
    criterion(logits, torch.from_numpy(Y))
    fake = SimpleNamespace(module_=module, criterion_=criterion)
    assert hooks_of(fake) == []
    scripted = torch.jit.script(module)
    torch.testing.assert_close(scripted(torch.from_numpy(X)), logits)


def test_a_warm_start_stacks_no_hooks_and_keeps_its_teacher():
    calls = []

    class Counting(TopologyDistillation):
        def compute(self, *args, **kwargs):
            calls.append(1)
            return super().compute(*args, **kwargs)

    unfitted = classifier(GCMAETeacher, max_epochs=1)
    net = classifier(callbacks=[("distil", Counting(unfitted))], warm_start=True)
    fit(net)
    first = dict(net.callbacks_)["distil"].trained_teachers_[0]
    fit(net)
    assert len(calls) == 2 * 2 * 3 and len(net.history) == 4
    assert dict(net.callbacks_)["distil"].trained_teachers_[0] is first


# ------------------------------------------------------------------------ scikit-learn
def test_cross_validation_clones_the_net_and_shares_the_fitted_teacher():
    expert = fit(classifier(GCMAETeacher))
    net = classifier(callbacks=distil(expert))
    twin = dict(clone(net).callbacks)["distil"]
    assert twin is not dict(net.callbacks)["distil"] and twin.teacher is expert
    before = vector(expert)
    scores = cross_val_score(net, X, Y, cv=2, error_score="raise")
    assert np.isfinite(scores).all() and torch.equal(vector(expert), before)


def test_a_grid_search_reaches_the_weight_of_a_term():
    grid = {"callbacks__distil__gtd_weight": [0.0, 3.0]}
    net = classifier(callbacks=distil())
    search = GridSearchCV(net, grid, cv=2, error_score="raise").fit(X, Y)
    found = search.best_params_["callbacks__distil__gtd_weight"]
    best = dict(search.best_estimator_.callbacks_)["distil"]
    assert best.gtd_weight == found
    assert dict(net.callbacks)["distil"].gtd_weight == 1.0


def test_a_grid_search_is_over_unfitted_teachers():
    one, other = (classifier(GCMAETeacher, max_epochs=1, lr=lr) for lr in (1e-2, 0.1))
    grid = {"callbacks__distil__teacher": [one, other]}
    net = classifier(callbacks=distil(), max_epochs=1)
    search = GridSearchCV(net, grid, cv=2, error_score="raise").fit(X, Y)
    assert search.best_params_["callbacks__distil__teacher"].lr in (one.lr, other.lr)
    best = dict(search.best_estimator_.callbacks_)["distil"]
    assert best.trained_teachers_ and not (one.initialized_ or other.initialized_)


def test_a_clone_of_an_unfitted_teacher_is_its_own():
    unfitted = classifier(GCMAETeacher)
    twin = clone(TopologyDistillation(unfitted))
    assert twin.teacher is not unfitted
    twin.teacher.set_params(lr=7.0)
    assert unfitted.lr == 1e-2


def test_one_rate_that_is_written_in_two_ways_fits():
    thirds = {"module__sfreq": 512 / 3, "module__n_times": 320}
    rounded = teacher(sfreq=170.667, n_times=320)
    x = np.concatenate([X, X], axis=2)[..., :320]
    net = fit(classifier(callbacks=distil(rounded), **thirds), x=x)
    assert np.isfinite(net.history[-1, "train_kd"])
    with pytest.raises(ValueError, match="do not fit: sfreq is 250.0 and 170.6"):
        other = teacher(sfreq=250.0, n_times=320)
        fit(classifier(callbacks=distil(other), **thirds), x=x)
