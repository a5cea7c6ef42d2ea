"""Command line: ``python -m benchmarks.run --study main --device cpu --seeds 1``."""

from __future__ import annotations

import argparse
import logging
import subprocess
import time
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from pathlib import Path

from benchmarks.cells import (
    Budget,
    Cell,
    Question,
    append_rows,
    finished,
    person_rows,
)
from benchmarks.methods import METHODS, PEER_NETWORKS
from benchmarks.options import i_of_n, share
from benchmarks.ours import ABLATIONS, EVOKED, PAPER
from benchmarks.protocol import N_FOLDS, TASKS

log = logging.getLogger("benchmarks")
RESULTS = Path(__file__).parent / "results"
TANGENT = ("TS+LR re-centred", "TS+LR")
PEERS = (*TANGENT, *PEER_NETWORKS)
RESPONSES = tuple(
    f"{name}{how}" for name in ("xDAWN+TS+LR", "means+LDA") for how in ("", " aligned")
)
STUDENTS = ("scratch", "pretrained", "distilled", "both")
LINEAR = "second moments alone"  # what a student is without its graph network


@dataclass(frozen=True)
class Study:
    """Tasks, electrode sets, regimes and methods whose product is run, in order."""

    tasks: tuple
    electrodes: tuple
    methods: tuple
    regimes: tuple = ("few", "many")


STUDIES = {
    "main": Study(
        ("left-right",),
        ("motor-8", "all-64"),
        (*PEERS, *STUDENTS, LINEAR, "teacher", "teacher scratch"),
    ),
    "density": Study(
        ("left-right",),
        ("motor-4", "motor-8", "both-16", "wide-32", "all-64"),
        (
            *TANGENT[:1],
            "ShallowFBCSPNet",
            "interpolated ShallowFBCSPNet",
            *STUDENTS,
            "teacher",
        ),
        ("few",),
    ),
    "tasks": Study(
        ("sex", "rest-imagery", "rest-imagery-band"),
        ("motor-8", "all-64"),
        ("log-PSD+LR", *PEERS, *STUDENTS, LINEAR, "teacher"),
        ("many",),
    ),
    "ablations": Study(
        ("left-right",),
        ("motor-8", "headband-8"),
        (*STUDENTS, "teacher", *(recipe.name for recipe in ABLATIONS)),
        ("few",),
    ),
    "paper": Study(
        ("left-right",),
        ("motor-8", "headband-8"),
        (*STUDENTS, "teacher", *(recipe.name for recipe in PAPER)),
        ("few",),
    ),
    "evoked": Study(
        ("cue",),
        ("motor-8", "headband-8"),
        (
            *RESPONSES,
            "EEGNet",
            "scratch",
            *(recipe.name for recipe in EVOKED),
        ),
    ),
    "quick": Study(
        ("left-right",),
        ("motor-8",),
        ("TS+LR re-centred", "ShallowFBCSPNet", "scratch"),
        ("few",),
    ),
}


def questions(study, seeds, budget, *, only=(), electrodes=(), regimes=(), **rest):
    """List the cells of a study, seeds outermost: a stop leaves whole seeds."""
    tasks, folds = rest.get("tasks", ()), rest.get("folds", range(N_FOLDS))
    # pool people's labels are read by no method; one fold's methods are adjacent
    # so that teacher and pretraining are made once
    out = []
    for seed, task, name, regime, fold, label in product(
        seeds,
        study.tasks,
        study.electrodes,
        study.regimes,
        folds,
        only or study.methods,
    ):
        method = METHODS[label]
        unwanted = (
            (electrodes and name not in electrodes)
            or (regimes and regime not in regimes)
            or (tasks and task not in tasks)
            or (name == "all-64" and not method.all_electrodes)
        )
        if unwanted:
            continue
        settings = method.describe(budget, rest.get("device", "cpu"))
        flags = rest.get("transductive", False), rest.get("nested", False)
        out.append(Question(task, name, label, regime, fold, seed, settings, *flags))
    return out


def shard(questions, part):
    """Give the i-th of n processes its share, ``part`` being "i/n".

    Cells that share a teacher and a pretraining stay together.
    """
    place = attrgetter("task", "electrodes", "regime", "seed", "fold")
    return share(questions, i_of_n(part), place=place)


def revision():
    """Give the commit that the result was made with, or nothing."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    here = Path(__file__).parent
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    except OSError:
        return ""
    return done.stdout.strip()


def run_cells(todo, load, budget, path, *, study, device="cpu"):
    """Run what is not in the CSV yet; append each cell when it is done.

    Parameters
    ----------
    todo : list of Question
        The cells.
    load : callable
        Gives the windows of a task.
    budget : Budget
        Of every network.
    path : path
        The CSV.
    study, device : str
        Recorded in the rows; ``device`` is where networks are trained.

    Returns
    -------
    int
        Number of cells that failed; they have no row and are tried next time.
    """
    done, shared, windows, failed = finished(path), {}, {}, 0
    todo = [question for question in todo if question.key not in done]
    commit = revision()
    for i, question in enumerate(todo):
        if question.task not in windows:
            windows = {question.task: load(question.task)}
        data = windows[question.task]
        cell = Cell.build(data, question, budget, device=device, shared=shared)
        start = time.perf_counter()
        try:
            outcome = METHODS[question.method].run(cell)
        except (ImportError, AttributeError, RuntimeError, TypeError, ValueError) as e:
            log.exception("%s failed: %s", question.method, e)
            failed += 1
            continue
        seconds = time.perf_counter() - start
        rows = person_rows(cell, outcome, study=study, seconds=seconds, revision=commit)
        append_rows(path, rows)
        mean = sum(float(row["score"]) for row in rows) / len(rows)
        log.info(
            "%d/%d %s %s %s %s fold %d seed %d: %.3f in %.0f s",
            i + 1,
            len(todo),
            question.task,
            question.electrodes,
            question.method,
            question.regime,
            question.fold,
            question.seed,
            mean,
            seconds,
        )
    return failed


def parser():
    """Give the command line."""
    listed = {"type": lambda text: tuple(text.split(","))}
    out = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    out.add_argument("command", nargs="?", choices=("run", "prepare"), default="run")
    out.add_argument("--study", choices=tuple(STUDIES), default="main")
    out.add_argument("--device", default="cpu")
    out.add_argument("--seeds", type=int, default=1, help="how many, from 0")
    out.add_argument("--first-seed", type=int, default=0)
    out.add_argument("--only", default=(), help="methods, comma between", **listed)
    out.add_argument("--electrodes", default=(), help="sets, comma between", **listed)
    out.add_argument("--regimes", default=(), help="few,many", **listed)
    out.add_argument("--tasks", default=(), **listed)
    out.add_argument("--folds", type=int, default=N_FOLDS, help="how many, from 0")
    out.add_argument("--windows", help="what prepare wrote, else cache or MNE_DATA")
    out.add_argument("--root", help="folder that holds MNE-eegbci-data")
    out.add_argument("--out", help="CSV of run, .npz of prepare")
    out.add_argument("--threads", type=int, default=0)
    out.add_argument("--shard", default="0/1", help="i/n: this process' share of n")
    out.add_argument("--transductive", action="store_true")
    out.add_argument("--nested", action="store_true", help="tune on training people")
    for name, value in vars(Budget()).items():
        flag = "--" + name.replace("_", "-")
        out.add_argument(flag, type=type(value), default=value)
    return out


def main(argv=None):
    """Run the command line; the exit status tells whether a cell failed."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("braindecode").setLevel(logging.ERROR)
    if args.command == "prepare":
        from benchmarks.prepare import prepare

        task = args.tasks[0] if args.tasks else "left-right"
        prepare(args.root, task).save(args.out or f"{task}.npz")
        return 0
    unknown = [name for name in args.only if name not in METHODS]
    if unknown:
        raise SystemExit(f"unknown methods {unknown}; choose from {list(METHODS)}")
    unknown = [name for name in args.tasks if name not in TASKS]
    if unknown:
        raise SystemExit(f"unknown tasks {unknown}; choose from {list(TASKS)}")
    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    budget = Budget(**{name: getattr(args, name) for name in vars(Budget())})
    todo = questions(
        STUDIES[args.study],
        range(args.first_seed, args.first_seed + args.seeds),
        budget,
        only=args.only,
        electrodes=args.electrodes,
        regimes=args.regimes,
        tasks=args.tasks,
        folds=range(args.folds),
        transductive=args.transductive,
        nested=args.nested,
        device=args.device,
    )

    todo = shard(todo, args.shard)

    def load(task):
        from benchmarks.prepare import load_or_prepare

        return load_or_prepare(task, args.root, args.windows)

    name = "tuning" if args.nested else args.study
    path = Path(args.out) if args.out else RESULTS / f"{name}.csv"
    failed = run_cells(todo, load, budget, path, study=name, device=args.device)
    return int(failed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
