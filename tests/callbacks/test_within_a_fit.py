"""What else may happen while hooks hang: predictions, other methods, other terms."""

import copy
import threading

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from skorch.callbacks import BatchScoring, Callback
from skorch.dataset import ValidSplit
from tiny import X, classifier, distil, fit, teacher, vector, windows

from braindecode_gcmae import GCMAEStudent, TopologyDistillation
from braindecode_gcmae.callbacks import AuxiliaryLoss


def scoring(**given):
    """Predicts in every batch."""
    asked = {"name": "tacc", "use_caching": False, "on_train": True, **given}
    return "acc", BatchScoring("accuracy", **asked)


class Predicts(Callback):
    """Predicts between a step's gradients and the step."""

    def on_grad_computed(self, net, **kwargs):
        net.predict(X[:5])
        net.module_.train()


class LooksFirst(EEGClassifier):
    """Labels by itself before it learns, as FixMatch does."""

    def train_step_single(self, batch, **fit_params):
        with torch.no_grad():
            self.module_(batch[0][:3])
        return super().train_step_single(batch, **fit_params)


def terms(net):
    """What is recorded of the distillation, epoch by epoch."""
    names = ("kd", "gtd", "distil")
    return [[row[f"train_{n}"] for n in names] for row in net.history]


@pytest.mark.parametrize("first", [scoring(), ("predicts", Predicts())])
def test_a_prediction_within_a_step_ends_no_distillation(first):
    first = copy.deepcopy(first)
    before = fit(classifier(callbacks=[first, *distil()]))
    after = fit(classifier(callbacks=[*distil(), copy.deepcopy(first)]))
    assert terms(before) == terms(after)
    assert torch.equal(vector(before), vector(after))
    alone = fit(classifier(callbacks=[copy.deepcopy(first)]))
    assert not torch.equal(vector(before), vector(alone))


def test_a_step_that_looks_at_the_module_first_is_distilled():
    given = {"max_epochs": 1, "module__drop_prob": 0.0}
    net = fit(classifier(cls=LooksFirst, callbacks=distil(), **given))
    plain = fit(classifier(callbacks=distil(), **given))
    assert np.isfinite(terms(net)).all()
    # Statistics of the data move with each look: nothing is the same bit for bit.
    assert np.abs(np.subtract(terms(net), terms(plain))).max() < 0.1


class PredictsAfter(Callback):
    """Predicts after each batch, before the callbacks that come later hear of it."""

    def on_batch_end(self, net, **kwargs):
        net.predict(X[:5])


def test_each_batch_weighs_by_its_own_size():
    given = {"train_split": ValidSplit(3, stratified=True), "batch_size": 6}
    nets = [
        fit(classifier(callbacks=callbacks, max_epochs=1, lr=0.0, **given))
        for callbacks in (distil(), [("after", PredictsAfter()), *distil()])
    ]
    one, two = (net.history[-1]["valid_kd"] for net in nets)
    assert one == two


@pytest.mark.slow
def test_a_compiled_net_is_distilled_though_others_predict():
    given = {"compile": True, "compile__backend": "aot_eager", "max_epochs": 1}
    net = fit(classifier(callbacks=[scoring(), *distil()], **given))
    assert np.isfinite(terms(net)).all()


# ----------------------------------------------------------------- terms of one's own
class Now(AuxiliaryLoss):
    """Terms that come and go, of any precision, some of them constant."""

    def setup(self, net, X, y):
        self.asked_ = []

    def compute(self, inputs, nodes, electrodes, y_pred, training):
        number = len(self.asked_)
        half = y_pred.abs().mean().to(torch.bfloat16)
        found = {"half": (0.5, half)} if number else {}
        found["constant"] = 1.0, 0.0 if number == 1 else y_pred.mean()
        self.asked_.append({name: float(term) for name, (_, term) in found.items()})
        return found


def test_a_term_is_averaged_over_the_batches_that_had_it():
    own = Now()
    row = fit(classifier(callbacks=[("own", own)], max_epochs=1)).history[-1]
    assert len(own.asked_) == 3 and "half" not in own.asked_[0]
    for name in ("half", "constant"):
        having = [terms[name] for terms in own.asked_ if name in terms]
        assert row[f"train_{name}"] == pytest.approx(np.mean(having))


# ------------------------------------------------------------------- two of them
class Compared(TopologyDistillation):
    """Notes what it is asked to compare."""

    def compute(self, inputs, nodes, electrodes, y_pred, training):
        self.seen_ = [*getattr(self, "seen_", []), (inputs["x"], nodes, y_pred)]
        return super().compute(inputs, nodes, electrodes, y_pred, training)


@pytest.mark.parametrize("order", [1, -1])
def test_unlabelled_windows_of_one_are_no_windows_of_another(order):
    pool = TopologyDistillation(teacher(1), unlabelled=windows(9, seed=5))
    plain = Compared(teacher(2))
    pair = [("a", pool), ("b", plain)][::order]
    net = fit(classifier(callbacks=pair, max_epochs=1))
    alone = Compared(teacher(2))
    fit(classifier(callbacks=[("b", alone)], max_epochs=1))
    assert len(plain.seen_) == len(alone.seen_)
    for one, two in zip(plain.seen_[0], alone.seen_[0], strict=True):
        assert torch.equal(one, two), "of the first step, when nothing was learnt yet"
    assert all(any((x == w).all() for w in X) for x in plain.seen_[-1][0].numpy())
    assert "train_a_kd_unlabelled" in net.history[-1]


def test_two_distillations_are_told_apart_in_the_history():
    both = [(n, TopologyDistillation(teacher(s))) for n, s in (("a", 1), ("b", 2))]
    row = fit(classifier(callbacks=both, max_epochs=1, lr=0.0)).history[-1]
    for (name, _), seed in zip(both, (1, 2), strict=True):
        alone = fit(classifier(callbacks=distil(teacher(seed)), max_epochs=1, lr=0.0))
        for term in ("kd", "gtd", "distil"):
            key, best = f"train_{name}_{term}", f"train_{name}_{term}_best"
            assert row[key] == alone.history[-1][f"train_{term}"] and row[best]
    assert not {"train_kd", "train_distil"} & set(row)


class PredictsElsewhere(Callback):
    """Predicts from another thread within a training step, as a dashboard would."""

    def on_batch_begin(self, net, training=False, **kwargs):
        def look():
            with torch.no_grad():
                net.module_(torch.as_tensor(X[:5]))

        if training:
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()


def test_a_prediction_in_another_thread_ends_no_distillation():
    net = fit(classifier(callbacks=[*distil(), ("other", PredictsElsewhere())]))
    assert np.shape(terms(net)) == (2, 3) and np.isfinite(terms(net)).all()


class Weighted(GCMAEStudent):
    """Takes weights of the windows beside them, as skorch's recipe for them has it."""

    def forward(self, x, sample_weight=None, **where):
        return super().forward(x, **where)


class WeighsWindows(EEGClassifier):
    """Its loss is weighted by what came with the windows."""

    def get_loss(self, y_pred, y_true, X, *args, **kwargs):
        loss = super().get_loss(y_pred, y_true, X, *args, **kwargs)
        return (X["sample_weight"] * loss).mean()


def test_inputs_that_are_no_networks_are_left_to_the_model_that_takes_them():
    net = classifier(Weighted, cls=WeighsWindows, callbacks=distil())
    net.set_params(criterion__reduction="none", module__n_times=X.shape[2])
    net.set_params(module__n_outputs=2)
    weights = np.linspace(0, 1, len(X), dtype=np.float32)
    fit(net, x={"x": X, "sample_weight": weights})
    assert np.isfinite(terms(net)).all()
