"""The tables: accuracy of every set, and what was selected."""

from __future__ import annotations

from collections import Counter
from itertools import product
from operator import itemgetter

import numpy as np

from benchmarks import which_electrodes
from benchmarks.rows import description, grouped, line, person_scores
from benchmarks.tables import bootstrap_interval, holm, paired
from benchmarks.which_electrodes.choice import PRESETS, RANDOM, SIZES, STRATEGIES
from benchmarks.which_electrodes.study import DECODERS, place_of


def by_person(rows):
    """(decoder, k) -> strategy -> person -> mean score over seeds and draws."""
    places = grouped(rows, lambda row: (row["decoder"], int(row["k"])))
    return {
        place: {
            strategy: person_scores(same)
            for strategy, same in grouped(own, itemgetter("strategy")).items()
        }
        for place, own in places.items()
    }


def selected(rows):
    """How often each electrode was selected.

    Returns
    -------
    dict
        (strategy, k) to a Counter of electrodes over folds.
    int
        Number of folds.
    """
    kept = {}
    for row in rows:
        if row["strategy"] in STRATEGIES:
            place = kept.setdefault((row["strategy"], int(row["k"])), {})
            place[place_of(row)] = row["electrodes"].split()
    counts = {
        place: Counter(name for names in folds.values() for name in names)
        for place, folds in kept.items()
    }
    return counts, len({place_of(row) for row in rows})


def comparisons(scores, reference):
    """Compare all strategies with one, over the same people.

    Parameters
    ----------
    scores : dict
        Strategy to {person: score}.
    reference : str

    Returns
    -------
    dict
        Strategy to (difference, (low, high), p after Holm's correction).
    """
    others = [name for name in scores if name != reference]
    pairs = [paired(scores[name], scores[reference]) for name in others]
    corrected = holm([p for _, _, p in pairs]) if pairs else []
    return {
        name: (difference, interval, float(p))
        for name, (difference, interval, _), p in zip(
            others, pairs, corrected, strict=True
        )
    }


def score_table(scores, reference):
    """Lines of a table: accuracy, and paired differences to a named set and chance."""
    against = {name: comparisons(scores, name) for name in (reference, RANDOM)}
    head = ["electrodes", "accuracy %", "95 % CI"]
    for name in against:
        head += [f"against {name}", "95 % CI", "p (Holm)"]
    lines = [line(head), "|---" + "|---:" * (len(head) - 1) + "|"]
    for strategy, people in sorted(
        scores.items(), key=lambda item: -np.mean(list(item[1].values()))
    ):
        values = 100 * np.array(list(people.values()))
        low, high = bootstrap_interval(values)
        cells = [strategy, f"{values.mean():.1f}", f"{low:.1f} to {high:.1f}"]
        for found in against.values():
            if strategy not in found:
                cells += ["", "", ""]
                continue
            difference, (low, high), p = found[strategy]
            interval = f"{100 * low:+z.1f} to {100 * high:+z.1f}"
            cells += [f"{100 * difference:+z.1f}", interval, f"{p:.3f}"]
        lines.append(line(cells))
    return [*lines, ""]


def selection_table(rows):
    """Lines of a table: which electrodes each strategy selected in how many folds."""
    counts, n_folds = selected(rows)
    lines = [f"| k | strategy | selected, in so many of {n_folds} fold(s) |"]
    lines.append("|---:|---|---|")
    for k, strategy in product(SIZES, STRATEGIES):
        found = counts.get((strategy, k), Counter())
        ordered = sorted(found, key=lambda name: (-found[name], name))
        text = ", ".join(f"{name} {found[name]}" for name in ordered)
        lines.append(line([str(k), strategy, text]))
    return [*lines, ""]


def by_setting(rows):
    """(regime, teacher) -> rows: what is never averaged together."""
    return grouped(rows, itemgetter("regime", "teacher"))


def markdown(rows):
    """Write the tables of all settings."""
    lines = ["# Which electrodes to buy", ""]
    lines += [description(which_electrodes.__doc__), ""]
    lines += [
        "A person's score is the mean over seeds (and random draws); intervals are over"
        " people (bootstrap), p values by sign flips, corrected within a table.",
        "",
    ]
    for (regime, teacher), own in by_setting(rows).items():
        folds = {place_of(row) for row in own}
        people, seeds = ({row[c] for row in own} for c in ("person", "seed"))
        lines += [
            f"## {regime} labels, {teacher} teacher",
            "",
            f"{len(people)} people, {len(folds)} fold(s) of {len(seeds)} seed(s).",
            "",
        ]
        states = sorted({row["code"] for row in own})
        if len(states) > 1:
            lines += [f"**Several states of the code**: {', '.join(states)}.", ""]
        found = by_person(own)
        for decoder, k in product(DECODERS, SIZES):
            lines += [f"### {decoder}, {k} electrodes", ""]
            lines += score_table(found[decoder, k], PRESETS[k][0])
        lines += ["### Selected electrodes", "", *selection_table(own)]
    return "\n".join(lines)
