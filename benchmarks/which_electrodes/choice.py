"""Which sets of electrodes are compared: chosen by a teacher, named, and random."""

from __future__ import annotations

import hashlib
import warnings
from functools import cache
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.electrodes import SETS
from benchmarks.ours import OURS, code_digest, fitted_teacher, statements

TASK, SIZES, N_DRAWS = "left-right", (4, 8, 16), 3
STRATEGIES = {
    f"{method}, {importance}": {"method": method, "importance": importance}
    for method, importance in product(
        ("greedy", "farthest"), ("occlusion", "topology", "uniform")
    )
}
# the first of each size is what the others are compared with
PRESETS = {4: ("motor-4", "rim-4"), 8: ("motor-8", "headband-8"), 16: ("both-16",)}
RANDOM = "random"
TEACHER = next(recipe for recipe in OURS if recipe.name == "teacher scratch")


class Choice(NamedTuple):
    """A set of electrodes, and who chose it; ``draw`` tells random ones apart."""

    k: int
    strategy: str
    draw: int
    electrodes: tuple


def random_electrodes(ch_names, k, seed):
    """Draw a subset, the same in every run.

    Parameters
    ----------
    ch_names : sequence of str
        What there is.
    k : int
    seed : sequence of int

    Returns
    -------
    tuple of str
        In the order of ``ch_names``.
    """
    rows = np.random.default_rng(seed).choice(len(ch_names), k, replace=False)
    return tuple(ch_names[row] for row in np.sort(rows))


def selections(cell):
    """Electrodes of every strategy, in the order of choice.

    The first k of them are a strategy's answer for k.

    Parameters
    ----------
    cell : Cell
        On all electrodes: its labelled people are all that the choice sees.

    Returns
    -------
    dict of str to tuple of str
    """
    from braindecode_gcmae import select_electrodes

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        teacher = fitted_teacher(cell, TEACHER)
    windows, _, _ = cell.labelled("nested")
    return {
        name: tuple(select_electrodes(teacher, max(SIZES), windows=windows, **options))
        for name, options in STRATEGIES.items()
    }


def choices(cell):
    """List the sets that are compared in a fold, named ones first.

    Parameters
    ----------
    cell : Cell
        On all electrodes.

    Returns
    -------
    list of Choice
    """
    ordered, names = selections(cell), cell.windows.ch_names
    out = []
    for k in SIZES:
        out += [Choice(k, name, 0, SETS[name]) for name in PRESETS[k]]
        out += [Choice(k, name, 0, kept[:k]) for name, kept in ordered.items()]
        for draw in range(N_DRAWS):
            seed = [cell.question.seed, cell.question.fold, k, draw]
            kept = random_electrodes(names, k, seed)
            out.append(Choice(k, RANDOM, draw, kept))
    return out


@cache
def code_state():
    """Eight digits of the code that decides the choice and the scores."""
    folder = Path(__file__).parents[2] / "braindecode_gcmae" / "selection"
    texts = [statements(file.read_text()) for file in sorted(folder.glob("*.py"))]
    return hashlib.sha256("\n".join([code_digest(), *texts]).encode()).hexdigest()[:8]
