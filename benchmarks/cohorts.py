"""Does the chain pay on people whom nobody has looked at? Simulated cohorts.

    python -m benchmarks.cohorts --cohorts 20  # simulated; 11 minutes each on one core
    python -m benchmarks.cohorts --table       # from the rows that there are

Every cohort is drawn anew from the generator of ``demo.py``, from a seed that was used
for nothing before: ten people with labels (300 windows), ten others to test on, and
people without labels for the pretraining, 10 or 40 of them. The student has a headband
far from the sources, which the teacher's 64 electrodes cover. Cohorts share nobody and
no training, so they are what intervals (Student's t), sign flips and Holm's correction
count; the people of one cohort are tested by the same networks and are not independent.

The student is the package's default, trained from two starts for 25 epochs on labels
alone (*scratch*), from pretrained weights (12 epochs, joint), with the default
distillation (soft labels and GTD), and with both. The teacher (width 64, two layers)
begins with the weights of the same pretraining. *As the teacher*: share of test windows
on which a method decides as the teacher does.

The comparisons and the number of cohorts, 20, were written down before the first of
them was made: each of the three against scratch, with 10 people without labels,
corrected for three. Those with 40 are a second table of their own.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.demonstration.data import simulated
from benchmarks.demonstration.report import interval
from benchmarks.demonstration.stages import Demonstration, Settings
from benchmarks.options import i_of_n, share
from benchmarks.ours import code_digest
from benchmarks.rows import RESULTS, append, description, grouped, line, read_cells
from benchmarks.tables import holm, sign_flip_test
from benchmarks.terms import STARTS, Variant, student

COLUMNS = (
    "cohort n_pool n_rows method start person score agreement seconds code".split()
)
FIRST_SEED = 1000  # of the generator: cohort c is drawn from FIRST_SEED + c
POOLS = 10, 40
SETTINGS = Settings(pretraining_epochs=12)
STUDENTS = {
    "scratch": Variant(),
    "pretrained": Variant(objective="joint"),
    "distilled": Variant(terms={}),
    "both": Variant(terms={}, objective="joint"),
}
PLANNED = "pretrained", "distilled", "both"
OTHERS = "teacher", "TS+LR, 8 electrodes", "TS+LR, 64 electrodes"


def cell_rows(cohort, n_pool, students=STUDENTS):
    """One CSV row per method, start and test person of a cohort."""
    study = simulated(n_pool=n_pool, seed=FIRST_SEED + cohort)
    shown = Demonstration(study, cohort, SETTINGS)
    own = shown.X[:, study.kept][shown.test]
    shown.linear(study.kept)
    shown.linear(list(range(len(study.names))))
    with TemporaryDirectory() as folder:
        shown.pretrain(folder, objective="joint")
        shown.teach(folder)
        few, dense, teacher = shown.scores
        told = teacher.probability.argmax(1)
        for name, score in zip(OTHERS, (teacher, few, dense), strict=True):
            yield from _rows(shown, name, 0, score.probability.argmax(1), told)
        for name, variant in students.items():
            for start in STARTS:
                net = student(shown, shown.teacher, variant, start, folder)
                yield from _rows(shown, name, start, net.predict(own), told)


def _rows(shown, method, start, said, told):
    y, person = (of[shown.test] for of in (shown.study.y, shown.study.person))
    for who in shown.test_people:
        here = person == who
        yield {
            "method": method,
            "start": start,
            "person": who,
            "score": f"{(said == y)[here].mean():.6f}",
            "agreement": f"{(said == told)[here].mean():.6f}",
        }


def read(path):
    """Rows of finished cells; two states of the code are refused."""
    keys = {"cell": ("cohort", "n_pool"), "row": ("method", "start", "person")}
    rows = read_cells(path, **keys, size="n_rows")
    states = sorted({row["code"] for row in rows})
    if len(states) > 1:
        raise ValueError(f"{path} holds rows of several states of the code: {states}")
    return rows


def run(cohorts, pools, path):
    """Add the cells that are missing, cohort by cohort."""
    from time import perf_counter

    done = {(int(row["cohort"]), int(row["n_pool"])) for row in read(path)}
    for cohort, n_pool in ((c, n) for c in cohorts for n in pools):
        if (cohort, n_pool) in done:
            continue
        begin = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = list(cell_rows(cohort, n_pool))
        same = {"cohort": cohort, "n_pool": n_pool, "n_rows": len(rows)}
        same |= {"seconds": round(perf_counter() - begin), "code": code_digest()}
        append(path, [{**same, **row} for row in rows], COLUMNS)
        sys.stdout.write(f"cohort {cohort}, pool {n_pool}: {same['seconds']} s\n")
        sys.stdout.flush()


def by_cohort(rows, column):
    """method -> array (n_cohorts,) of means over people and starts."""
    found = {}
    for method, own in grouped(rows, lambda row: row["method"]).items():
        cohorts = sorted(grouped(own, lambda row: int(row["cohort"])).items())
        means = [np.mean([float(row[column]) for row in of]) for _, of in cohorts]
        found[method] = np.array(means)
    return found


def table(rows):
    """Lines of the table of one size of the pool."""
    scores, agreement = (by_cohort(rows, column) for column in ("score", "agreement"))
    gaps = {name: scores[name] - scores["scratch"] for name in PLANNED}
    p_values = holm([sign_flip_test(gap) for gap in gaps.values()])
    corrected = dict(zip(gaps, p_values, strict=True))
    yield line(
        (
            f"{len(scores['scratch'])} cohorts",
            "accuracy %",
            "as the teacher %",
            "against scratch",
            "95 % CI",
            "cohorts better",
            "p (Holm)",
        )
    )
    yield line(["---"] * 7)
    for name in (*STUDENTS, *OTHERS):
        cells = [name, _spread(scores[name]), f"{100 * agreement[name].mean():.1f}"]
        if name == "scratch":
            cells += [""] * 4
        else:
            gap = scores[name] - scores["scratch"]
            mean, low, high = (100 * value for value in interval(gap))
            cells += [f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}"]
            cells += [f"{(gap > 0).sum()} of {len(gap)}"]
            cells += [f"{corrected[name]:.3f}" if name in corrected else ""]
        yield line(cells)


def _spread(values):
    mean, low, high = (100 * value for value in interval(values))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})"


def tables(rows):
    """Give the tables of all sizes of the pool."""
    sizes = sorted(grouped(rows, lambda row: int(row["n_pool"])).items())
    return "\n\n".join(
        f"{n_pool} people without labels:\n\n" + "\n".join(table(own))
        for n_pool, own in sizes
    )


def markdown(rows):
    """The page of results."""
    return f"# Simulated cohorts\n\n{description(__doc__)}\n\n{tables(rows)}\n"


def main(arguments=None):
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cohorts")
    parser.add_argument("--cohorts", type=int, default=20)
    parser.add_argument("--pools", type=int, nargs="+", default=POOLS)
    parser.add_argument("--shard", type=i_of_n, default=(0, 1), help="i/n, by cohort")
    parser.add_argument("--out", type=Path, default=RESULTS / "cohorts.csv")
    parser.add_argument("--table", action="store_true", help="from the rows there are")
    options = parser.parse_args(arguments)
    if not options.table:
        mine = share(range(options.cohorts), options.shard)
        run(mine, options.pools, options.out)
    rows = read(options.out)
    if rows:
        options.out.with_suffix(".md").write_text(markdown(rows), "utf-8")


if __name__ == "__main__":
    main()
