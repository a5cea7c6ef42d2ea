"""Fixtures of the tests of checkpoints."""

import builtins
import importlib
import os
import shutil
import sys

import pytest
from model_helpers import CAP_64, LD, SENTINEL, build, windows


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


@pytest.fixture
def trained(tmp_path):
    """A student on 64 electrodes whose statistics were learnt, and its folder."""
    model = build(names=CAP_64).train()
    model(windows(8, 64))
    model.eval().save_pretrained(tmp_path / "saved")
    return model, tmp_path / "saved"
