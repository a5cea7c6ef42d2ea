"""A hostile folder is refused as a teacher and as a pretraining, too; nothing runs."""

import importlib
import io
import json
import os
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import X, Y, classifier, distil, pretrainer, student, teacher

SENTINEL = "gcmae_hostile_teacher"


class Bomb:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path(SENTINEL),)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    teacher().save_pretrained(folder / "teacher")
    student().save_pretrained(folder / "student")
    return folder


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """A module that tells when it is imported, and commands that tell when they run."""
    source = "from torch import nn\nclass Evil(nn.Module):\n    pass\n"
    (tmp_path / f"{SENTINEL}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    monkeypatch.chdir(tmp_path)
    ran = []
    for name in ("system", "popen"):
        monkeypatch.setattr(os, name, lambda *args: ran.append(args))
    yield
    assert ran == [] and SENTINEL not in sys.modules and not Path(SENTINEL).exists()


def config(**changes):
    def write(folder):
        file = folder / "config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return write


def pickled(save):
    buffer = io.BytesIO()
    save({"network": Bomb()}, buffer)
    data = buffer.getvalue()
    return lambda folder: (folder / "model.safetensors").write_bytes(data)


def no_tensor_matches(folder):
    file = folder / "model.safetensors"
    state = {f"other.{name}": value for name, value in load_file(file).items()}
    save_file(state, file)
    settings = json.loads((folder / "config.json").read_text())
    settings.pop("weights_sha256", None)
    (folder / "config.json").write_text(json.dumps(settings))


HOSTILE = {
    "a class of another module": config(encoder=f"{SENTINEL}.Evil"),
    "a function of the system": config(activation="os.system"),
    "a class path inside an allowed package": config(
        graph="torch.utils.cpp_extension.load_inline"
    ),
    "weights of another folder": config(weights="../../other.safetensors"),
    "an argument that no model has": config(__class__="os.system"),
    "an absurd size": config(emb_dim=10**9),
    "an absurd number of channels": config(n_chans=10**9, ch_names=None, chs_info=None),
    "a pickle called safetensors": pickled(pickle.dump),
    "a torch pickle called safetensors": pickled(torch.save),
    "tensors of another model": no_tensor_matches,
    "no tensors": lambda folder: save_file({}, folder / "model.safetensors"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("of", [str, lambda path: path], ids=["str", "path"])
def test_a_hostile_folder_is_no_teacher(clean, tmp_path, trap, case, of):
    folder = shutil.copytree(clean / "teacher", tmp_path / "teacher")
    HOSTILE[case](folder)
    with pytest.raises(ValueError):
        classifier(callbacks=distil(of(folder))).fit(X, Y)


@pytest.mark.parametrize("part", ["teacher", "student"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_folder_is_no_pretraining(clean, tmp_path, trap, case, part):
    folder = shutil.copytree(clean, tmp_path / "run")
    HOSTILE[case](folder / part)
    net = pretrainer()
    with pytest.raises(ValueError):
        net.load_pretrained(folder)
    assert not net.initialized_, "half of it is not loaded"


def test_the_clean_folder_is_both(clean, trap):
    """The tests above would pass if every folder were refused."""
    assert pretrainer().load_pretrained(clean).initialized_
    classifier(callbacks=distil(clean / "teacher"), max_epochs=1).fit(X, Y)


def test_the_trap_would_have_rung(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(Bomb()))
    assert Path(SENTINEL).exists()
