"""The tables of the README and of the results' page, from the stored results.

    python -m benchmarks.readme        # rewrites what stands between the marks

A table stands between ``<!-- name -->`` and ``<!-- end -->``; a test compares it with
what is made anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import cohorts, missing, starts, terms
from benchmarks.demonstration import report
from benchmarks.figures import most_of_each
from benchmarks.protocol import TASKS
from benchmarks.rows import RESULTS, line, read, spread
from benchmarks.tables import bootstrap_interval, compare, conditions, whole

PAGES = Path(__file__).resolve().parents[1] / "README.md", RESULTS / "README.md"
BLOCK = re.compile(r"<!-- (\w+) -->\n(?:(?!<!--).)*<!-- end -->", re.DOTALL)
SCRATCH, MEAN = "scratch", "student, scratch, mean of"
STUDENTS = {
    "student, scratch": SCRATCH,
    "student, pretrained": "pretrained",
    "student, distilled": "distilled",
    "student, distilled, pool": "distilled pool",
    "student, distilled, pool, cross-fitted": "cross-fitted pool",
    "student, both": "both",
    "student, both, pool": "both pool",
    "student, taught by five": "committee",
    "student, taught by five, pool": "committee pool",
    "student without graph network": "second moments alone",
}
PEERS = {
    "tangent space + LR, re-centred": "TS+LR re-centred",
    "ShallowFBCSPNet": "ShallowFBCSPNet",
    "CTNet": "CTNet",
    "EEGConformer": "EEGConformer",
    "EEGNet": "EEGNet",
    "DGCNN (braindecode)": "DGCNN",
}
TEACHERS = {
    "teacher, 64 electrodes, pretrained": "teacher",
    "teacher, 64 electrodes, from scratch": "teacher scratch",
}
ALL = {**STUDENTS, **PEERS, "log spectra + LR": "log-PSD+LR", **TEACHERS}
OF_RESPONSES = {
    "student, powers": SCRATCH,
    "student, time course": "evoked",
    "student, time course, pretrained": "evoked pretrained",
    "student, time course, distilled": "evoked distilled",
    "student, time course, both": "evoked both",
    "teacher, 64 electrodes, time course": "teacher evoked",
    "EEGNet": "EEGNet",
    "xDAWN, tangent space + LR": "xDAWN+TS+LR",
    "xDAWN, tangent space + LR, aligned": "xDAWN+TS+LR aligned",
    "interval means + LDA": "means+LDA",
    "interval means + LDA, aligned": "means+LDA aligned",
}
SETS = {
    "motor 8": ("left-right", "motor-8"),
    "headband 8": ("left-right", "headband-8"),
}
FEW, MANY = ({k: (*v, labels) for k, v in SETS.items()} for labels in ("few", "many"))


def methods(names, studies, places):
    """Accuracy of each method at each place, and its gap to the student from scratch.

    Where that student was trained from several starts, the gap is to their mean, which
    stands in a row of its own: a single start is as good or bad as chance made it.

    Parameters
    ----------
    names : dict
        Label to method.
    studies : sequence of str
        CSVs; a method that stands in several of them is that of the one with most rows.
    places : dict
        Title to (task, electrodes, regime).
    """
    files = [RESULTS / f"{name}.csv" for name in studies]
    rows = conditions(most_of_each(files))
    tables = [whole(rows.get(p, {}), TASKS[p[0]].metric) for p in places.values()]
    head = ["method"]
    for title, table, place in zip(places, tables, places.values(), strict=True):
        head += [title, "seeds", "against scratch"]
        _, electrodes, regime = place
        runs = starts.read(RESULTS / "starts.csv")
        several = starts.expected(runs, regime, electrodes)
        if several and table and place[0] == starts.TASK:
            table[MEAN] = several
    lines = [line(head), line(["---", *["---", "---:", "---"] * len(tables)])]
    known = [table[MEAN]["n_starts"] for table in tables if MEAN in table]
    first = {f"{MEAN} {known[0]} starts": MEAN} if known else {}
    for label, name in {**first, **names}.items():
        metrics = [TASKS[place[0]].metric for place in places.values()]
        pairs = zip(tables, metrics, strict=True)
        cells = [cell for table, how in pairs for cell in _cells(table, name, how)]
        if any(cells):
            lines.append(line([label, *cells]))
    return "\n".join(lines)


def _cells(table, name, metric):
    if name not in table:
        return ["", "", ""]
    s, reference = table[name], MEAN if MEAN in table else SCRATCH
    score = spread(s["mean"], s["low"], s["high"])
    if name == reference or reference not in table or metric != "accuracy":
        return [score, str(s["n_seeds"]), ""]
    gap, (low, high), _ = compare(s, table[reference])
    return [score, str(s["n_seeds"]), spread(gap, low, high, "{:+.1f}")]


def main_table():
    """All methods of the study on the GPU, ten people with labels."""
    return methods(ALL, ("ablations", "main"), FEW)


def laptop_table():
    """Students and teachers of the study on a CPU, ten people with labels."""
    return methods({**STUDENTS, **TEACHERS}, ("laptop",), FEW)


def many_table():
    """All 16 training people with labels."""
    return methods(ALL, ("laptop", "main"), MANY)


def tasks_table():
    """Rest v. imagery, and a question about people."""
    places = {
        "rest v. imagery": ("rest-imagery", "motor-8", "many"),
        "the same, aligned by 8 to 30 Hz": ("rest-imagery-band", "motor-8", "many"),
        "sex, AUROC": ("sex", "motor-8", "many"),
    }
    # Re-centring takes away the spatial power that the question about people is of.
    plain = {"tangent space + LR, not re-centred": "TS+LR"}
    return methods({**ALL, **plain}, ("tasks", "laptop"), places)


def evoked_table():
    """What follows a cue: does the target appear or disappear?"""
    places = {
        "motor 8, many": ("cue", "motor-8", "many"),
        "motor 8, few": ("cue", "motor-8", "few"),
        "headband 8, many": ("cue", "headband-8", "many"),
    }
    scores = methods(OF_RESPONSES, ("evoked",), places)
    rows = conditions(read(RESULTS / "evoked.csv"))
    lines = [line(["student, time course, against", *places]), line(["---"] * 4)]
    tables = [whole(rows[place], TASKS["cue"].metric) for place in places.values()]
    for label, name in OF_RESPONSES.items():
        if name not in (SCRATCH, "evoked"):
            cells = [_gap(table["evoked"], table.get(name)) for table in tables]
            lines.append(line([label, *cells]))
    return "\n\n".join([scores, "\n".join(lines)])


def _gap(ours, theirs):
    if theirs is None:
        return ""
    gap, (low, high), _ = compare(ours, theirs)
    return spread(gap, low, high, "{:+.1f}")


def demonstration(data):
    """Table and comparisons of the demonstration."""
    rows = read(RESULTS / f"demo_{data}.csv")
    return f"{report.table(rows)}\n\n{report.comparisons(rows)}"


def planned_table():
    """The planned comparisons, on the seeds that were run for them."""
    rows = read(RESULTS / "terms.csv")
    rows = [row for row in rows if int(row["seed"]) >= terms.FIRST_PLANNED]
    return _terms("student", rows, terms.PLANNED)


def terms_tables():
    """Each family of terms and objectives on all seeds."""
    rows = read(RESULTS / "terms.csv")
    return "\n\n".join(_terms(n, rows, m) for n, m in terms.FAMILIES.items())


def _terms(title, rows, names):
    scores = (terms.by_person(rows, column) for column in ("score", "agreement"))
    seeds = len({row["seed"] for row in rows})
    head, *rest = terms.table(["none", *names], *scores)
    head = head.replace("student", f"{title}, {seeds} seeds", 1)
    return "\n".join([head, *rest])


def missing_table(data="physionet"):
    """Points lost when a quarter of the electrodes fail, and the share of the lead."""
    found = missing.by_person(read(RESULTS / "missing.csv"))
    patterns = [f"{missing.QUARTER} {name}" for name in missing.PATTERNS]
    lines = [line([data, "whole", *patterns]), line(["---", "---:", *["---"] * 3])]
    for (where, name), numbers in found.items():
        if where != data:
            continue
        people = list(numbers["random"][0].values())
        cells = [name, f"{100 * sum(people) / len(people):.1f} %"]
        for pattern in missing.PATTERNS:
            lost = missing.losses(numbers[pattern])
            cell = spread(lost.mean(), *bootstrap_interval(lost))
            share = missing.lead_lost(numbers[pattern])
            cells.append(cell if share is None else f"{cell}, {round(100 * share)} %")
        lines.append(line(cells))
    return "\n".join(lines)


def starts_table():
    """How much of a score is the run."""
    return "\n".join(starts.table(starts.read(RESULTS / "starts.csv")))


BLOCKS = {
    "main": main_table,
    "laptop": laptop_table,
    "many": many_table,
    "tasks": tasks_table,
    "evoked": evoked_table,
    "demo_physionet": lambda: demonstration("physionet"),
    "demo_simulated": lambda: demonstration("simulated"),
    "planned": planned_table,
    "terms": terms_tables,
    "cohorts": lambda: cohorts.tables(cohorts.read(RESULTS / "cohorts.csv")),
    "missing": missing_table,
    "starts": starts_table,
}


def filled(text):
    """Give the text with each table made anew.

    Raises
    ------
    KeyError
        If a mark names no table.
    """

    def anew(match):
        return f"<!-- {match[1]} -->\n\n{BLOCKS[match[1]]()}\n\n<!-- end -->"

    return BLOCK.sub(anew, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text("utf-8")), "utf-8")
