"""A hostile or damaged checkpoint is refused; nothing is imported or run."""

import builtins
import importlib
import io
import json
import os
import pickle
import shutil
import sys

import pytest
import torch
from model_helpers import HD, LD, build, logits, windows
from safetensors.torch import load_file, save_file

from braindecode_gcmae import GCMAEStudent, GCMAETeacher
from braindecode_gcmae.models import CheckpointError

SENTINEL = "gcmae_sentinel"


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    build(electrodes=LD).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "checkpoint")


@pytest.fixture
def alarm(tmp_path, monkeypatch):
    """A module that tells when it is imported, and a pickle that tells when it runs.

    Yields what has rung; it must stay empty.
    """
    (tmp_path / f"{SENTINEL}.py").write_text(
        "import os\nfrom torch import nn\n"
        f"os.environ['{SENTINEL}'] = 'imported'\n"
        "class Evil(nn.Module):\n    pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.delenv(SENTINEL, raising=False)
    rung = []

    def guarded(real):
        def call(*arguments, **keywords):
            if SENTINEL in str(arguments[:1]):
                return rung.append((real, arguments))
            return real(*arguments, **keywords)

        return call

    for module, name in ((os, "system"), (builtins, "eval"), (builtins, "exec")):
        monkeypatch.setattr(module, name, guarded(getattr(module, name)))
    yield rung
    assert rung == []
    assert SENTINEL not in sys.modules and SENTINEL not in os.environ


class Bomb:
    """Runs a command when unpickled."""

    def __reduce__(self):
        return os.system, (f"echo {SENTINEL}",)


_BUFFER = io.BytesIO()
torch.save({"network": Bomb()}, _BUFFER)
PICKLES = {"plain": pickle.dumps({"network": Bomb()}), "torch": _BUFFER.getvalue()}


def edit(folder, **changes):
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(config))


def loaders(folder):
    """Every public way from a folder or a configuration to a model."""
    yield lambda: GCMAEStudent.from_pretrained(folder)
    yield lambda: GCMAEStudent.from_pretrained(str(folder))
    yield lambda: GCMAEStudent._from_pretrained(model_id=str(folder))
    try:
        config = json.loads((folder / "config.json").read_text())
    except (ValueError, OSError, RecursionError):
        return
    if isinstance(config, dict):
        yield lambda: GCMAEStudent.from_config(config)


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


# -------------------------------------------------------------- damaged files
def write_pickle(folder, name, kind="plain"):
    (folder / name).write_bytes(PICKLES[kind])


def only_pickles(folder):
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "model.pkl"):
        write_pickle(folder, name)


def put(text):
    def write(folder):
        (folder / "config.json").write_bytes(text)

    return write


def truncate(name, n):
    def cut(folder):
        path = folder / name
        path.write_bytes(path.read_bytes()[:n])

    return cut


def flip(where):
    def damage(folder):
        path = folder / "model.safetensors"
        data = bytearray(path.read_bytes())
        data[int(where * (len(data) - 1))] ^= 0x10
        path.write_bytes(bytes(data))

    return damage


def other_weights(folder):
    path = folder / "model.safetensors"
    save_file({k: v + 1 for k, v in load_file(path).items()}, path)


def other_tensors(change):
    def write(folder):
        path = folder / "model.safetensors"
        save_file(change(load_file(path)), path)
        config = json.loads((folder / "config.json").read_text())
        del config["weights_sha256"]
        (folder / "config.json").write_text(json.dumps(config))

    return write


FILES = {
    "a pickle called safetensors": lambda f: write_pickle(f, "model.safetensors"),
    "a torch pickle called safetensors": (
        lambda f: write_pickle(f, "model.safetensors", "torch")
    ),
    "a pickle called config.json": lambda f: write_pickle(f, "config.json"),
    "only pickles": only_pickles,
    "no weights": lambda f: (f / "model.safetensors").unlink(),
    "no configuration": lambda f: (f / "config.json").unlink(),
    "empty weights": truncate("model.safetensors", 0),
    "half the weights": truncate("model.safetensors", 5000),
    "a header only": truncate("model.safetensors", 7),
    "an empty configuration": put(b""),
    "half a configuration": truncate("config.json", 200),
    "a list": put(b"[]"),
    "a string": put(b'"os.system"'),
    "a number": put(b"3"),
    "null": put(b"null"),
    "no json": put(b"import os"),
    "no text": put(b"\xff\xfe\x00\x01"),
    "deep nesting": put(b"[" * 200_000),
    "a number of a million digits": put(b'{"n_chans": ' + b"9" * 10**6 + b"}"),
    "a huge configuration": put(b'{"a": "' + b"x" * (5 << 20) + b'"}'),
    "another model's tensors": other_tensors(lambda s: {"conv.weight": torch.ones(3)}),
    "no tensors": other_tensors(lambda s: {}),
    "one tensor of another shape": other_tensors(
        lambda s: {**s, "network.token.token": torch.ones(5)}
    ),
    "other weights of the same shape": other_weights,
    **{f"a flipped bit at {p}": flip(p) for p in (0.0, 0.5, 0.7, 0.9, 1.0)},
}


@pytest.mark.parametrize("case", FILES)
def test_a_damaged_file_is_refused(folder, alarm, case):
    FILES[case](folder)
    for load in list(loaders(folder))[:3]:
        with pytest.raises(CheckpointError, match="checkpoint|config|safetensors"):
            load()


@pytest.mark.parametrize("where", [0.02 * k + 0.001 for k in range(50)])
def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(folder, where):
    """The weights' own copy of the configuration is not used while it is not needed."""
    expected = GCMAEStudent.from_pretrained(folder)
    flip(where)(folder)
    try:
        loaded = GCMAEStudent.from_pretrained(folder)
    except CheckpointError:
        return
    assert loaded.get_config() == expected.get_config()
    x = windows(1)
    assert torch.equal(logits(loaded, x), logits(expected, x))


def test_pickles_beside_the_weights_are_not_opened(folder, alarm):
    expected = logits(GCMAEStudent.from_pretrained(folder), windows())
    for name in ("pytorch_model.bin", "model.pt", "optimizer.pkl", "config.pkl"):
        write_pickle(folder, name)
    loaded = GCMAEStudent.from_pretrained(folder)
    assert torch.equal(logits(loaded, windows()), expected)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_pipe_is_no_checkpoint(folder, name):
    if not hasattr(os, "mkfifo"):  # Windows has no named pipes in folders
        return
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match="no file"):
        GCMAEStudent.from_pretrained(folder)


@pytest.mark.parametrize(
    "name", ["../../nowhere", "no/such/folder/here", "", "a b", "nowhere/at-all"]
)
def test_a_folder_that_is_not_there_is_named(name):
    with pytest.raises(CheckpointError, match="no folder|no file"):
        GCMAEStudent.from_pretrained(name, local_files_only=True)


def test_weights_that_lie_about_their_configuration_are_refused(folder, alarm):
    """The configuration inside the weights is as little trusted as config.json."""
    edit(folder, weights_sha256="0" * 64)
    state = load_file(folder / "model.safetensors")
    for inside in ("os.system", "[]", '{"encoder": "os.system"}', "[" * 10**5):
        metadata = {"config.json": inside}
        save_file(state, folder / "model.safetensors", metadata=metadata)
        with pytest.raises(CheckpointError):
            GCMAEStudent.from_pretrained(folder)
    from braindecode_gcmae.models.checkpoint import weights_digest

    config = json.loads((folder / "config.json").read_text())
    config |= {"weights_sha256": weights_digest(state), "encoder": f"{SENTINEL}.Evil"}
    metadata = {"config.json": json.dumps(config)}
    save_file(state, folder / "model.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match="refused without importing"):
        GCMAEStudent.from_pretrained(folder)


def test_no_loader_of_the_hub_is_underneath(folder, monkeypatch):
    """The Hub's coders would import class paths before our check."""
    from braindecode.models.base import EEGModuleMixin
    from huggingface_hub import ModelHubMixin, PyTorchModelHubMixin

    def reached(*arguments, **keywords):
        raise AssertionError("a loader underneath was reached")

    for owner, name in (
        (ModelHubMixin, "from_pretrained"),
        (ModelHubMixin, "_decode_arg"),
        (PyTorchModelHubMixin, "_from_pretrained"),
        (PyTorchModelHubMixin, "_load_as_pickle"),
        (EEGModuleMixin, "_from_pretrained"),
        (EEGModuleMixin, "from_config"),
        (torch, "load"),
        (pickle, "load"),
        (pickle, "loads"),
    ):
        monkeypatch.setattr(owner, name, reached)
    monkeypatch.setattr("braindecode.models.util.resolve_type_kwargs", reached)
    monkeypatch.setattr("braindecode.models.base.resolve_type_kwargs", reached)
    model = GCMAEStudent.from_pretrained(folder)
    model.save_pretrained(folder)
    GCMAEStudent._from_pretrained(model_id=str(folder), strict=False)
    GCMAEStudent.from_config(model.get_config())


def test_the_callers_arguments_are_checked_like_the_file(folder):
    for changes, message in (
        ({"encoder": "os.system"}, "refused without importing"),
        ({"no_such_argument": 1}, "no argument 'no_such_argument'"),
        ({"emb_dim": 32}, "shape"),
        ({"n_outputs": 10**9}, "n_outputs"),
        ({"electrodes": ["C3", "Nowhere"]}, "Nowhere"),
        ({"ch_names": [*HD, "C3"]}, "duplicate.*C3"),
    ):
        with pytest.raises(ValueError, match=message):
            GCMAEStudent.from_pretrained(folder, **changes)
    with pytest.raises(CheckpointError, match="GCMAEStudent.*not a GCMAETeacher"):
        GCMAETeacher.from_pretrained(folder)
