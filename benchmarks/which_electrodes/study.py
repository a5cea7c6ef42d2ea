"""What is run: every set, decoded by itself, in folds of people."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

from benchmarks.cells import Budget, Cell, Question, person_rows
from benchmarks.methods import METHODS
from benchmarks.protocol import N_FOLDS, Windows
from benchmarks.rows import grouped, read, write
from benchmarks.which_electrodes.choice import TASK, TEACHER, choices, code_state

COLUMNS = (
    "regime teacher seed fold k strategy draw electrodes decoder person score "
    "n_windows n_labelled n_parameters seconds device code"
).split()
ALL = "all-64"  # electrodes that the windows have
DECODERS = ("scratch", "TS+LR re-centred")


class Fold(NamedTuple):
    """Coordinates of what is run and written at a time."""

    regime: str
    teacher: str
    seed: int
    fold: int


def worn(windows, electrodes, people):
    """Windows as a cap with these electrodes alone records them, of these people.

    A cell of them has nothing else to align with or to look at.

    Parameters
    ----------
    windows : Windows
    electrodes : sequence of str
    people : sequence of int

    Returns
    -------
    Windows
    """
    rows = windows.rows(people)
    kept = [windows.ch_names.index(name) for name in electrodes]
    return Windows(
        windows.X[rows][:, kept],
        windows.y[rows],
        windows.person[rows],
        tuple(electrodes),
        windows.positions[kept],
        windows.task,
    )


def scored(whole, electrodes, decoder):
    """Rows of the test people, decoded from some of the electrodes.

    Parameters
    ----------
    whole : Cell
        On all electrodes.
    electrodes : sequence of str
    decoder : str
        A key of ``METHODS``.
    """
    split = whole.split
    windows = worn(whole.windows, electrodes, split.labelled + split.test)
    question = replace(whole.question, method=decoder)
    cell = Cell(windows, question, split, whole.budget, whole.device)
    start = time.perf_counter()
    outcome = METHODS[decoder].run(cell)
    seconds = time.perf_counter() - start
    return person_rows(cell, outcome, study="", seconds=seconds)


def fold_rows(windows, place, *, budget=None, device="cpu"):
    """Give one CSV row per set, decoder and test person of a fold.

    Electrodes that two strategies agree on are decoded once.

    Parameters
    ----------
    windows : Windows
    place : Fold
    budget : Budget, optional
        Default the harness's, with the teacher of ``place``.
    device : str
        Where networks are trained.
    """
    budget = budget or Budget(teacher_size=place.teacher)
    where = place.regime, place.fold, place.seed
    question = Question(TASK, ALL, TEACHER.name, *where)
    whole = Cell.build(windows, question, budget, device=device)
    state, decoded, out = code_state(), {}, []
    for choice, decoder in product(choices(whole), DECODERS):
        same = frozenset(choice.electrodes), decoder
        if same not in decoded:
            decoded[same] = scored(whole, choice.electrodes, decoder)
        added = {**place._asdict(), **choice._asdict()}
        added |= {"electrodes": " ".join(choice.electrodes)}
        added |= {"decoder": decoder, "code": state}
        for row in decoded[same]:
            row = row | added
            out.append({column: str(row[column]) for column in COLUMNS})
    return out


def shard_path(path, shard):
    """Where a shard ``(i, n)`` writes; without one, ``path`` itself."""
    path = Path(path)
    return path if shard is None else path.with_suffix(f".{shard[0]}{path.suffix}")


def shard_paths(path):
    """Give the files of all shards that there are."""
    path = Path(path)
    return sorted(path.parent.glob(f"{path.stem}.[0-9]*{path.suffix}"))


def place_of(row):
    """Fold that a row belongs to."""
    return Fold(row["regime"], row["teacher"], int(row["seed"]), int(row["fold"]))


def gathered(path):
    """Rows of a CSV and of its shards; of a fold that two of them have, one's rows."""
    found = {}
    for part in (path, *shard_paths(path)):
        for place, rows in grouped(read(part), place_of).items():
            found.setdefault(place, rows)
    return [row for rows in found.values() for row in rows]


def run(windows, todo, path, *, shard=None, budget=None, device="cpu"):
    """Add the folds that no file has yet, one at a time.

    Parameters
    ----------
    windows : Windows
    todo : sequence of Fold
    path : path
        The CSV; a shard writes beside it.
    shard : (int, int), optional
    budget, device
        See :func:`fold_rows`.
    """
    own = shard_path(path, shard)
    own.parent.mkdir(parents=True, exist_ok=True)
    for place in todo:
        state = code_state()
        current = [row for row in gathered(path) if row["code"] == state]
        if place in {place_of(row) for row in current}:
            continue
        start = time.perf_counter()
        rows = fold_rows(windows, place, budget=budget, device=device)
        others = [row for row in read(own) if place_of(row) != place]
        write(own, others + rows, COLUMNS)
        seconds = time.perf_counter() - start
        sys.stdout.write(
            f"{place.regime} seed {place.seed} fold {place.fold + 1}/{N_FOLDS}: "
            f"{seconds:.0f} s\n"
        )
        sys.stdout.flush()
