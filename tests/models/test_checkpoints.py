"""What was saved comes back: on any montage, with any head, whole or not at all."""

import json
import warnings

import numpy as np
import pytest
import torch
from model_helpers import (
    BOTH,
    CAP_64,
    HD,
    LD,
    N_TIMES,
    SFREQ,
    build,
    logits,
    same_weights,
    windows,
)
from torch import nn

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.encoders import ChebyshevEncoder, GraphTransformerEncoder
from braindecode_gcmae.features import SpectralFeatures
from braindecode_gcmae.graph import FreeGraph, GeometricGraph
from braindecode_gcmae.models import CheckpointError, MeanReadout
from braindecode_gcmae.montage import make_chs_info, standard_positions

UNSEEN = {
    "19 of another cap": HD,
    "8 of another cap": "F3 F4 C3 Cz C4 P3 Pz P4".split(),
    "one": ["Oz"],
    "128": sorted(standard_positions())[100:228],
}


# ----------------------------------------------------------------- round trips
@pytest.mark.parametrize("cls", BOTH)
def test_a_saved_model_comes_back_bit_for_bit(cls, tmp_path):
    model = build(cls, electrodes=LD)
    assert model.save_pretrained(tmp_path / "deep" / "folder") is None
    again = cls.from_pretrained(tmp_path / "deep" / "folder")
    assert same_weights(model, again) and not again.training
    assert torch.equal(logits(model, windows()), logits(again, windows()))
    assert again.get_config() == model.get_config()
    assert torch.equal(
        logits(cls.from_pretrained(str(tmp_path / "deep" / "folder")), windows()),
        logits(model, windows()),
    )


def test_a_checkpoint_is_json_and_safetensors_and_a_card(trained):
    _, folder = trained
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "GCMAEStudent"
    assert (
        config["encoder"]
        == ("braindecode_gcmae.encoders.GraphTransformerEncoder")
        == f"{GraphTransformerEncoder.__module__}.GraphTransformerEncoder"
    )


def test_saving_does_not_touch_the_model_or_a_written_card(trained):
    model, folder = trained
    before = {k: v.clone() for k, v in model.state_dict().items()}
    (folder / "README.md").write_text("mine")
    model.train().save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert model.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_the_statistics_of_the_features_are_part_of_the_checkpoint(trained):
    model, folder = trained
    fresh = build(names=CAP_64)
    assert not torch.equal(logits(model, windows(2, 64)), logits(fresh, windows(2, 64)))
    again = GCMAEStudent.from_pretrained(folder)
    assert torch.equal(logits(model, windows(2, 64)), logits(again, windows(2, 64)))


# --------------------------------------------------------- another montage
@pytest.mark.parametrize("cap", UNSEEN)
def test_a_checkpoint_of_64_loads_on_any_cap(trained, cap):
    model, folder = trained
    names = UNSEEN[cap]
    loaded = GCMAEStudent.from_pretrained(folder, chs_info=make_chs_info(names))
    assert same_weights(model, loaded) and loaded.n_chans == len(names)
    out = logits(loaded, windows(2, len(names)))
    assert out.shape == (2, 3) and torch.isfinite(out).all()


def test_a_subset_of_the_cap_is_those_electrodes(trained):
    model, folder = trained
    few = CAP_64[5:13]
    loaded = GCMAEStudent.from_pretrained(folder, ch_names=few)
    chosen = GCMAEStudent.from_pretrained(folder, electrodes=few)
    x = windows(2, 64)
    assert torch.equal(logits(loaded, x[:, 5:13]), logits(chosen, x))


def test_a_checkpoint_loads_on_electrodes_without_names(trained):
    with pytest.warns(UserWarning, match="no chs_info or ch_names"):
        loaded = GCMAEStudent.from_pretrained(trained[1], n_chans=5)
    assert logits(loaded, windows(2, 5)).shape == (2, 3)


def test_saved_electrodes_are_kept_where_the_new_montage_has_them(tmp_path):
    build(electrodes=LD).save_pretrained(tmp_path)
    other = GCMAEStudent.from_pretrained(tmp_path, ch_names=[*CAP_64[:9], *LD])
    assert other.node_channels() == LD
    without = GCMAEStudent.from_pretrained(tmp_path, ch_names=["Oz", "Cz"])
    assert without.node_channels() == ["Oz", "Cz"]
    asked = GCMAEStudent.from_pretrained(tmp_path, electrodes=["Cz"])
    assert asked.node_channels()[0]["ch_name"] == "Cz"


@pytest.mark.parametrize("free", [False, True])
def test_a_cap_that_lacks_one_saved_electrode_is_told_of(free, tmp_path):
    build(electrodes=LD).save_pretrained(tmp_path)
    cap = make_chs_info([name for name in HD if name != "Pz"])
    for i, channel in enumerate(cap):
        channel["ch_name"] = f"X{i}" if free else channel["ch_name"]
    with pytest.warns(UserWarning, match=r"\['Pz'\].*all 18 channels") as told:
        model = GCMAEStudent.from_pretrained(tmp_path, chs_info=cap)
    assert model.network.n_nodes == 18 and told[0].filename == __file__
    rest = [name for name in LD if name != "Pz"]
    assert f"electrodes={rest}" in str(told[0].message)
    asked = GCMAEStudent.from_pretrained(tmp_path, chs_info=cap, electrodes=rest)
    assert asked.network.n_nodes == len(rest)


# ---------------------------------------------- what braindecode's models accept
def test_a_model_is_loaded_to_where_it_is_asked_for(trained):
    model, folder = trained
    there = GCMAEStudent.from_pretrained(folder, map_location="meta")
    assert {p.device.type for p in there.parameters()} == {"meta"}
    here = GCMAEStudent.from_pretrained(folder, map_location=torch.device("cpu"))
    assert same_weights(model, here) and not here.training


@pytest.mark.parametrize("change", [{"depth": 2}, {"second_moments": False}])
def test_a_strict_loader_refuses_what_others_are_warned_of(trained, change):
    model, folder = trained
    same = GCMAEStudent.from_pretrained(folder, strict=True)
    assert same_weights(model, same)
    name = next(iter(change))
    head = {"n_outputs": None} if name == "second_moments" else {}
    with pytest.warns(UserWarning, match="matched; keep|no place"):
        GCMAEStudent.from_pretrained(folder, **change, **head)
    with pytest.raises(CheckpointError, match="matched; keep|no place"):
        GCMAEStudent.from_pretrained(folder, **change, **head, strict=True)


# -------------------------------------------------------- another head or rate
@pytest.mark.parametrize("cls", BOTH)
def test_another_number_of_classes_gets_a_new_head_on_the_saved_body(cls, tmp_path):
    model = build(cls)
    model.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path, n_outputs=5)
    assert loaded.n_outputs == 5 and logits(loaded, windows()).shape == (4, 5)
    body = {k: v for k, v in loaded.state_dict().items() if "final_layer" not in k}
    own = model.state_dict()
    assert body and all(torch.equal(own[name], v) for name, v in body.items())


def test_no_outputs_means_embeddings_and_no_saved_head(tmp_path):
    model = build()
    model.save_pretrained(tmp_path / "with")
    encoder = GCMAEStudent.from_pretrained(tmp_path / "with", n_outputs=None)
    features = model(windows(), return_features=True)["features"]
    assert torch.equal(logits(encoder, windows()), features)
    encoder.save_pretrained(tmp_path / "without")
    again = GCMAEStudent.from_pretrained(tmp_path / "without")
    assert torch.equal(logits(again, windows()), features)
    assert not any("final_layer" in name for name in again.state_dict())
    head = GCMAEStudent.from_pretrained(tmp_path / "without", n_outputs=2)
    assert logits(head, windows()).shape == (4, 2)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"sfreq": 256}, (256, 2.0)),
        ({"n_times": 640}, (SFREQ, 5.0)),
        ({"input_window_seconds": 4.0}, (SFREQ, 4.0)),
        ({"sfreq": 100, "n_times": 301}, (100, 3.01)),
        ({"n_times": 480, "input_window_seconds": 3.0}, (160, 3.0)),
    ],
)
@pytest.mark.parametrize("leave_out", ["input_window_seconds", "sfreq", "n_times"])
def test_rate_and_length_of_the_caller_supersede_the_saved(
    tmp_path, given, expected, leave_out
):
    own = {"sfreq": SFREQ, "n_times": N_TIMES, "input_window_seconds": 2.0}
    model = build(**{**own, leave_out: None})
    model.save_pretrained(tmp_path)
    loaded = GCMAEStudent.from_pretrained(tmp_path, **given)
    assert (loaded.sfreq, loaded.input_window_seconds) == pytest.approx(expected)
    assert same_weights(model, loaded)
    x = windows(2, n_times=loaded.n_times)
    assert torch.isfinite(logits(loaded, x)).all()


def test_a_new_head_is_saved_with_its_size(tmp_path):
    model = build()
    model.reset_head(7)
    assert model.n_outputs == 7 and model.get_config()["n_outputs"] == 7
    model.save_pretrained(tmp_path)
    again = GCMAEStudent.from_pretrained(tmp_path)
    assert torch.equal(logits(model, windows()), logits(again, windows()))


# -------------------------------------------------------------- configuration
@pytest.mark.parametrize("cls", BOTH)
def test_a_configuration_survives_json(cls):
    model = build(
        cls,
        electrodes=LD,
        features=SpectralFeatures,
        graph=GeometricGraph,
        encoder=ChebyshevEncoder,
        readout=MeanReadout,
        activation=nn.ELU,
        f_min=5.0,
    )
    config = json.loads(json.dumps(model.get_config()))
    again = cls.from_config(config)
    assert again.get_config() == model.get_config()
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    assert {k: v.shape for k, v in again.state_dict().items()} == shapes
    again.load_state_dict(model.state_dict())
    assert torch.equal(logits(again.eval(), windows()), logits(model, windows()))
    assert config == json.loads(json.dumps(model.get_config())), "changed its argument"


@pytest.mark.parametrize("name", ["GCNConv", "ChebConv", "GraphConv", "GATConv"])
def test_a_torch_geometric_convolution_is_an_encoder(name, tmp_path):
    import torch_geometric.nn as pyg

    model = build(encoder=getattr(pyg, name))
    x = windows()
    assert torch.isfinite(logits(model, x)).all()
    assert getattr(pyg, name).__module__ in model.get_config()["encoder"]
    model.save_pretrained(tmp_path)
    again = GCMAEStudent.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(again, x), logits(model, x))
    broken = x.clone()
    broken[0, 3] = float("nan")
    assert torch.isfinite(logits(model, broken)).all()


class OwnReadout(MeanReadout):
    """A class outside the four packages."""


def test_a_class_of_ones_own_is_given_again_when_loading(tmp_path):
    model = build(readout=OwnReadout)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="OwnReadout.*your own, hand it over"):
        GCMAEStudent.from_pretrained(tmp_path)
    again = GCMAEStudent.from_pretrained(tmp_path, readout=OwnReadout)
    assert torch.equal(logits(again, windows()), logits(model, windows()))


class OwnStudent(GCMAEStudent):
    """Some of our arguments are settled, with a part of its own among them."""

    def __init__(
        self,
        n_outputs: int | None = None,
        n_times: int | None = None,
        readout: type[nn.Module] = OwnReadout,
        gain: float = 1.0,
    ):
        given = {"ch_names": LD, "sfreq": SFREQ, "emb_dim": 8, "depth": 1}
        super().__init__(n_outputs=n_outputs, n_times=n_times, readout=readout, **given)
        self.gain = gain


class HandingOn(OwnStudent):
    """Hands on what it does not know."""

    def __init__(self, *, offset: float = 0.0, **arguments):
        super().__init__(**arguments)
        self.offset = offset


@pytest.mark.parametrize("cls", [OwnStudent, HandingOn])
def test_a_model_derived_from_ours_comes_back_with_its_own_arguments(cls, tmp_path):
    model = cls(n_outputs=np.int64(3), n_times=np.int64(N_TIMES), gain=2.0).eval()
    model.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert again.gain == 2.0 and again.get_config() == model.get_config()
    x = windows(n_chans=len(LD))
    assert torch.equal(logits(again, x), logits(model, x))


class OwnFreeGraph(FreeGraph):
    """A graph with a weight for each pair of the model's electrodes."""


def test_a_class_derived_from_the_free_graph_has_the_models_electrodes():
    model = build(graph=OwnFreeGraph, electrodes=LD)
    assert model.network.graph.weight.shape == (len(LD), len(LD))
    assert torch.isfinite(logits(model, windows())).all()


# ------------------------------------------------------------ what is reported
def test_the_number_of_matched_tensors_is_reported(trained, caplog):
    model, folder = trained
    with caplog.at_level("INFO", logger="braindecode_gcmae"):
        GCMAEStudent.from_pretrained(folder)
    n = len(model.state_dict())
    assert f"{n} of {n} tensors matched" in caplog.text


def test_tensors_that_are_not_in_the_file_are_named(trained, tmp_path):
    from safetensors.torch import load_file, save_file

    model, folder = trained
    state = load_file(folder / "model.safetensors")
    gone = state.pop("network.token.token")
    save_file(state, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    del config["weights_sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match=r"keep.*network\.token\.token"):
        loaded = GCMAEStudent.from_pretrained(folder)
    assert loaded.network.token.token.shape == gone.shape


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"depth": 1}, r"have no place.*encoder\.\S+ and \d+ more"),
        ({"second_moments": False, "n_outputs": None}, "have no place.*moments"),
    ],
)
def test_tensors_of_the_file_that_no_parameter_takes_are_named(
    tmp_path, arguments, named
):
    build(depth=2).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=named) as caught:
        loaded = GCMAEStudent.from_pretrained(tmp_path, **arguments)
    (warning,) = caught
    assert warning.filename == __file__
    assert "final_layer" not in str(warning.message)
    assert torch.isfinite(logits(loaded, windows())).all()


@pytest.mark.parametrize("n_outputs", [None, 5])
def test_a_saved_head_that_is_left_out_on_purpose_warns_of_nothing(tmp_path, n_outputs):
    build().save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        GCMAEStudent.from_pretrained(tmp_path, n_outputs=n_outputs)


def test_loading_a_whole_checkpoint_warns_of_nothing(trained):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        GCMAEStudent.from_pretrained(trained[1])


def test_a_checkpoint_without_a_digest_of_a_model_without_names(tmp_path):
    build(names=None, n_chans=4).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("weights_sha256", "architecture", "format_version"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.warns(UserWarning, match="no chs_info"):
        assert GCMAEStudent.from_pretrained(tmp_path).n_chans == 4


def test_statistics_that_are_forgotten_are_those_of_a_new_model():
    model, new = build(seed=1), build(seed=1)
    model.train()(windows(8))
    assert not same_weights(model, new)
    model.reset_statistics()
    assert same_weights(model, new)


def test_a_models_repr_tells_its_weights():
    """MOABB takes pipelines with the same repr for the same."""
    import copy

    import torch
    from braindecode import EEGClassifier

    from braindecode_gcmae import GCMAEStudent

    model = GCMAEStudent(2, ch_names=["C3", "Cz", "C4"], n_times=200, sfreq=100)
    other = copy.deepcopy(model)
    assert repr(model) == repr(other)
    with torch.no_grad():
        other.final_layer.bias += 1
    told = [repr(EEGClassifier(m).get_params()) for m in (model, other)]
    assert repr(model) != repr(other) and told[0] != told[1]
    assert "weights" not in repr(copy.deepcopy(model).to("meta"))


# --------------------------------------------------------------------- what is told
def test_a_cap_without_any_saved_electrode_is_told(tmp_path):
    build(electrodes=LD).save_pretrained(tmp_path)
    with pytest.warns(UserWarning, match="none of the saved.*all 2 channels"):
        model = GCMAEStudent.from_pretrained(tmp_path, ch_names=["Fp1", "Fp2"])
    assert model.network.n_nodes == 2


@pytest.mark.parametrize(("n_outputs", "told"), [(3, False), (2, True), (None, False)])
def test_a_head_that_is_left_out_is_told(n_outputs, told, tmp_path, caplog):
    build().save_pretrained(tmp_path)
    GCMAEStudent.from_pretrained(tmp_path, n_outputs=n_outputs)
    assert ("its head of 3 outputs is left out" in caplog.text) == told
