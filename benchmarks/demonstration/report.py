"""Rows, tables and figures of the demonstration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.rows import read, write
from benchmarks.tables import TIE, p_text, sign_flip_test

COLUMNS = (
    "data config seed method n_electrodes n_parameters person score agreement "
    "n_windows chance seconds"
).split()
REFERENCE, CANDIDATE = "student, scratch", "student, both"
PALETTE = {"student": "#0072B2", "teacher": "#D55E00", "other": "0.55"}


def person_rows(demonstration, config):
    """One row per method and test person of one seed."""
    study, rows = demonstration.study, []
    y, person = study.y[demonstration.test], study.person[demonstration.test]
    decisions = {score: score.probability.argmax(1) for score in demonstration.scores}
    taught = next(d for score, d in decisions.items() if score.method == "teacher")
    for score, decided in decisions.items():
        right, agrees = decided == y, decided == taught
        for who in demonstration.test_people:
            own = person == who
            rows.append(
                {
                    "data": study.name,
                    "config": config,
                    "seed": demonstration.seed,
                    "method": score.method,
                    "n_electrodes": score.n_electrodes,
                    "n_parameters": score.n_parameters,
                    "person": who,
                    "score": f"{right[own].mean():.6f}",
                    "agreement": f"{agrees[own].mean():.6f}",
                    "n_windows": int(own.sum()),
                    "chance": "0.5",
                    "seconds": f"{score.seconds:.1f}",
                }
            )
    return rows


def read_rows(path, config):
    """Rows that an earlier run with the same configuration left, seeds complete."""
    return [row for row in read(path) if row["config"] == config]


def write_rows(path, rows):
    """Write all rows; the file is replaced at once."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, rows, COLUMNS)


def per_person(rows, method, n_electrodes=None, value="score"):
    """Each person's score, the mean over the seeds that tested it."""
    found = {}
    for row in rows:
        same = n_electrodes is None or int(row["n_electrodes"]) == n_electrodes
        if row["method"] == method and same:
            found.setdefault(int(row["person"]), []).append(float(row[value]))
    return {person: float(np.mean(scores)) for person, scores in found.items()}


def interval(values, level=0.95):
    """Mean and Student's t interval over people; NaN bounds for one person."""
    from scipy.stats import t

    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return mean, float("nan"), float("nan")
    half = t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def methods(rows):
    """Distinct (method, electrodes, parameters), best last within a kind."""
    seen = {}
    for row in rows:
        key = row["method"], int(row["n_electrodes"])
        seen.setdefault(key, int(row["n_parameters"]))
    order = ("tangent", "EEGNet", "student", "teacher")

    def rank(key):
        return next(i for i, kind in enumerate(order) if key[0].startswith(kind))

    kinds = sorted(seen, key=lambda key: (key[1], rank(key)))
    return [(*key, seen[key]) for key in kinds]


def table(rows):
    """The results as a markdown table."""
    lines = [
        "| method | electrodes | parameters | accuracy on unseen people | 95 % CI "
        "| chance | decides as the teacher |",
        "|---|---:|---:|---:|:---:|---:|---:|",
    ]
    for method, n, size in methods(rows):
        mean, low, high = interval(list(per_person(rows, method, n).values()))
        agrees = np.mean(list(per_person(rows, method, n, "agreement").values()))
        lines.append(
            f"| {method} | {n} | {size:,} | {100 * mean:.1f} % "
            f"| {100 * low:.1f} to {100 * high:.1f} | 50 % | {100 * agrees:.1f} % |"
        )
    return "\n".join(lines)


def paired(rows, candidate=CANDIDATE, reference=REFERENCE):
    """Differences per person, with their interval, as sentences."""
    ours, theirs = per_person(rows, candidate), per_person(rows, reference)
    people = sorted(ours.keys() & theirs.keys())
    difference = np.array([ours[p] - theirs[p] for p in people])
    mean, low, high = (100 * value for value in interval(difference))
    better, worse = int((difference > TIE).sum()), int((difference < -TIE).sum())
    p = p_text(sign_flip_test(difference))
    p = p if p.startswith("<") else f"= {p}"
    return (
        f"{candidate} minus {reference}, paired over {len(people)} people: "
        f"{mean:+.1f} points, 95 % CI {low:+.1f} to {high:+.1f} "
        f"(better for {better}, worse for {worse}; sign-flip test "
        f"p {p})"
    )


def comparisons(rows):
    """All students, and the teacher, against the student from scratch."""
    others = ("student, pretrained", "student, distilled", "student, both", "teacher")
    return "\n".join(f"- {paired(rows, other)}" for other in others)


def differences_table(rows):
    """The paired difference of every person, as a markdown table."""
    ours, theirs = per_person(rows, CANDIDATE), per_person(rows, REFERENCE)
    lines = [
        f"| person | {REFERENCE} | {CANDIDATE} | difference |",
        "|---|--:|--:|--:|",
    ]
    for person in sorted(ours):
        a, b = 100 * theirs[person], 100 * ours[person]
        lines.append(f"| {person} | {a:.1f} | {b:.1f} | {b - a:+.1f} |")
    return "\n".join(lines)


def summary(rows, study, settings):
    """What was done and what came out, as markdown."""
    seeds = sorted({int(row["seed"]) for row in rows})
    train, test = study.split(0)
    return f"""# {study.title}

{len(seeds)} seed(s) {seeds}, each another split of {len(study.people)} people: \
{len(train)} with labels, {len(test)} to test on who are in no stage of training; \
{len(study.pool)} more people enter pretraining without labels. \
Electrodes of the student: {", ".join(study.few)}. Every method: each recording \
aligned by itself without labels; every network: AdamW, learning rate \
{settings.lr:g} on one cosine, batches of {settings.batch_size}, last epoch kept; \
students and EEGNet \
{settings.student_epochs} epochs each, teacher {settings.teacher_epochs} \
(`{settings.teacher}`), pretraining {settings.pretraining_epochs}. A person's score is \
the mean over the seeds that tested it; intervals are Student's t over people. The \
last column is the share of test windows on which a method decides as the teacher, \
right or wrong: what distillation teaches.

{table(rows)}

{comparisons(rows)}

{differences_table(rows)}
"""


def draw(rows, demonstration, folder):
    """Write the figures; gives their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder, paths = Path(folder), []
    for name, figure in (
        ("accuracy", _accuracy(rows, demonstration.study)),
        ("graph", _graphs(demonstration)),
        ("reconstruction", _reconstruction(demonstration)),
        ("pretraining", _curves(demonstration)),
    ):
        path = folder / f"{name}.png"
        figure.savefig(path, dpi=130, bbox_inches="tight")
        plt.close(figure)
        paths.append(path)
    return paths


def _accuracy(rows, study):
    """Each person's score, the mean and its interval, by method."""
    import matplotlib.pyplot as plt

    kinds = methods(rows)
    figure, ax = plt.subplots(
        figsize=(7.4, 0.5 * len(kinds) + 1.2), layout="constrained"
    )
    jitter = np.random.default_rng(0)
    for height, (method, n, _) in enumerate(kinds):
        kind = method.split(",")[0]
        colour = PALETTE.get(kind, PALETTE["other"])
        scores = 100 * np.array(list(per_person(rows, method, n).values()))
        mean, low, high = interval(scores)
        spread = height + jitter.uniform(-0.16, 0.16, len(scores))
        ax.plot(scores, spread, "o", color=colour, alpha=0.35, markersize=4, mew=0)
        ax.hlines(height, low, high, color=colour, linewidth=3)
        ax.plot(mean, height, "D", color=colour, markersize=7, mec="white")
        ax.annotate(
            f"{mean:.1f}",
            (1.01, height),
            xycoords=("axes fraction", "data"),
            va="center",
        )
    ax.axvline(50, color="0.3", linestyle=":", linewidth=1.2)
    ax.annotate("chance", (50, 1.0), xycoords=("data", "axes fraction"), va="bottom",
                ha="center", fontsize=8, color="0.3")  # fmt: skip
    ax.set_yticks(
        range(len(kinds)),
        [f"{method}\n{n} electrodes, {size:,} parameters" for method, n, size in kinds],
        fontsize=8,
    )
    ax.invert_yaxis()
    ax.set_xlabel("right on unseen people (%): each person, mean, 95 % CI")
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_title(study.title, fontsize=10, pad=16)
    return figure


def _graphs(demonstration):
    """The graphs that teacher and student learned, on a head."""
    import matplotlib.pyplot as plt

    from braindecode_gcmae import plot_electrode_graph

    windows = demonstration.X[demonstration.test[:64]]
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.4), layout="constrained")
    few = demonstration.study.few
    plot_electrode_graph(demonstration.teacher, windows=windows, kept=few, ax=axes[0])
    student = demonstration.students["both"]
    plot_electrode_graph(student, windows=windows, ax=axes[1])
    axes[0].set_title("teacher (the student's electrodes ringed)")
    axes[1].set_title("student, pretrained and distilled")
    return figure


def _reconstruction(demonstration):
    """Every fifth electrode hidden from the pretrained teacher, and in-painted."""
    from braindecode_gcmae import plot_reconstruction

    names = demonstration.study.names
    windows = demonstration.X[demonstration.test[:128]]
    rebuilt = demonstration.pretrainer.reconstruct(windows, names[2::5])
    axes = plot_reconstruction(rebuilt, names, window=0)
    return axes[0].figure


def _curves(demonstration):
    """The four terms of the pretraining, by epoch."""
    from braindecode_gcmae import plot_training_curves

    terms = ["rec", "contrast"]
    return plot_training_curves(demonstration.pretrainer, terms)[0].figure
