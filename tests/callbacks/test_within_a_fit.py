"""What else may happen while hooks hang: predictions, other methods, other terms."""

import copy

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from skorch.callbacks import BatchScoring, Callback
from skorch.dataset import ValidSplit
from tiny import X, classifier, distil, fit, vector


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
