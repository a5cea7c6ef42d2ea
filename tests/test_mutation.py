"""The benchmark of mutants: what it changes, what it counts, and what it found."""

import csv
import importlib
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks import mutation

ROOT = Path(__file__).parents[1]
STORED = ROOT / "benchmarks" / "results" / "mutation.csv"


def test_annotations_are_found_and_nothing_else():
    source = "def f(a: int | None = 1) -> dict[str, int]:\n    c: float = a | b\n"
    lines, found = source.split("\n"), mutation.annotations(source)
    texts = {lines[start[0] - 1][start[1] : end[1]] for start, end in found}
    assert texts == {"int | None", "dict[str, int]", "float"}


def test_a_module_takes_another_source_and_the_file_stays(monkeypatch):
    path = ROOT / "braindecode_gcmae" / "losses" / "rows.py"
    source = path.read_text("utf-8")
    finder = mutation.Mutated(path, source.replace("-1e30", "-1e31"))
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    whole = {n: m for n, m in sys.modules.items() if n.startswith(mutation.PACKAGE)}
    name = f"{mutation.PACKAGE}.losses.rows"
    try:
        sys.modules.pop(name, None)
        assert importlib.import_module(name).LOWEST == -1e31
    finally:
        sys.modules.update(whole)
    assert path.read_text("utf-8") == source


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ("a\nb\n", "a\nc\n", "b -> c"),
        ("x = 1  # y", "x = 2  # y", "x = 1 # y -> x = 2 # y"),
    ],
)
def test_a_change_is_told_in_one_line(before, after, change):
    assert mutation.changed(before, after) == change


def test_the_page_counts_each_module_and_judges_each_survivor():
    row = {"module": "losses/a.py", "line": 3, "operator": "O", "occurrence": 0}
    rows = [
        {**row, "outcome": "killed", "test": "t", "change": "1 -> 2"},
        {**row, "outcome": "survived", "test": "", "change": "a & b -> a * b"},
        {**row, "outcome": "survived", "test": "", "change": "a | b -> a ^ b"},
    ]
    page = mutation.report(rows)
    assert "| losses/a.py | 3 | 1 | 2 | 33.3 % |" in page
    assert "Of the 2 survivors 1 are equivalent" in page
    assert page.count("**not equivalent**") == 1


def test_nine_of_ten_mutants_of_the_stored_run_were_killed_in_every_module():
    with open(STORED, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["module"] for row in rows} == {
        path.relative_to(ROOT / mutation.PACKAGE).as_posix()
        for path in mutation.modules()
    }
    killed = Counter(row["module"] for row in rows if row["outcome"] == "killed")
    total = Counter(row["module"] for row in rows)
    assert sum(killed.values()) >= 0.9 * len(rows)
    assert all(killed[name] >= 0.85 * total[name] for name in total)
    alive = [row for row in rows if row["outcome"] == "survived"]
    left = [row for row in alive if not mutation.equivalent(row)]
    assert len(left) <= 0.02 * len(rows)
