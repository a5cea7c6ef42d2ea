"""The command line that the studies share: which folds, where, and whose share."""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

from benchmarks.cells import TEACHERS
from benchmarks.protocol import N_FOLDS
from benchmarks.rows import RESULTS, grouped


def i_of_n(text):
    """Read ``i/n``, the i-th of n processes."""
    number, n_parts = map(int, text.split("/"))
    if not 0 <= number < n_parts:
        raise ValueError(f"a shard is i/n with 0 <= i < n, got {text!r}")
    return number, n_parts


def share(units, part, *, place=None):
    """Deal units in turns to n processes; the i-th one's.

    Parameters
    ----------
    units : sequence
    part : (int, int)
        See :func:`i_of_n`.
    place : callable, optional
        Units of which it says the same stay together; default each by itself.
    """
    number, n_parts = part
    if place is None:
        return list(units)[number::n_parts]
    mine = set(list(grouped(units, place))[number::n_parts])
    return [unit for unit in units if place(unit) in mine]


def study_parser(study, *, teacher_size, threads):
    """Give the options of a study by folds and seeds, with its defaults."""
    out = argparse.ArgumentParser(prog=f"python -m benchmarks.{study}")
    out.add_argument("--seeds", type=int, default=1, help="how many")
    out.add_argument("--first-seed", type=int, default=0)
    out.add_argument("--folds", type=int, default=N_FOLDS, help="how many, from 0")
    out.add_argument("--device", default="cpu", help="cpu or cuda")
    out.add_argument("--threads", type=int, default=threads, help="of a process")
    out.add_argument("--teacher-size", choices=tuple(TEACHERS), default=teacher_size)
    out.add_argument("--shard", type=i_of_n, help="i/n: this process' share of n")
    out.add_argument("--out", type=Path, default=RESULTS / f"{study}.csv")
    out.add_argument("--table", action="store_true", help="from the rows there are")
    return out


def asked(options):
    """(seed, fold) of what is asked for; of a shard, its own alone."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    units = product(seeds, range(options.folds))
    return share(units, options.shard or (0, 1))
