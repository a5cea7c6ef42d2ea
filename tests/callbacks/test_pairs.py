"""What the links of two graphs can teach is noted and told."""

import warnings

import numpy as np
import pytest
from tiny import (
    FEW,
    NAMES,
    X,
    Y,
    classifier,
    distil,
    epochs,
    fit,
    quietly,
    windowed,
    windows,
)

from braindecode_gcmae import GCMAETeacher, TopologyDistillation
from braindecode_gcmae.models.wrapped import unwrap


def pairs(net):
    (found,) = (c for _, c in net.callbacks_ if isinstance(c, TopologyDistillation))
    masks = found.positive_.numpy(), found.negative_.numpy()
    return [int(np.triu(mask, 1).sum()) for mask in masks]


def test_the_history_counts_the_pairs_of_each_epoch():
    net = fit(classifier(callbacks=distil(density=0.3), module__electrodes=NAMES))
    assert len(net.history) == 2
    for row in net.history:
        assert row["gtd_positive"] + row["gtd_negative"] <= 15
    last = net.history[-1]
    assert [last["gtd_positive"], last["gtd_negative"]] == pairs(net)
    assert pairs(net)[0] > 0


def test_pairs_that_do_not_count_are_not_noted():
    net = fit(classifier(callbacks=distil(gtd_weight=0.0)))
    assert not {"gtd_positive", "gtd_negative"} & set(net.history[-1])


def test_a_local_structure_without_neighbours_is_told():
    of = {"kd_weight": 0.0, "gtd_weight": 0.0, "lsp_weight": 1.0}
    sparse = classifier(callbacks=distil(density=0.1, **of), module__electrodes=FEW)
    with pytest.warns(UserWarning, match="two neighbours.*lsp_weight"):
        sparse.fit(X, Y)
    assert sparse.history[-1]["train_lsp"] == 0
    dense = classifier(callbacks=distil(density=0.9, **of), module__electrodes=NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        dense.fit(X, Y)
    assert dense.history[-1]["train_lsp"] > 0


# -------------------------------------------------------------------------- draws
def drawn(net, fits, monkeypatch):
    """Rows of the unlabelled windows that were asked for."""
    rows = []
    original = TopologyDistillation._unlabelled

    def listening(self, asked):
        rows.append(asked)
        return original(self, asked)

    monkeypatch.setattr(TopologyDistillation, "_unlabelled", listening)
    for _ in range(fits):
        net.partial_fit(X[:16], Y[:16])
    return [row for row in rows if len(row) == 8]  # not those asked about at first


def test_parts_of_a_training_draw_as_the_whole_does(monkeypatch):
    pool = np.concatenate([X, 2 * X, 3 * X])

    def net(epochs):
        callbacks = distil(unlabelled=pool)
        return classifier(callbacks=callbacks, max_epochs=epochs)

    def rows(*of):
        with monkeypatch.context() as patch:
            return quietly(drawn, *of, patch)

    whole, parts = rows(net(3), 1), rows(net(1), 3)
    assert parts == whole
    assert len({tuple(row) for row in whole}) == len(whole) == 6


# ------------------------------------------------------------------------- errors
def test_a_class_as_teacher_is_told_how_to_be_wrapped():
    net = classifier(callbacks=distil(GCMAETeacher))
    with pytest.raises(TypeError, match=r"the class GCMAETeacher: .*EEGClassifier\("):
        net.fit(X, Y)


def test_a_pool_of_a_larger_cap_is_placed_by_its_channels():
    names = ["Fz", *NAMES, "O1"]
    pool = windowed(windows(12, 8), names, montage="standard_1020")
    few = epochs(X, Y)
    net = classifier(callbacks=distil(unlabelled=pool))
    quietly(net.fit, few, Y)
    alone = classifier(callbacks=distil(unlabelled=[pool]))
    quietly(alone.fit, few, Y)
    assert unwrap(net.module_).n_chans == 6
    keys = [row["train_kd_unlabelled"] for row in (net.history[-1], alone.history[-1])]
    assert np.isfinite(keys).all()
