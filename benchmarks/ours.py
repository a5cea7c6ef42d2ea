"""Our recipes, through the public interface of braindecode_gcmae alone."""

from __future__ import annotations

import ast
import hashlib
import io
import tempfile
import tokenize
import warnings
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """Which stages a student goes through, and changed arguments of each stage.

    ``pretrain`` and ``distil`` switch the stages; ``teacher_pretrained`` tells
    whether the teacher was pretrained too; with ``pool`` the teacher is also asked
    about windows without labels; with ``paper`` every part is its ``paper()``. With a
    ``committee`` that many students, each from a start of its own, are the teacher.
    ``cross_fit``: folds of people that teachers are trained without.
    """

    name: str
    pretrain: bool = False
    distil: bool = False
    teacher_pretrained: bool = True
    student: dict = field(default_factory=dict, hash=False)
    teacher: dict = field(default_factory=dict, hash=False)
    pretraining: dict = field(default_factory=dict, hash=False)
    distillation: dict = field(default_factory=dict, hash=False)
    pool: bool = False
    paper: bool = False
    committee: int = 0
    cross_fit: int = 0

    @property
    def is_teacher(self):
        """Whether the teacher itself is scored."""
        return self.name.startswith("teacher")

    @property
    def teaches(self):
        """Whether there is a large teacher, in pretraining or after it."""
        distilled = self.distil and not self.committee
        return self.pretrain or distilled or self.is_teacher

    @property
    def pretrains(self):
        """Whether anything is pretrained."""
        taught = (self.distil and not self.committee) or self.is_teacher
        return self.pretrain or (taught and self.teacher_pretrained)

    def settings(self):
        """Everything but the name, and the state of the code, for the cell's key."""
        out = asdict(self)
        del out["name"]
        if not self.distil:
            del out["pool"]
        if not self.committee:
            del out["committee"]
        if not self.cross_fit:
            del out["cross_fit"]
        return {**out, "code": code_digest()}


def statements(text):
    """Give what a source does: its lines without docstrings, comments and blanks.

    Nor where it finds other files of its package, so that files may be moved. Lines,
    not syntax trees: those are written otherwise by each version of Python.
    """
    lines = text.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        moved = isinstance(node, ast.ImportFrom) and node.level
        for part in (first if told else None, node if moved else None):
            if part is not None:
                for row in range(part.lineno, part.end_lineno + 1):
                    lines[row - 1] = ""
    return "\n".join(line.rstrip() for line in lines if line.strip())


_OF_DISTILLATION = "answers", "callback", "cross_fit"
_CALLBACKS = "hooks.py", *(f"distillation/{n}.py" for n in _OF_DISTILLATION)


@cache
def code_digest():
    """Eight digits of the code that decides our results, read but not imported.

    A changed model is another method: its old cells must not pass for new ones.
    """
    package = Path(__file__).parents[1] / "braindecode_gcmae"
    parts = "encoders graph masking momentum features losses models pretraining".split()
    files = [package / "callbacks" / name for name in _CALLBACKS]
    for part in parts:
        files += [*package.glob(f"{part}.py"), *package.glob(f"{part}/*.py")]
    texts = sorted(statements(f.read_text()) for f in files)
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:8]


OURS = (
    Recipe("scratch"),
    Recipe("pretrained", pretrain=True),
    Recipe("distilled", distil=True),
    Recipe("both", pretrain=True, distil=True),
    Recipe("teacher"),
    Recipe("teacher scratch", teacher_pretrained=False),
)


def distillation_weights(kd=0.0, gtd=0.0, lsp=0.0, gcrd=0.0):
    """Arguments of TopologyDistillation: these terms, and no others."""
    parts = {"kd": kd, "gtd": gtd, "lsp": lsp, "gcrd": gcrd}
    return {f"{name}_weight": weight for name, weight in parts.items()}


DISTILLATION = tuple(
    Recipe(f"distil {name}", distil=True, distillation=distillation_weights(**weights))
    for name, weights in (
        ("logits", {"kd": 1.0}),
        ("GTD", {"gtd": 1.0}),
        ("LSP", {"lsp": 1.0}),
        ("G-CRD", {"gcrd": 1.0}),
    )
) + (Recipe("distil new teacher", distil=True, teacher_pretrained=False),)
POOL = tuple(
    Recipe(f"{name} pool", distil=True, pool=True, **changed)
    for name, changed in (
        ("distilled", {}),
        ("both", {"pretrain": True}),
        ("distil logits", {"distillation": distillation_weights(kd=1.0)}),
        ("distil GTD", {"distillation": distillation_weights(gtd=1.0)}),
        ("distil logits 5", {"distillation": distillation_weights(kd=5.0)}),
    )
)
# The terms that need no topology: members have the student's own electrodes.
COMMITTEE = tuple(
    Recipe(
        name,
        distil=True,
        pool=pool,
        committee=5,
        distillation={**distillation_weights(kd=1.0), "temperature": 2.0},
    )
    for name, pool in (("committee", False), ("committee pool", True))
)
CROSS_FITTED = (
    Recipe("cross-fitted", distil=True, cross_fit=5),
    Recipe("cross-fitted pool", distil=True, cross_fit=5, pool=True),
)
PRETRAINING = tuple(
    Recipe(f"pretrain {name}", pretrain=True, pretraining={"objective": name})
    for name in ("contrast", "reconstruction", "sequential")
)
MASKING = tuple(
    Recipe(f"masked {ratio}", pretrain=True, pretraining={"drop_nodes": ratio})
    for ratio in (0.25, 0.75)
)
CONNECTIVITY = tuple(
    Recipe(f"graph {name}", student={"graph": f"{name}Graph"})
    for name in ("Functional", "Coherence", "Geometric", "Learned")
)
BANDS = tuple(
    Recipe(f"band {low:g}-{high:g} Hz", student={"f_min": low, "f_max": high})
    for low, high in ((4.0, 8.0), (8.0, 14.0), (14.0, 30.0))
)
NODES_ALONE = {"second_moments": False}
PARTS = (
    Recipe("second moments alone", student={"readout": "NoNodes"}),
    Recipe("nodes alone", student=NODES_ALONE),
    Recipe("nodes alone pretrained", pretrain=True, student=NODES_ALONE),
    Recipe("nodes alone both", pretrain=True, distil=True, student=NODES_ALONE),
    Recipe("no graph layers", student={"depth": 0}),
)
TIME_COURSE = {"features": "EvokedFeatures"}
_BOTH = {"student": TIME_COURSE, "teacher": TIME_COURSE}
EVOKED = (
    Recipe("evoked", student=TIME_COURSE),
    Recipe("evoked pretrained", pretrain=True, **_BOTH),
    Recipe("evoked distilled", distil=True, **_BOTH),
    Recipe("evoked both", pretrain=True, distil=True, **_BOTH),
    Recipe("teacher evoked", **_BOTH),
)
ABLATIONS = (
    DISTILLATION
    + POOL
    + COMMITTEE
    + CROSS_FITTED
    + PRETRAINING
    + MASKING
    + CONNECTIVITY
    + BANDS
    + PARTS
)
PAPER = (
    Recipe("paper scratch", paper=True),
    Recipe("paper pretrained", pretrain=True, paper=True),
    Recipe("paper both", pretrain=True, distil=True, paper=True),
    Recipe("teacher paper", paper=True),
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


def teacher_arguments(cell, recipe):
    """Size of the budget's teacher, and what the recipe changes of it."""
    from benchmarks.cells import TEACHERS
    from braindecode_gcmae import GCMAETeacher

    if recipe.paper:
        return GCMAETeacher.paper_arguments()
    return model_arguments({**TEACHERS[cell.budget.teacher_size], **recipe.teacher})


def model_arguments(given):
    """Replace the name of a part by its class: settings are kept as plain text."""
    from benchmarks import readouts
    from braindecode_gcmae import features, graph

    homes = {"features": features, "graph": graph, "readout": readouts}
    return {k: getattr(homes[k], v) if k in homes else v for k, v in given.items()}


def student_arguments(recipe):
    """What the recipe changes of the default student."""
    from braindecode_gcmae import GCMAEStudent

    return (
        GCMAEStudent.paper_arguments()
        if recipe.paper
        else model_arguments(recipe.student)
    )


def _once(cell, stage, recipe, make):
    """Make a stage once per fold and seed; methods of the same fold share it.

    It is seeded by itself, so that it does not matter which method comes first.
    """
    from benchmarks.methods import seeded

    q, split = cell.question, cell.split
    people = sorted(split.labelled + split.unlabelled)
    parts = [recipe.teacher, recipe.student, recipe.pretraining, recipe.paper]
    parts += [q.transductive]
    if stage in ("teacher", "committee"):
        parts += [split.labelled, recipe.teacher_pretrained]
    key = stage, repr([q.task, cell.kept, q.seed, q.fold, people, *parts])
    if key not in cell.shared:
        for old in [k for k in cell.shared if k[0] == stage][:-9]:
            del cell.shared[old]
        with seeded(cell.random_state, cell.device):
            cell.shared[key] = make()
    return cell.shared[key]


def pretrained_folder(cell, recipe):
    """Pretrain teacher and student on the fold's people, labelled or not."""

    def make():
        from braindecode_gcmae import GCMAEPretrainer, GCMAEStudent, GCMAETeacher

        X, people = cell.training("nested")
        signal = signal_arguments(cell)
        teacher = teacher_arguments(cell, recipe)
        student = student_arguments(recipe)
        make_pretrainer = GCMAEPretrainer.paper if recipe.paper else GCMAEPretrainer
        folder = tempfile.TemporaryDirectory(prefix="gcmae-")
        pretrainer = make_pretrainer(
            teacher=GCMAETeacher,
            student=GCMAEStudent,
            electrodes=list(cell.kept),
            chs_info=signal["chs_info"],
            sfreq=signal["sfreq"],
            max_epochs=cell.budget.pretraining_epochs,
            batch_size=cell.budget.pretraining_batch,
            device=cell.device,
            seed=cell.random_state,
            verbose=0,
            **{f"teacher__{name}": value for name, value in teacher.items()},
            **{f"student__{name}": value for name, value in student.items()},
            **recipe.pretraining,
        )
        pretrainer.fit(X, groups=people)
        pretrainer.save_pretrained(folder.name)
        return folder

    return Path(_once(cell, "pretraining", recipe, make).name)


def _net(cell, module, callbacks=()):
    from benchmarks.methods import training_arguments
    from braindecode_gcmae import GCMAEClassifier

    arguments = training_arguments(cell.budget, cell.device)
    arguments["callbacks"] = [*arguments["callbacks"], *callbacks]
    return GCMAEClassifier(module, **arguments)


def unfitted_teacher(cell, recipe):
    """The teacher before it has seen a label, for all electrodes."""
    from braindecode_gcmae import GCMAETeacher

    signal = signal_arguments(cell)
    if recipe.teacher_pretrained:
        folder = pretrained_folder(cell, recipe) / "teacher"
        module = GCMAETeacher.from_pretrained(folder, **signal)
    else:
        module = GCMAETeacher(**signal, **teacher_arguments(cell, recipe))
    return _net(cell, module)


def fitted_teacher(cell, recipe):
    """Fine-tune the teacher on all electrodes of the labelled people."""

    def make():
        X, _, y = cell.labelled("nested")
        return unfitted_teacher(cell, recipe).fit(X, y)

    return _once(cell, "teacher", recipe, make)


def fitted_committee(cell, recipe):
    """Students from scratch that differ in their random numbers alone."""

    def make():
        from benchmarks.methods import seeded

        X, _, y = cell.labelled("nested")
        members = []
        for number in range(recipe.committee):
            # other numbers than those of the student that they teach
            with seeded(cell.random_state + 10_000 * (number + 1), cell.device):
                members.append(_net(cell, scratch_student(cell, recipe)).fit(X, y))
        return members

    return _once(cell, "committee", recipe, make)


def run_recipe(cell, recipe):
    """Give the test people's probabilities and the number of parameters."""
    from benchmarks.methods import count_parameters

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("always", message=".*transductive")
        if recipe.is_teacher:
            net, view = fitted_teacher(cell, recipe), "nested"
        else:
            # the student's own device: its electrodes alone, aligned on their own
            net, view = fitted_student(cell, recipe), "low"
        probability = net.predict_proba(cell.test(view))
    return probability, count_parameters(net.module_)


def distillation(cell, recipe):
    """Give the callback that distils; of a pool, with its people's windows too."""
    from benchmarks.methods import seeded
    from braindecode_gcmae import TopologyDistillation

    arguments = {"seed": cell.random_state, **recipe.distillation}
    if cell.split.unlabelled and recipe.pool:
        people = cell.split.unlabelled
        arguments["unlabelled"], _ = cell.stage("soft labels", people, "nested")
    distil = TopologyDistillation.paper if recipe.paper else TopologyDistillation
    if recipe.cross_fit:
        with seeded(cell.random_state, cell.device):  # of the teacher's new head
            teacher = unfitted_teacher(cell, recipe)
        return distil(teacher, cross_fit=recipe.cross_fit, **arguments)
    source = fitted_committee if recipe.committee else fitted_teacher
    return distil(source(cell, recipe), **arguments)


def scratch_student(cell, recipe):
    """A student with new weights, on the cell's electrodes."""
    from braindecode_gcmae import GCMAEStudent

    given = student_arguments(recipe)
    electrodes = list(cell.kept)
    return GCMAEStudent(electrodes=electrodes, **signal_arguments(cell), **given)


def fitted_student(cell, recipe):
    """Train the student: from scratch or pretrained, with or without a teacher."""
    from benchmarks.methods import seeded
    from braindecode_gcmae import GCMAEStudent

    signal, kept = signal_arguments(cell), list(cell.kept)
    folder = pretrained_folder(cell, recipe) / "student" if recipe.pretrain else None
    callbacks = [("distil", distillation(cell, recipe))] if recipe.distil else []
    X, person, y = cell.labelled("nested")
    with seeded(cell.random_state, cell.device):
        if folder is not None:
            module = GCMAEStudent.from_pretrained(folder, electrodes=kept, **signal)
        else:
            module = scratch_student(cell, recipe)
        return _net(cell, module, callbacks).fit(X, y, subjects=person)
