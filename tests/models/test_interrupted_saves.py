"""A save that dies leaves a whole checkpoint, and nothing else."""

import os
import sys

import pytest
import torch
from model_helpers import (
    CAP_64,
    LD,
    N_TIMES,
    SFREQ,
    SMALL,
    build,
    logits,
    same_weights,
    windows,
)

from braindecode_gcmae import GCMAEStudent, GCMAETeacher
from braindecode_gcmae.models import CheckpointError


class Killed(BaseException):
    """Stands for a signal or a full disk at a certain moment."""


@pytest.mark.parametrize("moment", range(8))
@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_an_interrupted_save_leaves_a_whole_checkpoint(
    trained, monkeypatch, moment, call
):
    old, folder = trained
    new = build(names=CAP_64, seed=9)
    real, calls = getattr(os, call), []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) > moment:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(os, call, dying)
    died = False
    try:
        new.save_pretrained(folder)
    except Killed:
        died = True
    monkeypatch.undo()
    assert died == (moment < 2)
    loaded = GCMAEStudent.from_pretrained(folder)
    assert same_weights(loaded, old) or same_weights(loaded, new)
    assert same_weights(loaded, new) or moment == 0 or call == "fsync"
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_an_interrupted_save_of_another_architecture_is_consistent(
    trained, monkeypatch
):
    """Weights and configuration always belong together."""
    _, folder = trained
    new = build(emb_dim=8, names=LD, n_outputs=2)
    real, calls = os.replace, []

    def dying(*arguments):
        calls.append(arguments)
        if len(calls) > 1:
            raise Killed
        return real(*arguments)

    monkeypatch.setattr(os, "replace", dying)
    with pytest.raises(Killed):
        new.save_pretrained(folder)
    monkeypatch.undo()
    loaded = GCMAEStudent.from_pretrained(folder)
    x = windows(2, len(LD))
    assert torch.equal(logits(loaded, x), logits(new, x))


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_full_disk_is_an_error_and_leaves_the_old_checkpoint(
    trained, monkeypatch, file
):
    import errno

    from braindecode_gcmae.models import checkpoint

    old, folder = trained
    real = checkpoint.replace_file

    def full(path, write):
        def write_half(name):
            with open(name, "wb") as stream:
                stream.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device", name)

        real(path, write_half if path.name == file else write)

    monkeypatch.setattr(checkpoint, "replace_file", full)
    with pytest.raises(OSError, match="No space left"):
        build(names=CAP_64, seed=9).save_pretrained(folder)
    monkeypatch.undo()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    loaded = GCMAEStudent.from_pretrained(folder)
    assert same_weights(loaded, old) == (file == "model.safetensors")


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OSError, match="file"):
        build().save_pretrained(blocked)
    with pytest.raises(OSError):
        build().save_pretrained(blocked / "below")
    assert blocked.read_text() == "in the way"
    if sys.platform != "win32" and os.geteuid():  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(PermissionError, match="closed"):
            build().save_pretrained(tmp_path / "closed")
        assert list((tmp_path / "closed").iterdir()) == []


def test_a_saved_file_has_the_usual_permissions(trained):
    mask = os.umask(0)
    os.umask(mask)
    for path in trained[1].iterdir():
        if sys.platform != "win32":
            assert path.stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_teacher_and_the_student_are_different_checkpoints(tmp_path):
    GCMAETeacher(
        n_outputs=2, ch_names=LD, n_times=N_TIMES, sfreq=SFREQ, **SMALL
    ).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="GCMAETeacher.*not a GCMAEStudent"):
        GCMAEStudent.from_pretrained(tmp_path)
