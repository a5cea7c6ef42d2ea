"""What is run: a student from every start of a setting, in folds of people."""

from __future__ import annotations

import logging
import time
import warnings
from dataclasses import dataclass

import numpy as np

from benchmarks.cells import Budget, Cell, Question
from benchmarks.methods import seeded, training_arguments
from benchmarks.ours import OURS, code_digest, pretrained_folder
from benchmarks.protocol import FEW, Split, check_leakage, person_folds
from benchmarks.rows import append, read_cells
from benchmarks.transfer.settings import REFERENCE, SETTINGS, material, recorded

log = logging.getLogger("benchmarks")
COLUMNS = (
    "setting weights start n_labelled fold seed person score n_windows n_rows seconds "
    "device code"
).split()
CELL = "setting weights n_labelled seed fold code".split()
LABELLED_PEOPLE = (3, FEW)
SOURCE_TASK, SOURCE_CAP = "left-right", "motor-8"
SHIPPED = {
    "pretrained": "physionet-motor-8-pretrained",
    "restandardised": "physionet-motor-8-pretrained",
    "classifier": "physionet-motor-8-fists",
}


def deal(people, pool, fold, seed, n_labelled):
    """People tested and labelled; fewer labelled people are the first of more.

    With ten it is the harness' regime ``few``.

    Raises
    ------
    ValueError
        If fewer people than ``n_labelled`` are left to train on.
    """
    test = person_folds(people, seed)[fold]
    training = [p for p in people if p not in test]
    if not 0 < n_labelled <= len(training):
        raise ValueError(f"{n_labelled} labelled people of {len(training)} in training")
    drawn = np.random.default_rng([seed, fold, FEW]).permutation(training)
    labelled = tuple(sorted(int(p) for p in drawn[:n_labelled]))
    rest = tuple(p for p in training if p not in labelled)
    return Split(test, labelled, rest + tuple(pool))


@dataclass(frozen=True)
class Fold:
    """One fold of one seed, and where its pretraining is kept while it lasts."""

    seed: int
    number: int
    budget: Budget
    device: str
    shared: dict

    @property
    def random_state(self):
        """The harness' integer for this fold and seed."""
        return 1000 * self.seed + self.number

    def split(self, people, pool, n_labelled):
        """Deal the people of a setting."""
        return deal(people, pool, self.number, self.seed, n_labelled)

    def pretrained(self, tested):
        """Folder of a student that was pretrained without the fold's test people.

        Raises
        ------
        Leakage
            If one of those ``tested`` was pretrained on.
        """
        windows = recorded(SOURCE_TASK)
        split = self.split(windows.people, windows.pool, FEW)
        check_leakage("pretraining", split.labelled + split.unlabelled, tested)
        where = SOURCE_TASK, SOURCE_CAP, "pretrained", "few", self.number, self.seed
        question = Question(*where)
        cell = Cell(windows, question, split, self.budget, self.device, self.shared)
        recipe = next(recipe for recipe in OURS if recipe.name == "pretrained")
        return pretrained_folder(cell, recipe) / "student"


def weights_of(setting, budget):
    """Which weights a setting starts from, as its rows call them."""
    if setting.simulated:
        return "shipped"
    return f"{budget.pretraining_epochs} epochs, {budget.teacher_size} teacher"


def beginning(start, weights, signal, seed):
    """The student before fine-tuning; starts share the head, whatever the body.

    Parameters
    ----------
    start : str
    weights : path or str
        What ``from_pretrained`` is given; not looked at from scratch.
    signal : dict
        Signal arguments of the cap.
    seed : int
    """
    from braindecode_gcmae import GCMAEStudent

    with seeded(seed):
        fresh = GCMAEStudent(**signal)
    if start == REFERENCE:
        return fresh
    module = GCMAEStudent.from_pretrained(weights, electrodes=None, **signal)
    module.final_layer.load_state_dict(fresh.final_layer.state_dict())
    if start == "restandardised":
        module.reset_statistics()
    return module


def fine_tuned(module, X, y, fold):
    """Train a student; order and dropout depend on the fold and the seed alone."""
    from braindecode import EEGClassifier

    with seeded(fold.random_state, fold.device):
        net = EEGClassifier(module, **training_arguments(fold.budget, fold.device))
        return net.fit(X, y)


def cell_rows(setting, windows, fold, n_labelled):
    """One CSV row per start and test person."""
    split = fold.split(windows.people, windows.pool, n_labelled)
    training, rows = windows.rows(split.labelled), []
    for start in setting.starts:
        weights = None
        if start != REFERENCE:
            own = setting.simulated
            weights = SHIPPED[start] if own else fold.pretrained(split.test)
        began = time.perf_counter()
        module = beginning(start, weights, windows.signal, fold.random_state)
        net = fine_tuned(module, windows.X[training], windows.y[training], fold)
        seconds = time.perf_counter() - began
        for person in split.test:
            tested = windows.rows([person])
            right = net.predict(windows.X[tested]) == windows.y[tested]
            rows.append(
                {
                    "setting": setting.name,
                    "weights": weights_of(setting, fold.budget),
                    "start": start,
                    "n_labelled": n_labelled,
                    "fold": fold.number,
                    "seed": fold.seed,
                    "person": person,
                    "score": f"{right.mean():.6f}",
                    "n_windows": len(tested),
                    "n_rows": len(setting.starts) * len(split.test),
                    "seconds": f"{seconds:.1f}",
                    "device": fold.device,
                    "code": code_digest(),
                }
            )
    return rows


def read(path):
    """Rows of finished cells."""
    return read_cells(path, cell=CELL, row=("start", "person"), size="n_rows")


def run(units, budget, path, *, settings=SETTINGS, counts=LABELLED_PEOPLE, device):
    """Add the cells that are missing.

    Parameters
    ----------
    units : list of (int, int)
        Seeds and folds, each with a pretraining of its own.
    budget : Budget
    path : path
        The CSV.
    settings : sequence of Setting
    counts : sequence of int
        Numbers of labelled people.
    device : str
    """
    state = code_digest()  # of the code as it is now, not after an edit meanwhile
    for seed, number in units:
        fold = Fold(seed, number, budget, device, {})
        for setting in settings:
            done = {tuple(row[name] for name in CELL) for row in read(path)}
            known = setting.name, weights_of(setting, budget)
            todo = [
                n
                for n in counts
                if (*known, *map(str, (n, seed, number)), state) not in done
            ]
            windows = material(setting) if todo else None
            for n_labelled in todo:
                began = time.perf_counter()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    rows = cell_rows(setting, windows, fold, n_labelled)
                append(path, rows, COLUMNS)
                took = time.perf_counter() - began
                report = "%s, %d labelled, seed %d, fold %d: %.0f s"
                log.info(report, setting.name, n_labelled, seed, number, took)
