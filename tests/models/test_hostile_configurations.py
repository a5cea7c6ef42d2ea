"""A hostile configuration is refused; nothing is imported, run or allocated."""

import importlib
import sys

import pytest
import torch
from model_helpers import SENTINEL, build, edit, loaders

from braindecode_gcmae import GCMAEStudent
from braindecode_gcmae.models import CheckpointError

# ------------------------------------------------------------------ class paths
PATHS = [
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    f"{SENTINEL}.Evil",
    f"torch.nn.{SENTINEL}.Evil",
    f"braindecode_gcmae.{SENTINEL}.Evil",
    f"../{SENTINEL}.Evil",
    f"/{SENTINEL}.Evil",
    f"braindecode_gcmae/../{SENTINEL}.Evil",
    "braindecode_gcmae..os.system",
    "torch.nn.functional.relu",
    "torch.nn.init.normal_",
    "torch.nn.Parameter",
    "torch.nn.modules.module.torch",
    "torch.nn",
    "torch.nn.",
    ".torch.nn.GELU",
    "torch.nn.GELU ",
    "torch.nn.GELU\n",
    "torch.nn.ＧELU",
    "torch.nn.__builtins__.eval",
    "torch.nn.modules.activation.__builtins__",
    "torch.utils.data.DataLoader",
    "torch.hub.load",
    "torch.load",
    "torch.nnx.GELU",
    "torch_geometric.data.Data",
    "torch_geometric.datasets.Planetoid",
    "braindecode_evil.Model",
    "braindecode_gcmaex.Model",
    "braindecode.util.set_random_seeds",
    "braindecode.datasets.MOABBDataset",
    "braindecode_gcmae.models.checkpoint.os",
    "braindecode_gcmae.models.checkpoint.os.system",
    "braindecode_gcmae.models.checkpoint.import_module",
    "braindecode_gcmae.models.checkpoint.CheckpointError",
    "braindecode_gcmae.models.base.EEGModuleMixin",
    "braindecode_gcmae.montage.match_electrodes",
    "GELU",
    "",
    ".",
    "torch.nn." + "x" * 10_000,
]


@pytest.mark.parametrize("role", ["encoder", "activation"])
@pytest.mark.parametrize("path", PATHS, ids=lambda p: repr(p[:40]))
def test_a_class_that_is_not_allowed_is_refused(folder, alarm, role, path):
    edit(folder, **{role: path})
    for load in loaders(folder):
        with pytest.raises(CheckpointError) as caught:
            load()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "torch.utils.cpp_extension.load_inline",
        "torch_geometric.datasets.Planetoid",
        "xmlrpc.client.Server",
    ],
)
def test_a_refused_module_is_not_even_imported(folder, path, monkeypatch):
    asked = []
    real = importlib.import_module
    monkeypatch.setattr(
        "braindecode_gcmae.models.checkpoint.import_module",
        lambda name, *rest: asked.append(name) or real(name, *rest),
    )
    before = set(sys.modules)
    edit(folder, graph=path)
    with pytest.raises(CheckpointError, match="refused without importing"):
        GCMAEStudent.from_pretrained(folder)
    roots = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert path.partition(".")[0] not in roots - {"torch"}
    assert not any(path.startswith(name) for name in asked)
    assert path.rpartition(".")[0] not in set(sys.modules) - before


def test_a_foreign_class_seen_through_an_allowed_module_is_refused(folder, monkeypatch):
    class Foreign(torch.nn.Module):
        pass

    monkeypatch.setattr("braindecode.models.util.Foreign", Foreign, raising=False)
    edit(folder, readout="braindecode.models.util.Foreign")
    with pytest.raises(CheckpointError, match="Foreign"):
        GCMAEStudent.from_pretrained(folder)


@pytest.mark.parametrize(
    ("role", "path"),
    [
        ("encoder", "torch.nn.Linear"),
        ("encoder", "torch.nn.Module"),
        ("encoder", "torch.nn.Transformer"),
        ("activation", "torch.nn.Linear"),
        ("activation", "braindecode_gcmae.models.GCMAETeacher"),
        ("features", "torch.nn.GELU"),
        ("graph", "torch.nn.LSTM"),
        ("readout", "braindecode.models.EEGNet"),
        ("encoder", "torch_geometric.nn.Sequential"),
        ("encoder", "torch_geometric.nn.MessagePassing"),
    ],
)
def test_an_allowed_class_in_a_role_it_cannot_play_is_an_error(folder, role, path):
    edit(folder, **{role: path})
    with pytest.raises(ValueError):  # CheckpointError is one
        GCMAEStudent.from_pretrained(folder)


# --------------------------------------------------------------------- values
VALUES = [
    ({"emb_dim": 10**9}, "emb_dim"),
    ({"emb_dim": 4096, "depth": 64}, "emb_dim, depth"),
    ({"depth": 10**9}, "depth"),
    ({"depth": -1}, "depth"),
    ({"depth": 2.5}, "depth"),
    ({"order": 10**12}, "order"),
    ({"n_heads": 0}, "n_heads"),
    ({"n_heads": 7}, "n_heads"),
    ({"n_bands": 10**9}, "n_bands"),
    ({"n_bands": 512, "n_filters": 256, "emb_dim": 4096}, "n_bands"),
    ({"n_filters": 0}, "n_filters"),
    ({"position_degree": 10**6}, "position_degree"),
    ({"n_outputs": 10**9}, "n_outputs"),
    ({"n_outputs": 0}, "n_outputs"),
    ({"n_outputs": -2}, "n_outputs"),
    ({"n_outputs": 100_000, "emb_dim": 4096}, "n_outputs"),
    ({"n_times": 10**12}, "n_times"),
    ({"n_times": 0}, "n_times"),
    ({"sfreq": 1e300}, "sfreq"),
    ({"sfreq": float("nan")}, "sfreq"),
    ({"sfreq": 0}, "sfreq"),
    ({"segment_seconds": 1e9}, "segment_seconds"),
    (
        {"segment_seconds": 3600, "sfreq": 1e6, "n_times": 10**7, "f_max": 4e5},
        "segment_seconds",
    ),
    ({"f_max": float("inf")}, "f_max"),
    ({"f_min": "low"}, "f_min"),
    ({"drop_prob": 2}, "drop_prob"),
    ({"drop_prob": "half"}, "drop_prob"),
    ({"electrode_dropout": -1}, "electrode_dropout"),
    ({"n_chans": 10**9, "chs_info": None, "electrodes": None}, "n_chans"),
    ({"n_chans": "19"}, "n_chans"),
    ({"emb_dim": [16]}, "emb_dim"),
    ({"emb_dim": None}, "builds no GCMAEStudent|emb_dim"),
    ({"emb_dim": True}, "emb_dim"),
    ({"emb_dim": {}}, "emb_dim"),
    ({"encoder": 5}, "encoder"),
    ({"encoder": ["os.system"]}, "encoder"),
    ({"encoder": None}, "encoder"),
    ({"electrodes": 5}, "not iterable|electrodes"),
    ({"electrodes": "C3"}, "list of names"),
    ({"electrodes": [5]}, "name"),
    ({"electrodes": []}, "empty"),
    ({"electrodes": ["C3", "C3"]}, "duplicate.*C3"),
    ({"electrodes": ["Nowhere"]}, "Nowhere"),
    ({"electrodes": ["Nowhere"] * 10**5}, "the length of electrodes"),
    ({"chs_info": "os.system"}, "builds no|chs_info|damaged"),
    ({"chs_info": [1, 2]}, "builds no|damaged"),
    ({"chs_info": [{"loc": "x"}]}, "builds no|damaged|loc"),
    ({"chs_info": []}, "n_chans|channels|chs_info"),
    ({"ch_names": [1, 2]}, "name"),
    ({"architecture": ["GCMAEStudent"]}, "not a GCMAEStudent"),
    ({"architecture": "EEGNet"}, "EEGNet.*not a GCMAEStudent"),
    ({"format_version": 2}, "format_version 2"),
    ({"format_version": "latest"}, "format_version"),
    ({"weights": "../../other.safetensors"}, "no argument 'weights'"),
    ({"model_file": "pytorch_model.bin"}, "no argument 'model_file'"),
    ({"self": 1}, "no argument 'self'"),
    ({"__class__": "os.system"}, "no argument '__class__'"),
    ({"trust_remote_code": True}, "no argument 'trust_remote_code'"),
    ({"x" * 10**5: 1}, "no argument 'xxx"),
]


@pytest.mark.parametrize(
    ("changes", "message"), VALUES, ids=lambda v: str(v)[:40] if v else ""
)
def test_a_value_that_no_model_has_is_refused(folder, changes, message):
    edit(folder, **changes)
    with pytest.raises(ValueError, match=message) as caught:
        GCMAEStudent.from_pretrained(folder)
    assert len(str(caught.value)) < 10_000


@pytest.mark.parametrize("n", [2000, 10**6])
def test_a_million_channels_are_refused_before_they_are_looked_at(n):
    config = build().get_config()
    channels = [{"ch_name": "E1", "kind": "eeg", "loc": [0.0] * 12}] * n
    for change in ({"chs_info": channels}, {"chs_info": None, "ch_names": ["x"] * n}):
        with pytest.raises(ValueError, match="the length of ch.* must be"):
            GCMAEStudent.from_config({**config, "n_chans": None, **change})


@pytest.mark.parametrize("config", [None, 5, "os.system", ["a"], [("n_chans", 2)]])
def test_a_configuration_is_a_dict(config):
    with pytest.raises(CheckpointError, match="dict"):
        GCMAEStudent.from_config(config)
