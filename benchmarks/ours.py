"""Our recipes, through the public interface of braindecode_gcmae alone."""

from __future__ import annotations

import tempfile
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

IGNORED = -100  # CrossEntropyLoss leaves these windows out; the teacher does not


@dataclass(frozen=True)
class Recipe:
    """Which stages a student goes through, and changed arguments of each stage.

    ``pretrain`` and ``distil`` switch the stages; ``teacher_pretrained`` tells
    whether the teacher was pretrained too.
    """

    name: str
    pretrain: bool = False
    distil: bool = False
    teacher_pretrained: bool = True
    student: dict = field(default_factory=dict, hash=False)
    teacher: dict = field(default_factory=dict, hash=False)
    pretraining: dict = field(default_factory=dict, hash=False)
    distillation: dict = field(default_factory=dict, hash=False)

    def settings(self):
        """Everything but the name, for the cell's key."""
        out = asdict(self)
        del out["name"]
        return out


OURS = (
    Recipe("scratch"),
    Recipe("pretrained", pretrain=True),
    Recipe("distilled", distil=True),
    Recipe("both", pretrain=True, distil=True),
    Recipe("teacher"),
    Recipe("teacher scratch", teacher_pretrained=False),
)


def signal_arguments(cell):
    """Signal parameters of both models: every electrode, by name."""
    windows = cell.windows
    return {
        "n_outputs": 2,
        "n_times": windows.X.shape[2],
        "sfreq": windows.task.sfreq,
        "chs_info": windows.chs_info(),
    }


def _once(cell, stage, recipe, make):
    """Make a stage once per fold and seed; methods of the same fold share it."""
    q, split = cell.question, cell.split
    people = split.labelled + split.unlabelled
    kept = cell.kept
    parts = [recipe.teacher, recipe.student, recipe.pretraining]
    labelled = split.labelled if stage == "teacher" else ()
    extra = recipe.teacher_pretrained if stage == "teacher" else None
    key = (stage, q.task, kept, q.seed, sorted(people), labelled, repr(parts), extra)
    key = repr(key)
    if key not in cell.shared:
        for old in [k for k in cell.shared if k.startswith(f"('{stage}'")][:-4]:
            del cell.shared[old]
        cell.shared[key] = make()
    return cell.shared[key]


def pretrained_folder(cell, recipe):
    """Pretrain teacher and student on the fold's people, labelled or not."""

    def make():
        from braindecode_gcmae import GCMAEPretrainer, GCMAEStudent, GCMAETeacher

        X, people = cell.training("nested")
        signal = signal_arguments(cell)
        folder = tempfile.TemporaryDirectory(prefix="gcmae-")
        pretrainer = GCMAEPretrainer(
            teacher=GCMAETeacher,
            student=GCMAEStudent,
            electrodes=list(cell.kept),
            chs_info=signal["chs_info"],
            sfreq=signal["sfreq"],
            max_epochs=cell.budget.pretraining_epochs,
            batch_size=cell.budget.pretraining_batch,
            device=cell.device,
            verbose=0,
            **recipe.pretraining,
        )
        pretrainer.fit(X, groups=people)
        pretrainer.save_pretrained(folder.name)
        return folder

    return Path(_once(cell, "pretraining", recipe, make).name)


def _net(cell, module, callbacks=()):
    from braindecode import EEGClassifier

    from benchmarks.methods import training_arguments

    arguments = training_arguments(cell.budget, cell.device)
    arguments["callbacks"] = [*arguments["callbacks"], *callbacks]
    return EEGClassifier(module, **arguments)


def fitted_teacher(cell, recipe):
    """Fine-tune the teacher on all electrodes of the labelled people."""

    def make():
        from braindecode_gcmae import GCMAETeacher

        signal = signal_arguments(cell)
        X, _, y = cell.labelled("nested")
        if recipe.teacher_pretrained:
            folder = pretrained_folder(cell, recipe) / "teacher"
            module = GCMAETeacher.from_pretrained(folder, **signal)
        else:
            module = GCMAETeacher(**signal, **recipe.teacher)
        return _net(cell, module).fit(X, y)

    return _once(cell, "teacher", recipe, make)


def training_set(cell, distil):
    """Labelled windows; before a teacher also the unlabelled, without a class."""
    X, _, y = cell.labelled("nested")
    if not distil or not cell.split.unlabelled:
        return X, y
    extra, _ = cell.stage("soft labels", cell.split.unlabelled, "nested")
    return np.concatenate([X, extra]), np.r_[y, np.full(len(extra), IGNORED)]


def run_recipe(cell, recipe):
    """Give the test people's probabilities and the number of parameters."""
    from benchmarks.methods import count_parameters, seeded

    with seeded(cell.random_state, cell.device), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if recipe.name.startswith("teacher"):
            net = fitted_teacher(cell, recipe)
            probability = net.predict_proba(cell.test("nested"))
            return probability, count_parameters(net.module_)
        net = fitted_student(cell, recipe)
        # the student's own device: its electrodes alone, aligned on their own
        probability = net.predict_proba(cell.test("low"))
    return probability, count_parameters(net.module_)


def fitted_student(cell, recipe):
    """Train the student: from scratch or pretrained, with or without a teacher."""
    from braindecode_gcmae import GCMAEStudent

    signal, kept = signal_arguments(cell), list(cell.kept)
    teacher = fitted_teacher(cell, recipe) if recipe.distil else None
    if recipe.pretrain:
        folder = pretrained_folder(cell, recipe) / "student"
        module = GCMAEStudent.from_pretrained(folder, electrodes=kept, **signal)
    else:
        module = GCMAEStudent(electrodes=kept, **signal, **recipe.student)
    callbacks = []
    if recipe.distil:
        from braindecode_gcmae import TopologyDistillation

        distil = TopologyDistillation(teacher, **recipe.distillation)
        callbacks = [("distil", distil)]
    X, y = training_set(cell, recipe.distil)
    return _net(cell, module, callbacks).fit(X, y)
