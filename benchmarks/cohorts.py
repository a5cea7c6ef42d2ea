"""Does the chain pay on people whom nobody has looked at? Simulated cohorts.

    python -m benchmarks.cohorts --cohorts 20                # four minutes each
    python -m benchmarks.cohorts --study pool --cohorts 20   # and as many
    python -m benchmarks.cohorts --study pseudo --first 20 --cohorts 20    # two minutes
    python -m benchmarks.cohorts --study longer --first 40 --cohorts 20    # four
    python -m benchmarks.cohorts --study chain --first 60 --cohorts 12    # ten
    python -m benchmarks.cohorts --table    # from the rows that there are

Every cohort is drawn anew from the generator of ``demo.py``, from a seed that was used
for nothing before: ten people with labels (300 windows), ten others to test on, and
people without labels. The student has a headband far from the sources, which the
teacher's 64 electrodes cover. Cohorts share nobody and no training, so they are what
intervals (Student's t), sign flips and Holm's correction count; the people of one
cohort are tested by the same networks and are not independent. The student is the
package's default, trained from two starts for 25 epochs; the teacher has width 64 and
two layers. *As the teacher*: share of test windows on which a method decides as the
teacher does.

**Stages** (``stages``). With ten people without labels: the student from scratch, from
pretrained weights (12 epochs, joint), with the default distillation (soft labels and
GTD, the teacher asked about the labelled windows), and with both. The teacher begins
with the weights of the same pretraining. The comparisons with scratch and the number of
cohorts, 20, were written down before the first of them was made. A second table of the
same students with 40 people without labels had been written down, too; it was given up
for the study that follows, with nothing of it finished.

**Pool** (``pool``). The teacher is also asked about windows of 10, 40 or 160 people
without labels (``TopologyDistillation(unlabelled=...)``); nothing is pretrained. The
equal number of steps sees more people, not more windows. *True labels* is the student
that is given the true labels of the first 40 of them as well, for as many windows: what
there is to be learnt from them. These comparisons, on the cohorts of the stages, were
written down after the result of the stages and six pilot cohorts (from other seeds, not
stored), on which four ways to ask about 40 people had gained 1.8 to 2.3 points, from
one start; the package's default way was taken. The teacher of this study is not that
of the stages.

**Pseudo** (``pseudo``). What the teacher says of 40 people without labels is taken for
their labels, as those of the labelled people are. Written down after the pilot cohorts
(+2.9 points) and eight cohorts of ``pool``, for the 20 cohorts that follow.

**Longer** (``longer``). The teacher is asked about 160 people without labels, its soft
labels weigh five times as much as the labels do, on these as on the labelled windows,
the topology term is left out, and there are three times as many epochs; or what it says
of them is taken for their labels, for four times as many windows as in ``pool``.
Written down before the 20 cohorts that follow those of ``pseudo``, and after four pilot
cohorts (other seeds, not stored) on which ten ways to learn from 160 people were tried:
these two had gained about 3 points, the default of ``pool`` 1. What of it is due to the
weight and what to the epochs is not asked here. Controls written down with it, without
a test: the student from scratch for as many epochs, and the same soft labels of the
labelled windows alone (a step with a pool sees twice the windows).

**Chain** (``chain``). Do both stages together gain more than the one that gains? The
soft labels of ``longer``, five times as heavy and of 160 people, learnt from pretrained
weights: joint pretraining on all people but those to test on, 4 epochs. The teacher
that is asked begins from scratch, as pretraining made it worse. Written down, with the
number of cohorts, 12, before the first of them was made and without pilots; the
comparison asked for is that with the same soft labels from fresh weights, on the same
cohorts (below the tables), and the table's with scratch is beside it.

Each study's p values are corrected for its own comparisons, and below the tables for
those of all studies. Results were looked at while runs went on; none was stopped or
prolonged for them.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

from benchmarks.demonstration.data import simulated
from benchmarks.demonstration.report import interval
from benchmarks.demonstration.stages import Demonstration, Settings
from benchmarks.figures import COLOURS
from benchmarks.methods import seeded
from benchmarks.options import i_of_n, share
from benchmarks.ours import code_digest, distillation_weights
from benchmarks.rows import (
    RESULTS,
    append,
    description,
    grouped,
    line,
    read_cells,
    spread,
)
from benchmarks.tables import holm, p_text, sign_flip_test
from benchmarks.terms import STARTS, Variant, person_rows, student, taught

COLUMNS = "study cohort n_rows method start person score agreement seconds code".split()
FIRST_SEED = 1000  # of the generator: cohort c is drawn from FIRST_SEED + c
POOLS = 10, 40, 160
SETTINGS = Settings(pretraining_epochs=12)
OF_MANY = replace(SETTINGS, pretraining_epochs=4)  # of 8.5 times the windows
STUDENTS = {
    "scratch": Variant(),
    "pretrained": Variant(objective="joint"),
    "distilled": Variant(terms={}),
    "both": Variant(terms={}, objective="joint"),
}
OTHERS = "teacher", "TS+LR, 8 electrodes", "TS+LR, 64 electrodes"
TRUE_LABELS, N_TOLD = "true labels of 40", 40
LONGER, MUCH_LONGER = 3, 4  # times the steps
SOFT_LABELS = distillation_weights(kd=5.0)
PLANNED = {
    "stages": ("pretrained", "distilled", "both"),
    "pool": tuple(f"asked about {n}" for n in POOLS),
    "pseudo": (f"labelled by the teacher, {N_TOLD}",),
    "longer": (
        f"soft labels x5 of {max(POOLS)}, 3x epochs",
        f"labelled by the teacher, {max(POOLS)}, 4x windows",
    ),
    "chain": (f"pretrained, soft labels x5 of {max(POOLS)}, 3x epochs",),
}
FRESH = PLANNED["longer"][0]
ALONE, NO_POOL = "scratch, 3x epochs", "soft labels x5, no pool, 3x epochs"
BESIDE = TRUE_LABELS, ALONE, NO_POOL, FRESH  # shown, not tested where not planned


def stages(cohort):
    """Rows of the student with and without pretraining and distillation."""
    study = simulated(seed=FIRST_SEED + cohort)
    shown = Demonstration(study, cohort, SETTINGS)
    with TemporaryDirectory() as folder:
        shown.pretrain(folder, objective="joint")
        shown.teach(folder)
        told = shown.teacher.predict(shown.X[shown.test])
        yield from others(shown, told)
        for name, variant in STUDENTS.items():
            for start in STARTS:
                net = student(shown, shown.teacher, variant, start, folder)
                yield from _rows(shown, name, start, _answers(shown, net), told)


def pool(cohort):
    """Rows of the student whose teacher is asked about windows without labels."""
    n_labelled = 20  # ten of them to test on
    n_people = n_labelled + max(POOLS)
    everybody = simulated(n_people=n_people, n_pool=0, seed=FIRST_SEED + cohort)
    study = replace(everybody, people=everybody.people[:n_labelled])  # hides labels
    shown = Demonstration(study, cohort, SETTINGS)
    teacher = taught(shown)
    told = teacher.predict(shown.X[shown.test])
    yield from others(shown, told)
    for start in STARTS:
        net = student(shown, teacher, Variant(), start)
        yield from _rows(shown, "scratch", start, _answers(shown, net), told)
        for name, n_people in zip(PLANNED["pool"], POOLS, strict=True):
            shown.unlabelled = study.rows(study.pool[:n_people])
            net = student(shown, teacher, Variant(terms={}, pool=True), start)
            yield from _rows(shown, name, start, _answers(shown, net), told)
        net = with_more_labels(shown, everybody.y, start, N_TOLD)
        yield from _rows(shown, TRUE_LABELS, start, _answers(shown, net), told)


def pseudo(cohort):
    """Rows of the student that takes what the teacher says for labels."""
    study = simulated(n_pool=N_TOLD, seed=FIRST_SEED + cohort)
    shown = Demonstration(study, cohort, SETTINGS)
    teacher, y = taught(shown), study.y.copy()
    told = teacher.predict(shown.X[shown.test])
    yield from others(shown, told)
    y[shown.unlabelled] = teacher.predict(shown.X[shown.unlabelled])
    for start in STARTS:
        net = student(shown, teacher, Variant(), start)
        yield from _rows(shown, "scratch", start, _answers(shown, net), told)
        net = with_more_labels(shown, y, start, N_TOLD)
        (name,) = PLANNED["pseudo"]
        yield from _rows(shown, name, start, _answers(shown, net), told)


def longer(cohort):
    """Rows of the student that learns the teacher's soft labels above all, and long."""
    study = simulated(n_pool=max(POOLS), seed=FIRST_SEED + cohort)
    shown = Demonstration(study, cohort, SETTINGS)
    teacher, y = taught(shown), study.y.copy()
    told = teacher.predict(shown.X[shown.test])
    yield from others(shown, told)
    y[shown.unlabelled] = teacher.predict(shown.X[shown.unlabelled])
    soft, hard = PLANNED["longer"]
    variants = {
        ALONE: Variant(),
        NO_POOL: Variant(terms=SOFT_LABELS),
        soft: Variant(terms=SOFT_LABELS, pool=True),
    }
    for start in STARTS:
        net = student(shown, teacher, Variant(), start)
        yield from _rows(shown, "scratch", start, _answers(shown, net), told)
        with lasting(shown, LONGER):
            for name, variant in variants.items():
                net = student(shown, teacher, variant, start)
                yield from _rows(shown, name, start, _answers(shown, net), told)
        with lasting(shown, MUCH_LONGER):
            net = with_more_labels(shown, y, start, max(POOLS))
        yield from _rows(shown, hard, start, _answers(shown, net), told)


def chain(cohort):
    """Rows of the student that learns soft labels from pretrained weights."""
    study = simulated(n_pool=max(POOLS), seed=FIRST_SEED + cohort)
    shown = Demonstration(study, cohort, OF_MANY)
    teacher = taught(shown)
    told = teacher.predict(shown.X[shown.test])
    yield from others(shown, told)
    (pretrained,) = PLANNED["chain"]
    fresh = Variant(terms=SOFT_LABELS, pool=True)
    with TemporaryDirectory() as folder:
        shown.pretrain(folder, objective="joint")
        for start in STARTS:
            net = student(shown, teacher, Variant(), start)
            yield from _rows(shown, "scratch", start, _answers(shown, net), told)
            with lasting(shown, LONGER):
                variants = {FRESH: fresh, pretrained: replace(fresh, objective="joint")}
                for name, variant in variants.items():
                    net = student(shown, teacher, variant, start, folder)
                    yield from _rows(shown, name, start, _answers(shown, net), told)


STUDIES = {
    "stages": stages,
    "pool": pool,
    "pseudo": pseudo,
    "longer": longer,
    "chain": chain,
}


@contextmanager
def lasting(shown, times):
    """Students of the demonstration are trained for so many times as long."""
    before, shown.settings = (
        shown.settings,
        replace(shown.settings, student_epochs=times * shown.settings.student_epochs),
    )
    try:
        yield
    finally:
        shown.settings = before


def with_more_labels(shown, y, start, n_people):
    """A student that is told labels of people without, on as many windows."""
    from braindecode_gcmae import GCMAEStudent

    labelled, more = shown.labelled, shown.study.rows(shown.study.pool[:n_people])
    rows = np.r_[labelled, more]
    # Asked about a pool, a step sees a batch with labels and as many without.
    epochs = round(2 * shown.settings.student_epochs * len(labelled) / len(rows))
    with seeded(100 * shown.seed + start):
        module = GCMAEStudent(electrodes=shown.study.few, **shown._signal())
        return shown._net(module, f"start {start}", epochs).fit(shown.X[rows], y[rows])


def others(shown, told):
    """Rows of the teacher, and of tangent space on few and on all electrodes."""
    teacher, *linear = OTHERS
    yield from _rows(shown, teacher, 0, told, told)
    every = list(range(len(shown.study.names)))
    for name, electrodes in zip(linear, (shown.study.kept, every), strict=True):
        shown.linear(electrodes)
        said = shown.scores[-1].probability.argmax(1)
        yield from _rows(shown, name, 0, said, told)


def _answers(shown, net):
    return net.predict(shown.X[:, shown.study.kept][shown.test])


def _rows(shown, method, start, said, told):
    for row in person_rows(shown, said, told):
        yield {"method": method, "start": start, **row}


def read(path):
    """Rows of finished cells; two states of the code are refused."""
    keys = {"cell": ("study", "cohort"), "row": ("method", "start", "person")}
    rows = read_cells(path, **keys, size="n_rows")
    states = sorted({row["code"] for row in rows})
    if len(states) > 1:
        raise ValueError(f"{path} holds rows of several states of the code: {states}")
    return rows


def run(study, cohorts, path):
    """Add the cells of a study that are missing, cohort by cohort."""
    done = {int(row["cohort"]) for row in read(path) if row["study"] == study}
    for cohort in cohorts:
        if cohort in done:
            continue
        begin = perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = list(STUDIES[study](cohort))
        same = {"study": study, "cohort": cohort, "n_rows": len(rows)}
        same |= {"seconds": round(perf_counter() - begin), "code": code_digest()}
        append(path, [{**same, **row} for row in rows], COLUMNS)
        sys.stdout.write(f"cohort {cohort}, {study}: {same['seconds']} s\n")
        sys.stdout.flush()


def by_cohort(rows, column):
    """method -> array (n_cohorts,) of means over people and starts."""
    found = {}
    for method, own in grouped(rows, lambda row: row["method"]).items():
        cohorts = sorted(grouped(own, lambda row: int(row["cohort"])).items())
        means = [np.mean([float(row[column]) for row in of]) for _, of in cohorts]
        found[method] = np.array(means)
    return found


def table(study, rows):
    """Lines of a study's table."""
    scores, agreement = (by_cohort(rows, column) for column in ("score", "agreement"))
    gaps = {name: scores[name] - scores["scratch"] for name in PLANNED[study]}
    p_values = holm([sign_flip_test(gap) for gap in gaps.values()])
    corrected = dict(zip(gaps, p_values, strict=True))
    yield line(
        (
            f"{study}, {len(scores['scratch'])} cohorts",
            "accuracy %",
            "as the teacher %",
            "against scratch",
            "95 % CI",
            "cohorts better",
            "p (Holm)",
        )
    )
    yield line(["---"] * 7)
    for name in ("scratch", *compared_with_scratch(study, scores), *OTHERS):
        score = spread(*interval(scores[name]))
        cells = [name, score, f"{100 * agreement[name].mean():.1f}"]
        if name == "scratch":
            cells += [""] * 4
        else:
            gap = scores[name] - scores["scratch"]
            mean, low, high = (100 * value for value in interval(gap))
            cells += [f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}"]
            cells += [f"{(gap > 0).sum()} of {len(gap)}"]
            cells += [p_text(corrected[name]) if name in corrected else ""]
        yield line(cells)


def compared_with_scratch(study, scores):
    """Names of a study's students that are more than the one from scratch."""
    shown = dict.fromkeys((*PLANNED[study], *BESIDE))
    return [name for name in shown if name in scores]


def tables(rows):
    """Give the tables of all studies."""
    studies = in_order(rows)
    parts = ["\n".join(table(*study)) for study in studies.items()]
    if {"stages", "pool"} <= studies.keys():
        parts += remarks(rows)
    return "\n\n".join(parts)


def remarks(rows):
    """Give what the tables do not: one correction for all, and unplanned contrasts."""
    scores = {s: by_cohort(own, "score") for s, own in in_order(rows).items()}
    gaps = {
        name: of[name] - of["scratch"]
        for s, of in scores.items()
        for name in PLANNED[s]
    }
    if "chain" in scores:
        of, (pretrained,) = scores["chain"], PLANNED["chain"]
        pair = f"{pretrained} v. {FRESH}"
        gaps[pair] = of[pretrained] - of[FRESH]
    p_values = holm([sign_flip_test(gap) for gap in gaps.values()])
    told = (f"{n} {p_text(p)}" for n, p in zip(gaps, p_values, strict=True))
    yield (
        f"p values corrected (Holm) for the {len(gaps)} planned comparisons of all "
        f"studies: {'; '.join(told)}."
    )
    if "chain" in scores:
        mean, low, high = (100 * value for value in interval(gaps[pair]))
        yield f"Planned in 'chain': {pair} {mean:+.1f} ({low:+.1f} to {high:+.1f})."
    stages, pool = scores["stages"], scores["pool"]
    few, most = PLANNED["pool"][0], PLANNED["pool"][-1]
    contrasts = {
        "teacher, pretrained v. from scratch": stages["teacher"] - pool["teacher"],
        f"{most} v. {few}": pool[most] - pool[few],
        f"{most} v. {TRUE_LABELS}": pool[most] - pool[TRUE_LABELS],
    }
    if "longer" in scores:
        of, (soft, hard) = scores["longer"], PLANNED["longer"]
        linear = OTHERS[1]
        pairs = (soft, ALONE), (soft, NO_POOL), (hard, soft), (soft, linear)
        contrasts |= {f"{one} v. {two}": of[one] - of[two] for one, two in pairs}
    if {"longer", "chain"} <= scores.keys():
        both = [scores[s][FRESH] - scores[s]["scratch"] for s in ("longer", "chain")]
        contrasts[f"{FRESH} v. scratch, in 'longer' and 'chain'"] = np.concatenate(both)
    yield "Not planned, of the same cohorts:"
    rows = [line(("difference", "points", "95 % CI")), line(["---"] * 3)]
    for name, gap in contrasts.items():
        mean, low, high = (100 * value for value in interval(gap))
        rows.append(line((name, f"{mean:+.1f}", f"{low:+.1f} to {high:+.1f}")))
    yield "\n".join(rows)


def in_order(rows):
    """Give rows by study, as studies follow each other."""
    found = grouped(rows, lambda row: row["study"])
    return {study: found[study] for study in STUDIES if study in found}


def figure(rows, path):
    """Gains over scratch: every cohort, their mean and its interval."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(7.2, 6.6), layout="constrained")
    ax, labels, linear = fig.add_subplot(), [], OTHERS[1]
    for colour, (study, own) in zip(COLOURS, in_order(rows).items(), strict=False):
        scores = by_cohort(own, "score")
        ax.plot([], [], "o-", color=colour, label=f"planned in {study!r}")
        for name in (*compared_with_scratch(study, scores), linear):
            place, gaps = len(labels), 100 * (scores[name] - scores["scratch"])
            mean, low, high = interval(gaps)
            below = np.full(len(gaps), place + 0.25)
            ax.plot(gaps, below, "o", color="0.8", markersize=3)
            arms = [[mean - low], [high - mean]]
            told = colour if name in PLANNED[study] else "0.35"
            ax.errorbar(mean, place, xerr=arms, fmt="o", color=told, capsize=3)
            labels.append(name)
        ax.axhline(len(labels) - 0.4, color="0.9", linewidth=0.8)  # other cohorts
    ax.plot([], [], "o-", color="0.35", label="beside it, without a test")
    fig.legend(fontsize=8, frameon=False, ncols=3, loc="outside upper left")
    ax.axvline(0, color="0.6", linestyle=":", linewidth=1)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.spines[["top", "right"]].set_visible(False)
    what = (
        "points over the student from scratch; each cohort, mean, 95 % CI (uncorrected)"
    )
    fig.supxlabel(what, fontsize=10)
    fig.savefig(path, dpi=130)


def markdown(rows):
    """The page of results."""
    return f"# Simulated cohorts\n\n{description(__doc__)}\n\n{tables(rows)}\n"


def main(arguments=None):
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cohorts")
    parser.add_argument("--study", choices=tuple(STUDIES), default="stages")
    parser.add_argument("--first", type=int, default=0, help="cohort to begin with")
    parser.add_argument("--cohorts", type=int, default=20, help="how many")
    parser.add_argument("--shard", type=i_of_n, default=(0, 1), help="i/n, by cohort")
    parser.add_argument("--out", type=Path, default=RESULTS / "cohorts.csv")
    parser.add_argument("--table", action="store_true", help="from the rows there are")
    options = parser.parse_args(arguments)
    if not options.table:
        cohorts = range(options.first, options.first + options.cohorts)
        mine = share(cohorts, options.shard)
        run(options.study, mine, options.out)
    rows = read(options.out)
    if rows:
        options.out.with_suffix(".md").write_text(markdown(rows), "utf-8")
        figure(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
