"""A hostile or damaged file is refused; nothing in it is imported or run."""

import io
import json
import os
import pickle

import pytest
import torch
from model_helpers import HD, SENTINEL, edit, loaders, logits, windows
from safetensors.torch import load_file, save_file

from braindecode_gcmae import GCMAEStudent, GCMAETeacher
from braindecode_gcmae.models import CheckpointError


class Bomb:
    """Runs a command when unpickled."""

    def __reduce__(self):
        return os.system, (f"echo {SENTINEL}",)


_BUFFER = io.BytesIO()
torch.save({"network": Bomb()}, _BUFFER)
PICKLES = {"plain": pickle.dumps({"network": Bomb()}), "torch": _BUFFER.getvalue()}


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
