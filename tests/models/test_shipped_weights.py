"""The weights in the package load offline by their names, and are what they say."""

import hashlib
import socket

import numpy as np
import pytest
import torch

from braindecode_gcmae import GCMAEStudent, GCMAETeacher, montage_preset
from braindecode_gcmae.models import shipped_checkpoints

SHIPPED = shipped_checkpoints()
MOTOR = montage_preset("motor-8")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a shipped checkpoint needs no network")

    monkeypatch.setattr(socket, "create_connection", refuse)


def load(name, **arguments):
    return (GCMAETeacher if "-64-" in name else GCMAEStudent).from_pretrained(
        name, **arguments
    )


def test_the_cards_and_the_weights_are_there():
    assert set(SHIPPED) == {
        "physionet-motor-8-pretrained",
        "physionet-64-pretrained",
        "physionet-motor-8-fists",
    }


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_the_one_that_was_trained(name):
    lines = (SHIPPED[name].parent / "SHA256SUMS.txt").read_text("utf-8").splitlines()
    sums = dict(reversed(line.split("  ")) for line in lines)
    file = (SHIPPED[name] / "model.safetensors").read_bytes()
    assert hashlib.sha256(file).hexdigest() == sums[f"{name}/model.safetensors"]
    assert len(file) < 2e6


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_answers_by_its_short_name(name):
    model = load(name)
    x = torch.randn(2, model.n_chans, model.n_times) * 10
    first, again = model.eval()(x), load(name).eval()(x)
    assert torch.equal(first, again) and torch.isfinite(first).all()
    assert model.sfreq == 80.0 and model.n_chans == 64
    assert all(torch.isfinite(p).all() for p in model.state_dict().values())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_tells_data_licence_people_and_limits(name):
    text = (SHIPPED[name] / "README.md").read_text("utf-8")
    trained = name == "physionet-motor-8-fists"
    people = "Labels of 20 people" if trained else "No labels. Windows of 34 people"
    for words in ("ODC-By", "ds004362", people, "Not good for", name):
        assert words in text
    assert ("40 of training" in text) == trained
    assert "on people unseen in any of them" in text.replace("\n", " ")


def test_the_trained_student_has_two_classes_and_its_own_electrodes():
    model = load("physionet-motor-8-fists").eval()
    assert model.n_outputs == 2 and model.network.n_nodes == 8
    x = torch.randn(3, 64, model.n_times) * 10
    few = x[:, model.network.rows]
    with torch.no_grad():
        assert torch.equal(model(x), model(few))
        probability = model(few).softmax(-1)
    np.testing.assert_allclose(probability.sum(-1), 1, atol=1e-6)


def test_a_shipped_body_starts_another_cap_and_task():
    names = montage_preset("10-20-19")
    model = GCMAEStudent.from_pretrained(
        "physionet-motor-8-pretrained",
        ch_names=names,
        electrodes=MOTOR,
        sfreq=100,
        n_times=300,
        n_outputs=3,
    )
    assert model(torch.randn(2, 19, 300)).shape == (2, 3)
