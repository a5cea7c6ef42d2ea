"""Every start against scratch over the same people, and the table."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter, itemgetter

import numpy as np

from benchmarks import transfer
from benchmarks.rows import description, grouped, line, person_scores
from benchmarks.tables import holm, paired
from benchmarks.transfer.settings import REFERENCE, SETTINGS, Setting


def one_weights(rows):
    """Refuse rows of one setting from two pretrainings: their mean means nothing."""
    found = {
        name: sorted({row["weights"] for row in own})
        for name, own in grouped(rows, itemgetter("setting")).items()
    }
    mixed = {name: made for name, made in found.items() if len(made) > 1}
    if mixed:
        raise ValueError(f"rows from different pretrainings in one table: {mixed}")
    return rows


def place_of(row):
    """Setting and number of labelled people of a row."""
    return row["setting"], int(row["n_labelled"])


@dataclass
class Contrast:
    """A start against scratch over the same people; points, and p after Holm."""

    setting: Setting
    n_labelled: int
    start: str
    scratch: float
    mean: float
    difference: float
    low: float
    high: float
    p: float
    better: int
    worse: int
    people: int


def contrast(setting, n_labelled, start, scratch, scores):
    """Compare two starts by their {person: score}; p is not corrected yet."""
    difference, (low, high), p = paired(scores, scratch)
    gain = np.array([scores[person] - scratch[person] for person in scores])
    means = (np.mean(list(own.values())) for own in (scratch, scores))
    points = (100 * float(value) for value in (*means, difference, low, high))
    counts = int((gain > 1e-9).sum()), int((gain < -1e-9).sum()), len(gain)
    return Contrast(setting, n_labelled, start, *points, p, *counts)


def contrasts(rows):
    """Paired comparisons with scratch, in the settings' order.

    Holm's correction goes over the settings and numbers of labelled people of a start.
    """
    order = {setting.name: i for i, setting in enumerate(SETTINGS)}
    found, out = grouped(one_weights(rows), place_of), []
    for name, n_labelled in sorted(found, key=lambda at: (order[at[0]], at[1])):
        starts = grouped(found[name, n_labelled], itemgetter("start"))
        scores = {start: person_scores(own) for start, own in starts.items()}
        scratch = scores.pop(REFERENCE)
        where = SETTINGS[order[name]], n_labelled
        out += [contrast(*where, k, scratch, own) for k, own in scores.items()]
    for family in by_start(out).values():
        for c, p in zip(family, holm([c.p for c in family]), strict=True):
            c.p = float(p)
    return out


def by_start(compared):
    """Start -> its contrasts."""
    return grouped(compared, attrgetter("start"))


HEAD = (
    "setting",
    "new to the weights",
    "labelled people",
    "scratch (%)",
    "{start} (%)",
    "difference (points)",
    "95 % CI",
    "p (Holm)",
    "better : worse",
)


def markdown(rows):
    """A table for each start: accuracy, and the paired difference with scratch."""
    # Of the newest state of the code alone: two of them are two methods.
    rows = [row for row in rows if row["code"] == rows[-1]["code"]]
    lines = ["# Do pretrained weights help where they have not been?", ""]
    lines += [description(transfer.__doc__), ""]
    made = "; ".join(dict.fromkeys(row["weights"] for row in rows))
    lines += [
        f"Seeds: {len({row['seed'] for row in rows})}. Weights: {made}. Devices: "
        f"{', '.join(sorted({row['device'] for row in rows}))}. Code: "
        f"{rows[-1]['code']}. A person's score is the mean over seeds; accuracy on "
        "unseen people; differences are paired over people, with 95 % intervals over "
        "people (bootstrap) and sign flips, corrected by Holm over a table's rows.",
        "",
    ]
    for start, compared in by_start(contrasts(rows)).items():
        head = line(HEAD).format(start=start)
        lines += [f"## {start} against {REFERENCE}", "", head]
        lines.append("|---|---|" + "---:|" * 4 + "---|---:|---|")
        for c in compared:
            name = c.setting.name + ("" if c.people == 20 else f" ({c.people} people)")
            cells = [name, c.setting.new, str(c.n_labelled)]
            cells += [f"{c.scratch:.1f}", f"{c.mean:.1f}", f"{c.difference:+.1f}"]
            cells += [f"{c.low:+.1f} to {c.high:+.1f}", f"{c.p:.3f}"]
            cells += [f"{c.better} : {c.worse}"]
            lines.append(line(cells))
        lines.append("")
    return "\n".join(lines)
