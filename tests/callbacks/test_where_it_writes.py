"""ResumableCheckpoint's folder: which one it is, and who else may be writing there."""

import os
import subprocess
import sys
import time

import pytest
import torch
from skorch.callbacks import Callback
from tiny import classifier, fit, vector

from braindecode_gcmae.callbacks import ResumableCheckpoint
from braindecode_gcmae.callbacks.resuming import files


def net(folder, *more, **given):
    callbacks = [("resume", ResumableCheckpoint(folder)), *more]
    return classifier(callbacks=callbacks, **given)


class Moves(Callback):
    """Changes the working directory in each epoch."""

    def __init__(self, where):
        self.where = where

    def on_epoch_end(self, net, **kwargs):
        os.chdir(self.where)


def test_a_relative_folder_is_where_it_was_when_training_began(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    whole = fit(net("run", ("moves", Moves(tmp_path / "elsewhere"))))
    (file,) = tmp_path.rglob("training.pt")
    assert file == tmp_path / "run" / "training.pt"
    assert dict(whole.callbacks_)["resume"].file == file
    assert dict(whole.callbacks_)["resume"].folder == "run"
    assert torch.load(file, weights_only=True)["history"].count('"epoch"') == 2


def test_a_folder_of_the_home_is_found_there(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(tmp_path)
    fit(net("~/run"))
    assert (home / "run" / "training.pt").is_file()
    assert not (tmp_path / "~").exists()


def process(code, *arguments):
    """Another process, that can use this package."""
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


WRITES = """
import sys
from pathlib import Path
from braindecode_gcmae.callbacks.resuming.files import name_of_writer
name = name_of_writer(Path(sys.argv[1]))
for name in (name, name.with_name(f".{name.name}.0123456789abcdef")):
    name.write_text("half")
print("written", flush=True)
sys.stdin.readline()
"""


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    """Until it is dead."""
    expected = vector(fit(net(tmp_path / "alone")))
    child = process(WRITES, tmp_path / "training.pt")
    assert child.stdout.readline() == "written\n"
    found = fit(net(tmp_path))
    assert torch.equal(vector(found), expected)
    assert len(list(tmp_path.glob(".*"))) == 2
    child.kill()
    child.communicate()
    fit(net(tmp_path))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("who", ["an earlier version", "another host"])
def test_what_nobody_knows_of_is_left_for_a_day(tmp_path, who):
    file = tmp_path / "training.pt"
    name = {
        "an earlier version": ".training.pt.0123456789abcdef",
        "another host": f".training.pt.not-{files._host()}.{os.getpid()}.1",
    }[who]
    for hours, is_there in ((20, True), (30, False)):
        (tmp_path / name).write_text("half")
        then = time.time() - 3600 * hours
        os.utime(tmp_path / name, (then, then))
        files.remove_left(file)
        assert (tmp_path / name).exists() == is_there
