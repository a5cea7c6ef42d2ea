"""StartFrom: every training begins with the checkpoint, whatever came before."""

import warnings

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from tiny import SMALL, X, Y, classifier, fit, student, teacher, weights

from braindecode_gcmae import GCMAEClassifier, GCMAEPretraining, StartFrom


def began(net):
    """The network's weights when training begins."""
    return fit(clone(net).set_params(max_epochs=0)).module_.network


@pytest.fixture
def folder(tmp_path):
    model = student(n_outputs=None, seed=11)
    model.save_pretrained(tmp_path / "student")
    return tmp_path / "student"


def test_training_begins_with_the_weights_of_a_folder_or_a_model(folder):
    saved = student(n_outputs=None, seed=11)
    for given in (folder, str(folder), saved):
        net = classifier(callbacks=[("start", StartFrom(given))])
        assert torch.equal(weights(began(net)), weights(saved.network))


def test_a_second_fit_starts_as_the_first_did(folder):
    net = classifier(callbacks=[("start", StartFrom(folder))])
    first, second = (weights(fit(net).module_) for _ in range(2))
    assert torch.equal(first, second)
    assert net.module is type(net.module_)  # no instance that training has changed


def test_folds_do_not_see_each_other(folder):
    net = classifier(callbacks=[("start", StartFrom(folder))], lr=0.1, max_epochs=4)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        rng = np.random.default_rng(0)
        noise = rng.normal(size=X.shape).astype(np.float32)
        scores = cross_val_score(net, noise, rng.permutation(Y), cv=4)
    assert scores.mean() < 0.8


def test_partial_fit_goes_on_from_where_it_is(folder):
    net = fit(classifier(callbacks=[("start", StartFrom(folder))]))
    before = weights(net.module_)
    net.set_params(max_epochs=0).partial_fit(X, Y)
    assert torch.equal(weights(net.module_), before)


@pytest.mark.parametrize("cls", [EEGClassifier, GCMAEClassifier])
def test_windows_in_volts_are_noticed_once(folder, cls):
    stages = {
        "start": StartFrom(folder),
        "pretrain": GCMAEPretraining(None, max_epochs=1, batch_size=8),
    }
    for names in (["start"], ["start", "pretrain"]):
        callbacks = [(name, stages[name]) for name in names]
        net = classifier(cls=cls, callbacks=callbacks)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            net.fit(1e-6 * X, Y)
        assert sum("in volts?" in str(w.message) for w in caught) == 1, names


def test_what_does_not_fit_is_named(folder):
    for arguments in ({"module__emb_dim": 4}, {"module__depth": 2}):
        net = classifier(callbacks=[("start", StartFrom(folder))], **arguments)
        with pytest.raises(ValueError, match="architecture.*such as"):
            fit(net)
    net = classifier(
        teacher(**{**SMALL, "emb_dim": 4}), callbacks=[("start", StartFrom(folder))]
    )
    with pytest.raises(ValueError, match="architecture"):
        fit(net)


def test_a_search_over_checkpoints_is_over_folders_or_models(folder):
    net = classifier(callbacks=[("start", StartFrom(folder))], max_epochs=1)

    def search(candidates):
        grid = {"callbacks__start__checkpoint": candidates}
        return GridSearchCV(net, grid, cv=2, error_score="raise").fit(X, Y)

    fitted = fit(classifier())
    assert search([folder, fitted.module_]).best_score_ >= 0
    with pytest.raises(TypeError, match="unfitted net.*search clones its candidates"):
        search([fitted])
