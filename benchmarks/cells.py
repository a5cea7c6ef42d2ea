"""A cell of the study, its key, and the CSV that its rows are appended to."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace

from benchmarks.electrodes import electrode_set
from benchmarks.protocol import PROTOCOL, Split, Windows, check_leakage, make_split
from benchmarks.rows import append, read_cells

COLUMNS = (
    "key study task electrodes n_electrodes method regime fold seed person score "
    "decision target n_windows n_test n_labelled n_unlabelled n_parameters seconds "
    "device revision config"
).split()


# "small" is for a run without a GPU: the teacher of the demonstration.
TEACHERS = {"default": {}, "small": {"emb_dim": 64, "depth": 2}}


@dataclass(frozen=True)
class Budget:
    """What every network gets alike: AdamW, one cosine to zero, last epoch kept.

    No people are spent on early stopping: with ten labelled people two of them
    would be a fifth of the labels, and the cosine ends where it ends for all.
    ``teacher_size`` is that of our teacher.
    """

    epochs: int = 40
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-2
    pretraining_epochs: int = 100
    pretraining_batch: int = 128
    teacher_size: str = "default"

    def __post_init__(self):
        if self.teacher_size not in TEACHERS:
            raise ValueError(f"teacher_size is one of {list(TEACHERS)}")

    def settings(self, *, pretrains=True, teaches=True):
        """What enters a cell's key: what the method does not do decides nothing.

        A teacher of default size adds nothing.
        """
        out = asdict(self)
        if not pretrains:
            del out["pretraining_epochs"], out["pretraining_batch"]
        if not teaches or self.teacher_size == "default":
            del out["teacher_size"]
        return out


@dataclass(frozen=True)
class Question:
    """Coordinates of a cell, all of them in its key."""

    task: str
    electrodes: str
    method: str
    regime: str
    fold: int
    seed: int
    settings: dict = field(default_factory=dict, hash=False)
    transductive: bool = False
    nested: bool = False

    @property
    def config(self):
        """Canonical JSON of all that decides the result."""
        return json.dumps({"protocol": PROTOCOL, **asdict(self)}, sort_keys=True)

    @property
    def key(self):
        """Twelve hexadecimal digits of the configuration's SHA-256."""
        return hashlib.sha256(self.config.encode()).hexdigest()[:12]


@dataclass
class Cell:
    """What a method may see: windows, people, budget, and nothing of the labels
    of unlabelled or tested people. Runs of the same cell differ in their ``start``.
    """

    windows: Windows
    question: Question
    split: Split
    budget: Budget
    device: str = "cpu"
    shared: dict = field(default_factory=dict)
    start: int = 0

    @classmethod
    def build(cls, windows, question, budget, *, device="cpu", shared=None):
        """Deal the people of a question."""
        people, pool, strata = windows.people, windows.pool, windows.strata()
        q = question
        deal = {"strata": strata, "nested": q.nested}
        split = make_split(people, pool, q.regime, q.fold, q.seed, **deal)
        shared = {} if shared is None else shared
        return cls(windows, q, split, budget, device, shared)

    @property
    def kept(self):
        """Names of the cell's electrodes."""
        return electrode_set(self.question.electrodes, self.windows.ch_names)

    @property
    def random_state(self):
        """One integer per fold, seed and start, the same for all methods."""
        place = 1000 * self.question.seed + self.question.fold
        return place + 1_000_000 * self.start

    def stage(self, name, people, view, *, labels=False):
        """Give the windows of a training stage, after the check for leakage.

        Parameters
        ----------
        name : str
            Of the stage.
        people : sequence of int
            Who enters it.
        view : str
            See :meth:`Windows.view`.
        labels : bool
            Ask for the labels too, which only labelled people have.

        Returns
        -------
        X, person or X, person, y

        Raises
        ------
        Leakage
            If a test person is among them, unless the question is transductive
            and asks for no labels.
        """
        allowed = self.question.transductive and not labels
        check_leakage(name, people, self.split.test, transductive=allowed)
        rows = self.windows.rows(people)
        X, person = self.windows.view(view, self.kept)[rows], self.windows.person[rows]
        if not labels:
            return X, person
        hidden = sorted(set(people) - set(self.split.labelled))
        if hidden:
            raise PermissionError(f"stage {name!r} asks for hidden labels of {hidden}")
        return X, person, self.windows.y[rows]

    def labelled(self, view):
        """Windows, people and labels of the labelled people."""
        return self.stage("labelled", self.split.labelled, view, labels=True)

    def training(self, view):
        """Windows and people of all who may be trained on, labels aside."""
        people = self.split.labelled + self.split.unlabelled
        if self.question.transductive:
            people += self.split.test
        return self.stage("unlabelled", people, view)

    def test(self, view):
        """Windows of the test people."""
        return self.windows.view(view, self.kept)[self.windows.rows(self.split.test)]

    def on_all_electrodes(self):
        """Give the same cell with every electrode."""
        return replace(self, question=replace(self.question, electrodes="all-64"))


def person_rows(cell, outcome, *, study, seconds, revision=""):
    """Give one CSV row per test person.

    ``score`` is the person's share of right windows (for tasks about the person:
    right or wrong), ``decision`` the mean probability of class 1.
    """
    rows, windows, question = [], cell.windows, cell.question
    where = windows.rows(cell.split.test)
    y, people = windows.y[where], windows.person[where]
    for person in cell.split.test:
        own = people == person
        p, target = outcome.probability[own], y[own]
        decision = float(p[:, 1].mean())
        if windows.task.per_person:
            score, truth = float((decision > 0.5) == target[0]), int(target[0])
        else:
            score, truth = float((p.argmax(1) == target).mean()), ""
        rows.append(
            {
                "key": question.key,
                "study": study,
                "task": question.task,
                "electrodes": question.electrodes,
                "n_electrodes": len(cell.kept),
                "method": question.method,
                "regime": question.regime,
                "fold": question.fold,
                "seed": question.seed,
                "person": person,
                "score": f"{score:.6f}",
                "decision": f"{decision:.6f}",
                "target": truth,
                "n_windows": int(own.sum()),
                "n_test": len(cell.split.test),
                "n_labelled": len(cell.split.labelled),
                "n_unlabelled": len(cell.split.unlabelled),
                "n_parameters": outcome.n_parameters,
                "seconds": f"{seconds:.1f}",
                "device": cell.device,
                "revision": revision,
                "config": question.config,
            }
        )
    return rows


def append_rows(path, rows):
    """Append the rows of one finished cell; see :func:`benchmarks.rows.append`."""
    append(path, rows, COLUMNS)


def read_rows(path):
    """Read the rows of finished cells: a cell that a stop cut short is left out."""
    return read_cells(path, cell=("key",), row=("person",), size="n_test")


def finished(path):
    """Keys of the cells whose every test person has a row."""
    return {row["key"] for row in read_rows(path)}
