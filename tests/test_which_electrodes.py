"""Electrodes are chosen without the tested, decoded alone, and compared fairly."""

import csv
import itertools

import numpy as np
import pytest

from benchmarks import cells, methods, protocol
from benchmarks.electrodes import BOTH_16, RIM_4, SETS
from benchmarks.rows import read, write
from benchmarks.which_electrodes import __main__ as command
from benchmarks.which_electrodes import choice, report, study
from braindecode_gcmae.montage import electrode_positions

NAMES = (*BOTH_16, *RIM_4, "Fz", "Oz")
PLACE = study.Fold("few", "small", 0, 0)
ONE_EPOCH = cells.Budget(epochs=1, teacher_size="small")


def make_windows(seed=0, n_windows=4):
    """Noise in which C3 is louder in class 1, every person mixed differently."""
    rng = np.random.default_rng(seed)
    people = np.repeat(protocol.LABELLED + protocol.POOL, n_windows)
    y = np.arange(len(people)) % 2
    X = rng.normal(size=(len(people), len(NAMES), 120))
    X[:, NAMES.index("C3")] *= 1 + 2 * y[:, None]
    for person in set(people.tolist()):
        mixing = np.eye(len(NAMES)) + 0.2 * rng.normal(size=(len(NAMES),) * 2)
        X[people == person] = 20 * mixing @ X[people == person]
    positions = np.asarray(electrode_positions(list(NAMES)))
    task = protocol.TASKS["left-right"]
    return protocol.Windows(X, y, people, NAMES, positions, task)


def whole_cell(windows, method="teacher scratch"):
    question = cells.Question("left-right", "all-64", method, "few", 0, 0)
    return cells.Cell.build(windows, question, ONE_EPOCH)


@pytest.fixture(scope="module")
def windows():
    return make_windows()


@pytest.fixture
def quick(monkeypatch):
    """Strategies that answer at once, and decoders that note what they are shown."""
    seen = []

    def decode(cell):
        seen.append(cell)
        n = len(cell.windows.rows(cell.split.test))
        return methods.Outcome(np.tile([0.0, 1.0], (n, 1)), 7)

    for name in study.DECODERS:
        method = methods.Method(name, decode, network=False)
        monkeypatch.setitem(methods.METHODS, name, method)
    ordered = {
        name: tuple(np.roll(NAMES, -i // 2)) for i, name in enumerate(choice.STRATEGIES)
    }
    monkeypatch.setattr(choice, "selections", lambda cell: ordered)
    return seen


def fake_rows(strategies, *, k=4, seeds=(0,), regime="few"):
    """Rows of 20 people in five folds, from {strategy: [person -> score, ...]}."""
    rows = []
    for decoder, person, seed in itertools.product(study.DECODERS, range(20), seeds):
        for strategy, draws in strategies.items():
            for draw, score in enumerate(draws):
                row = dict.fromkeys(study.COLUMNS, "1")
                row |= {"regime": regime, "teacher": "small", "seed": str(seed)}
                row |= {"fold": str(person % 5), "k": str(k), "strategy": strategy}
                row |= {"draw": str(draw), "decoder": decoder, "person": str(person)}
                row |= {"electrodes": " ".join(NAMES[:k]), "code": "a"}
                rows.append(row | {"score": str(score(person))})
    return rows


def level(base):
    """Score a person around ``base``: people differ much, sets alike for all."""
    return lambda person: base + 0.02 * (person - 9.5)


def complete_rows(**changes):
    """Give rows of every set, as a fold has them."""
    rows = []
    for k, presets in choice.PRESETS.items():
        table = {name: [level(0.6)] for name in presets}
        table |= {name: [level(0.65)] for name in choice.STRATEGIES}
        table |= {choice.RANDOM: [level(0.5), level(0.54), level(0.58)]}
        rows += fake_rows(table, k=k, **changes)
    return rows


def test_every_strategy_that_the_package_knows_is_compared():
    from braindecode_gcmae.selection import select

    known = itertools.product(select._METHODS, select._IMPORTANCE)
    assert [tuple(o.values()) for o in choice.STRATEGIES.values()] == list(known)


def test_random_draws_are_the_same_in_every_run_and_others_in_another_fold():
    seeds = list(itertools.product(range(2), range(2), (4, 8), range(3)))
    draws = [choice.random_electrodes(NAMES, seed[2], seed) for seed in seeds]
    again = [choice.random_electrodes(NAMES, seed[2], seed) for seed in seeds]
    assert draws == again
    assert len(set(draws)) == len(draws)
    for (_, _, k, _), draw in zip(seeds, draws, strict=True):
        assert len(set(draw)) == k and set(draw) <= set(NAMES)


def test_only_labelled_training_people_move_the_choice():
    windows, other, moved = (make_windows(seed, n_windows=2) for seed in (0, 1, 2))
    cell = whole_cell(windows)
    labelled = np.isin(windows.person, cell.split.labelled)
    other.X[labelled], other.y = windows.X[labelled], 1 - windows.y
    other.y[labelled] = windows.y[labelled]
    assert whole_cell(other).split == cell.split
    chosen = choice.selections(cell)
    assert choice.selections(whole_cell(other)) == chosen
    assert list(chosen) == list(choice.STRATEGIES)
    for names in chosen.values():
        assert len(set(names)) == max(choice.SIZES) and set(names) <= set(NAMES)
    assert choice.selections(whole_cell(moved)) != chosen


@pytest.mark.parametrize("decoder", study.DECODERS)
def test_a_named_set_is_decoded_as_the_harness_decodes_it(windows, decoder):
    question = cells.Question("left-right", "motor-4", decoder, "few", 0, 0)
    cell = cells.Cell.build(windows, question, ONE_EPOCH)
    outcome = methods.METHODS[decoder].run(cell)
    theirs = cells.person_rows(cell, outcome, study="", seconds=0.0)
    ours = study.scored(whole_cell(windows), SETS["motor-4"], decoder)
    for column in ("person", "score", "n_windows", "n_parameters", "n_labelled"):
        assert [r[column] for r in ours] == [r[column] for r in theirs]
    decisions = [[float(r["decision"]) for r in rows] for rows in (ours, theirs)]
    np.testing.assert_allclose(*decisions, atol=1e-4)


def test_a_fold_has_a_row_for_every_set_decoder_and_test_person(windows, quick):
    rows = study.fold_rows(windows, PLACE)
    test = {str(p) for p in whole_cell(windows).split.test}
    found = [
        (r["k"], r["strategy"], r["draw"], r["decoder"], r["person"]) for r in rows
    ]
    sets = [(str(k), n, "0") for k in choice.SIZES for n in choice.STRATEGIES]
    sets += [(str(k), n, "0") for k, names in choice.PRESETS.items() for n in names]
    sets += [(str(k), choice.RANDOM, d) for k in choice.SIZES for d in "012"]
    wanted = [(*s, d, p) for s in sets for d in study.DECODERS for p in test]
    assert sorted(found) == sorted(wanted)
    assert all(tuple(row) == tuple(study.COLUMNS) for row in rows)
    assert all(len(set(r["electrodes"].split())) == int(r["k"]) for r in rows)


def test_a_decoder_has_the_set_alone_and_is_asked_once_where_strategies_agree(
    windows, quick
):
    rows = study.fold_rows(windows, PLACE)
    split = whole_cell(windows).split
    for cell in quick:
        assert cell.split == split
        assert set(cell.windows.person) == {*split.labelled, *split.test}
        assert cell.kept == cell.windows.ch_names
        assert cell.windows.X.shape[1] == len(cell.kept) in choice.SIZES
        for name, position in zip(cell.kept, cell.windows.positions, strict=True):
            np.testing.assert_array_equal(
                position, windows.positions[NAMES.index(name)]
            )
    sets = {frozenset(row["electrodes"].split()) for row in rows}
    asked = [(frozenset(cell.kept), cell.question.method) for cell in quick]
    assert len(asked) == len(set(asked)) == 2 * len(sets)
    assert len(sets) < len(choice.STRATEGIES) * 3 + 5 + 9


def test_a_cap_has_the_channels_that_its_names_say(windows):
    cap = study.worn(windows, ("Oz", "C3"), (5, 9))
    rows = windows.rows((5, 9))
    for i, name in enumerate(("Oz", "C3")):
        np.testing.assert_array_equal(cap.X[:, i], windows.X[rows, NAMES.index(name)])
    np.testing.assert_array_equal(cap.y, windows.y[rows])


def test_finished_folds_are_skipped_and_a_stop_leaves_whole_folds(
    tmp_path, windows, quick, monkeypatch
):
    path = tmp_path / "out" / "which.csv"
    todo = [study.Fold("few", "small", 0, fold) for fold in range(3)]
    study.run(windows, todo[:1], path)
    first, asked = path.read_text(), len(quick)

    def stop(cell):
        if len(quick) > asked + 3:
            raise KeyboardInterrupt
        return usual(cell)

    usual = methods.METHODS["scratch"].run
    with monkeypatch.context() as patch:
        method = methods.Method("scratch", stop, network=False)
        patch.setitem(methods.METHODS, "scratch", method)
        with pytest.raises(KeyboardInterrupt):
            study.run(windows, todo, path)
    assert path.read_text() == first
    study.run(windows, todo, path)
    assert {study.place_of(row) for row in study.gathered(path)} == set(todo)
    assert path.read_text().startswith(first)
    asked = len(quick)
    study.run(windows, todo, path)
    assert len(quick) == asked
    study.run(windows, [todo[0]._replace(regime="many")], path)
    assert len(quick) > asked


def test_shards_share_all_folds_and_write_apart(tmp_path, windows, quick):
    path = tmp_path / "which.csv"
    arguments = ["--seeds", "2", "--first-seed", "3", "--folds", "2"]
    asked = [
        command.parser().parse_args([*arguments, "--shard", f"{i}/3"]) for i in "012"
    ]
    parts = [command.places(options) for options in asked]
    whole = command.places(command.parser().parse_args(arguments))
    assert sorted(itertools.chain(*parts)) == sorted(whole)
    assert len(whole) == 4 and {place.seed for place in whole} == {3, 4}
    for options, todo in zip(asked, parts, strict=True):
        study.run(windows, todo, path, shard=options.shard)
    assert [p.name for p in study.shard_paths(path)] == [
        f"which.{i}.csv" for i in range(3)
    ]
    assert not path.exists()
    rows, n = study.gathered(path), len(quick)
    assert {study.place_of(row) for row in rows} == set(whole)
    study.run(windows, whole, path)
    assert len(quick) == n
    write(path, rows, study.COLUMNS)  # gathered: no fold counts twice
    assert study.gathered(path) == rows


@pytest.mark.parametrize("text", ["2/2", "-1/2", "1", "a/b"])
def test_a_shard_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        command.parser().parse_args([f"--shard={text}"])
    assert "--shard" in capsys.readouterr().err


def test_the_table_pairs_people():
    table = {"motor-4": [level(0.6)], "greedy, uniform": [level(0.65)]}
    table[choice.RANDOM] = [level(0.5), level(0.54), level(0.58)]
    scores = report.by_person(fake_rows(table))["scratch", 4]
    lines = report.score_table(scores, "motor-4")
    line = next(line for line in lines if line.startswith("| greedy"))
    cells_ = [cell.strip() for cell in line.split("|")[1:-1]]
    low, high = (float(end) for end in cells_[2].split(" to "))
    assert cells_[1] == "65.0" and low < 61 and high > 69
    assert cells_[3:5] == ["+5.0", "+5.0 to +5.0"]
    assert cells_[6:8] == ["+11.0", "+11.0 to +11.0"]
    assert float(cells_[5]) < 0.001 and float(cells_[8]) < 0.001


def test_a_person_counts_once_however_many_seeds_and_draws():
    scores = {choice.RANDOM: [level(0.5), level(0.6)]}
    found = report.by_person(fake_rows(scores, seeds=(0, 1, 2)))["scratch", 4]
    assert found[choice.RANDOM] == pytest.approx({p: level(0.55)(p) for p in range(20)})


def test_p_values_are_corrected_within_a_table():
    from benchmarks.tables import holm, sign_flip_test

    rng = np.random.default_rng(0)
    scores = {
        n: dict(enumerate(rng.normal(0.1 * i, 0.3, 12)))
        for i, n in enumerate(("a", "b", "c"))
    }
    found = report.comparisons(scores, "a")
    raw = [
        sign_flip_test([scores[n][p] - scores["a"][p] for p in range(12)]) for n in "bc"
    ]
    assert [found[n][2] for n in "bc"] == pytest.approx(list(holm(raw)))


def test_an_electrode_is_counted_once_a_fold():
    rows = fake_rows({"greedy, topology": [level(0.5)], "motor-4": [level(0.5)]})
    for row in rows:
        if row["fold"] == "0":
            row["electrodes"] = "C3 C4 Fz Oz"
    counts, n_folds = report.selected(rows)
    assert n_folds == 5 and list(counts) == [("greedy, topology", 4)]
    count = counts["greedy, topology", 4]
    assert sum(count.values()) == 4 * 5
    assert (count["C3"], count["Oz"], count["F3"]) == (5, 1, 4)
    text = "\n".join(report.selection_table(rows))
    assert "| 4 | greedy, topology | C3 5, Cz 4, F3 4, F4 4, C4 1, Fz 1, Oz 1 |" in text


def test_table_and_figure_come_from_the_rows_alone(tmp_path):
    path = tmp_path / "which.csv"
    rows = complete_rows()
    for i in range(2):
        own = [row for row in rows if int(row["fold"]) % 2 == i]
        write(study.shard_path(path, (i, 2)), own, study.COLUMNS)
    command.main(["--table", "--out", str(path)])
    with open(path, newline="") as file:
        gathered = list(csv.DictReader(file))
    assert len(gathered) == len(rows)
    text = path.with_suffix(".md").read_text()
    assert "## few labels, small teacher\n\n20 people, 5 fold(s) of 1 seed(s)." in text
    assert text.count("against both-16") == len(study.DECODERS)
    assert "+z" not in text and "-0.0" not in text
    assert "Several states" not in text
    assert path.with_suffix(".png").stat().st_size > 10_000


def test_regimes_are_not_averaged_and_states_of_the_code_are_told():
    rows = complete_rows() + complete_rows(regime="many")
    rows[0]["code"] = "b"
    text = report.markdown(rows)
    few, many = text.split("## many labels")
    assert "20 people, 5 fold(s)" in few and "20 people, 5 fold(s)" in many
    assert "**Several states of the code**: a, b." in few
    assert "Several states" not in many


def test_a_table_of_nothing_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no finished fold"):
        command.main(["--table", "--out", str(tmp_path / "none.csv")])


def test_the_command_line_runs_carried_windows_and_a_shard_leaves_the_table_be(
    tmp_path, windows, quick
):
    windows.save(tmp_path / "windows.npz")
    path = tmp_path / "which.csv"
    arguments = ["--windows", str(tmp_path / "windows.npz"), "--out", str(path)]
    arguments += ["--folds", "2", "--teacher-size", "small", "--regime", "many"]
    command.main([*arguments, "--shard", "1/2"])
    assert study.shard_path(path, (1, 2)).exists()
    assert not path.with_suffix(".md").exists()
    command.main(arguments)
    folds = [study.Fold("many", "small", 0, fold) for fold in (0, 1)]
    assert sorted({study.place_of(row) for row in read(path)}) == folds
    assert "## many labels, small teacher" in path.with_suffix(".md").read_text()
