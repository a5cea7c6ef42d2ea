"""How much of a score is the run: starts differ in random numbers alone."""

import numpy as np
import pytest
from test_benchmarks import make_windows

from benchmarks import cells, starts
from benchmarks.methods import METHODS, Method, Outcome


def guess(cell):
    """A method whose decisions depend on the cell's random state alone."""
    n = len(cell.windows.rows(cell.split.test))
    p = np.random.default_rng(cell.random_state).random(n)
    return Outcome(np.stack([p, 1 - p], 1))


GUESS = Method("guess", guess, {"code": "c0de"})


def cell(fold=0):
    question = cells.Question("left-right", "motor-8", "guess", "few", fold, 0)
    return cells.Cell.build(make_windows(), question, cells.Budget())


def test_starts_differ_and_come_again_and_one_is_the_cell_itself():
    rows = starts.fold_rows(cell(), GUESS, 3)
    assert rows == starts.fold_rows(cell(), GUESS, 3)
    scores = {start: [] for start in ("0", "1", "2", starts.AVERAGED)}
    for row in rows:
        scores[row["start"]].append(row["score"])
    assert len({tuple(values) for values in scores.values()}) == 4
    alone = cell()
    where = alone.windows.rows(alone.split.test)
    own = starts.scores(
        guess(alone).probability, alone.windows.y[where], alone.windows.person[where]
    )
    assert [float(s) for s in scores["0"]] == pytest.approx(
        list(own.values()), abs=1e-6
    )


def test_the_average_decides_by_the_mean_probability():
    probability = [np.array([[0.9, 0.1], [0.4, 0.6]]), np.array([[0.2, 0.8]] * 2)]
    y, person = np.array([0, 1]), np.array([1, 1])
    assert starts.scores(np.mean(probability, 0), y, person) == {1: 1.0}


def test_a_method_with_a_shared_stage_is_refused():
    with pytest.raises(ValueError, match="stages that runs would share"):
        starts.fold_rows(cell(), METHODS["distilled"], 2)


def test_cells_are_run_once_and_the_table_pools_the_spread_over_seeds(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(METHODS, "guess", GUESS)
    monkeypatch.setattr(starts, "code_digest", lambda: "c0de")
    path = tmp_path / "starts.csv"
    asked = [("few", "motor-8", "guess", seed) for seed in (0, 1)]
    starts.run(make_windows(), 3, path, asked=asked)
    text = path.read_text()
    starts.run(make_windows(), 3, path, asked=asked)
    assert path.read_text() == text
    rows = starts.read(path)
    seeds = starts.by_start(rows, "few", "motor-8", "guess")
    single = [[100 * s[str(k)] for k in range(3)] for s in seeds.values()]
    spread = np.sqrt(np.mean([np.var(s, ddof=1) for s in single]))
    cells_ = starts.table(rows)[-1].split(" | ")
    assert cells_[2:5] == ["few", "2", "3"]
    assert cells_[5:7] == [f"{np.mean(single):.1f}", f"{spread:.1f}"]
    assert "guess | motor 8" in starts.markdown(rows)


def test_what_a_run_is_worth_is_the_mean_over_its_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, "guess", GUESS)
    monkeypatch.setattr(starts, "code_digest", lambda: "c0de")
    path = tmp_path / "starts.csv"
    starts.run(make_windows(), 3, path, asked=[("few", "motor-8", "guess", 0)])
    rows = starts.read(path)
    worth = starts.expected(rows, "few", "motor-8", "guess")
    person = int(rows[0]["person"])
    own = [float(r["score"]) for r in rows if int(r["person"]) == person][:3]
    assert worth["per_cell"][person, 0] == pytest.approx(np.mean(own))
    assert worth["mean"] == pytest.approx(np.mean(list(worth["per_cell"].values())))
    assert (worth["n_seeds"], worth["n_starts"]) == (1, 3)
    assert worth["low"] <= worth["mean"] <= worth["high"]
    assert starts.expected(rows, "many", "motor-8", "guess") is None


def test_like_runs_are_told_apart_where_their_interval_misses_zero():
    def row(seed, fold, start, person, score):
        place = {"regime": "few", "electrodes": "e", "method": "m", "seed": seed}
        return {
            **place,
            "fold": fold,
            "start": start,
            "person": person,
            "score": str(score),
        }

    rows = []
    for seed in ("0", "1"):
        for fold in range(starts.N_FOLDS):
            for start, score in (("0", 0.5), ("1", 0.5), ("2", 0.9)):
                shift = 0.01 * fold if start == "1" else 0
                sign = 1 if fold % 2 else -1
                rows.append(row(seed, fold, start, fold, score + sign * shift))
    assert starts.told_apart(rows, "few", "e", "m") == (4, 6)
    missing_fold = [r for r in rows if r["seed"] == "0" or r["fold"]]
    assert starts.told_apart(missing_fold, "few", "e", "m") == (2, 3)
