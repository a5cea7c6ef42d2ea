"""The tables of the README, from the stored results.

    python -m benchmarks.readme        # rewrites what stands between the marks

A table stands between ``<!-- name -->`` and ``<!-- end -->``; a test compares it with
what is made anew.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import missing, terms
from benchmarks.ablations import study
from benchmarks.demonstration import report
from benchmarks.rows import RESULTS, line, read
from benchmarks.tables import bootstrap_interval, compare, whole

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCK = re.compile(r"(<!-- (\w+) -->\n\n).*?(\n\n<!-- end -->)", re.DOTALL)
SCRATCH = "scratch"
STUDENTS = {
    "student, scratch": SCRATCH,
    "student, pretrained": "pretrained",
    "student, distilled": "distilled",
    "student, distilled, pool": "distilled pool",
    "student, both": "both",
    "student, both, pool": "both pool",
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
SETS = ("motor-8", "headband-8")


def spread(mean, low, high, form="{:.1f}"):
    """Give a mean and its interval, in points or percent."""
    mean, low, high = (form.format(100 * value) for value in (mean, low, high))
    return f"{mean} ({low} to {high})"


def _methods(names, files, regime="few"):
    """Accuracy of each method on both electrode sets, and its gap to scratch."""
    places = study(files)
    found = {s: whole(places.get(("left-right", s, regime), {})) for s in SETS}
    head = ["method"]
    for place in SETS:
        head += [place.replace("-", " "), "seeds", "against scratch"]
    yield line(head)
    yield line(["---", *["---", "---:", "---"] * len(SETS)])
    for label, name in names.items():
        cells = [label]
        for place in SETS:
            cells += _cells(found[place], name)
        if any(cells[1:]):
            yield line(cells)


def _cells(table, name):
    if name not in table:
        return ["", "", ""]
    s = table[name]
    score = spread(s["mean"], s["low"], s["high"])
    if name == SCRATCH or SCRATCH not in table:
        return [score, str(s["n_seeds"]), ""]
    gap, (low, high), _ = compare(s, table[SCRATCH])
    return [score, str(s["n_seeds"]), spread(gap, low, high, "{:+.1f}")]


def main_table():
    """All methods of the study on the GPU, ten people with labels."""
    names = {**STUDENTS, **PEERS, **TEACHERS}
    return "\n".join(_methods(names, ("ablations", "main")))


def laptop_table():
    """Students and teachers of the study on a CPU, ten people with labels."""
    return "\n".join(_methods({**STUDENTS, **TEACHERS}, ("laptop",)))


def demonstration(data):
    """Table and comparisons of the demonstration."""
    rows = read(RESULTS / f"demo_{data}.csv")
    return f"{report.table(rows)}\n\n{report.comparisons(rows)}"


def terms_tables():
    """The planned comparisons, and each family on all seeds."""
    rows = read(RESULTS / "terms.csv")
    planned = [r for r in rows if int(r["seed"]) >= terms.FIRST_PLANNED]
    parts = []
    for title, own, names in (
        ("planned", planned, terms.PLANNED),
        *((family, rows, members) for family, members in terms.FAMILIES.items()),
    ):
        if own:
            scores = (terms.by_person(own, column) for column in ("score", "agreement"))
            seeds = len({row["seed"] for row in own})
            head, *rest = terms.table(["none", *names], *scores)
            head = head.replace("student", f"{title}, {seeds} seeds", 1)
            parts.append("\n".join([head, *rest]))
    return "\n\n".join(parts)


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


BLOCKS = {
    "main": main_table,
    "laptop": laptop_table,
    "demo_physionet": lambda: demonstration("physionet"),
    "demo_simulated": lambda: demonstration("simulated"),
    "terms": terms_tables,
    "missing": missing_table,
}


def filled(text):
    """Give the text with each table made anew.

    Raises
    ------
    KeyError
        If a mark names no table.
    """
    return BLOCK.sub(lambda m: f"{m[1]}{BLOCKS[m[2]]()}{m[3]}", text)


if __name__ == "__main__":
    README.write_text(filled(README.read_text("utf-8")), "utf-8")
