"""Which term of the distillation helps, and does the pool, where the teacher is better?

    python -m benchmarks.terms --seeds 4    # simulated; 8 minutes on one core
    python -m benchmarks.terms --table

Simulated recordings as in ``demo.py``: a headband far from the sources, which 64
electrodes cover; ten people with labels, ten without, ten to test on. The teacher
(width 64, two layers) learns from the labelled people alone, without pretraining. Each
student starts from scratch, twice, and trains for 25 epochs; students differ in nothing
but the terms that are added to their loss. *Pool*: on each step the teacher is also
asked about windows of people without labels.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np

from benchmarks.demonstration.data import load
from benchmarks.demonstration.stages import Demonstration
from benchmarks.methods import seeded
from benchmarks.ours import code_digest
from benchmarks.rows import RESULTS, description, line, read, write
from benchmarks.tables import bootstrap_interval, holm, paired

COLUMNS = "data seed start variant person score agreement teacher code".split()
STARTS = (0, 1)
ALONE = {"gtd_weight": 0.0}, {"kd_weight": 0.0}, {}
NAMES = "soft labels", "GTD", "both"
VARIANTS = {
    "none": None,
    **dict(zip(NAMES, ALONE, strict=True)),
    **{f"{name}, pool": terms for name, terms in zip(NAMES, ALONE, strict=True)},
}


def taught(shown):
    """The teacher of a seed, trained on the labelled people of the demonstration."""
    from braindecode_gcmae import GCMAETeacher

    with seeded(shown.seed):
        module = GCMAETeacher(**shown._signal(), **shown.settings.teacher)
        net = shown._net(module, "teacher", shown.settings.teacher_epochs)
        return net.fit(shown.X[shown.labelled], shown.study.y[shown.labelled])


def student(shown, teacher, variant, start):
    """A student with the terms of a variant in its loss."""
    from braindecode_gcmae import GCMAEStudent, TopologyDistillation

    callbacks = []
    if VARIANTS[variant] is not None:
        pool = shown.X[shown.unlabelled] if variant.endswith("pool") else None
        terms = {"seed": shown.seed, "unlabelled": pool, **VARIANTS[variant]}
        callbacks = [("distil", TopologyDistillation(teacher, **terms))]
    with seeded(100 * shown.seed + start):
        module = GCMAEStudent(electrodes=shown.study.few, **shown._signal())
        epochs = shown.settings.student_epochs
        net = shown._net(module, f"{variant}, {start}", epochs, callbacks)
        return net.fit(shown.X[shown.labelled], shown.study.y[shown.labelled])


def seed_rows(study, seed):
    """One CSV row per variant, start and test person."""
    shown = Demonstration(study, seed)
    teacher, test = taught(shown), shown.test
    y, person = study.y[test], study.person[test]
    told = teacher.predict(shown.X[test])
    own = shown.X[:, study.kept][test]
    for variant in VARIANTS:
        for start in STARTS:
            said = student(shown, teacher, variant, start).predict(own)
            for who in shown.test_people:
                here = person == who
                yield {
                    "data": study.name,
                    "seed": seed,
                    "start": start,
                    "variant": variant,
                    "person": who,
                    "score": f"{(said == y)[here].mean():.6f}",
                    "agreement": f"{(said == told)[here].mean():.6f}",
                    "teacher": f"{(told == y)[here].mean():.6f}",
                    "code": code_digest(),
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
    """The table: accuracy, agreement with the teacher, paired difference with none."""
    scores, agreement = by_person(rows, "score"), by_person(rows, "agreement")
    told = np.mean(list(by_person(rows, "teacher")["none"].values()))
    compared = {v: paired(s, scores["none"]) for v, s in scores.items() if v != "none"}
    adjusted = holm([p for _, _, p in compared.values()])
    corrected = dict(zip(compared, adjusted, strict=True))
    seeds, people = len({row["seed"] for row in rows}), len(scores["none"])
    head = "terms", "accuracy %", "as the teacher %", "against none", "95 % CI"
    out = ["# Terms of the distillation", "", description(__doc__), ""]
    out += [
        f"{seeds} seeds, {people} people; the teacher is right on {100 * told:.1f} % "
        "of the same windows. Intervals over people (bootstrap), sign flips, Holm.",
        "",
        line((*head, "p (Holm)")),
        line(["---"] * (len(head) + 1)),
    ]
    for variant, own in scores.items():
        mean, same = (
            100 * np.mean(list(part.values())) for part in (own, agreement[variant])
        )
        cells = [variant, f"{mean:.1f}", f"{same:.1f}"]
        if variant in compared:
            gap, (low, high), _ = compared[variant]
            cells += [f"{100 * gap:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}"]
            cells += [f"{corrected[variant]:.3f}"]
        else:
            low, high = bootstrap_interval(list(own.values()))
            cells += ["", f"({100 * low:.1f} to {100 * high:.1f})", ""]
        out.append(line(cells))
    return "\n".join([*out, ""])


def main(arguments=None):
    """Run the seeds that are missing, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.terms")
    parser.add_argument("--data", default="simulated")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--out", type=Path, default=RESULTS / "terms.csv")
    parser.add_argument("--table", action="store_true", help="from the rows there are")
    options = parser.parse_args(arguments)
    study = None if options.table else load(options.data)
    for seed in range(options.seeds if study else 0):
        rows = [r for r in read(options.out) if r["code"] == code_digest()]
        if any(int(row["seed"]) == seed for row in rows):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows += seed_rows(study, seed)
        write(options.out, rows, COLUMNS)
        sys.stdout.write(f"seed {seed}\n")
    options.out.with_suffix(".md").write_text(markdown(read(options.out)), "utf-8")


if __name__ == "__main__":
    main()
