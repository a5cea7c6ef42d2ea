"""The tables of the documentation are the raw results, and only whole ones."""

import csv
import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.cells import COLUMNS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def scores():
    spec = importlib.util.spec_from_file_location("scores", ROOT / "docs" / "scores.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(key, method, person, score, code=None):
    known = dict.fromkeys(COLUMNS, "0") | {
        "key": key,
        "task": "left-right",
        "electrodes": "motor-8",
        "regime": "few",
        "method": method,
        "person": str(person),
        "score": str(score),
        "n_windows": "45",
        "n_test": "4",
        "n_parameters": "1234",
        "fold": key[-1],
    }
    return known | {"config": json.dumps({"cell": key, "settings": {"code": code}})}


def write(rows, path):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


def test_the_page_of_failing_electrodes_shows_means_and_losses_of_people(scores):
    from benchmarks.missing import DROPPED, PATTERNS

    rows = [
        {"data": "d", "seed": 0, "fold": 0, "network": "EEGNet", "repair": "zeros"}
        | {"pattern": p, "dropped": n, "person": who, "score": 0.8 - 0.05 * n * who}
        for p in PATTERNS
        for n in DROPPED
        for who in (0, 1)
    ]
    text = scores.missing_tables(rows)
    assert text.count("d, ") == len(PATTERNS) and "2 people" in text
    # half of the people lose 5 points with every electrode
    line = '    "EEGNet, zeros", 80.0, 75.0, 70.0, 65.0, 60.0, 10.0'
    assert text.count(line) == len(PATTERNS)


def test_a_page_shows_the_means_of_whole_methods_alone(scores, tmp_path):
    rng = np.random.default_rng(0)
    values = rng.uniform(0.4, 0.8, 8)
    rows = [row(f"whole{p // 4}", "whole", p, values[p]) for p in range(8)]
    rows += [row("half0", "half", p, 0.9) for p in range(4)]
    rows += [row(f"mix{p // 4}", "mixed", p, 0.9, code=p // 4) for p in range(8)]
    results, docs = tmp_path / "benchmarks" / "results", tmp_path / "docs"
    results.mkdir(parents=True)
    docs.mkdir()
    write(rows, results / "main.csv")
    scores.write(SimpleNamespace(srcdir=docs))
    text = (docs / "generated" / "scores_main.inc").read_text()
    assert f'    "whole", {100 * values.mean():.1f}, ' in text
    assert '"", "1,234", 1' in text and "8 people" in text
    assert "half" not in text and "mixed" not in text
    assert (docs / "generated" / "scores_tasks.inc").read_text() == "Not run yet.\n"


def test_methods_have_the_names_of_the_readme_and_are_compared_with_the_mean(scores):
    from benchmarks.tables import summarise

    people = range(8)
    found = {
        name: summarise([row(f"{name}{p // 4}", name, p, 0.5 + gap) for p in people])
        for name, gap in (("scratch", 0.0), ("both pool", 0.04))
    }
    worth = {**summarise([row(f"s{p // 4}", "scratch", p, 0.51) for p in people])}
    worth["n_starts"] = 8
    place = "left-right", "motor-8", "few"
    lines = scores.table(place, found, "accuracy", worth).splitlines()
    (mean,) = (line for line in lines if "mean of 8 starts" in line)
    assert mean.startswith('    "student, scratch, mean of 8 starts", 51.0, ')
    assert '"", "1,234"' in mean
    (line,) = (line for line in lines if '"student, both, pool"' in line)
    assert '"+3.0 (+3.0 to +3.0)"' in line
    lines = scores.table(place, found, "accuracy").splitlines()
    (line,) = (line for line in lines if '"student, both, pool"' in line)
    assert '"+4.0 (+4.0 to +4.0)"' in line


def test_every_page_includes_tables_that_are_written(scores):
    included = {
        line.split("scores_")[1].removesuffix(".inc")
        for page in (ROOT / "docs").glob("*.rst")
        for line in page.read_text("utf-8").splitlines()
        if line.startswith(".. include:: generated/scores_")
    }
    assert {"main", "tasks"} <= included <= {*scores.STUDIES, "missing", "ablations"}


def test_every_preset_is_in_the_table_of_presets(scores):
    from braindecode_gcmae.montage import PRESETS

    lines = scores.preset_table().splitlines()
    rows = [line for line in lines if line.startswith("    ``")]
    assert len(rows) == len(PRESETS) and set(scores.PURPOSE) == set(PRESETS)
    motor = next(row for row in rows if "motor-8" in row)
    assert motor.endswith(', 8, "over the motor strip", "F3 F4 C3 Cz C4 P3 Pz P4"')


def test_ablations_are_shown_family_by_family(scores):
    members = {
        name: [row(f"{name}{fold}", name, fold, 0.5 + gap) for fold in range(4)]
        for name, gap in (("scratch", 0.0), ("distil GTD", 0.05))
    }
    text = scores.ablation_tables(
        "a laptop", {("left-right", "motor-8", "few"): members}
    )
    assert ".. csv-table:: distillation (Table 3): motor-8, few labels" in text
    assert '"GTD", "55.0", "55.0 to 55.0", "1", "+5.0"' in text
