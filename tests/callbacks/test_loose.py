"""What no state_dict holds goes on as well: what is frozen, the loaders, the scale."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from braindecode.augmentation import AugmentedDataLoader, ChannelsDropout, GaussianNoise
from skorch.callbacks import Callback, Freezer, Unfreezer
from tiny import classifier, fit, pretrainer, quietly, vector, windows

from braindecode_gcmae.callbacks import ResumableCheckpoint
from braindecode_gcmae.callbacks.resuming.loose import loose_state, restore_loose
from braindecode_gcmae.models import CheckpointError

SUBJECTS = np.repeat(np.arange(4), 4)


def supervised(folder, max_epochs, callbacks=(), **arguments):
    callbacks = [("resume", ResumableCheckpoint(folder)), *callbacks]
    return classifier(callbacks=callbacks, max_epochs=max_epochs, **arguments)


def whole_and_parts(folder, make, train=fit):
    """Four epochs at once, and two and then two."""
    whole = train(make(folder / "whole", 4))
    train(make(folder / "parts", 2))
    return whole, train(make(folder / "parts", 4))


def trainable(net):
    return {n: p.requires_grad for n, p in net.module_.named_parameters()}


# ------------------------------------------------------------------- what is frozen
FROZEN = {
    "from the first epoch": [Freezer("network.*")],
    "until the fourth": [Freezer("network.*"), Unfreezer("network.*", at=4)],
    "from the second": [Freezer("network.*", at=2)],
}


@pytest.mark.parametrize("last", [False, True], ids=["resume first", "resume last"])
@pytest.mark.parametrize("name", FROZEN)
def test_resuming_keeps_frozen_parts_frozen(tmp_path, name, last):
    def make(folder, max_epochs):
        given = [(f"frozen{i}", callback) for i, callback in enumerate(FROZEN[name])]
        net = supervised(folder, max_epochs, given)
        first, *others = net.callbacks
        return net.set_params(callbacks=[*others, first]) if last else net

    whole, parts = whole_and_parts(tmp_path, make)
    assert trainable(whole) == trainable(parts)
    assert torch.equal(vector(whole), vector(parts))


def test_resuming_keeps_frozen_parts_of_a_pretraining_frozen(tmp_path):
    def make(folder, max_epochs):
        frozen = ("frozen", Freezer("branches.student.model.*"))
        callbacks = [("resume", ResumableCheckpoint(folder)), frozen]
        return pretrainer(callbacks=callbacks, max_epochs=max_epochs)

    def train(net):
        return net.fit(windows(), groups=SUBJECTS)

    whole, parts = whole_and_parts(tmp_path, make, train)
    assert trainable(whole) == trainable(parts)
    assert not trainable(parts)["branches.student.model.network.embed.weight"]
    assert torch.equal(vector(whole), vector(parts))


def changed(folder, change, **arguments):
    """A file of one epoch in which somebody has changed something."""
    fit(supervised(folder, 1, **arguments))
    state = torch.load(folder / "training.pt", weights_only=True)
    change(state)
    torch.save(state, folder / "training.pt")


def test_a_file_of_before_goes_on(tmp_path):
    changed(tmp_path / "parts", lambda state: state.pop("loose"))
    parts, whole = (fit(supervised(tmp_path / n, 2)) for n in ("parts", "whole"))
    assert torch.equal(vector(whole), vector(parts))


GENERATOR = "iterator_train__generator"
DAMAGED = {
    "no part": ([], "it has no loose"),
    "no flags": ({"trainable": 1}, "it has no trainable"),
    "another module": ({"trainable": {"os": {"a": True}}}, "not fit the 'os'"),
    "a list": ({"trainable": {"module": [True]}}, "not fit the 'module'"),
    "a name": ({"trainable": {"module": {"encoder": True}}}, "not fit the 'module'"),
    "no states": ({"generators": "none"}, "it has no generators"),
    "a short state": ({"generators": {GENERATOR: torch.zeros(3)}}, "its loaders"),
    "a text": ({"generators": {GENERATOR: "state"}}, "its loaders"),
}


@pytest.mark.parametrize(("loose", "words"), DAMAGED.values(), ids=DAMAGED)
def test_a_file_with_something_else_in_it_is_damaged(tmp_path, loose, words):
    given = {GENERATOR: torch.Generator()}
    changed(tmp_path, lambda state: state.update(loose=loose), **given)
    with pytest.raises(CheckpointError, match=f"training.pt is damaged: .*{words}"):
        fit(supervised(tmp_path, 2, **given))


def test_yes_and_no_alone_tell_what_is_frozen(tmp_path):
    def change(state):
        flags = state["loose"]["trainable"]["module"]
        flags[next(iter(flags))] = "yes"

    changed(tmp_path, change)
    with pytest.raises(CheckpointError, match="damaged.*what of module is frozen"):
        fit(supervised(tmp_path, 2))


# ----------------------------------------------------------------------- the loaders
def test_the_order_of_a_generator_of_ones_own_goes_on(tmp_path):
    def make(folder, max_epochs):
        order = torch.Generator().manual_seed(7)
        given = {"iterator_train__shuffle": True, GENERATOR: order}
        return supervised(folder, max_epochs, **given)

    whole, parts = whole_and_parts(tmp_path, make)
    assert torch.equal(vector(whole), vector(parts))


def test_augmentations_with_a_random_state_of_their_own_go_on(tmp_path):
    def make(folder, max_epochs):
        transforms = [
            ChannelsDropout(0.5, p_drop=0.5, random_state=3),
            GaussianNoise(0.5, std=2.0, random_state=4),
        ]
        given = {"iterator_train__transforms": transforms}
        return supervised(
            folder, max_epochs, iterator_train=AugmentedDataLoader, **given
        )

    whole, parts = whole_and_parts(tmp_path, make, lambda net: quietly(fit, net))
    assert torch.equal(vector(whole), vector(parts))


# ------------------------------------------------------------------------- the scale
class Scaled(EEGClassifier):
    """A net whose accelerator scales the loss, as that of half precision does."""

    accelerator = None


class Overflows(Callback):
    """Halves the scale after each epoch, as an overflow does."""

    def on_epoch_end(self, net, **kwargs):
        scaler = net.accelerator.scaler
        scaler.update(scaler.get_scale() / 2)


def test_the_scale_of_half_precision_goes_on(tmp_path):
    def make(folder, max_epochs):
        halves = [("halves", Overflows())]
        net = supervised(folder, max_epochs, halves, cls=Scaled)
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        scaler.scale(torch.ones(1))  # makes the scale
        net.accelerator = SimpleNamespace(
            scaler=scaler, num_processes=1, process_index=0
        )
        return net

    whole, parts = whole_and_parts(tmp_path, make)
    assert whole.accelerator.scaler.get_scale() == 4.0
    states = [net.accelerator.scaler.state_dict() for net in (whole, parts)]
    assert states[0] == states[1]


def test_a_run_may_go_on_in_another_precision(tmp_path):
    """A scale that nobody has, or that the file does not tell, is left alone."""
    scaled = Scaled(classifier().module)
    scaled.accelerator = SimpleNamespace(scaler=torch.amp.GradScaler("cpu"))
    before = scaled.accelerator.scaler.state_dict()
    restore_loose(scaled, loose_state(classifier(), {}))
    assert scaled.accelerator.scaler.state_dict() == before
    plain = classifier()
    restore_loose(plain, loose_state(scaled, {}))
    assert loose_state(plain, {})["scaler"] is None
