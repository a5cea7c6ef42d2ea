"""Peers with as much tuning as our student, and each network without alignment.

    python -m benchmarks.peers --seeds 2       # seven hours on one core
    python -m benchmarks.peers --table         # results/peers.md

Left v. right fist, ten people with labels. Every network, our student from scratch
among them, has the same four settings: batches of 64 or of 16 (four times as many
steps) and a learning rate of 1e-3 or 3e-3; the rest is the main study's budget. In each
fold the setting is the one with the most right windows of the six training people who
were not drawn, the fold's test people being left out (where several are equal, the one
named first), and the network is trained once more with it and tested. So a *tuned*
score has seen no label of who is tested. The labels of those six people, which no other
study reads, are read for all networks alike, to choose and not to train.

*As it is*: batches of 64 and 1e-3, the main study's setting. *Not aligned*: the same on
recordings as they are. Intervals are 95 % over people, differences paired; p with
Holm's correction over the networks that are compared with the tuned student. Tangent
space is that of the main study, three seeds, paired over the seeds of both.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from itertools import product

import numpy as np

from benchmarks.cells import Budget, read_rows
from benchmarks.figures import COLOURS, MARKERS
from benchmarks.methods import PEER_NETWORKS
from benchmarks.options import asked, study_parser
from benchmarks.rows import RESULTS, description, grouped, line, spread
from benchmarks.run import TANGENT, Study, questions, run_cells
from benchmarks.tables import compare, holm, latest_code, p_text, whole

log = logging.getLogger("benchmarks")
STUDENT = "scratch"
NETWORKS = (STUDENT, *PEER_NETWORKS)
UNALIGNED = tuple(f"{name} unaligned" for name in NETWORKS)
SETS = ("motor-8", "headband-8")
DEFAULT = Budget()
SETTINGS = tuple(
    replace(DEFAULT, batch_size=batch, lr=lr)
    for batch in (64, 16)
    for lr in (1e-3, 3e-3)
)
HEAD = (
    "network",
    "parameters",
    "as it is",
    "tuned",
    "tuning gives",
    "tuned, against the tuned student",
    "as it is, not aligned",
    "alignment gives",
)
LABELS = {STUDENT: "student, scratch", "DGCNN": "DGCNN (braindecode)"}


def study(electrodes, methods):
    """One set of electrodes, few labels."""
    return Study(("left-right",), (electrodes,), methods, ("few",))


def place_of(row):
    """Which network in which fold of which seed, on which electrodes."""
    return row["electrodes"], row["method"], int(row["seed"]), int(row["fold"])


def setting_of(row):
    """Batch size and learning rate of a row's cell."""
    settings = json.loads(row["config"])["settings"]
    return settings["batch_size"], settings["lr"]


def is_nested(row):
    """Was this row's person a training person of the fold, looked at for tuning?"""
    return json.loads(row["config"])["nested"]


def chosen(rows):
    """Setting with the most right windows of the nested people, for each place.

    Parameters
    ----------
    rows : list of dict
        Of the CSV.

    Returns
    -------
    dict
        Place to (batch size, learning rate), where all settings have been run. Of
        equally good ones the one that stands first.
    """
    order, out = [(b.batch_size, b.lr) for b in SETTINGS], {}
    for place, own in grouped(filter(is_nested, rows), place_of).items():
        right = {
            setting: round(sum(float(r["score"]) * int(r["n_windows"]) for r in found))
            for setting, found in grouped(own, setting_of).items()
        }
        if len(right) == len(order):
            out[place] = max(order, key=lambda setting: right[setting])
    return out


def run(windows, units, path, *, sets=SETS, networks=None, device="cpu"):
    """Tune, train and test every network in each (seed, fold)."""

    def cells(electrodes, name, budget, **where):
        asked_for = {"only": (name,), "device": device, **where}
        todo = questions(study(electrodes, (name,)), budget=budget, **asked_for)
        failed = run_cells(
            todo, lambda task: windows, budget, path, study="peers", device=device
        )
        if failed:
            raise RuntimeError(f"{name} failed on {electrodes}, {where}")

    for electrodes, (seed, fold) in product(sets, units):
        where = {"seeds": (seed,), "folds": (fold,)}
        for name in networks or NETWORKS:
            for budget in SETTINGS:
                cells(electrodes, name, budget, nested=True, **where)
            own = chosen(latest_code(read_rows(path)))[electrodes, name, seed, fold]
            batch, lr = own
            for budget in {DEFAULT, replace(DEFAULT, batch_size=batch, lr=lr)}:
                cells(electrodes, name, budget, **where)
            cells(electrodes, f"{name} unaligned", DEFAULT, **where)


def tested(rows):
    """Rows of test people: as it is, tuned, and not aligned, by electrodes and method.

    Returns
    -------
    dict
        ``"plain"``, ``"tuned"`` and ``"unaligned"`` to {electrodes: {method: summary}}.
    """
    best, default = chosen(rows), (DEFAULT.batch_size, DEFAULT.lr)
    found = {"plain": [], "tuned": [], "unaligned": []}
    for row in rows:
        if is_nested(row):
            continue
        place = place_of(row)
        if row["method"] in UNALIGNED:
            name = row["method"].removesuffix(" unaligned")
            found["unaligned"].append({**row, "method": name})
            continue
        if setting_of(row) == default:
            found["plain"].append(row)
        if setting_of(row) == best.get(place):
            found["tuned"].append(row)
    return {kind: _summaries(own) for kind, own in found.items()}


def _summaries(rows):
    by_set = grouped(rows, lambda row: row["electrodes"])
    return {
        electrodes: whole(grouped(own, lambda row: row["method"]))
        for electrodes, own in by_set.items()
    }


def tangent_space(electrodes):
    """Summaries of the linear classifier, which has no budget, from the main study."""
    rows = [
        row
        for row in read_rows(RESULTS / "main.csv")
        if row["method"] in TANGENT
        and (row["electrodes"], row["regime"]) == (electrodes, "few")
    ]
    return whole(grouped(latest_code(rows), lambda row: row["method"]))


def table(rows, electrodes):
    """Lines of the table of one set of electrodes."""
    found = {kind: own.get(electrodes, {}) for kind, own in tested(rows).items()}
    tuned = found["tuned"]
    if STUDENT not in tuned:
        return []
    linear = tangent_space(electrodes)
    others = {name: s for name, s in tuned.items() if name != STUDENT}
    tests = {n: compare(s, tuned[STUDENT]) for n, s in {**others, **linear}.items()}
    p = holm([tests[name][2] for name in others])
    corrected = dict(zip(others, p, strict=True))
    lines = [line(HEAD), line(["---", "---:", *["---"] * (len(HEAD) - 2)])]
    for name, s in sorted(tuned.items(), key=lambda item: -item[1]["mean"]):
        plain, raw = found["plain"][name], found["unaligned"].get(name)
        cells = [LABELS.get(name, name), f"{s['n_parameters']:,}", _score(plain)]
        cells += [_score(s), _gap(s, plain)]
        cells += [_against(tests[name], corrected[name])] if name in tests else [""]
        cells += [_score(raw), _gap(plain, raw)] if raw else ["", ""]
        lines.append(line(cells))
    for name, s in linear.items():
        cells = [
            name,
            f"{s['n_parameters']:,}",
            _score(s),
            "",
            "",
            _against(tests[name]),
        ]
        lines.append(line([*cells, "", ""]))
    return lines


def _score(summary):
    return spread(*(summary[key] for key in ("mean", "low", "high")))


def _gap(method, reference):
    gap, (low, high), _ = compare(method, reference)
    return spread(gap, low, high, "{:+.1f}")


def _against(test, p=None):
    gap, (low, high), _ = test
    text = spread(gap, low, high, "{:+.1f}")
    return text if p is None else f"{text}, p {p_text(p)}"


def settings_taken(rows):
    """How often each setting was chosen, a line a network."""
    names = [f"{b.batch_size}, {b.lr:g}" for b in SETTINGS]
    lines = [line(["network", *names]), line(["---", *["---:"] * len(names)])]
    taken = grouped(chosen(rows).items(), lambda item: item[0][1])
    for name in NETWORKS:
        own = [f"{batch}, {lr:g}" for _, (batch, lr) in taken.get(name, [])]
        counts = [str(own.count(setting)) for setting in names]
        lines.append(line([LABELS.get(name, name), *counts]))
    return lines


def markdown(rows):
    """Give the page: a table for each set of electrodes, and the settings chosen."""
    parts = ["# Peers, tuned alike, and what alignment gives", "", description(__doc__)]
    for electrodes in SETS:
        lines = table(rows, electrodes)
        if lines:
            n = _seeds(tested(rows)["tuned"][electrodes])
            parts += ["", f"## {electrodes}, {n} seeds", "", *lines]
    parts += [
        "",
        "## Settings chosen (batch, learning rate), on all caps",
        "",
        *settings_taken(rows),
    ]
    return "\n".join([*parts, ""])


KINDS = {
    "unaligned": "as it is, not aligned",
    "plain": "as it is",
    "tuned": "tuned in each fold",
}


def figure(rows, path):
    """Accuracy of each network, not aligned, as it is and tuned; a panel a cap."""
    from matplotlib.figure import Figure

    found = tested(rows)
    sets = [name for name in SETS if STUDENT in found["tuned"].get(name, {})]
    fig = Figure(figsize=(1.4 + 4.2 * len(sets), 4.2), layout="constrained")
    axes = fig.subplots(1, len(sets), squeeze=False, sharex=True)[0]
    for ax, electrodes in zip(axes, sets, strict=True):
        tuned = found["tuned"][electrodes]
        names = sorted(tuned, key=lambda name: tuned[name]["mean"])
        for i, (kind, label) in enumerate(KINDS.items()):
            own = [100 * _triple(found[kind][electrodes][name]) for name in names]
            mean, low, high = np.transpose(own)
            places = np.arange(len(names)) + 0.24 * (i - 1)
            arms = [mean - low, high - mean]
            look = {"fmt": MARKERS[i], "color": COLOURS[i], "capsize": 2}
            ax.errorbar(mean, places, xerr=arms, label=label, **look)
        linear = tangent_space(electrodes)[TANGENT[0]]["mean"]
        told = "tangent space + LR,\nre-centred"
        ax.axvline(100 * linear, color="0.3", linewidth=1, label=told)
        ax.axvline(50, color="0.6", linestyle=":", linewidth=1)
        ax.set_yticks(range(len(names)), [LABELS.get(n, n) for n in names])
        ax.set_title(electrodes.replace("-", " ") + f", {_seeds(tuned)} seeds")
        ax.set_xlabel("accuracy (%), unseen people")
    handles = fig.axes[0].get_legend_handles_labels()
    fig.legend(*handles, loc="outside lower center", ncols=4, fontsize=8)
    fig.savefig(path, dpi=130)


def _triple(summary):
    return np.array([summary[key] for key in ("mean", "low", "high")])


def _seeds(summaries):
    counts = sorted({summary["n_seeds"] for summary in summaries.values()})
    return " or ".join(map(str, counts))


def main(arguments=None):
    """Run what is asked for, then write the tables."""
    parser = study_parser("peers", teacher_size="default", threads=1)
    parser.add_argument("--electrodes", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--windows", help="what prepare wrote, else cache or MNE_DATA")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for name in ("braindecode", "braindecode_gcmae"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not options.table:
        import torch

        from benchmarks.prepare import load_or_prepare

        torch.set_num_threads(options.threads)
        windows = load_or_prepare("left-right", None, options.windows)
        where = {"sets": options.electrodes, "networks": options.networks}
        where["device"] = options.device
        run(windows, asked(options), options.out, **where)
    rows = latest_code(read_rows(options.out))
    options.out.with_suffix(".md").write_text(markdown(rows))
    figure(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
