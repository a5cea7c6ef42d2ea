"""Statistics over people, and the markdown tables that the documentation quotes.

``python -m benchmarks.tables results/main.csv --reference scratch``
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

import numpy as np

from benchmarks.cells import read_rows

log = logging.getLogger("benchmarks")
N_RESAMPLES = 10_000
# Scores are stored with six digits: means over people that are equal as shares of
# windows differ by up to this, and an equal one is as extreme as what was observed.
TIE = 2e-6


def p_text(p):
    """A p value to three places, never as zero."""
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def people_by_seed(rows, *, value="score"):
    """Arrange rows as an array (seeds, people), NaN where a cell is missing.

    Seeds whose folds are not all there are left out, if others are whole: a mean over
    some of the people says nothing about all of them.

    Returns
    -------
    values : array (S, P)
    people : list of int
    seeds : list of int
    """
    people = sorted({int(row["person"]) for row in rows})
    seeds = sorted({int(row["seed"]) for row in rows})
    out = np.full((len(seeds), len(people)), np.nan)
    for row in rows:
        place = seeds.index(int(row["seed"])), people.index(int(row["person"]))
        out[place] = float(row[value]) if row[value] != "" else np.nan
    whole = np.isfinite(out).all(1)
    if whole.any():
        out = out[whole]
        seeds = [seed for seed, kept in zip(seeds, whole, strict=True) if kept]
    return out, people, seeds


def area_under_curve(decision, target):
    """AUROC by ranks (Mann-Whitney), ties counting half; NaN for one class."""
    positive, negative = decision[target == 1], decision[target == 0]
    if not len(positive) or not len(negative):
        return float("nan")
    difference = positive[:, None] - negative[None]
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def bootstrap_interval(values, statistic=None, *, level=0.95, seed=0):
    """Percentile interval of a statistic, people being drawn with replacement.

    Parameters
    ----------
    values : array (P, ...)
        One row a person.
    statistic : callable, optional
        Of resampled rows; default their mean.
    """
    values = np.asarray(values, float)
    draws = np.random.default_rng(seed).integers(
        0, len(values), (N_RESAMPLES, len(values))
    )
    if statistic is None:
        drawn = values[draws].mean(1)
    else:
        drawn = np.array([statistic(values[d]) for d in draws[:2000]])
    tail = 50 * (1 - level)
    low, high = np.nanpercentile(drawn, [tail, 100 - tail])
    return float(low), float(high)


def sign_flip_test(differences, *, seed=0):
    """Two-sided paired permutation test of a mean difference over people.

    Exact for at most twenty people; else ten thousand random sign patterns, the
    observed one counted in, so that p is never 0.
    """
    d = np.asarray(differences, float)
    n, least = len(d), abs(d.mean()) - TIE
    if n <= 20:
        sums = np.zeros(1)
        for value in d:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) / n >= least).mean())
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], (N_RESAMPLES, n))
    beyond = (np.abs(signs @ d / n) >= least).sum()
    return float((beyond + 1) / (N_RESAMPLES + 1))


def holm(p_values):
    """Holm's step-down adjusted p values, in the order given."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    steps = (len(p) - np.arange(len(p))) * p[order]
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return out


def chance_level(n_windows, *, n_classes=2, alpha=0.05):
    """Accuracy that guessing reaches with probability ``alpha`` (binomial)."""
    from scipy.stats import binom

    return float(binom.isf(alpha, n_windows, 1 / n_classes) / n_windows)


def summarise(rows, metric="accuracy"):
    """Summarise one method under one condition, over people and seeds.

    Returns
    -------
    dict
        ``mean``, ``low``, ``high`` (95 % over people), ``sd_seeds`` (NaN for one
        seed), ``n_people``, ``n_seeds``, ``per_person`` {person: score},
        ``per_cell`` {(person, seed): score}, ``seconds`` a cell, ``n_parameters``.
    """
    scores, people, seeds = people_by_seed(rows)
    per_person = np.nanmean(scores, 0)
    if metric == "auroc":
        decision, _, _ = people_by_seed(rows, value="decision")
        target = people_by_seed(rows, value="target")[0][0]
        by_seed = np.array([_auroc(d, target) for d in decision])
        pair = np.stack([np.nanmean(decision, 0), target], 1)
        low, high = bootstrap_interval(pair, lambda v: area_under_curve(*v.T))
    else:
        by_seed = np.nanmean(scores, 1)
        low, high = bootstrap_interval(per_person)
    several = len(seeds) > 1
    return {
        "mean": float(by_seed.mean()),
        "low": low,
        "high": high,
        "sd_seeds": float(by_seed.std(ddof=1)) if several else float("nan"),
        "n_people": len(people),
        "n_seeds": len(seeds),
        "n_windows": sum({r["person"]: int(r["n_windows"]) for r in rows}.values()),
        "per_person": dict(zip(people, per_person.tolist(), strict=True)),
        "per_cell": {
            (person, seed): float(scores[i, j])
            for i, seed in enumerate(seeds)
            for j, person in enumerate(people)
            if np.isfinite(scores[i, j])
        },
        "seconds": float(np.mean([float(row["seconds"]) for row in rows])),
        "n_parameters": int(rows[0]["n_parameters"]),
    }


def _auroc(decision, target):
    known = np.isfinite(decision) & np.isfinite(target)
    return area_under_curve(decision[known], target[known])


def paired(scores, reference):
    """Compare scores {person: score} with a reference's, over the people of both.

    Returns
    -------
    difference, (low, high), p

    Raises
    ------
    ValueError
        If they have no person in common.
    """
    common = sorted(scores.keys() & reference.keys())
    if not common:
        raise ValueError("nothing to compare: no person has both scores")
    d = np.array([scores[person] - reference[person] for person in common])
    return float(d.mean()), bootstrap_interval(d), sign_flip_test(d)


def compare(method, reference):
    """Compare two summaries over the people, and the seeds of each, that they share.

    Returns
    -------
    difference, (low, high), p
    """
    common = method["per_cell"].keys() & reference["per_cell"].keys()
    means = []
    for cells in (method["per_cell"], reference["per_cell"]):
        by_person = {}
        for person, seed in sorted(common):
            by_person.setdefault(person, []).append(cells[person, seed])
        means.append({p: float(np.mean(own)) for p, own in by_person.items()})
    return paired(*means)


def conditions(rows):
    """Group rows: (task, electrodes, regime) to {method: rows}, in order met."""
    out = {}
    for row in rows:
        place = row["task"], row["electrodes"], row["regime"]
        out.setdefault(place, {}).setdefault(row["method"], []).append(row)
    return out


def latest_code(rows):
    """Drop rows of our methods that an earlier state of the package has made.

    Of cells that differ in the digest of the code alone the one written last is kept.
    """
    last = {}
    for row in rows:
        config = json.loads(row["config"])
        config.get("settings", {}).pop("code", None)
        last.setdefault(json.dumps(config, sort_keys=True), []).append(row)
    return [row for own in last.values() for row in own if row["key"] == own[-1]["key"]]


def one_device(rows):
    """Keep of a network's folds in one seed those of one device: the one with most.

    Devices draw other random numbers: a mean over folds of both is of neither run. Of
    equally many the device written last stays.
    """
    columns = "task", "electrodes", "regime", "method", "seed"
    found = {}
    for row in rows:
        if "epochs" in json.loads(row["config"]).get("settings", {}):
            place = tuple(row[c] for c in columns)
            device = row["device"].partition(":")[0]
            found.setdefault(place, {}).setdefault(device, set()).add(row["fold"])
    kept = {
        place: max(reversed(devices), key=lambda device: len(devices[device]))
        for place, devices in found.items()
    }

    def stays(row):
        place = tuple(row[c] for c in columns)
        return kept.get(place) in (None, row["device"].partition(":")[0])

    return [row for row in rows if stays(row)]


def one_setting(rows):
    """Refuse a method under two settings, and methods of ours of two code states.

    A mean of both, or a difference between them, means nothing.
    """
    columns = "task", "electrodes", "regime", "method", "fold", "seed"
    settings, codes = {}, {}
    for row in rows:
        settings.setdefault(tuple(row[c] for c in columns), set()).add(row["key"])
        code = json.loads(row["config"]).get("settings", {}).get("code")
        if code is not None:
            codes.setdefault(tuple(row[c] for c in columns[:3]), set()).add(code)
    mixed = [place for place, keys in settings.items() if len(keys) > 1]
    if mixed:
        raise ValueError(f"{len(mixed)} cells have two settings, such as {mixed[0]}")
    mixed = [place for place, found in codes.items() if len(found) > 1]
    if mixed:
        raise ValueError(f"cells of two states of the code in {mixed}: rerun")
    return rows


def whole(methods, metric="accuracy"):
    """Summaries of the methods that have been run for all the people of a condition."""
    found = {name: summarise(rows, metric) for name, rows in methods.items()}
    most = max((s["n_people"] for s in found.values()), default=0)
    return {name: s for name, s in found.items() if s["n_people"] == most}


def markdown(rows, *, reference=None):
    """Give one table per task, electrode set and regime.

    With ``reference`` the paired difference to that method, its interval, and the
    p value after Holm's correction over the table's methods.
    """
    from benchmarks.protocol import TASKS

    parts = []
    for (task, electrodes, regime), methods in conditions(one_setting(rows)).items():
        metric = TASKS[task].metric
        table = whole(methods, metric)
        compared = reference in table and metric == "accuracy"
        tests = {}
        if compared:
            others = [name for name in table if name != reference]
            found = [compare(table[name], table[reference]) for name in others]
            corrected = holm([p for _, _, p in found]) if found else []
            tests = {
                name: (*result[:2], p)
                for name, result, p in zip(others, found, corrected, strict=True)
            }
        parts.append(_table(task, electrodes, regime, metric, table, tests, reference))
    return "\n".join(parts)


def _table(task, electrodes, regime, metric, table, tests, reference):
    any_method = next(iter(table.values()))
    people = any_method["n_people"]
    head = ["method", f"{metric} %", "95 % CI", "SD seeds", "parameters", "seeds"]
    if tests:
        head += [f"against {reference}", "95 % CI", "p (Holm)"]
    lines = [f"### {task}, {electrodes}, {regime} labels ({people} people)", ""]
    if metric == "accuracy":
        n = any_method["n_windows"]
        level = 100 * chance_level(n)
        lines += [
            f"Guessing {n} windows stays below {level:.1f} % in 19 of 20 cases.",
            "",
        ]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, s in sorted(table.items(), key=lambda item: -item[1]["mean"]):
        spread = "" if np.isnan(s["sd_seeds"]) else f"{100 * s['sd_seeds']:.1f}"
        cells = [name, f"{100 * s['mean']:.1f}"]
        cells += [f"{100 * s['low']:.1f} to {100 * s['high']:.1f}", spread]
        cells += [f"{s['n_parameters']:,}", str(s["n_seeds"])]
        if name in tests:
            difference, (low, high), p = tests[name]
            cells += [
                f"{100 * difference:+.1f}",
                f"{100 * low:+.1f} to {100 * high:+.1f}",
            ]
            cells += [f"{p:.3f}"]
        elif tests:
            cells += ["", "", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main(argv=None):
    """Write the tables of a CSV to standard output or a file."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.tables")
    out.add_argument("csv")
    out.add_argument("--reference", help="method that the others are compared with")
    out.add_argument("--out")
    args = out.parse_args(argv)
    rows = one_device(latest_code(read_rows(args.csv)))
    text = markdown(rows, reference=args.reference)
    if args.out:
        Path(args.out).write_text(text)
    else:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        log.info(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
