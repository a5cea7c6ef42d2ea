"""Parts and models of one's own are found again in what was handed over."""

import json

import pytest
import torch
from interrupted_runs import same
from test_interrupted_stages import Ends
from tiny import (
    NAMES,
    SFREQ,
    SMALL,
    X,
    classifier,
    fit,
    pretrainer,
    quietly,
    student,
    teacher,
    weights,
    windows,
)

from braindecode_gcmae import (
    GCMAEPretraining,
    GCMAETeacher,
    ResumableCheckpoint,
    StartFrom,
    TopologyDistillation,
)
from braindecode_gcmae.callbacks.stages.states import load_model
from braindecode_gcmae.encoders import ChebyshevEncoder
from braindecode_gcmae.models import CheckpointError, MeanReadout
from braindecode_gcmae.models.own import classes_within

pytestmark = pytest.mark.filterwarnings("ignore:some windows have no subject")


class OwnEncoder(ChebyshevEncoder):
    """A class that no configuration may name."""


class OwnReadout(MeanReadout):
    """Another."""


class OwnTeacher(GCMAETeacher):
    """A model that is none of the two."""


OWN = {"encoder": OwnEncoder, "readout": OwnReadout}
IN_A_NET = {f"module__{name}": part for name, part in OWN.items()}


def unfitted(cls=GCMAETeacher, **given):
    return classifier(cls, max_epochs=1, **given)


def of_own_class():
    model = OwnTeacher(
        n_outputs=2, ch_names=NAMES, sfreq=SFREQ, n_times=X.shape[2], **SMALL
    )
    model.load_state_dict(teacher().state_dict())
    return model


TEACHERS = {
    "model of own parts": lambda: teacher(**OWN),
    "model of own class": of_own_class,
    "committee": lambda: [teacher(), teacher(**OWN)],
    "net of own parts": lambda: unfitted(**IN_A_NET),
    "net of own class": lambda: unfitted(OwnTeacher),
}


@pytest.mark.parametrize("given", TEACHERS.values(), ids=TEACHERS)
def test_a_training_with_a_teacher_of_ones_own_goes_on(tmp_path, monkeypatch, given):
    def run(folder):
        callbacks = [
            ("resume", ResumableCheckpoint(folder)),
            ("distil", TopologyDistillation(given())),
            ("ends", Ends("fit")),
        ]
        return fit(classifier(callbacks=callbacks, max_epochs=3))

    whole = run(tmp_path / "whole")
    for name, value in (("where", "fit"), ("how", "dies")):
        monkeypatch.setattr(Ends, name, value)
    with pytest.raises(ValueError, match="died"):
        run(tmp_path / "cut")
    monkeypatch.setattr(Ends, "where", None)
    again = run(tmp_path / "cut")
    assert same(whole.module_.state_dict(), again.module_.state_dict())


def test_a_pretraining_of_ones_own_teacher_is_not_done_twice(tmp_path):
    arguments = {f"teacher__{name}": v for name, v in {**SMALL, **OWN}.items()}
    stage = {"max_epochs": 1, "arguments": {"queue_size": 64, **arguments}}

    def run(epochs):
        callbacks = [
            ("resume", ResumableCheckpoint(tmp_path)),
            ("pretrain", GCMAEPretraining(**stage)),
        ]
        net = classifier(callbacks=callbacks, max_epochs=epochs)
        return dict(fit(net).callbacks_)["pretrain"]

    first, again = run(1), run(2)
    assert type(again.teacher_.network.encoder) is OwnEncoder
    assert same(first.teacher_.state_dict(), again.teacher_.state_dict())


def test_a_folder_is_read_with_the_classes_of_the_net_that_starts_from_it(tmp_path):
    saved = student(**OWN)
    saved.save_pretrained(tmp_path)
    start = [("start", StartFrom(tmp_path))]
    net = fit(classifier(callbacks=start, max_epochs=0, **IN_A_NET))
    assert torch.equal(weights(net.module_.network), weights(saved.network))


def test_a_run_is_read_with_the_classes_of_the_pretrainer(tmp_path):
    own = {f"student__{name}": part for name, part in OWN.items()}
    net = quietly(pretrainer(max_epochs=1, **own).fit, windows())
    net.save_pretrained(tmp_path)
    for given in (own, {"student": student(**OWN)}):
        again = pretrainer(**given).load_pretrained(tmp_path)
        assert torch.equal(weights(again.student_), weights(net.student_))


def test_a_run_is_loaded_for_models_that_are_given_by_name(tmp_path):
    net = quietly(pretrainer(max_epochs=1).fit, windows())
    net.save_pretrained(tmp_path)
    again = pretrainer(student="GCMAEStudent").load_pretrained(tmp_path)
    assert torch.equal(weights(again.student_), weights(net.student_))


def test_a_folder_of_ones_own_model_is_refused_with_what_to_do(tmp_path):
    of_own_class().save_pretrained(tmp_path)
    net = classifier(callbacks=[("distil", TopologyDistillation(tmp_path))])
    with pytest.raises(CheckpointError, match="'OwnTeacher'.*hand over the model"):
        fit(net)


def test_a_configuration_that_names_no_model_is_damaged(tmp_path):
    student().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "architecture": ["GCMAEStudent"]}))
    with pytest.raises(CheckpointError, match="no model of this package"):
        load_model(tmp_path)


def test_known_classes_are_those_that_were_handed_over_and_their_defaults():
    found = classes_within(OwnTeacher, OWN).values()
    assert {OwnTeacher, OwnEncoder, OwnReadout} < set(found)
    assert all(issubclass(cls, torch.nn.Module) for cls in found)
