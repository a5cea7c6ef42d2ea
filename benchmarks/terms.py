"""The paper's ablations where the teacher is far better: which part helps?

    python -m benchmarks.terms --seeds 8    # simulated; about four hours on one core
    python -m benchmarks.terms --table

Simulated recordings as in ``demo.py``: a headband far from the sources, which 64
electrodes cover; ten people with labels, ten without, ten to test on. The teacher
(width 64, two layers) learns from the labelled people alone, without pretraining. Each
student starts twice and trains for 25 epochs. Of the distillation, students differ in
nothing but the terms that are added to their loss; *pool*: on each step the teacher is
also asked about windows of people without labels; *cross-fitted*: about each fifth of
the labelled people a teacher that was trained without them is asked. Of the pretraining
(12 epochs, labelled and unlabelled people together), in nothing but its objective; they
have no teacher then, except in the last row: the joint pretraining, then soft labels
and GTD.
*As the teacher*: share of test windows on which the student decides as the teacher
does.

The first four seeds were looked at while the package was made. The others are a planned
test of three comparisons, which were named before those seeds were run.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.demonstration.data import load
from benchmarks.demonstration.stages import Demonstration, Settings
from benchmarks.methods import seeded
from benchmarks.ours import code_digest, distillation_weights
from benchmarks.rows import RESULTS, description, grouped, line, read, write
from benchmarks.tables import bootstrap_interval, holm, p_text, paired

COLUMNS = "data seed start variant person score agreement teacher code".split()
STARTS = (0, 1)
SETTINGS = Settings(pretraining_epochs=12)


@dataclass(frozen=True)
class Variant:
    """What a student gets beside its labels.

    ``terms`` are arguments of the distillation, None for no teacher; with ``pool`` it
    is asked about unlabelled windows, too; ``cross_fit`` are folds of people that
    teachers are trained without; ``objective`` is that of a pretraining.
    """

    terms: dict | None = None
    pool: bool = False
    cross_fit: int = 0
    objective: str | None = None


TERMS = {
    "soft labels": distillation_weights(kd=1.0),
    "GTD": distillation_weights(gtd=1.0),
    "both": distillation_weights(kd=1.0, gtd=1.0),
    "LSP": distillation_weights(lsp=1.0),
    "G-CRD": distillation_weights(gcrd=1.0),
}
DISTILLATION = {
    **{name: Variant(terms) for name, terms in TERMS.items()},
    **{f"{name}, pool": Variant(TERMS[name], pool=True) for name in list(TERMS)[:3]},
}
CROSS_FITTED = {
    "soft labels, cross-fitted": Variant(TERMS["soft labels"], cross_fit=5),
    "soft labels, pool, cross-fitted": Variant(
        TERMS["soft labels"], pool=True, cross_fit=5
    ),
}
PRETRAINING = {
    **{
        name: Variant(objective=objective)
        for name, objective in (
            ("contrast", "contrast"),
            ("reconstruction", "reconstruction"),
            ("one after the other", "sequential"),
            ("joint", "joint"),
        )
    },
    "joint, then both terms": Variant(TERMS["both"], objective="joint"),
}
FAMILIES = {
    "distillation (Table 3)": DISTILLATION,
    "teachers that have not seen the person": CROSS_FITTED,
    "pretraining (Table 4)": PRETRAINING,
}
VARIANTS = {"none": Variant(), **DISTILLATION, **CROSS_FITTED, **PRETRAINING}
PLANNED, FIRST_PLANNED = ("both", "joint", "joint, then both terms"), 4
# What the tables print; the rows keep the short names.
PRINTED = {
    "both": "soft labels + GTD",
    "both, pool": "soft labels + GTD, pool",
    "joint": "joint pretraining",
    "joint, then both terms": "joint pretraining, then soft labels + GTD",
}


def untaught(shown):
    """The teacher of a seed before it has seen a label."""
    from braindecode_gcmae import GCMAETeacher

    module = GCMAETeacher(**shown._signal(), **shown.settings.teacher)
    return shown._net(module, "teacher", shown.settings.teacher_epochs)


def taught(shown):
    """The same, trained on the labelled people of the demonstration."""
    with seeded(shown.seed):
        net = untaught(shown)
        return net.fit(shown.X[shown.labelled], shown.study.y[shown.labelled])


def student(shown, teacher, variant, start, folder=None):
    """A student that got what its variant says; pretrained weights are in a folder."""
    from braindecode_gcmae import (
        GCMAEClassifier,
        GCMAEStudent,
        TopologyDistillation,
    )

    callbacks = []
    if variant.terms is not None:
        pool = shown.X[shown.unlabelled] if variant.pool else None
        terms = {"seed": shown.seed, "unlabelled": pool, **variant.terms}
        if variant.cross_fit:
            terms["cross_fit"] = variant.cross_fit
            with seeded(shown.seed):
                teacher = untaught(shown)
        callbacks = [("distil", TopologyDistillation(teacher, **terms))]
    with seeded(100 * shown.seed + start):
        if variant.objective is None:
            module = GCMAEStudent(electrodes=shown.study.few, **shown._signal())
        else:
            module = GCMAEStudent.from_pretrained(f"{folder}/student", n_outputs=2)
        epochs = shown.settings.student_epochs
        title = f"start {start}"
        net = shown._net(module, title, epochs, callbacks, GCMAEClassifier)
        rows = shown.labelled
        people = shown.study.person[rows]
        return net.fit(shown.X[rows], shown.study.y[rows], subjects=people)


def seed_rows(study, seed, wanted):
    """One CSV row per wanted variant, start and test person.

    Variants of one objective share its pretraining.
    """
    shown = Demonstration(study, seed, SETTINGS)
    teacher, test = taught(shown), shown.test
    told = teacher.predict(shown.X[test])
    own = shown.X[:, study.kept][test]
    for objective, names in grouped(wanted, lambda v: VARIANTS[v].objective).items():
        with TemporaryDirectory() as folder:
            if objective is not None:
                shown.pretrain(folder, objective=objective)
            for name in names:
                for start in STARTS:
                    net = student(shown, teacher, VARIANTS[name], start, folder)
                    yield from _rows(shown, name, start, net.predict(own), told)


def _rows(shown, variant, start, said, told):
    right = {row["person"]: row["score"] for row in person_rows(shown, told, told)}
    for row in person_rows(shown, said, told):
        yield {
            "data": shown.study.name,
            "seed": shown.seed,
            "start": start,
            "variant": variant,
            **row,
            "teacher": right[row["person"]],
            "code": code_digest(),
        }


def person_rows(shown, said, told):
    """How often an answer is right, and the teacher's, of each test person."""
    y, person = (of[shown.test] for of in (shown.study.y, shown.study.person))
    for who in shown.test_people:
        here = person == who
        yield {
            "person": who,
            "score": f"{(said == y)[here].mean():.6f}",
            "agreement": f"{(said == told)[here].mean():.6f}",
        }


def by_person(rows, column):
    """variant -> person -> mean over seeds and starts."""
    found = {}
    for row in rows:
        place = found.setdefault(row["variant"], {}).setdefault(int(row["person"]), [])
        place.append(float(row[column]))
    return {
        variant: {p: float(np.mean(values)) for p, values in people.items()}
        for variant, people in found.items()
    }


def markdown(rows):
    """Tables of each family, and of the planned comparisons on the later seeds."""
    parts = ["# Terms of distillation and pretraining", "", description(__doc__), ""]
    planned = [row for row in rows if int(row["seed"]) >= FIRST_PLANNED]
    if planned:
        parts += ["## Planned comparisons", "", *_section(planned, PLANNED)]
    for family, members in FAMILIES.items():
        parts += [f"## {family}", "", *_section(rows, members)]
    return "\n".join(parts)


def _section(rows, members):
    """What the rows are, and the table of these variants."""
    scores, agreement = by_person(rows, "score"), by_person(rows, "agreement")
    told = np.mean(list(by_person(rows, "teacher")["none"].values()))
    seeds, people = len({row["seed"] for row in rows}), len(scores["none"])
    yield (
        f"{seeds} seeds, {people} people; the teacher is right on {100 * told:.1f} % "
        "of the same windows. Intervals over people (bootstrap), sign flips, Holm's "
        "correction within the table."
    )
    names = ["none", *(name for name in members if name in scores)]
    yield from ("", *table(names, scores, agreement), "")


def table(names, scores, agreement):
    """Lines of one family's table; ``none`` is what the others are compared with."""
    compared = {name: paired(scores[name], scores["none"]) for name in names[1:]}
    corrected = holm([p for _, _, p in compared.values()])
    adjusted = dict(zip(compared, corrected, strict=True))
    head = "student", "accuracy %", "as the teacher %", "against none", "95 % CI"
    yield line((*head, "p (Holm)"))
    yield line(["---"] * (len(head) + 1))
    for name in names:
        own, same = list(scores[name].values()), list(agreement[name].values())
        printed, means = PRINTED.get(name, name), (np.mean(own), np.mean(same))
        cells = [printed, *(f"{100 * mean:.1f}" for mean in means)]
        if name in compared:
            gap, (low, high), _ = compared[name]
            cells += [f"{100 * gap:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}"]
            cells += [p_text(adjusted[name])]
        else:
            low, high = bootstrap_interval(own)
            cells += ["", f"({100 * low:.1f} to {100 * high:.1f})", ""]
        yield line(cells)


def run(study, seeds, path):
    """Add the variants that each seed has not been asked yet."""
    for seed in range(seeds):
        rows = [r for r in read(path) if r["code"] == code_digest()]
        done = {row["variant"] for row in rows if int(row["seed"]) == seed}
        wanted = [name for name in VARIANTS if name not in done]
        if not wanted:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows += seed_rows(study, seed, wanted)
        write(path, rows, COLUMNS)
        sys.stdout.write(f"seed {seed}\n")


def main(arguments=None):
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.terms")
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS / "terms.csv")
    parser.add_argument("--table", action="store_true", help="from the rows there are")
    options = parser.parse_args(arguments)
    if not options.table:
        run(load(options.data), options.seeds, options.out)
    options.out.with_suffix(".md").write_text(markdown(read(options.out)), "utf-8")


if __name__ == "__main__":
    main()
