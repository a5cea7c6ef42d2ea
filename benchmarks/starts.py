"""How much of a score is the run: one network trained again and again.

    python -m benchmarks.starts            # 8 starts; half an hour on a core
    python -m benchmarks.starts --table

Folds, people, windows and budget are those of the main study, with few or many labels;
within a seed only the random numbers differ (initial weights, order of windows,
dropout). A start is scored over all 20 people; the SD over starts, pooled over seeds,
says how far such a score moves from run to run. A paired interval over people holds
most of that, as the difference of each person has its share: of all pairs of such like
runs within a seed, the table counts those whose 95 % interval excludes zero. The last
column is the accuracy of the mean of the probabilities of all starts.
"""

from __future__ import annotations

import argparse
import logging
from itertools import combinations, product
from pathlib import Path

import numpy as np

from benchmarks.cells import Budget, Cell, Question
from benchmarks.methods import METHODS
from benchmarks.ours import code_digest
from benchmarks.protocol import N_FOLDS
from benchmarks.rows import RESULTS, append, description, grouped, line, read_cells
from benchmarks.tables import TIE, bootstrap_interval

log = logging.getLogger("benchmarks")
COLUMNS = (
    "regime electrodes method seed fold start person score n_rows device code".split()
)
CELL = "regime electrodes method seed fold n_rows device code".split()
TASK, SETS, NETWORKS = "left-right", ("motor-8", "headband-8"), ("scratch", "EEGNet")
AVERAGED = "averaged"


def scores(probability, y, person):
    """Share of right windows of each person."""
    right = probability.argmax(1) == y
    return {int(p): float(right[person == p].mean()) for p in np.unique(person)}


def fold_rows(cell, method, n_starts):
    """One CSV row per start and test person, and those of all starts averaged.

    Parameters
    ----------
    cell : Cell
    method : Method
        One without stages that methods share: a teacher would be made once.
    n_starts : int
    """
    if method.pretrains or method.teaches:
        raise ValueError(f"{method.name!r} has stages that runs would share")
    where = cell.windows.rows(cell.split.test)
    truth = cell.windows.y[where], cell.windows.person[where]
    found = {}
    for cell.start in range(n_starts):
        found[str(cell.start)] = method.run(cell).probability
    found[AVERAGED] = np.mean(list(found.values()), 0)
    place = {
        "regime": cell.question.regime,
        "electrodes": cell.question.electrodes,
        "method": method.name,
        "seed": cell.question.seed,
        "fold": cell.question.fold,
        "n_rows": len(found) * len(cell.split.test),
        "device": cell.device,
        "code": code_digest() if "code" in method.settings else "",
    }
    return [
        {**place, "start": start, "person": person, "score": f"{score:.6f}"}
        for start, probability in found.items()
        for person, score in scores(probability, *truth).items()
    ]


def read(path):
    """Rows of finished cells; of a cell under two states of the code the last."""
    found = {}
    for row in read_cells(path, cell=CELL, row=("start", "person"), size="n_rows"):
        place = "regime electrodes method seed fold start person".split()
        found[tuple(row[column] for column in place)] = row
    return list(found.values())


def run(windows, n_starts, path, *, asked, device="cpu"):
    """Add the folds that are missing; ``asked`` are (regime, set, network, seed)."""
    for (regime, electrodes, name, seed), fold in product(asked, range(N_FOLDS)):
        method, budget = METHODS[name], Budget()
        question = Question(TASK, electrodes, name, regime, fold, seed)
        cell = Cell.build(windows, question, budget, device=device)
        code = code_digest() if "code" in method.settings else ""
        n_rows = (n_starts + 1) * len(cell.split.test)
        place = (
            regime,
            electrodes,
            name,
            str(seed),
            str(fold),
            str(n_rows),
            device,
            code,
        )
        done = {tuple(row[column] for column in CELL) for row in read(path)}
        if place not in done:
            append(path, fold_rows(cell, method, n_starts), COLUMNS)
            where = regime, electrodes, name, seed, fold + 1, N_FOLDS
            log.info("%s %s %s seed %d fold %d/%d", *where)


def place_of(row):
    """Which network on which electrodes with how many labels."""
    return row["regime"], row["electrodes"], row["method"]


def by_start(rows, *place):
    """Seed -> start -> mean over the people, of seeds whose folds are all there."""
    found, folds = {}, {}
    for row in rows:
        if place_of(row) != place:
            continue
        folds.setdefault(row["seed"], set()).add(row["fold"])
        starts = found.setdefault(row["seed"], {})
        starts.setdefault(row["start"], {})[row["person"]] = float(row["score"])
    return {
        seed: {start: float(np.mean([*p.values()])) for start, p in starts.items()}
        for seed, starts in found.items()
        if len(folds[seed]) == N_FOLDS
    }


def expected(rows, regime, electrodes, method="scratch"):
    """Each person's mean score over the starts: what a run of the network is worth.

    Returns
    -------
    dict or None
        As :func:`benchmarks.tables.summarise` gives it; None where there is no seed of
        which all folds have been run.
    """
    whole = by_start(rows, regime, electrodes, method)
    own = [
        row
        for row in rows
        if place_of(row) == (regime, electrodes, method)
        and row["seed"] in whole
        and row["start"] != AVERAGED
    ]
    if not own:
        return None
    cells = grouped(own, lambda row: (int(row["person"]), int(row["seed"])))
    per_cell = {
        k: float(np.mean([float(r["score"]) for r in v])) for k, v in cells.items()
    }
    people = sorted({person for person, _ in per_cell})
    means = [np.mean([v for (p, _), v in per_cell.items() if p == q]) for q in people]
    low, high = bootstrap_interval(np.array(means))
    return {
        "mean": float(np.mean(means)),
        "low": low,
        "high": high,
        "n_seeds": len(whole),
        "n_starts": len({row["start"] for row in own}),
        "per_cell": per_cell,
    }


def told_apart(rows, *place):
    """How many pairs of starts within a seed differ by their paired interval, of all.

    They are runs of one network: by right one in twenty.
    """
    whole, scores = by_start(rows, *place), {}
    for row in rows:
        wanted = place_of(row) == place and row["start"] != AVERAGED
        if wanted and row["seed"] in whole:
            run = scores.setdefault((row["seed"], row["start"]), {})
            run[row["person"]] = float(row["score"])
    n_apart = n_pairs = 0
    for (one, first), (other, second) in combinations(scores.items(), 2):
        if one[0] != other[0]:
            continue
        gap = np.array([first[person] - second[person] for person in sorted(first)])
        low, high = bootstrap_interval(gap)
        n_pairs += 1
        n_apart += low > TIE or high < -TIE
    return n_apart, n_pairs


AVERAGED_HEAD = "accuracy of the averaged probabilities %"
HEAD = (
    *("network", "electrodes", "labels", "seeds", "starts", "mean %", "SD over starts"),
    *("lowest to highest", "pairs whose 95 % CI excludes 0", AVERAGED_HEAD),
)


def table(rows):
    """Lines of the table: a network on an electrode set in each."""
    lines = [line(HEAD), line(["---"] * 3 + ["---:"] * (len(HEAD) - 3))]
    for place in dict.fromkeys(map(place_of, rows)):
        regime, electrodes, method = place
        seeds = by_start(rows, *place)
        averaged = [100 * starts.pop(AVERAGED) for starts in seeds.values()]
        single = 100 * np.array([list(starts.values()) for starts in seeds.values()])
        if not single.size:
            continue
        spread = np.sqrt(single.var(1, ddof=1).mean())
        name = "student, scratch" if method == "scratch" else method
        cells = [name, electrodes.replace("-", " "), regime, *map(str, single.shape)]
        cells += [f"{single.mean():.1f}", f"{spread:.1f}"]
        cells += [f"{single.min():.1f} to {single.max():.1f}"]
        cells.append("{} of {}".format(*told_apart(rows, *place)))
        lines.append(line([*cells, f"{np.mean(averaged):.1f}"]))
    return lines


def markdown(rows):
    """The page."""
    text = ["# How much of a score is the run", "", description(__doc__), ""]
    return "\n".join([*text, *table(rows), ""])


def main(arguments=None):
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.starts")
    parser.add_argument("--starts", type=int, default=8)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--electrodes", nargs="+", default=list(SETS))
    parser.add_argument("--regimes", nargs="+", default=["few"], help="few, many")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--windows", help="what benchmarks.run prepare wrote")
    parser.add_argument("--out", type=Path, default=RESULTS / "starts.csv")
    parser.add_argument("--table", action="store_true", help="from the rows there are")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    logging.getLogger("braindecode").setLevel(logging.ERROR)
    if not options.table:
        import torch

        from benchmarks.prepare import load_or_prepare

        torch.set_num_threads(options.threads)
        windows = load_or_prepare(TASK, path=options.windows)
        seeds = range(options.seeds)
        places = options.regimes, options.electrodes, options.networks
        asked = list(product(*places, seeds))
        what = {"asked": asked, "device": options.device}
        run(windows, options.starts, options.out, **what)
    options.out.with_suffix(".md").write_text(markdown(read(options.out)))


if __name__ == "__main__":
    main()
