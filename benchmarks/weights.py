"""Train the weights that come with the package, and write their cards.

    python -m benchmarks.weights

The stages of the harness' ``both`` (``ours.py``), on everybody and sized for a CPU:
teacher and student are pretrained on the windows of all 34 people, the teacher learns
from the 20 with labels, and the student from these labels and from the teacher's
answers to the same windows. Nobody is left to test on: what the recipe gives on unseen
people is its cross-validated rows in ``results/laptop.csv``, with all labels of the
training people.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import shutil
from pathlib import Path

from benchmarks import starts
from benchmarks.cells import Budget, Cell, Question, read_rows
from benchmarks.ours import OURS, fitted_student, pretrained_folder
from benchmarks.prepare import load_or_prepare
from benchmarks.protocol import Split
from benchmarks.rows import RESULTS
from benchmarks.tables import conditions, latest_code, one_device, summarise

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = ROOT / "braindecode_gcmae" / "data" / "weights"
ELECTRODES = "motor-8"
PARTS = {
    "physionet-motor-8-pretrained": "The student, pretrained without labels; no head.",
    "physionet-64-pretrained": (
        "A teacher for 64 electrodes, pretrained without labels; no head."
    ),
    "physionet-motor-8-fists": (
        "The student, pretrained, distilled and trained to tell imagined left (0) from "
        "right fist (1)."
    ),
}
RECIPES = {
    "pretrained": "student, pretrained",
    "distilled": "student, distilled",
    "both": "student, pretrained and distilled",
    "teacher": "teacher, 64 electrodes, pretrained",
}
CARD = """{what}

**Data.** PhysioNet EEG Motor Movement/Imagery (Schalk et al. 2004,
10.1109/TBME.2004.827072; Goldberger et al. 2000), ODC-By 1.0, CC0 in its OpenNeuro
edition ds004362. Imagined left v. right fist, 0.5 to 4 s after the cue, 4-38 Hz, 80 Hz.
{people}

**Recipe.** Each person aligned without labels (`RecordingAlignment` with the student's
electrodes); a teacher of width 64 with two layers beside the default student; {stages}
(`python -m benchmarks.weights`).

**Good for** trying the package, and as a start where recordings are alike: the same
electrodes, aligned windows of 3.5 s in µV. **Not good for** decisions about a person,
for unaligned windows, for other caps and amplifiers: on simulated recordings, with 3
and 10 labelled people, students that began with the pretrained weights ended 1.3 to 2.8
points below students from scratch, those that began with the shipped classifier
0.5 to 4.2 points below (one seed; one of these eight differences is clear of zero,
p = 0.035 corrected for the eight; `benchmarks/results/transfer.md`). The same stages
gave, on people unseen in any of them (five folds of people, the other 16 of 20
labelled), what is listed below. A working example, not a foundation model."""


# What the models were trained on, and what is to be done with them.
WINDOWS = """# X: windows (n, {n_chans}, 280) of 3.5 s in µV, 80 Hz, 4-38 Hz, electrodes
# in the order above; subject (n,) says whose each is: aligned together, no labels
X = RecordingAlignment({align}).transform(X, groups=subject)
"""
# The teacher's student keeps these: they were aligned by themselves.
BESIDE = """
    electrodes=montage_preset("motor-8"), ch_names=montage_preset("64")
"""
DECIDE = (
    """import torch

from braindecode_gcmae import GCMAE{kind}, RecordingAlignment

model = GCMAE{kind}.from_pretrained("{name}")
"""
    + WINDOWS
    + """with torch.no_grad():
    left, right = model.eval()(torch.as_tensor(X)).softmax(-1).T"""
)
FIT = (
    """import torch
from braindecode import EEGClassifier

from braindecode_gcmae import GCMAE{kind}, RecordingAlignment{more}

# n_outputs: without it there is no head, and the forward pass gives embeddings
model = GCMAE{kind}.from_pretrained("{name}", n_outputs=2)
"""
    + WINDOWS
    + """net = EEGClassifier(
    model,
    optimizer=torch.optim.AdamW,
    lr=1e-3,
    max_epochs=40,
    batch_size=64,
    train_split=None,
)
net.fit(X, y)  # y: 0 or 1"""
)
HEADING = "## Metrics of this recipe, not of this file"


def everybody(budget):
    """A cell whose people are all trained on."""
    windows = load_or_prepare("left-right")
    split = Split((), windows.people, windows.pool)
    question = Question("left-right", ELECTRODES, "both", "many", 0, 0)
    return Cell(windows, question, split, budget)


def cross_validated():
    """Mean accuracy of the recipe's rows on unseen people, for the cards."""
    rows = one_device(latest_code(read_rows(RESULTS / "laptop.csv")))
    found = conditions(rows).get(("left-right", ELECTRODES, "many"), {})
    known = starts.expected(starts.read(RESULTS / "starts.csv"), "many", ELECTRODES)
    out = {f"student from scratch, mean of {known['n_starts']} starts": known}
    for name, label in RECIPES.items():
        out[label] = summarise(found[name])
    return {
        f"{label}: accuracy (%), 95 % interval over people": (
            f"{100 * s['mean']:.1f} ({100 * s['low']:.1f} to {100 * s['high']:.1f})"
        )
        for label, s in out.items()
    }


def card(name, cell):
    """Arguments of the model's card."""
    split, budget = cell.split, cell.budget
    labelled, pool = (
        ", ".join(map(str, p)) for p in (split.labelled, split.unlabelled)
    )
    stages = f"{budget.pretraining_epochs} epochs of pretraining, AdamW at 1e-3"
    if name.endswith("-pretrained"):
        numbers = sorted(split.labelled + split.unlabelled)
        n_people, all_people = len(numbers), ", ".join(map(str, numbers))
        people = f"No labels. Windows of {n_people} people: {all_people}."
    else:
        stages += f", then {budget.epochs} of training on one cosine"
        people = (
            f"Labels of {len(split.labelled)} people: {labelled}.\n"
            f"Windows without labels of {len(split.unlabelled)} more: {pool}."
        )
    text = CARD.format(what=PARTS[name], people=people, stages=stages)
    kind, n_chans = ("Teacher", 64) if "-64-" in name else ("Student", 8)
    use = FIT if name.endswith("-pretrained") else DECIDE
    align, more = (BESIDE, ", montage_preset") if n_chans == 64 else ("", "")
    given = {"name": name, "kind": kind, "n_chans": n_chans}
    example = use.format(**given, align=align, more=more)
    metrics = cross_validated()
    return {"title": name, "summary": text, "example": example, "metrics": metrics}


def main(arguments=None):
    """Train all three and write them into the package."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weights")
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--pretraining-epochs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--cards", action="store_true", help="write the cards alone")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    from braindecode_gcmae import GCMAEStudent, GCMAETeacher

    budget = Budget(
        epochs=options.epochs,
        pretraining_epochs=options.pretraining_epochs,
        teacher_size="small",
    )
    cell = everybody(budget)
    if options.cards:
        models = {
            name: (GCMAETeacher if "-64-" in name else GCMAEStudent).from_pretrained(
                options.out / name
            )
            for name in PARTS
        }
    else:
        recipe = next(recipe for recipe in OURS if recipe.name == "both")
        folder = pretrained_folder(cell, recipe)
        student = fitted_student(cell, recipe).module_
        models = dict(
            zip(
                PARTS,
                (
                    GCMAEStudent.from_pretrained(folder / "student"),
                    GCMAETeacher.from_pretrained(folder / "teacher"),
                    student,
                ),
                strict=True,
            )
        )
    for name, model in models.items():
        target = options.out / name
        if not options.cards:
            shutil.rmtree(target, ignore_errors=True)
            model.save_pretrained(target)
        text = str(model.generate_model_card(**card(name, cell)))
        text = text.replace("## Metrics", HEADING, 1)
        (target / "README.md").write_text(text, "utf-8")
    sums = (
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}/{file.name}\n"
        for name in PARTS
        for file in [options.out / name / "model.safetensors"]
    )
    (options.out / "SHA256SUMS.txt").write_text("".join(sums))


if __name__ == "__main__":
    main()
