"""One row for each way in which data, settings, models or files can be wrong.

Every row is refused by an error of the documented type that names the thing, before a
step of any optimiser is made, and with every file as it was. What the arguments of a
model can do wrong by themselves is in ``models/test_bad_input.py``.
"""

import contextlib
import errno
import io
import json
import os
import shutil
import sys
import tempfile
import warnings
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import mne
import numpy as np
import pandas as pd
import pytest
import torch
from braindecode import EEGClassifier
from safetensors.torch import load_file, save_file
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold
from skorch.callbacks import Checkpoint, EarlyStopping, LRScheduler
from skorch.dataset import ValidSplit
from tiny import (
    FEW,
    NAMES,
    X,
    Y,
    classifier,
    epochs,
    labelled,
    pretrainer,
    small,
    student,
    teacher,
    windows,
)
from torch.optim.optimizer import register_optimizer_step_post_hook

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEPretraining,
    GCMAEStudent,
    GCMAETeacher,
    RecordingAlignment,
    TopologyDistillation,
    match_electrodes,
    montage_preset,
)
from braindecode_gcmae.callbacks import ResumableCheckpoint
from braindecode_gcmae.datasets import SimulatedEEG, windows_from_physionet
from braindecode_gcmae.export import export_onnx
from braindecode_gcmae.graph import GeometricGraph
from braindecode_gcmae.models import CheckpointError, checkpoint
from braindecode_gcmae.montage import make_chs_info

WHO = np.arange(len(X)) // 6  # subjects


@dataclass
class Row:
    """A case: what the issue calls it, its name, how to provoke it, what is said.

    ``prepare`` gets a folder and returns the call that is to fail.
    """

    kind: str
    name: str
    prepare: object
    error: type
    words: str


TABLE = []


def row(kind, name, error, words):
    """Register the decorated ``prepare`` as a row."""

    def register(prepare):
        TABLE.append(Row(kind, name, prepare, error, words))
        return prepare

    return register


def rows(kind, error, cases):
    """Register calls that need no folder: name -> (call, words)."""
    for name, (call, words) in cases.items():
        row(kind, name, error, words)(lambda folder, call=call: call)


# --------------------------------------------------------------- how things are trained
def train(x=X, y=Y, **arguments):
    """The classifier that looks at what it gets."""
    return lambda: classifier(cls=GCMAEClassifier, **arguments).fit(x, y)


def distil(x=X, y=Y, of=None, net=None, **arguments):
    """braindecode's own classifier with a distillation."""

    def call():
        callback = TopologyDistillation(of or teacher(), **arguments)
        return classifier(net or GCMAEStudent, callbacks=[("d", callback)]).fit(x, y)

    return call


def stage(x=X, y=Y, *more, **arguments):
    """braindecode's own classifier with pretraining as its first stage."""

    def call():
        first = ("p", GCMAEPretraining(**{"max_epochs": 1, **arguments}))
        return classifier(callbacks=[first, *more]).fit(x, y)

    return call


def pretrain(x=X, groups=WHO, **arguments):
    return lambda: pretrainer(**arguments).fit(x, groups=groups)


def align(x=X, groups=None, **arguments):
    return lambda: RecordingAlignment(**arguments).transform(x, groups=groups)


def without(channel):
    return X[:, [i for i in range(len(NAMES)) if i != channel]]


def unfitted():
    """A teacher that is still to be trained, for longer than a test may take."""
    return classifier(GCMAETeacher, max_epochs=10**6)


def at(sfreq, n=6):
    """Epochs of the same channels at another sampling rate."""
    made = mne.create_info(NAMES, sfreq, "eeg")
    events = np.c_[np.arange(n), np.zeros(n), np.arange(n) % 2].astype(int)
    return mne.EpochsArray(windows(n) * 1e-6, made, events=events, verbose=False)


def info(names, loc=None):
    channels = make_chs_info(names)
    if loc is not None:
        for channel in channels:
            channel["loc"] = np.r_[loc, np.zeros(9)]
    return channels


# ------------------------------------------------------------- not finite, flat, volts
NAN, INF = X * np.nan, np.full_like(X, np.inf)
rows(
    "all channels NaN or Inf",
    ValueError,
    {
        "NaN to train on": (train(NAN), "NaN or infinite"),
        "Inf to train on": (train(INF), "NaN or infinite"),
        "NaN to distil on": (distil(NAN), "NaN or infinite"),
        "NaN to pretrain on": (pretrain(NAN), "NaN or infinite"),
        "Inf to pretrain on first": (stage(INF), "NaN or infinite"),
        "NaN to align": (align(NAN), "no channel that is finite"),
    },
)
rows(
    "flat channels",
    ValueError,
    {
        "flat windows to train on": (train(X * 0), "all channels are flat"),
        "flat windows to distil on": (distil(X * 0 + 3), "all channels are flat"),
        "flat windows to pretrain on": (pretrain(X * 0), "all channels are flat"),
        "flat windows to align": (align(X * 0), "every channel is flat"),
    },
)

# ------------------------------------------------------------------- dtype, axes, size
rows(
    "wrong dtype",
    TypeError,
    {
        "complex windows": (train(X.astype(complex)), "real numbers.*complex"),
        "windows of objects": (train(X.astype(object)), "real numbers.*object"),
        "text to pretrain on": (pretrain(X.astype(str)), "real numbers"),
        "text to align": (align(X.astype(str)), "real array"),
        "a path for windows": (pretrain("recordings"), "array.*Epochs.*got str"),
    },
)
SWAPPED = X.transpose(0, 2, 1)
rows(
    "wrong axes",
    ValueError,
    {
        "time before channels": (train(SWAPPED), "n_chans=160.*6 names"),
        "time first, pretrained": (pretrain(SWAPPED), "160 channels.* name 6"),
        "one channel": (pretrain(X[:, 0]), r"\(n_windows, n_chans, n_times\)"),
        "images": (pretrain(X[:, None]), r"\(n_windows, n_chans, n_times\)"),
        "one window to align": (align(X[0]), r"shape \(n, n_chans, n_times\)"),
    },
)
rows(
    "wrong number of channels",
    ValueError,
    {
        "a channel too few": (train(without(0)), "n_chans=5.*6 names"),
        "a channel too few, pretrained": (pretrain(without(0)), "5 channels.* name 6"),
        "a channel too few, unlabelled": (
            distil(unlabelled=without(0)),
            "n_chans 5, the models expect 6",
        ),
        "low density for a teacher": (
            distil(X[:, [2, 3, 4]], net=student()),
            "3 electrodes alone, and the teacher sees 6 channels",
        ),
        "names and windows disagree": (align(ch_names=FEW), "3 names.*6 channels"),
        "labels are too few": (train(y=Y[:5]), "inconsistent lengths"),
        "subjects are too few": (pretrain(groups=[1, 2]), "each of the 24 windows"),
    },
)

# ------------------------------------------------------------------------- electrodes
rows(
    "duplicate, unknown or differently spelled names",
    ValueError,
    {
        "duplicate channels": (
            pretrain(ch_names=[*NAMES[:5], "F3"]),
            "duplicate channels.*F3",
        ),
        "twice, in two spellings": (
            pretrain(ch_names=["C3-A1", "C3-A2", *NAMES[3:], "O1"], electrodes=["C3"]),
            "C3.*2 times",
        ),
        "duplicate by an old name": (
            lambda: match_electrodes(["T3", "T7"], make_chs_info(["T7", "C3"])),
            "duplicate.*T3.*T7",
        ),
        "an unknown electrode": (
            train(module__electrodes=["C3", "Cy"]),
            "Cy.*similar name",
        ),
        "an unknown electrode to hide": (
            lambda: match_electrodes(["XX"], make_chs_info(NAMES)),
            "unknown electrodes.*XX",
        ),
        "an unknown montage": (lambda: montage_preset("motor8"), "motor-8"),
        "an unknown simulated electrode": (
            lambda: SimulatedEEG(["C3", "Nowhere"]),
            "Nowhere",
        ),
    },
)
NAMELESS = {"module__electrodes": None, "module__graph": GeometricGraph}
HEAP = info(["X1", "X2", *NAMES[:4]])
HEAP[0]["loc"] = HEAP[1]["loc"] = np.r_[0.05, 0, 0.1, np.zeros(9)]
rows(
    "no positions where they are needed",
    ValueError,
    {
        "a preset of channels without position": (
            lambda: match_electrodes(FEW, info(["E1", "E2", "E3"], np.zeros(3))),
            "C3.*position",
        ),
        "electrodes of nameless channels": (
            pretrain(ch_names=None),
            r"electrodes=\['C3'.*chs_info or ch_names",
        ),
        "mixed montages, one without names": (
            pretrain([epochs(windows(4)), windows(4, 5)]),
            "different channels.*without names",
        ),
        "a graph of distances": (
            train(**NAMELESS, module__ch_names=list("ABCDEF")),
            "GeometricGraph needs electrode positions.*A.*unknown",
        ),
    },
)
rows(
    "coincident positions",
    ValueError,
    {
        "a graph of distances": (
            train(**NAMELESS, module__ch_names=None, module__chs_info=HEAP),
            "distinct.*X1.*X2",
        ),
    },
)
rows(
    "electrodes not in chs_info",
    ValueError,
    {
        "of another cap": (
            train(module__electrodes=["C3", "FC3"]),
            "FC3.*nearest by position",
        ),
        "to pretrain": (pretrain(electrodes=["Cz", "O2"]), "O2"),
        "to align": (align(electrodes=["Cz", "O2"], ch_names=NAMES), "O2"),
    },
)
rows(
    "student not a subset of the teacher",
    ValueError,
    {
        "pretrained together": (
            pretrain(teacher=teacher(electrodes=["C3", "Cz"])),
            "electrodes that the teacher does not see",
        ),
        "distilled": (
            distil(of=teacher(electrodes=["C3", "Cz"])),
            r"electrodes \['C4'\] are not among the teacher's",
        ),
        "distilled after pretraining": (
            stage(
                X,
                Y,
                ("d", TopologyDistillation(teacher(electrodes=["C3", "Cz"]))),
                max_epochs=10**6,
            ),
            r"electrodes \['C4'\] are not among the teacher's",
        ),
        "in another order of channels": (
            distil(of=teacher(ch_names=NAMES[::-1])),
            "another order",
        ),
    },
)

# ------------------------------------------------------------- sampling rate, length
OTHER = at(128.0)
rows(
    "another sampling rate than the checkpoint's",
    ValueError,
    {
        "trained on": (
            train(OTHER, Y[:6], module=student()),
            "windows have 128 Hz, the model was built for 100 Hz",
        ),
        "distilled on": (
            distil(OTHER, Y[:6], net=student()),
            "windows have 128 Hz, the model was built for 100 Hz",
        ),
        "pretrained on": (pretrain(OTHER, None), "128 Hz, sfreq=100 was given"),
        "beside others": (
            pretrain([epochs(windows(4)), OTHER], None),
            r"sampling rate \(Hz: \[100.0, 128.0\]\)",
        ),
        "a teacher's": (distil(of=teacher(sfreq=128.0)), "sfreq is 128"),
        "nobody knows it": (pretrain(sfreq=None), "pass sfreq= in Hz"),
    },
)


@row(
    "another sampling rate than the checkpoint's",
    "PhysioNet's subject 88",
    ValueError,
    "subject 88 was recorded at 128 Hz",
)
def subject_88(folder, root):
    return lambda: windows_from_physionet([88], [4], root=root)


SHORT = X[..., :20]
rows(
    "windows too short for the spectrum",
    ValueError,
    {
        "to train on": (train(SHORT), "20 samples.*too short"),
        "to pretrain on": (pretrain(SHORT), "20 samples.*too short"),
        "beside longer ones": (stage(unlabelled=SHORT), "differ in window length"),
        "unlabelled": (distil(unlabelled=SHORT), "n_times 20, the models expect 160"),
        "for the band to align by": (
            align(SHORT, band=(1, 2), sfreq=100),
            "longer windows or a wider band",
        ),
    },
)

# ----------------------------------------------------------------------------- labels
rows(
    "one class",
    ValueError,
    {
        "to train on": (train(y=Y * 0), "all 24 labels are 0.*two classes"),
        "to distil on": (distil(y=Y * 0 + 1), "all 24 labels are 1.*two classes"),
    },
)
NAMED = np.array(["left", "right"])[Y]
rows(
    "string labels",
    TypeError,
    {
        "to train on": (train(y=NAMED), "'left'.*LabelEncoder"),
        "to distil on": (distil(y=list(NAMED)), "'left'.*LabelEncoder"),
    },
)
rows(
    "labels that are no classes",
    ValueError,
    {
        "beyond the outputs": (train(y=Y + 1, module__n_outputs=2), "label 2.*0 to 1"),
        "negative": (train(y=Y - 1, module__n_outputs=2), "label -1.*0 to 1"),
        "for a model without a head": (
            train(module=student(n_outputs=None)),
            "no head.*n_outputs=2",
        ),
        "halves": (distil(y=Y + 0.5), "label 0.5.*LabelEncoder"),
        "none at all": (train(y=None), "y must be specified"),
    },
)


def chained(x=X, y=Y, cls=GCMAEClassifier, more=(), told=(), of=None, **arguments):
    """Pretraining and a teacher come before the net's own training."""

    def call():
        of_net = classifier(GCMAETeacher, cls=cls, max_epochs=1) if of is None else of
        first = (
            "p",
            GCMAEPretraining(max_epochs=1, batch_size=8, arguments=small("teacher")),
        )
        callbacks = [first, ("d", TopologyDistillation(of_net)), *more]
        net = classifier(cls=cls, callbacks=callbacks, **{"max_epochs": 1, **arguments})
        net.fit(x, y, **dict(told))

    return call


def first(x=X, y=Y, **arguments):
    """Pretraining alone comes before."""
    return chained(x, y, of=teacher(), **arguments)


for cls in (GCMAEClassifier, EEGClassifier):
    rows(
        f"labels of a {cls.__name__} that comes last",
        TypeError,
        {
            "a column of text": (chained(y=pd.Series(NAMED), cls=cls), "'left'"),
            "categories of text": (
                chained(y=pd.Categorical(NAMED), cls=cls),
                "'left'.*LabelEncoder",
            ),
            "categories": (
                chained(y=pd.Categorical(Y), cls=cls),
                "labels as Categorical.*np.asarray",
            ),
        },
    )
    rows(
        f"labels of a {cls.__name__} that comes last",
        ValueError,
        {
            "too few": (chained(y=Y[:-3], cls=cls), "inconsistent lengths"),
            "too few, pretrained only": (first(y=Y[:-3], cls=cls), "inconsistent"),
            "too many, split": (
                chained(y=np.r_[Y, Y], cls=cls, train_split=ValidSplit(3)),
                "inconsistent lengths",
            ),
            "a column from one": (
                chained(y=pd.Series(Y + 1), cls=cls),
                "label 2.*0 to 1",
            ),
            "from one, pretrained only": (
                first(y=Y + 1, cls=cls),
                "label 2.*0 to 1",
            ),
            "two axes": (
                chained(y=Y[:, None], cls=cls),
                r"one label a window.*\(24, 1\)",
            ),
        },
    )

rows(  # a GCMAEClassifier makes an array of them
    "labels of an EEGClassifier that comes last",
    TypeError,
    {
        "a list": (chained(y=Y.tolist(), cls=EEGClassifier), "labels as list.*asarray"),
        "a list, pretrained only": (first(y=Y.tolist(), cls=EEGClassifier), "as list"),
    },
)

rows(
    "settings of a training that comes last",
    ValueError,
    {
        "no groups": (chained(train_split=ValidSplit(GroupKFold(2))), "groups"),
        "no groups for a net that hears of none": (
            chained(cls=EEGClassifier, train_split=ValidSplit(GroupKFold(2))),
            "groups",
        ),
        "a split by classes of which it hears nothing": (
            chained(
                train_split=ValidSplit(StratifiedGroupKFold(2)), told={"groups": WHO}
            ),
            "Supported target types",
        ),
        "a batch that is never full": (
            chained(batch_size=128),
            "no batch to train on: batch_size=128, 24 windows",
        ),
        "a batch that the training half does not fill": (
            first(batch_size=20, train_split=ValidSplit(3)),
            "batch_size=20, 16 windows",
        ),
        "a teacher's batch that is never full": (
            chained(of=classifier(GCMAETeacher, batch_size=128)),
            "batch_size=128, 24 windows",
        ),
        "a teacher's batch that its half of the student's half does not fill": (
            chained(
                of=classifier(GCMAETeacher, batch_size=9, train_split=ValidSplit(2)),
                train_split=ValidSplit(3),
            ),
            "batch_size=9, 8 windows",
        ),
        "early stopping without a validation": (
            chained(more=[("stop", EarlyStopping())]),
            r"EarlyStopping \('stop'\) monitors 'valid_loss'.*no validation",
        ),
        "a checkpoint of the best without a validation": (
            first(more=[("keep", Checkpoint())]),
            "Checkpoint.*'valid_loss_best'",
        ),
        "class weights of three for two": (
            chained(criterion__weight=torch.ones(3)),
            "weighs 3 classes, the model has 2",
        ),
        "windows to adapt to, and nobody who does": (
            lambda: classifier(cls=GCMAEClassifier).fit(X, Y, X_target_unlabeled="any"),
            "X_target_unlabeled is for GCMAEPretraining",
        ),
    },
)
rows(
    "settings of a training that comes last",
    TypeError,
    {
        "a schedule without its length": (
            chained(more=[("lr", LRScheduler("CosineAnnealingLR"))]),
            r"LRScheduler \('lr'\), policy CosineAnnealingLR.*'T_max'",
        ),
    },
)
rows(
    "labels in the unlabelled set",
    ValueError,
    {
        "windows with labels": (pretrain((X, Y), None), r"\(n_windows.*got \(24,\)"),
        "in the first stage": (stage(unlabelled=[X, Y]), r"\(n_windows.*got \(24,\)"),
        "in the distillation": (distil(unlabelled=(X, Y)), r"\(n_windows.*got \(24,\)"),
    },
)
rows(
    "empty dataset",
    ValueError,
    {
        "to train on": (train(X[:0], Y[:0]), "n_outputs must be|no windows"),
        "to pretrain on": (pretrain(X[:0], None), "no windows"),
        "a list of nothing": (pretrain([], None), "no windows to learn from"),
        "unlabelled": (distil(unlabelled=X[:0]), "no windows"),
        "to align": (align(X[:0]), "none of them 0"),
    },
)

# ------------------------------------------------------------------ teacher, settings
rows(
    "teacher with another number of outputs",
    ValueError,
    {
        "three for two": (distil(of=teacher(n_outputs=3)), "n_outputs is 3 and 2"),
        "none": (distil(of=teacher(n_outputs=None)), "no trained head"),
        "three for two, before hours of pretraining": (
            stage(
                X,
                Y,
                ("d", TopologyDistillation(teacher(n_outputs=3))),
                max_epochs=10**6,
            ),
            "n_outputs is 3 and 2",
        ),
    },
)
rows(
    "settings of a later step",
    ValueError,
    {
        "an unknown kernel, the teacher untrained": (
            distil(of=unfitted(), kernel="angle"),
            "kernel must be one of",
        ),
        "no temperature, the teacher untrained": (
            distil(of=unfitted(), temperature=0),
            "temperature must be above 0",
        ),
        "an unknown form, the teacher untrained": (
            distil(of=unfitted(), form="sum"),
            "form must be one of",
        ),
        "a density above one, the teacher untrained": (
            distil(of=unfitted(), density=2.0),
            "density must be in",
        ),
        "a negative weight, the teacher untrained": (
            distil(of=unfitted(), kd_weight=-1.0),
            "kd_weight must be at least 0",
        ),
        "unlabelled windows, the teacher untrained": (
            distil(of=unfitted(), unlabelled=SHORT),
            "n_times 20",
        ),
        "cropped training": (
            lambda: classifier(
                cropped=True, callbacks=[("d", TopologyDistillation(teacher()))]
            ).fit(X, Y),
            "cropped",
        ),
        "an error for the second half of the epochs": (
            pretrain(objective="sequential", reconstruction={"form": "mae"}),
            "form must be one of",
        ),
        "an unknown objective": (pretrain(objective="both"), "objective must be one"),
        "more nodes dropped than there are": (pretrain(drop_nodes=1.5), "drop_nodes"),
        "negative noise": (pretrain(noise=-1.0), "noise"),
        "no temperature": (pretrain(temperature=0), "temperature must be above 0"),
        "no queue": (pretrain(queue_size=0), "size"),
        "nothing to pretrain": (pretrain(teacher=None, student=None), "give a teacher"),
    },
)


# ---------------------------------------------------------------------- checkpoints
def saved(folder, model=None):
    (model or student()).save_pretrained(folder / "model")
    return folder / "model"


def damaged(name, change):
    """Loading after one file of a checkpoint was changed."""

    def prepare(folder):
        file = saved(folder) / name
        file.write_bytes(change(file.read_bytes()))
        return lambda: GCMAEStudent.from_pretrained(file.parent)

    return prepare


def flip(data, share=0.7):
    data = bytearray(data)
    data[int(share * len(data))] ^= 0x10
    return bytes(data)


def version(data):
    return json.dumps({**json.loads(data), "format_version": 99}).encode()


FILE = "truncated, bit-flipped or wrong-version file"
for name, file, change, words in (
    ("half the weights", "model.safetensors", lambda d: d[: len(d) // 2], "damaged"),
    ("no weights", "model.safetensors", lambda d: b"", "damaged"),
    ("a flipped bit", "model.safetensors", flip, "safetensors|digest|damaged"),
    ("half a configuration", "config.json", lambda d: d[:99], "config.json"),
    ("a later version", "config.json", version, "format_version 99"),
):
    row(FILE, name, CheckpointError, words)(damaged(file, change))


@row(FILE, "zero tensors that match", CheckpointError, "")
def other_tensors(folder):
    file = saved(folder) / "model.safetensors"
    state = load_file(file)
    save_file({f"other.{name}": value for name, value in state.items()}, file)
    return lambda: GCMAEStudent.from_pretrained(file.parent)


def resumable(folder, **arguments):
    return classifier(callbacks=[("r", ResumableCheckpoint(folder))], **arguments)


def resumed(change):
    """Going on after the state of a training was changed."""

    def prepare(folder):
        resumable(folder, max_epochs=1).fit(X, Y)
        file = folder / "training.pt"
        file.write_bytes(change(file.read_bytes()))
        return lambda: resumable(folder).fit(X, Y)

    return prepare


row(FILE, "half a training", CheckpointError, "training.pt is damaged")(
    resumed(lambda d: d[: len(d) // 2])
)
row(FILE, "an empty training", CheckpointError, "training.pt is damaged")(
    resumed(lambda d: b"")
)


def flip_in_a_record(data):
    """Flip a bit of the largest record: between records there is padding."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        largest = max(archive.infolist(), key=lambda info: info.file_size)
        record = archive.read(largest)
    place = data.index(record) + len(record) // 2
    return flip(data, place / len(data))


row(FILE, "a flipped bit of a training", CheckpointError, "training.pt is damaged")(
    resumed(flip_in_a_record)
)


@row(FILE, "a training of a later version", CheckpointError, "another format")
def later_training(folder):
    resumable(folder, max_epochs=1).fit(X, Y)
    state = torch.load(folder / "training.pt", weights_only=True)
    torch.save({**state, "format": 99}, folder / "training.pt")
    return lambda: resumable(folder).fit(X, Y)


OTHERS = "checkpoint of another model"


@row(OTHERS, "a teacher's for a student", CheckpointError, "GCMAETeacher.*not a GCMAES")
def teachers(folder):
    path = saved(folder, teacher())
    return lambda: GCMAEStudent.from_pretrained(path)


@row(OTHERS, "another width", CheckpointError, "shape")
def wider(folder):
    path = saved(folder)
    return lambda: GCMAEStudent.from_pretrained(path, emb_dim=16)


@row(OTHERS, "a folder of something else", CheckpointError, "config.json|no file")
def something_else(folder):
    (folder / "notes.txt").write_text("nothing")
    return lambda: GCMAEStudent.from_pretrained(folder, local_files_only=True)


@row(OTHERS, "an untrained student as the teacher", ValueError, "no trained head")
def student_as_teacher(folder):
    path = saved(folder)
    return stage(X, Y, ("d", TopologyDistillation(path)), max_epochs=10**6)


@row(OTHERS, "a pretrainer's folder without models", CheckpointError, "neither")
def no_models(folder):
    return lambda: pretrainer().load_pretrained(folder)


@row(OTHERS, "a training of another net", CheckpointError, "not of a GCMAETeacher")
def other_training(folder):
    resumable(folder, max_epochs=1).fit(X, Y)
    return lambda: resumable(folder, module=GCMAETeacher).fit(X, Y)


@row(OTHERS, "a training of another width", CheckpointError, "(?s)does not fit.*size")
def wider_training(folder):
    resumable(folder, max_epochs=1).fit(X, Y)
    return lambda: resumable(folder, module__emb_dim=16).fit(X, Y)


# ------------------------------------------------------------------- what cannot write
def pretrained():
    """A pretrainer that is built, and trained for no epoch."""
    return pretrainer(max_epochs=0).fit(X, groups=WHO)


def exported(folder):
    """An ONNX file of a model that takes no time to trace."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", [x], [y])
    graph.doc_string = "long " * 1000
    made = SimpleNamespace(model_proto=helper.make_model(graph))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", lambda *args, **kwargs: made)
        export_onnx(student().eval(), folder / "a.onnx")


WRITERS = {
    "a model": lambda folder: student().save_pretrained(folder / "model"),
    "a pretrainer": lambda folder: pretrained().save_pretrained(folder),
    "a training": lambda folder: resumable(folder).fit(X, Y),
    "an ONNX file": exported,
}


@contextlib.contextmanager
def full_disk(kept=2000):
    """No file can have more than some bytes; what is written stops half-way."""
    try:
        import resource
    except ImportError:  # Windows: no such limit; writing fails as it would
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint.os, "fsync", _no_space)
            yield
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kept, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _no_space(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


for name, write in WRITERS.items():

    @row("no space on disk", name, OSError, "")
    def stops_half_way(folder, write=write):
        def call():
            with full_disk():
                write(folder)

        return call

    @row("no space on disk", f"{name}, at the end", OSError, "No space left")
    def stops_at_the_end(folder, write=write):
        def call():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(checkpoint.os, "fsync", _no_space)
                write(folder)

        return call

    @row("read-only folder", name, OSError, "")
    def in_the_way(folder, write=write):
        (folder / "closed").write_text("a file where a folder should be")
        return lambda: write(folder / "closed")


# ---------------------------------------------------------------------------- the laws
@pytest.fixture
def steps():
    """Number of steps that optimisers have finished."""
    done = []
    hook = register_optimizer_step_post_hook(lambda *given: done.append(1))
    yield done
    hook.remove()


def content(folder):
    """Every file below a folder, by name, and what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).digest() for p in files}


def identity(case):
    return f"{case.kind}: {case.name}"


@pytest.mark.parametrize("case", TABLE, ids=identity)
def test_what_is_wrong_is_named_before_anything_is_spent(
    case, tmp_path, steps, request
):
    more = ()
    if case.prepare is subject_88:  # the one row that needs recordings
        more = (request.getfixturevalue("physionet_root"),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call = case.prepare(tmp_path, *more)
        before, _ = content(tmp_path), steps.clear()
        with pytest.raises(case.error, match=case.words) as caught:
            call()
    assert str(caught.value), "an error says something"
    assert steps == [], "no time was lost"
    assert content(tmp_path) == before, "no partial file, and nothing else changed"


KINDS = {
    "all channels NaN or Inf",
    "flat channels",
    "wrong dtype",
    "wrong axes",
    "wrong number of channels",
    "duplicate, unknown or differently spelled names",
    "no positions where they are needed",
    "coincident positions",
    "electrodes not in chs_info",
    "student not a subset of the teacher",
    "another sampling rate than the checkpoint's",
    "windows too short for the spectrum",
    "one class",
    "string labels",
    "empty dataset",
    "labels in the unlabelled set",
    "teacher with another number of outputs",
    "checkpoint of another model",
    "truncated, bit-flipped or wrong-version file",
    "no space on disk",
    "read-only folder",
}


def test_the_table_has_every_kind_and_at_least_sixty_rows():
    names = [identity(case) for case in TABLE]
    assert len(names) >= 60 and len(set(names)) == len(names)
    assert KINDS <= {case.kind for case in TABLE}


# ------------------------------------------------------- wrong by its looks: a warning
SPOILED = {
    "volts": (X * 1e-6, "in volts"),
    "a flat channel": (X * (np.arange(6) != 1)[:, None], r"channels \[1\] are flat"),
    "a channel that is never finite": (
        np.where((np.arange(6) == 3)[:, None], np.nan, X),
        r"channels \[3\] are never finite",
    ),
}
LOOKERS = {"train": train, "distil": distil, "pretrain": pretrain, "stage": stage}


@pytest.mark.parametrize("looker", LOOKERS)
@pytest.mark.parametrize("what", SPOILED)
def test_what_looks_wrong_is_said_once(what, looker):
    x, words = SPOILED[what]
    with pytest.warns(UserWarning, match=words) as caught:
        LOOKERS[looker](x.astype(np.float32))()
    assert sum("UserWarning" in str(w.category) for w in caught if _is(w, words)) == 1


def _is(warning, words):
    import re

    return re.search(words, str(warning.message)) is not None


def test_everything_together_looks_at_the_windows_once():
    callbacks = [
        ("p", GCMAEPretraining(max_epochs=1)),
        ("d", TopologyDistillation(teacher())),
    ]
    net = classifier(cls=GCMAEClassifier, callbacks=callbacks, max_epochs=1)
    with pytest.warns(UserWarning) as caught:
        net.fit(X * np.float32(1e-6), Y)
    assert sum(_is(w, "in volts") for w in caught) == 1


# ---------------------------------------------------- odd, but no reason to refuse it
@pytest.mark.parametrize("n", [1, 9, 17], ids=["one window", "a last of one", "two"])
@pytest.mark.parametrize("callbacks", ["none", "both"])
def test_batches_of_one_and_smaller_last_batches_train(n, callbacks):
    x, y = labelled(max(n, 2))
    x, y = x[:n], y[:n]
    given = {"callbacks": []}
    if callbacks == "both":
        given["callbacks"] = [
            ("p", GCMAEPretraining(max_epochs=1, batch_size=8)),
            ("d", TopologyDistillation(teacher())),
        ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if n == 1 and callbacks == "both":
            return _one_window_is_refused(given, x, y)
        net = classifier(module__n_outputs=2, max_epochs=1, **given).fit(x, y)
    assert np.isfinite(net.history[-1, "train_loss"] if n > 8 else 0.0)
    assert np.isfinite(net.predict_proba(x)).all()


def _one_window_is_refused(given, x, y):
    with pytest.raises(ValueError, match="no batch to train on"):
        classifier(module__n_outputs=2, **given).fit(x, y)


@pytest.mark.parametrize("spelled", [["c3.", "CZ", "EEG C4-REF"], ["C3", "Cz", "c4"]])
def test_electrodes_are_found_in_other_spellings(spelled):
    model, expected = student(electrodes=spelled), student()
    assert model.network.rows.tolist() == expected.network.rows.tolist()


# --------------------------------------------------------- a folder that is read-only
@pytest.mark.parametrize("name", ["a model", "a training"])
def test_a_folder_without_permission_to_write_is_an_error(name):
    if sys.platform == "win32":  # where folders have no such permissions
        return
    outer = Path(tempfile.mkdtemp())  # pytest's own folders are closed to others
    try:
        outer.chmod(0o755)
        closed = outer / "closed"
        closed.mkdir(mode=0o555)
        WRITERS[name](outer / "open")  # whatever is imported late is imported
        with pytest.raises(PermissionError, match="closed"), as_nobody():
            WRITERS[name](closed)
        assert list(closed.iterdir()) == []
    finally:
        closed.chmod(0o755)
        shutil.rmtree(outer)


@contextlib.contextmanager
def as_nobody():
    """Root may write anywhere; somebody else may not."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
