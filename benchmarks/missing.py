"""Accuracy while electrodes fail: the student, and peers with their channels repaired.

    python -m benchmarks.missing --data physionet simulated
    python -m benchmarks.missing --table

Networks are trained once, on 16 whole electrodes of all training people (five folds of
people, alignment of each recording, 40 epochs, last epoch kept). Then electrodes fail
in the *whole* recording of a test person, before alignment: at random (drawn anew for
each person), from the front backwards, or on the left side from the front. The student
gets the recording with the channels missing; EEGNet and ShallowFBCSPNet get it with
zeros in their place, or with MNE's spherical splines from those that are left. A
network near chance has little to lose, so the share of the lead over guessing (50 %)
that is lost stands beside the points, where the lead is clear of zero. *Trained without
them* is a student trained anew for each loss, on the electrodes that are left: what is
lost there is what the electrodes knew, and no network that goes on can be asked for it.
Tangent space with logistic regression, re-centred, is *refitted* for each loss, too: it
is trained in a second where the training recordings are at hand.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.cells import Budget
from benchmarks.demonstration.data import load
from benchmarks.methods import band_pass, recentre, seeded, training_arguments
from benchmarks.ours import code_digest
from benchmarks.prepare import spline_matrix
from benchmarks.protocol import N_FOLDS, person_folds
from benchmarks.rows import RESULTS, description, read, write

COLUMNS = "data seed fold network repair pattern dropped person score code".split()
RETRAINED, LINEAR = "student, trained without them", "TS+LR re-centred"
NETWORKS = {
    "student": {},
    "student, electrode dropout 0.25": {"electrode_dropout": 0.25},
    "student, electrode dropout 0.4": {"electrode_dropout": 0.4},
    "EEGNet": {},
    "ShallowFBCSPNet": {},
    RETRAINED: {},
    LINEAR: {},
}
PATTERNS, DROPPED = ("random", "front", "left"), (0, 2, 4, 6, 8)
ELECTRODES = "both-16"
QUARTER = 4  # of the sixteen


def failing(pattern, n, positions, seed):
    """Rows of the electrodes that fail.

    Parameters
    ----------
    pattern : {"random", "front", "left"}
    n : int
    positions : array (N, 3)
        Metres, head frame: x to the right, y to the front.
    seed : sequence of int
        Of the random pattern.
    """
    x, y, _ = np.asarray(positions).T
    order = {
        "random": lambda: np.random.default_rng(seed).permutation(len(x)),
        "front": lambda: np.argsort(-y, kind="stable"),
        # left, then the middle, then the right: each from the front backwards
        "left": lambda: np.lexsort((-y, np.digitize(x, (-0.01, 0.01)))),
    }
    return np.sort(order[pattern]()[:n])


def splined(X, lost, positions):
    """Lost channels from the others, by MNE's spherical splines."""
    left = np.setdiff1d(np.arange(X.shape[1]), lost)
    out = X.copy()
    out[:, lost] = spline_matrix(positions, left, lost) @ X[:, left]
    return out


def repaired(X, recording, lost, repair, positions):
    """Aligned windows (B, N, T) of people whose electrodes ``lost`` have failed."""
    from braindecode_gcmae import RecordingAlignment

    X = X.copy()
    if repair == "splines" and len(lost):
        X = splined(X, lost, positions).astype(np.float32)
    else:
        X[:, lost] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that channels are missing is the point
        X = RecordingAlignment().transform(X, groups=recording)
    return X if repair == "missing" else np.nan_to_num(X)


def trained(name, study, X, rows, seed, kept=None):
    """A network on whole electrodes; ``kept`` are rows of those that X has."""
    from braindecode import EEGClassifier
    from braindecode.models import EEGNet, ShallowFBCSPNet

    from braindecode_gcmae import GCMAEStudent

    models = {"EEGNet": EEGNet, "ShallowFBCSPNet": ShallowFBCSPNet}
    signal = {
        "chs_info": [study.chs_info[study.kept[i]] for i in kept or range(X.shape[1])],
        "n_times": X.shape[2],
        "sfreq": study.sfreq,
        "n_outputs": 2,
    }
    with seeded(seed):
        module = models.get(name, GCMAEStudent)(**signal, **NETWORKS[name])
        net = EEGClassifier(module, **training_arguments(Budget(), "cpu"))
        return net.fit(X[rows], study.y[rows])


def fold_rows(study, fold, test, seed, networks=tuple(NETWORKS)):
    """One CSV row per network, repair, pattern, number and test person."""
    positions = np.array([study.chs_info[row]["loc"][:3] for row in study.kept])
    raw = np.ascontiguousarray(study.X[:, study.kept])
    nothing = np.array([], int)
    whole = repaired(raw, study.recording, nothing, "missing", positions)
    training = study.rows([p for p in study.people if p not in test])
    for name in networks:
        if name == RETRAINED:
            yield from retrained_rows(study, fold, test, seed, raw, positions)
            continue
        if name == LINEAR:
            yield from linear_rows(study, fold, test, seed, raw, positions)
            continue
        net = trained(name, study, whole, training, seed)
        student = name.startswith("student")
        code = code_digest() if student else ""
        repairs = ["missing"] if student else ["zeros", "splines"]
        cases = product(repairs, PATTERNS, DROPPED, test)
        for repair, pattern, n, person in cases:
            own = study.rows([person])
            lost = failing(pattern, n, positions, [seed, fold, person, n])
            X = repaired(raw[own], study.recording[own], lost, repair, positions)
            right = net.predict(X) == study.y[own]
            values = study.name, seed, fold, name, repair, pattern, n, person
            values += f"{right.mean():.6f}", code
            yield dict(zip(COLUMNS, values, strict=True))


def retrained_rows(study, fold, test, seed, raw, positions):
    """Rows of students that never had what fails: nothing, or a quarter of the cap."""
    training, nets = study.rows([p for p in study.people if p not in test]), {}
    nothing = np.array([], int)
    for pattern, n, person in product(PATTERNS, (0, QUARTER), test):
        lost = failing(pattern, n, positions, [seed, fold, person, n])
        left = tuple(np.setdiff1d(np.arange(raw.shape[1]), lost).tolist())
        rest = raw[:, left], study.recording, nothing, "missing", positions[list(left)]
        if left not in nets:
            X = repaired(*rest)
            nets[left] = X, trained(RETRAINED, study, X, training, seed, left)
        X, net = nets[left]
        own = study.rows([person])
        right = net.predict(X[own]) == study.y[own]
        values = study.name, seed, fold, RETRAINED, "missing", pattern, n, person
        values += f"{right.mean():.6f}", code_digest()
        yield dict(zip(COLUMNS, values, strict=True))


def linear_rows(study, fold, test, seed, raw, positions):
    """Rows of the linear classifier, refitted on the electrodes that are left."""
    from pyriemann.estimation import Covariances
    from pyriemann.tangentspace import TangentSpace
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    training, fitted = study.rows([p for p in study.people if p not in test]), {}
    used = study.rows(study.people)
    band = band_pass(raw.astype(np.float64), study.sfreq, (8.0, 30.0))
    for pattern, n, person in product(PATTERNS, DROPPED, test):
        lost = failing(pattern, n, positions, [seed, fold, person, n])
        left = tuple(np.setdiff1d(np.arange(raw.shape[1]), lost).tolist())
        if left not in fitted:
            matrices = np.zeros((len(raw), len(left), len(left)))
            matrices[used] = Covariances("oas").transform(band[used][:, left])
            matrices[used] = recentre(matrices[used], study.recording[used])
            tangent = TangentSpace({"mean": "logeuclid", "map": "riemann"})
            pipeline = make_pipeline(tangent, LogisticRegression(max_iter=1000))
            pipeline.fit(matrices[training], study.y[training])
            fitted[left] = pipeline, matrices
        pipeline, matrices = fitted[left]
        own = study.rows([person])
        right = pipeline.predict(matrices[own]) == study.y[own]
        values = study.name, seed, fold, LINEAR, "refitted", pattern, n, person
        values += f"{right.mean():.6f}", ""
        yield dict(zip(COLUMNS, values, strict=True))


def run(data, seeds, path):
    """Add what is missing of a data set, fold by fold."""
    study = load(data, ELECTRODES)
    for seed in range(seeds):
        folds = person_folds(study.people, seed)
        for fold, test in enumerate(folds):
            rows = [r for r in read(path) if r["code"] in ("", code_digest())]
            where = study.name, str(seed), str(fold)
            done = {
                r["network"] for r in rows if (r["data"], r["seed"], r["fold"]) == where
            }
            wanted = [name for name in NETWORKS if name not in done]
            if not wanted:
                continue
            rows += fold_rows(study, fold, test, seed, wanted)
            write(path, rows, COLUMNS)
            sys.stdout.write(f"{data} seed {seed} fold {fold + 1}/{N_FOLDS}\n")
            sys.stdout.flush()


def by_person(rows):
    """(data, network with repair) -> pattern -> dropped -> person -> mean score."""
    found = {}
    for row in rows:
        name = row["network"]
        if row["repair"] != "missing":
            name += f", {row['repair']}"
        place = found.setdefault((row["data"], name), {})
        place = place.setdefault(row["pattern"], {}).setdefault(int(row["dropped"]), {})
        place.setdefault(int(row["person"]), []).append(float(row["score"]))
    for patterns in found.values():
        for numbers in patterns.values():
            for n, people in numbers.items():
                numbers[n] = {p: float(np.mean(s)) for p, s in people.items()}
    # In one order whatever was run first: a network is one line, of one colour.
    return dict(sorted(found.items(), key=lambda item: _rank(*item[0])))


def _rank(data, name):
    """Data sets by name, networks as they are listed, zeros before splines."""
    base, _, repair = name.rpartition(", ")
    known = list(NETWORKS)
    network = name if name in known else base
    place = known.index(network) if network in known else len(known)
    return data, place, repair == "splines"


def losses(numbers, n=QUARTER):
    """Per person, what the score loses when ``n`` electrodes fail."""
    return np.array([numbers[0][p] - numbers[n][p] for p in sorted(numbers[0])])


def lead_lost(numbers, n=QUARTER):
    """Share of the lead over guessing that is lost when ``n`` electrodes fail.

    None where the 95 % interval of the lead over people holds zero.
    """
    from benchmarks.tables import bootstrap_interval

    lead = np.array([numbers[0][p] - 0.5 for p in sorted(numbers[0])])
    clear = bootstrap_interval(lead)[0] > 0
    return float(losses(numbers, n).mean() / lead.mean()) if clear else None


def markdown(rows):
    """The table: accuracy by number of failed electrodes, and the loss at a quarter."""
    from benchmarks.tables import bootstrap_interval

    found, lines = by_person(rows), ["# Accuracy while electrodes fail", ""]
    lines += [description(__doc__), ""]
    lines += ["95 % intervals over people (bootstrap).", ""]
    for data in dict.fromkeys(row["data"] for row in rows):
        seeds = len({row["seed"] for row in rows if row["data"] == data})
        for pattern in PATTERNS:
            lines += [
                f"## {data}, {pattern} ({seeds} seed{'s'[: seeds > 1]})",
                "",
                "| network | "
                + " | ".join(f"{n} of 16" for n in DROPPED)
                + " | lost at 4 (points) | of the lead |",
                "|---|" + "---:|" * len(DROPPED) + "---|---:|",
            ]
            for (where, name), patterns in found.items():
                if where != data:
                    continue
                numbers = patterns[pattern]
                means = {n: 100 * np.mean(list(p.values())) for n, p in numbers.items()}
                gap = 100 * losses(numbers)
                low, high = bootstrap_interval(gap)
                cells = " | ".join(
                    f"{means[n]:.1f}" if n in means else "" for n in DROPPED
                )
                lost = f"{gap.mean():.1f} ({low:.1f} to {high:.1f})"
                share = lead_lost(numbers)
                share = "" if share is None else f"{round(100 * share)} %"
                lines.append(f"| {name} | {cells} | {lost} | {share} |")
            lines.append("")
    return "\n".join(lines)


def figure(rows, path):
    """Curves of accuracy against failed electrodes, a panel for each pattern."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from benchmarks.figures import COLOURS, MARKERS
    from benchmarks.tables import bootstrap_interval

    # One more than the palette has: each network is one colour.
    colours, markers = [*COLOURS, "#8c510a"], MARKERS + "p"
    found = by_person(rows)
    sets = list(dict.fromkeys(row["data"] for row in rows))
    size = (3.8 * len(PATTERNS), 3.3 * len(sets))
    shape = {"figsize": size, "layout": "constrained", "sharey": "row", "sharex": True}
    fig, axes = plt.subplots(len(sets), len(PATTERNS), squeeze=False, **shape)
    for (data, pattern), ax in zip(product(sets, PATTERNS), axes.flat, strict=True):
        names = [name for where, name in found if where == data]
        for i, name in enumerate(names):
            numbers = found[data, name][pattern]
            shown = [n for n in DROPPED if n in numbers]
            people = [100 * np.array(list(numbers[n].values())) for n in shown]
            low, high = np.transpose([bootstrap_interval(p) for p in people])
            means = np.array([p.mean() for p in people])
            style = "-" if name.startswith("student") else "--"
            ax.errorbar(
                np.array(shown) + 0.12 * (i - (len(names) - 1) / 2),
                means,
                yerr=[means - low, high - means],
                linestyle="" if name == RETRAINED else style,
                marker=markers[i],
                markersize=4,
                linewidth=1.2,
                elinewidth=0.6,
                color=colours[i],
                label=name,
            )
        ax.axhline(50, color="0.6", linestyle=":", linewidth=1, label="chance")
        own = [row for row in rows if row["data"] == data]
        counts = [len({row[column] for row in own}) for column in ("person", "seed")]
        title = "{}, {} ({} people, {} seed{})"
        plural = "" if counts[1] == 1 else "s"
        ax.set_title(title.format(data, pattern, *counts, plural), fontsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[-1]:
        ax.set_xlabel("failed electrodes of 16", fontsize=9)
    fig.supylabel("right on unseen people (%)", fontsize=9)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    fig.savefig(path, dpi=130)
    plt.close(fig)


def main(arguments=None):
    """Run what is asked for, then write table and figure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.missing")
    parser.add_argument("--data", nargs="*", default=["physionet", "simulated"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "missing.csv")
    parser.add_argument("--table", action="store_true", help="from the rows there are")
    options = parser.parse_args(arguments)
    if not options.table:
        for data in options.data:
            run(data, options.seeds, options.out)
    rows = read(options.out)
    options.out.with_suffix(".md").write_text(markdown(rows))
    figure(rows, options.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
