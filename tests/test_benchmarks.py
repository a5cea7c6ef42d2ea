"""The harness: people never leak, cells are run once, statistics are right."""

import hashlib
import itertools
import json

import numpy as np
import pytest

from benchmarks import cells, electrodes, figures, methods, protocol, rows, run, tables
from benchmarks.rows import RESULTS

NAMES = ("F3", "F4", "C3", "Cz", "C4", "P3", "Pz", "P4", "Fp1", "O1", "O2", "Oz")
KEPT = electrodes.MOTOR_8


def make_windows(n_people=34, n_windows=6, task="left-right"):
    """Noise in which C3 is louder in class 1, every person mixed differently."""
    rng = np.random.default_rng(0)
    people = (protocol.LABELLED + protocol.POOL)[:n_people]
    X, y, person = [], [], []
    for p in people:
        mixing = np.eye(len(NAMES)) + 0.3 * rng.normal(size=(len(NAMES),) * 2)
        label = np.arange(n_windows) % 2
        source = rng.normal(size=(n_windows, len(NAMES), 160))
        source[:, 2] *= 1 + 2 * label[:, None]
        X.append(20 * (mixing @ source))
        y.append(label)
        person.append(np.full(n_windows, p))
    X, y, person = (np.concatenate(part) for part in (X, y, person))
    positions = rng.normal(size=(len(NAMES), 3))
    return protocol.Windows(X, y, person, NAMES, positions, protocol.TASKS[task])


def make_cell(windows=None, regime="few", method="TS+LR", **flags):
    question = cells.Question("left-right", "motor-8", method, regime, 0, 0, **flags)
    return cells.Cell.build(windows or make_windows(), question, cells.Budget())


@pytest.fixture
def windows():
    return make_windows()


@pytest.fixture
def identity_alignment(monkeypatch):
    """Keep braindecode's slow import away where alignment is not the matter."""
    monkeypatch.setattr(protocol, "align", lambda X, *_, **__: X.astype(np.float32))


def test_every_person_is_tested_once_per_seed():
    folds = protocol.person_folds(protocol.LABELLED, seed=3)
    assert sorted(itertools.chain(*folds)) == sorted(protocol.LABELLED)
    assert [len(fold) for fold in folds] == [4] * 5
    assert folds != protocol.person_folds(protocol.LABELLED, seed=4)


def test_strata_spread_over_folds():
    people, sex = list(range(20)), [0] * 10 + [1] * 10
    for fold in protocol.person_folds(people, 0, strata=sex):
        assert sum(sex[p] for p in fold) == 2


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fold", range(5))
def test_people_of_a_cell_are_disjoint(seed, fold):
    args = protocol.LABELLED, protocol.POOL
    few = protocol.make_split(*args, "few", fold, seed)
    many = protocol.make_split(*args, "many", fold, seed)
    assert few.test == many.test
    assert (len(few.labelled), len(few.unlabelled)) == (10, 6 + 14)
    assert (len(many.labelled), many.unlabelled) == (16, protocol.POOL)
    for split in (few, many):
        parts = split.test, split.labelled, split.unlabelled
        assert len(set(itertools.chain(*parts))) == 34
    nested = protocol.make_split(*args, "few", fold, seed, nested=True)
    assert nested.labelled == few.labelled
    assert not set(few.test) & {*nested.test, *nested.labelled, *nested.unlabelled}


def test_unknown_regime_is_refused():
    with pytest.raises(ValueError, match="regime"):
        protocol.make_split(protocol.LABELLED, (), "some", 0, 0)


def test_a_test_person_in_any_stage_is_refused(windows, identity_alignment):
    cell = make_cell(windows)
    person = cell.split.test[0]
    for labels in (False, True):
        with pytest.raises(protocol.Leakage, match=f"'pretraining'.*{person}"):
            cell.stage("pretraining", [person], "low", labels=labels)
    for part in ("labelled", "unlabelled"):
        people = {"test": (1,), "labelled": (2,), "unlabelled": (3,), part: (1,)}
        with pytest.raises(protocol.Leakage, match=part):
            protocol.Split(**people)


def test_transductive_use_warns_and_still_hides_labels(windows, identity_alignment):
    cell = make_cell(windows, transductive=True)
    with pytest.warns(UserWarning, match="transductive"):
        _, people = cell.training("low")
    assert set(cell.split.test) <= set(people)
    with pytest.raises(protocol.Leakage):
        cell.stage("fine-tuning", cell.split.test, "low", labels=True)


def test_labels_of_unlabelled_people_are_out_of_reach(windows, identity_alignment):
    cell = make_cell(windows)
    with pytest.raises(PermissionError, match="hidden labels"):
        cell.stage("teacher", cell.split.unlabelled, "low", labels=True)
    _, people, y = cell.labelled("low")
    assert set(people) == set(cell.split.labelled)
    assert len(y) == len(people)


def test_nested_alignment_is_white_and_equals_the_small_caps_own(windows):
    whole = windows.view("nested", KEPT)
    small = windows.view("low", KEPT)
    index = [NAMES.index(name) for name in KEPT]
    np.testing.assert_array_equal(whole[:, index], small)
    own = whole[windows.person == 5].astype(float)
    own = np.concatenate(list(own - own.mean(-1, keepdims=True)), axis=1)
    covariance = own @ own.T / own.shape[1]
    np.testing.assert_allclose(covariance, 100 * np.eye(len(NAMES)), atol=1e-2)


def test_a_task_may_be_aligned_by_a_band():
    from braindecode_gcmae.alignment.formulas import window_covariances

    windows = make_windows(n_people=2, n_windows=8, task="rest-imagery-band")
    task = windows.task
    assert task.align_band == (8.0, 30.0)
    own = windows.view("low", ("C3", "C4"))[windows.person == windows.person[0]]
    in_band = window_covariances(own, sfreq=task.sfreq, band=task.align_band).mean(0)
    np.testing.assert_allclose(in_band, in_band[0, 0] * np.eye(2), atol=1e-3)
    whole = window_covariances(own).mean(0)
    assert abs(whole[0, 1]) > 0.01 * whole[0, 0]


def test_aligning_a_person_needs_no_one_else(windows):
    rows = windows.person == 9
    index = [NAMES.index(name) for name in KEPT]
    together = protocol.align(windows.X, windows.person, index)[rows]
    alone = protocol.align(windows.X[rows], windows.person[rows], index)
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-4)


def test_windows_survive_the_journey(tmp_path, windows):
    windows.interpolation["F3,F4"] = np.ones((12, 2), np.float32)
    windows.save(tmp_path / "new" / "w.npz")
    back = protocol.Windows.load(tmp_path / "new" / "w.npz")
    np.testing.assert_allclose(back.X, windows.X, rtol=1e-3, atol=1e-3)
    assert back.ch_names == windows.ch_names
    assert back.task is windows.task
    assert list(back.interpolation) == ["F3,F4"]
    assert back.people == windows.people
    assert back.pool == windows.pool


def test_electrode_sets_are_nested_and_distinct():
    sizes = {k: len(v) for k, v in electrodes.SETS.items() if v}
    assert sizes["both-16"] == 16
    assert sizes["wide-32"] == 32
    chain = [electrodes.SETS[k] for k in ("motor-4", "motor-8", "both-16", "wide-32")]
    for small, large in itertools.pairwise(chain):
        assert set(small) < set(large)
    assert all(len(set(v)) == len(v) for v in electrodes.SETS.values() if v)
    with pytest.raises(KeyError, match="motor-8"):
        electrodes.electrode_set("motor-8", ["C3"])


def test_key_depends_on_all_that_decides_the_result():
    base = {"task": "left-right", "electrodes": "motor-8", "method": "scratch"}
    base |= {"regime": "few", "fold": 0, "seed": 0, "settings": {"lr": 1e-3}}
    keys = {cells.Question(**base).key}
    for change in ({"seed": 1}, {"settings": {"lr": 2e-3}}, {"transductive": True}):
        keys.add(cells.Question(**{**base, **change}).key)
    assert len(keys) == 4
    assert cells.Question(**base).key == cells.Question(**base).key


def certain(cell):
    """Answer class 1 with certainty for every window."""
    n = len(cell.windows.rows(cell.split.test))
    return methods.Outcome(np.tile([0.0, 1.0], (n, 1)), 7)


@pytest.fixture
def stub(monkeypatch):
    calls = []

    def answer(cell):
        calls.append(cell.question)
        return certain(cell)

    method = methods.Method("stub", answer, network=False)
    monkeypatch.setitem(methods.METHODS, "stub", method)
    return calls


STUDY = run.Study(("left-right",), ("motor-8",), ("stub",), ("few",))


def test_finished_cells_are_skipped_and_a_cut_row_is_redone(tmp_path, windows, stub):
    path = tmp_path / "study.csv"
    todo = run.questions(STUDY, range(2), cells.Budget())
    run.run_cells(todo[:3], lambda task: windows, cells.Budget(), path, study="s")
    assert len(stub) == 3
    whole = path.read_text()
    path.write_text(whole[: -len(whole.splitlines()[-1]) // 2])
    run.run_cells(todo, lambda task: windows, cells.Budget(), path, study="s")
    rows = cells.read_rows(path)
    assert cells.finished(path) == {question.key for question in todo}
    by_key = [row["person"] + row["key"] for row in rows]
    assert len(by_key) == len(set(by_key)) == 2 * 20
    before = len(stub)
    run.run_cells(todo, lambda task: windows, cells.Budget(), path, study="s")
    assert len(stub) == before


def test_a_failing_cell_leaves_no_row(tmp_path, windows, monkeypatch):
    def broken(cell):
        raise RuntimeError("out of memory")

    method = methods.Method("stub", broken, network=False)
    monkeypatch.setitem(methods.METHODS, "stub", method)
    todo = run.questions(STUDY, range(1), cells.Budget())
    path = tmp_path / "study.csv"
    failed = run.run_cells(todo, lambda task: windows, cells.Budget(), path, study="s")
    assert failed == 5
    assert cells.read_rows(path) == []


def test_a_person_row_scores_windows_or_the_person(windows):
    cell = make_cell(windows)
    rows = cells.person_rows(cell, certain(cell), study="s", seconds=1.0)
    assert [row["person"] for row in rows] == list(cell.split.test)
    assert {float(row["score"]) for row in rows} == {0.5}
    sexes = make_windows(task="sex")
    sexes.y = (sexes.person % 2).astype(int)
    cell = make_cell(sexes)
    rows = cells.person_rows(cell, certain(cell), study="s", seconds=1.0)
    assert [row["target"] for row in rows] == [p % 2 for p in cell.split.test]
    assert [float(row["score"]) for row in rows] == [p % 2 for p in cell.split.test]


def test_holm_agrees_with_the_definition():
    p = [0.01, 0.04, 0.03, 0.5]
    order = sorted(range(4), key=lambda i: p[i])
    expected, worst = [0.0] * 4, 0.0
    for rank, i in enumerate(order):
        worst = max(worst, (4 - rank) * p[i])
        expected[i] = min(1.0, worst)
    np.testing.assert_allclose(tables.holm(p), expected)


def test_sign_flips_are_exact_for_few_people():
    d = np.array([0.1, 0.2, -0.05, 0.3])
    patterns = itertools.product([1, -1], repeat=4)
    means = [abs(np.mean(np.array(s) * d)) for s in patterns]
    exact = np.mean([m >= abs(d.mean()) - 1e-12 for m in means])
    assert tables.sign_flip_test(d) == exact
    assert tables.sign_flip_test(np.full(20, 0.1)) <= 2e-4
    assert tables.sign_flip_test(np.tile([0.1, -0.1], 10)) == 1.0


def test_sampled_sign_flips_approach_the_exact_ones():
    d = np.random.default_rng(1).normal(0.3, 1.0, 16)
    exact = tables.sign_flip_test(d)
    sampled = tables.sign_flip_test(np.concatenate([d, np.zeros(5)]))
    assert sampled == pytest.approx(exact, abs=0.02)


def test_sign_flips_count_ties_that_six_digits_pulled_apart():
    right = np.random.default_rng(0).integers(10, 30, (2, 20))
    shares = right / 45
    stored = np.round(shares, 6)
    whole = right[0] - right[1]  # integers: ties are ties
    sums = np.zeros(1, int)
    for value in whole:
        sums = np.concatenate([sums + value, sums - value])
    exact = (np.abs(sums) >= abs(whole.sum())).mean()
    assert tables.sign_flip_test(stored[0] - stored[1]) == exact
    assert tables.sign_flip_test(shares[0] - shares[1]) == exact


def test_auroc_agrees_with_scikit_learn():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    decision, target = rng.normal(size=40).round(1), rng.integers(0, 2, 40)
    mine = tables.area_under_curve(decision, target)
    assert mine == pytest.approx(roc_auc_score(target, decision))
    assert np.isnan(tables.area_under_curve(decision, np.ones(40)))


def test_bootstrap_interval_has_the_width_of_the_standard_error():
    values = np.random.default_rng(0).normal(0.6, 0.1, 200)
    low, high = tables.bootstrap_interval(values)
    width = 2 * 1.96 * values.std() / np.sqrt(200)
    assert high - low == pytest.approx(width, rel=0.05)
    assert low < values.mean() < high


def test_chance_level_is_the_binomials():
    from math import comb

    n, level = 45, tables.chance_level(45)
    k = round(level * n)
    tail = [comb(n, i) / 2**n for i in range(n + 1)]
    assert sum(tail[k + 1 :]) <= 0.05 < sum(tail[k:])


def fake_rows(n_seeds=2):
    rng, rows = np.random.default_rng(0), []
    level = {"scratch": 0.6, "both": 0.7, "EEGNet": 0.55}
    sets = {"motor-8": 8, "all-64": 64}
    for (method, base), seed, name, person in itertools.product(
        level.items(), range(n_seeds), sets, range(20)
    ):
        row = dict.fromkeys(cells.COLUMNS, "")
        row |= {"key": f"{method}{name}{seed}", "task": "left-right", "fold": "0"}
        row |= {"electrodes": name, "n_electrodes": str(sets[name]), "method": method}
        row |= {"regime": "few", "seed": str(seed), "person": str(person)}
        row |= {"score": str(base + 0.02 * rng.normal()), "seconds": "1"}
        row |= {"n_parameters": "10", "n_windows": "45", "n_test": "20"}
        row["config"] = f'{{"cell": "{row["key"]}"}}'
        rows.append(row)
    return rows


def test_summary_is_a_mean_over_people_and_a_spread_over_seeds():
    rows = [r for r in fake_rows() if r["method"] == "both"]
    rows = [r for r in rows if r["electrodes"] == "motor-8"]
    summary = tables.summarise(rows)
    by_seed = [
        np.mean([float(r["score"]) for r in rows if r["seed"] == seed])
        for seed in ("0", "1")
    ]
    assert summary["mean"] == pytest.approx(np.mean(by_seed))
    assert summary["sd_seeds"] == pytest.approx(np.std(by_seed, ddof=1))
    assert (summary["n_people"], summary["n_seeds"]) == (20, 2)


def test_tables_name_the_reference_and_correct_for_the_number_of_tests():
    text = tables.markdown(fake_rows(), reference="scratch")
    assert text.count("### left-right") == 2
    assert "against scratch" in text
    best = next(line for line in text.splitlines() if line.startswith("| both"))
    cell = best.split("|")
    assert float(cell[7]) == pytest.approx(10.0, abs=2)
    assert float(cell[9]) < 0.01


def test_two_settings_of_one_method_are_not_averaged():
    rows = fake_rows()
    rows.append({**rows[0], "key": "other"})
    with pytest.raises(ValueError, match="two settings"):
        tables.markdown(rows)


def test_figures_come_from_the_rows_alone(tmp_path):
    path = tmp_path / "main.csv"
    cells.append_rows(path, fake_rows())
    figures.main([str(path), "--out", str(tmp_path)])
    names = sorted(p.name for p in tmp_path.glob("*.png"))
    assert names == [
        "main-density.png",
        "main-left-right-all-64-few.png",
        "main-left-right-motor-8-few.png",
    ]
    curves = figures.density_curves(fake_rows())
    assert [n for n, _ in curves["both"]] == [8, 64]


def test_of_a_method_in_two_files_the_one_with_more_rows_counts(tmp_path):
    few, more = tmp_path / "a.csv", tmp_path / "b.csv"
    cells.append_rows(few, fake_rows(n_seeds=1))
    cells.append_rows(more, fake_rows(n_seeds=2))
    for files in ((few, more), (more, few)):
        assert {row["seed"] for row in figures.most_of_each(files)} == {"0", "1"}


def test_every_named_method_exists_and_peers_share_one_budget():
    budget = cells.Budget()
    for study in run.STUDIES.values():
        assert set(study.methods) <= set(methods.METHODS)
        assert set(study.electrodes) <= set(electrodes.SETS)
        assert set(study.tasks) <= set(protocol.TASKS)
    described = [m.describe(budget) for m in methods.METHODS.values() if m.network]
    for name in budget.settings(pretrains=False, teaches=False):
        assert len({settings[name] for settings in described}) == 1


def test_stages_that_a_method_lacks_do_not_make_it_another_cell():
    budget, longer = cells.Budget(), cells.Budget(pretraining_epochs=7)
    small = cells.Budget(teacher_size="small")
    changed = {
        name: (
            m.describe(budget) != m.describe(longer),
            m.describe(small) != m.describe(budget),
        )
        for name, m in methods.METHODS.items()
    }
    assert changed["EEGNet"] == changed["scratch"] == changed["TS+LR"] == (False, False)
    assert changed["teacher scratch"] == (False, True)
    for name in ("teacher", "pretrained", "distilled", "both", "paper both"):
        assert changed[name] == (True, True), name


def test_a_committee_is_made_of_students_that_differ_and_is_made_once(monkeypatch):
    from benchmarks import ours

    fitted = []

    class Net:
        def __init__(self, cell, module):
            self.first = float(module.network.embed.weight[0, 0])

        def fit(self, X, y):
            fitted.append(self)
            return self

    monkeypatch.setattr(ours, "_net", Net)
    recipe = next(r for r in ours.COMMITTEE if not r.pool)
    cell = make_cell()
    members = ours.fitted_committee(cell, recipe)
    assert len(members) == len(fitted) == recipe.committee
    assert len({member.first for member in members}) == recipe.committee
    assert ours.fitted_committee(cell, recipe) is members
    assert not recipe.teaches and not recipe.pretrains
    settings = methods.METHODS["committee"].describe(cells.Budget())
    assert settings["committee"] == 5 and "teacher_size" not in settings
    assert "committee" not in methods.METHODS["distilled"].describe(cells.Budget())


def test_a_cross_fitted_recipe_hands_over_a_teacher_that_has_seen_no_label():
    from benchmarks import ours

    recipe = ours.Recipe(
        "cross-fitted", distil=True, cross_fit=5, pool=True, teacher_pretrained=False
    )
    cell = make_cell(make_windows(n_windows=3))
    callback = ours.distillation(cell, recipe)
    assert callback.cross_fit == 5 and not callback.teacher.initialized_
    people = cell.split.unlabelled
    assert len(callback.unlabelled) == len(cell.windows.rows(people))
    settings = methods.METHODS["cross-fitted pool"].describe(cells.Budget())
    assert settings["cross_fit"] == 5 and settings["pool"]
    assert "cross_fit" not in methods.METHODS["distilled"].describe(cells.Budget())


def test_a_network_trained_on_another_device_is_another_cell():
    budget = cells.Budget()
    for name in ("EEGNet", "scratch", "both"):
        method = methods.METHODS[name]
        assert method.describe(budget) == method.describe(budget, "cpu")
        assert method.describe(budget) != method.describe(budget, "cuda")
        assert method.describe(budget, "cuda") == method.describe(budget, "cuda:0")
    linear = methods.METHODS["TS+LR"]
    assert linear.describe(budget) == linear.describe(budget, "cuda")
    study = run.STUDIES["quick"]
    cpu, cuda = (
        {q.key for q in run.questions(study, [0], budget, device=device)}
        for device in ("cpu", "cuda")
    )
    assert len(cpu & cuda) == len(cpu) / len(study.methods)  # tangent space alone


def test_stored_rows_are_under_the_key_of_what_decided_them():
    for name in ("main", "ablations", "paper", "tasks", "laptop"):
        for row in cells.read_rows(RESULTS / f"{name}.csv"):
            config = row["config"]
            assert row["key"] == hashlib.sha256(config.encode()).hexdigest()[:12]
            settings = json.loads(config)["settings"]
            # linear methods have no epochs, and no device
            expected = row["device"] if "epochs" in settings else "cpu"
            assert settings.get("device", "cpu") == expected, (name, row["method"])


def test_a_seed_that_is_not_whole_counts_for_nothing_and_pairs_share_seeds():
    def row(person, seed, score):
        return {"person": person, "seed": seed, "score": score}

    rows = [row(1, 0, 0.5), row(2, 0, 0.7), row(1, 1, 0.9)]
    values, people, seeds = tables.people_by_seed(rows)
    assert (values.tolist(), people, seeds) == ([[0.5, 0.7]], [1, 2], [0])
    first = {"per_cell": {(1, 0): 0.6, (1, 1): 1.0, (2, 0): 0.5}}
    second = {"per_cell": {(1, 0): 0.5, (2, 0): 0.5, (2, 1): 0.0}}
    assert tables.compare(first, second)[0] == pytest.approx(0.05)


def test_a_smaller_teacher_is_another_cell_and_an_unknown_one_is_refused():
    small = cells.Budget(teacher_size="small")
    both = methods.METHODS["both"]
    assert both.describe(small) != both.describe(cells.Budget())
    assert small.settings()["teacher_size"] == "small"
    with pytest.raises(ValueError, match="default.*small"):
        cells.Budget(teacher_size="huge")


def test_tangent_space_finds_the_loud_electrode(windows):
    cell = make_cell(windows, regime="many")
    outcome = methods.METHODS["TS+LR re-centred"].run(cell)
    rows = cells.person_rows(cell, outcome, study="s", seconds=0.0)
    assert np.mean([float(row["score"]) for row in rows]) > 0.8


def test_folds_are_those_of_moabbs_cross_subject_splitter():
    import pandas as pd
    from moabb.evaluations.splitters import CrossSubjectSplitter
    from sklearn.model_selection import GroupKFold

    people = np.repeat(protocol.LABELLED, 2)
    metadata = pd.DataFrame({"subject": people, "session": "0", "run": "0"})
    splitter = CrossSubjectSplitter(
        cv_class=GroupKFold, n_splits=5, shuffle=True, random_state=2
    )
    theirs = [
        tuple(dict.fromkeys(people[test]))
        for _, test in splitter.split(np.zeros(len(people)), metadata)
    ]
    mine = protocol.person_folds(protocol.LABELLED, seed=2)
    assert sorted(map(sorted, theirs)) == sorted(map(sorted, mine))


def test_the_command_line_runs_carried_windows_without_recordings(tmp_path, windows):
    windows.save(tmp_path / "windows.npz")
    arguments = ["--study", "quick", "--only", "TS+LR re-centred", "--out"]
    arguments += [str(tmp_path / "q.csv"), "--windows", str(tmp_path / "windows.npz")]
    assert run.main(arguments) == 0
    rows = cells.read_rows(tmp_path / "q.csv")
    assert sorted(int(row["person"]) for row in rows) == sorted(protocol.LABELLED)
    assert tables.main([str(tmp_path / "q.csv"), "--out", str(tmp_path / "q.md")]) == 0
    assert "TS+LR re-centred" in (tmp_path / "q.md").read_text()
    with pytest.raises(SystemExit, match="unknown methods"):
        run.main(["--only", "nothing"])


def test_a_stage_is_made_once_per_fold_and_does_not_disturb_the_stream():
    import torch

    from benchmarks.ours import OURS, _once

    cell, recipe = make_cell(), OURS[3]
    before = torch.random.get_rng_state()
    made = [
        _once(cell, "teacher", recipe, lambda: torch.rand(1).item()) for _ in range(2)
    ]
    assert made[0] == made[1]
    assert torch.equal(before, torch.random.get_rng_state())
    fresh = make_cell()
    assert _once(fresh, "teacher", recipe, lambda: torch.rand(1).item()) == made[0]


def test_changed_code_is_another_cell_and_changed_words_are_not():
    from benchmarks.ours import code_digest, statements

    source = 'def f(x):\n    """Say."""\n    return x + 1  # why\n'
    assert statements(source) == statements(source.replace("Say", "Tell"))
    assert statements(source) != statements(source.replace("+ 1", "+ 2"))
    found, moved = "from .here import x\n", "from ..there import (\n    x,\n)\n"
    assert statements(found + source) == statements(moved + source)
    assert statements(source) != statements("import torch\n" + source)
    settings = methods.METHODS["scratch"].describe(cells.Budget())
    assert settings["code"] == code_digest()
    assert "code" not in methods.METHODS["EEGNet"].describe(cells.Budget())


def test_tables_take_the_newest_state_of_the_code_and_never_mix_two():
    rows = [r for r in fake_rows(1) if r["method"] == "both"]
    old = [{**r, "config": '{"settings": {"code": "a"}}'} for r in rows]
    new = [{**r, "key": r["key"] + "+"} for r in rows]
    new = [{**r, "config": '{"settings": {"code": "b"}}'} for r in new]
    for part in (old, new):
        for row in part:
            place = f'{{"e": "{row["electrodes"]}", '
            row["config"] = place + row["config"][1:]
    assert tables.latest_code(old + new) == new
    half = [{**r, "seed": "1", "key": r["key"] + "1"} for r in new]
    with pytest.raises(ValueError, match="two states of the code"):
        tables.one_setting(old + half)


def test_shards_share_out_the_cells_and_keep_a_fold_together():
    todo = run.questions(run.STUDIES["main"], [0, 1], cells.Budget())
    parts = [run.shard(todo, f"{i}/3") for i in range(3)]
    assert sorted(q.key for part in parts for q in part) == sorted(q.key for q in todo)
    places = [
        {(q.electrodes, q.regime, q.seed, q.fold) for q in part} for part in parts
    ]
    assert not places[0] & places[1] and not places[1] & places[2]
    assert run.shard(todo, "0/1") == todo
    for wrong in ("3/3", "-1/3"):
        with pytest.raises(ValueError, match="shard"):
            run.shard(todo, wrong)


def test_the_papers_recipes_have_its_models_and_are_other_cells(windows):
    from benchmarks import ours
    from braindecode_gcmae import GCMAEStudent, GCMAETeacher

    recipe = methods.METHODS["paper both"].run.keywords["recipe"]
    assert ours.student_arguments(recipe) == GCMAEStudent.paper_arguments()
    cell = make_cell(windows)
    assert ours.teacher_arguments(cell, recipe) == GCMAETeacher.paper_arguments()
    keys = {methods.METHODS[name].settings["paper"] for name in ("both", "paper both")}
    assert keys == {False, True}


def test_pairs_need_the_same_person_in_the_same_seed():
    """With holes in both, means over different seeds would turn the sign around."""

    def rows(method, scores):
        fixed = {"n_windows": "45", "seconds": "1", "n_parameters": "7"}
        return [
            {"method": method, "person": p, "seed": s, "score": str(score), **fixed}
            for (p, s), score in scores.items()
        ]

    hard, easy = 0.2, 0.7  # seeds
    first = rows("a", {("1", "0"): hard + 0.1, ("2", "1"): easy + 0.1})
    second = rows("b", {("1", "0"): hard, ("1", "1"): easy, ("2", "1"): easy})
    gap, _, _ = tables.compare(tables.summarise(first), tables.summarise(second))
    assert gap == pytest.approx(0.1)
    with pytest.raises(ValueError, match="no person"):
        tables.paired({1: 0.5}, {2: 0.5})


def test_a_table_holds_the_methods_that_were_run_for_all_the_people():
    rows = fake_rows(1)
    name = rows[0]["method"]
    short = [r for r in rows if r["method"] != name or r["person"] != rows[0]["person"]]
    place = rows[0]["task"], rows[0]["electrodes"], rows[0]["regime"]
    assert name in tables.whole(tables.conditions(rows)[place])
    assert name not in tables.whole(tables.conditions(short)[place])


def test_two_states_of_the_code_are_not_compared():
    def row(method, code):
        config = f'{{"settings": {{"code": {code}}}}}'
        place = {"task": "t", "electrodes": "e", "regime": "few", "fold": 0, "seed": 0}
        return {"method": method, "key": method, "config": config, **place}

    tables.one_setting([row("scratch", '"a"'), row("TS+LR", "null")])
    with pytest.raises(ValueError, match="two states of the code"):
        tables.one_setting([row("scratch", '"a"'), row("both", '"b"')])


def test_a_mean_is_of_folds_of_one_device():
    def row(fold, device, method="EEGNet", settings='{"epochs": 40}'):
        place = {"task": "t", "electrodes": "e", "regime": "few", "seed": 0}
        config = f'{{"settings": {settings}}}'
        return {
            "method": method,
            "fold": fold,
            "device": device,
            "config": config,
            **place,
        }

    part = [row(0, "cpu"), row(1, "cpu"), row(2, "cuda:0"), row(3, "cuda")]
    whole = [row(fold, "cpu") for fold in (2, 3)]
    linear = [row(0, "cpu", "TS+LR", "{}"), row(1, "cuda", "TS+LR", "{}")]
    kept = tables.one_device(part + linear + whole)
    assert kept == part[:2] + linear + whole
    assert tables.one_device(part) == part[2:], "of equally many the last"


def test_a_row_with_other_columns_is_an_error(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("key,person,n_test\na,1,1\n")
    arguments = {"cell": ("key",), "row": ("person",), "size": "n_test"}
    assert len(rows.read_cells(path, **arguments)) == 1
    path.write_text("key,person,n_test\na,1,1\nb,1\n")
    with pytest.raises(ValueError, match="other columns"):
        rows.read_cells(path, **arguments)
