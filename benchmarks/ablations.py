"""The paper's ablations, one part changed at a time, each against the student alone.

    python -m benchmarks.ablations        # results/ablations.md from the stored rows

Variants are paired with the student from scratch on the people and seeds that both
have: with its mean over several starts where these were run (starts.csv). The default
variant of each family comes from the rows of the main study. *Pool*: the teacher is
also asked about windows without labels. Each setting is a table of its own: another
teacher and another pretraining are other methods.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import starts
from benchmarks.cells import read_rows
from benchmarks.rows import RESULTS, description, line
from benchmarks.tables import (
    compare,
    conditions,
    latest_code,
    one_device,
    one_setting,
    whole,
)

REFERENCE = "scratch"
FAMILIES = {
    "distillation (Table 3)": {
        "none": "scratch",
        "soft labels": "distil logits",
        "GTD": "distil GTD",
        "soft labels + GTD (default)": "distilled",
        "LSP": "distil LSP",
        "G-CRD": "distil G-CRD",
        "soft labels + GTD, teacher not pretrained": "distil new teacher",
        "soft labels, pool": "distil logits pool",
        "soft labels of weight 5, pool": "distil logits 5 pool",
        "GTD, pool": "distil GTD pool",
        "soft labels + GTD, pool": "distilled pool",
    },
    "a committee of five students as the teacher": {
        "none": "scratch",
        "labelled windows": "committee",
        "pool": "committee pool",
    },
    "teachers that have not seen the person": {
        "none": "scratch",
        "labelled windows": "cross-fitted",
        "pool": "cross-fitted pool",
    },
    "pretraining (Table 4)": {
        "none": "scratch",
        "contrast": "pretrain contrast",
        "reconstruction": "pretrain reconstruction",
        "one after the other": "pretrain sequential",
        "joint (default)": "pretrained",
        "joint, then distilled": "both",
        "joint, then distilled, pool": "both pool",
    },
    "masked nodes (Fig. 8)": {
        "25 %": "masked 0.25",
        "50 % (default)": "pretrained",
        "75 %": "masked 0.75",
    },
    "connectivity (Table 9)": {
        "mixed (default)": "scratch",
        "correlation": "graph Functional",
        "coherence": "graph Coherence",
        "distance": "graph Geometric",
        "learned": "graph Learned",
    },
    "band (Table 10)": {
        "5-35 Hz (default)": "scratch",
        "theta, 4-8 Hz": "band 4-8 Hz",
        "alpha, 8-14 Hz": "band 8-14 Hz",
        "beta, 14-30 Hz": "band 14-30 Hz",
    },
    "parts of the student": {
        "all (default)": "scratch",
        "second moments alone, no graph network": "second moments alone",
        "graph network alone, no second moments": "nodes alone",
        "graph network alone, pretrained": "nodes alone pretrained",
        "graph network alone, pretrained and distilled": "nodes alone both",
        "graph layers left out": "no graph layers",
    },
    "the paper's own setting, paper()": {
        "our student": "scratch",
        "the paper's student": "paper scratch",
        "the paper's, pretrained": "paper pretrained",
        "the paper's, pretrained and distilled": "paper both",
        "the paper's teacher, 64 electrodes": "teacher paper",
    },
}
# Of a cell that stands in several files that of the last one counts.
SETTINGS = {
    "H100, default teacher, 50 epochs of pretraining": ("ablations", "main"),
    "CPU, small teacher (the paper's own where it is named), 8 epochs of pretraining": (
        "paper",
        "laptop",
    ),
}
HEAD = ("variant", "accuracy %", "95 % CI", "seeds", "against scratch", "95 % CI")


def variants(methods, scratch=None):
    """Rows of each family whose variants have been run for all the people.

    Parameters
    ----------
    methods : dict
        Method to its CSV rows, of one condition.
    scratch : dict, optional
        Summary of the student from scratch, if its mean over several starts is known
        (:func:`benchmarks.starts.expected`).

    Returns
    -------
    dict
        Family to a list of tuples of text, as in ``HEAD``.
    """
    found = whole(methods)
    if scratch is not None:
        found[REFERENCE] = scratch
    reference, out = found.get(REFERENCE), {}
    for family, members in FAMILIES.items():
        known = {label: found[name] for label, name in members.items() if name in found}
        if reference and len(known) > 1:
            out[family] = [_cells(label, s, reference) for label, s in known.items()]
    return out


def _cells(label, summary, reference):
    mean, low, high = (100 * summary[k] for k in ("mean", "low", "high"))
    score = label, f"{mean:.1f}", f"{low:.1f} to {high:.1f}", str(summary["n_seeds"])
    if summary is reference:
        return (*score, "", "")
    gap, (low, high), _ = compare(summary, reference)
    return (*score, f"{100 * gap:+.1f}", f"{100 * low:+.1f} to {100 * high:+.1f}")


def study(names):
    """Newest rows of the studies by condition, left v. right fist alone."""
    files = [RESULTS / f"{name}.csv" for name in names]
    rows = [row for file in files for row in read_rows(file)]
    rows = one_device(latest_code(rows))
    places = conditions(one_setting(rows))
    return {place: own for place, own in places.items() if place[0] == "left-right"}


def scratch_at(place):
    """What a run of the student from scratch is worth, where several were made."""
    _, electrodes, regime = place
    rows = starts.read(RESULTS / "starts.csv")
    return starts.expected(rows, regime, electrodes)


def markdown(settings, worth=lambda place: None):
    """One table a setting, a family and an electrode set; see :func:`scratch_at`."""
    parts = ["# Ablations", "", description(__doc__), ""]
    for setting, places in settings.items():
        parts += [f"## {setting}", ""]
        for place, methods in places.items():
            _, electrodes, regime = place
            for family, rows in variants(methods, worth(place)).items():
                n_people = max(s["n_people"] for s in whole(methods).values())
                parts += [
                    f"### {family}: {electrodes}, {regime} labels, {n_people} people",
                    "",
                    line(HEAD),
                    line(["---"] * len(HEAD)),
                    *(line(row) for row in rows),
                    "",
                ]
    return "\n".join(parts)


def main(arguments=None):
    """Write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations")
    parser.add_argument("--out", type=Path, default=RESULTS / "ablations.md")
    options = parser.parse_args(arguments)
    settings = {name: study(files) for name, files in SETTINGS.items()}
    options.out.write_text(markdown(settings, scratch_at), "utf-8")


if __name__ == "__main__":
    main()
