"""Peers are tuned within folds, by people who are not tested."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from test_benchmarks import make_windows

from benchmarks import peers
from benchmarks.cells import Budget, Cell, Question, read_rows
from benchmarks.methods import METHODS, Method, Outcome, run_unaligned
from benchmarks.rows import RESULTS
from benchmarks.tables import latest_code

NAMES = ("scratch", "EEGNet")


def truth(cell):
    where = cell.windows.rows(cell.split.test)
    return cell.windows.y[where]


def right_if(cell, *, best):
    """Right where the budget is the best one of this method, else a constant."""
    y, budget = truth(cell), cell.budget
    found = y if (budget.batch_size, budget.lr) == best else np.zeros_like(y)
    return Outcome(np.eye(2)[found])


@pytest.fixture
def study(monkeypatch):
    """Two networks with other best settings, and their runs without alignment."""
    for name, best in zip(NAMES, [(64, 1e-3), (16, 3e-3)], strict=True):
        run = partial(right_if, best=best)
        for label in (name, f"{name} unaligned"):
            monkeypatch.setitem(METHODS, label, Method(label, run, {"name": label}))
    monkeypatch.setattr(peers, "NETWORKS", NAMES)
    monkeypatch.setattr(peers, "UNALIGNED", tuple(f"{n} unaligned" for n in NAMES))


def done(path, folds=(0, 1, 2, 3, 4)):
    units = [(0, fold) for fold in folds]
    peers.run(make_windows(), units, path, sets=("motor-8",))
    return read_rows(path)


def test_the_best_setting_of_the_nested_people_is_trained_and_tested(study, tmp_path):
    rows = done(tmp_path / "peers.csv")
    assert peers.chosen(rows) == {
        ("motor-8", name, 0, fold): best
        for name, best in zip(NAMES, [(64, 1e-3), (16, 3e-3)], strict=True)
        for fold in range(5)
    }
    found = {kind: own["motor-8"] for kind, own in peers.tested(rows).items()}
    assert found["tuned"]["EEGNet"]["mean"] == 1 > found["plain"]["EEGNet"]["mean"]
    same = [found[kind]["scratch"]["per_cell"] for kind in ("plain", "tuned")]
    assert same[0] == same[1]
    assert found["unaligned"].keys() == set(NAMES)


def test_nobody_is_nested_and_tested_in_the_same_fold(study, tmp_path):
    rows = done(tmp_path / "peers.csv", folds=[0, 3])
    people = {True: {}, False: {}}
    for row in rows:
        people[peers.is_nested(row)].setdefault(row["fold"], set()).add(row["person"])
    assert people[True].keys() == people[False].keys() == {"0", "3"}
    assert not any(people[True][fold] & people[False][fold] for fold in ("0", "3"))


def test_equally_good_settings_are_the_first_and_a_part_of_them_decides_nothing(
    study, tmp_path
):
    rows = done(tmp_path / "peers.csv", folds=[0])
    level = [{**row, "score": "0.5"} for row in rows]
    assert set(peers.chosen(level).values()) == {(64, 1e-3)}
    some = [row for row in rows if peers.setting_of(row) != (16, 1e-3)]
    assert peers.chosen(some) == {}


def test_what_is_finished_is_not_run_again(study, tmp_path):
    path = tmp_path / "peers.csv"
    done(path, folds=[1])
    text = path.read_text()
    done(path, folds=[1])
    assert path.read_text() == text


def test_the_page_pairs_every_network_with_the_tuned_student(study, tmp_path):
    page = peers.markdown(done(tmp_path / "peers.csv"))
    line, counts = (part for part in page.splitlines() if part.startswith("| EEGNet"))
    cells = line.split(" | ")
    assert cells[3].startswith("100.0")
    assert cells[5].startswith("+0.0 (+0.0 to +0.0), p 1.000")
    assert counts == "| EEGNet | 0 | 0 | 0 | 5 |"


def test_the_figure_has_a_line_a_network(study, tmp_path):
    rows = done(tmp_path / "peers.csv")
    peers.figure(rows, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 10_000


def test_a_network_is_run_on_recordings_as_they_are():
    windows, seen = make_windows(), []

    def look(cell):
        seen.append(cell.labelled("nested")[0])
        return Outcome(np.full((len(truth(cell)), 2), 0.5))

    question = Question("left-right", "motor-8", "look", "few", 0, 0)
    cell = Cell.build(windows, question, Budget())
    run_unaligned(cell, method=Method("look", look))
    rows = windows.rows(cell.split.labelled)
    np.testing.assert_array_equal(seen[0], windows.X[rows].astype(np.float32))
    assert windows.task.alignment
    assert replace(cell).labelled("nested")[0].std() < seen[0].std()


def test_the_stored_page_is_made_of_the_stored_rows():
    rows = latest_code(read_rows(RESULTS / "peers.csv"))
    assert (RESULTS / "peers.md").read_text() == peers.markdown(rows)
