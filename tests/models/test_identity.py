"""What a model is told apart by, and what a look at it leaves as it was."""

import json
import re

import numpy as np
import pytest
import torch

from braindecode_gcmae import GCMAEPretraining, GCMAEStudent, TopologyDistillation
from braindecode_gcmae.models import CheckpointError
from braindecode_gcmae.montage import electrode_positions, montage_preset
from tests.tiny import FEW, NAMES, student, teacher, weights, windowed, windows


@pytest.mark.parametrize(
    "other",
    [
        {"electrodes": ["Pz", "Cz", "F3"]},
        {"segment_dropout": 0.5},
        {"electrode_dropout": 0.5},
        {"drop_prob": 0.5},
    ],
    ids=lambda other: next(iter(other)),
)
def test_models_of_one_set_of_weights_and_other_arguments_look_different(other):
    one, two = student(), student(**other)
    two.load_state_dict(one.state_dict())
    assert repr(one) == repr(student()) != repr(two)
    told = [repr(TopologyDistillation(model)) for model in (one, student(), two)]
    assert told[0] == told[1] != told[2]


def test_a_data_set_with_paths_in_its_description_can_be_told(tmp_path):
    data = windowed(windows(2), NAMES, path=tmp_path)
    assert "BaseConcatDataset" in repr(GCMAEPretraining(unlabelled=data))


@pytest.mark.parametrize("training", [True, False])
def test_asking_for_the_output_shape_changes_nothing(training):
    model = student().train(training)
    before = weights(model)
    assert model.get_output_shape() == (1, 2)
    assert torch.equal(weights(model), before) and model.training == training


def test_saved_electrodes_are_kept_where_another_cap_has_them_by_position(tmp_path):
    few = ["C3", "C4", "Pz"]
    student(electrodes=few).save_pretrained(tmp_path)
    places = electrode_positions([*few, "Fz", "Oz"])
    free = [
        {"ch_name": f"X{i}", "kind": "eeg", "loc": np.r_[place, np.zeros(9)]}
        for i, place in enumerate(places)
    ]
    model = GCMAEStudent.from_pretrained(tmp_path, chs_info=free)
    assert [c["ch_name"] for c in model.node_channels()] == ["X0", "X1", "X2"]
    other = GCMAEStudent.from_pretrained(tmp_path, ch_names=["O1", "O2", "Cz"])
    assert other.network.n_nodes == 3
    egi = GCMAEStudent.from_pretrained(tmp_path, ch_names=montage_preset("egi-128"))
    assert egi.network.n_nodes == len(few)


def save(model, folder, change):
    """A checkpoint with other tensors, and no digest that would tell."""
    from safetensors.torch import load_file, save_file

    model.save_pretrained(folder)
    file, config = folder / "model.safetensors", folder / "config.json"
    save_file(change(load_file(file)), file)
    told = json.loads(config.read_text())
    told.pop("weights_sha256")
    config.write_text(json.dumps(told))


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: torch.full_like(v, torch.nan), "not finite"),
        (lambda v: v.to(torch.int8), "has the type torch.int8"),
    ],
    ids=["NaN", "int8"],
)
def test_weights_that_cannot_be_a_trained_model_are_refused(tmp_path, change, message):
    def changed(state):
        return {k: change(v) if v.is_floating_point() else v for k, v in state.items()}

    save(student(), tmp_path, changed)
    with pytest.raises(CheckpointError, match=message):
        GCMAEStudent.from_pretrained(tmp_path)


@pytest.mark.parametrize("part", ["features", "graph", "readout"])
def test_parts_that_no_other_package_has_are_ours(part):
    config = {**student().get_config(), part: "torch.nn.Conv2d"}
    with pytest.raises(CheckpointError, match="not in braindecode_gcmae"):
        GCMAEStudent.from_config(config)


def test_a_card_is_of_the_model_beside_it_unless_somebody_edited_it(tmp_path):
    card = tmp_path / "README.md"
    teacher(ch_names=FEW).save_pretrained(tmp_path)
    first = card.read_text("utf-8")
    teacher().save_pretrained(tmp_path)
    second = card.read_text("utf-8")
    assert first != second and re.search(r"\b6\b", second)
    card.write_text(second.replace("braindecode", "Braindecode", 1), "utf-8")
    edited = card.read_text("utf-8")
    teacher(ch_names=FEW).save_pretrained(tmp_path)
    assert card.read_text("utf-8") == edited
