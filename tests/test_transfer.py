"""The transfer study: nobody is pretrained and tested on, starts differ in weights."""

import itertools

import numpy as np
import pytest
import torch

import braindecode_gcmae
from benchmarks import cells, options, protocol
from benchmarks.cells import Budget
from benchmarks.demonstration.data import Study
from benchmarks.rows import append
from benchmarks.transfer import __main__ as command
from benchmarks.transfer import report, settings, study
from braindecode_gcmae import GCMAEStudent, GCMAETeacher, montage_preset
from braindecode_gcmae.montage import electrode_positions, make_chs_info

# a few short windows a person are the point
pytestmark = pytest.mark.filterwarnings("ignore:.*too few to align")
NAMES = tuple(montage_preset("10-20-19"))
N_TIMES, PER_PERSON = 96, 4
BUDGET = Budget(epochs=2, batch_size=8, pretraining_epochs=1, teacher_size="small")
MOTOR, HEADBAND, REST, SIMULATED = (
    settings.SETTINGS[i] for i in (0, 1, 4, len(settings.SETTINGS) - 1)
)


def noise(people):
    """Noise in which C3 is louder in class 1."""
    rng = np.random.default_rng(0)
    person = np.repeat(people, PER_PERSON)
    y = np.tile([0, 1], len(person) // 2)
    X = 10 * rng.normal(size=(len(person), len(NAMES), N_TIMES))
    X[:, NAMES.index("C3")] *= 1 + 2 * y[:, None]
    return X, y, person


@pytest.fixture
def data(monkeypatch):
    """Tiny windows in the place of PhysioNet's and of the simulation's."""
    X, y, person = noise(protocol.LABELLED + protocol.POOL)
    positions = electrode_positions(list(NAMES))
    tasks = {
        task: protocol.Windows(X, y, person, NAMES, positions, protocol.TASKS[task])
        for task in ("left-right", "rest-imagery")
    }
    X, y, person = noise(np.arange(1, 23))
    channels, people = make_chs_info(list(NAMES)), list(range(1, 21))
    others = Study("s", "", X, y, person, 0 * person, channels, 80.0, people)
    monkeypatch.setattr(settings, "recorded", tasks.get)
    monkeypatch.setattr(study, "recorded", tasks.get)
    monkeypatch.setattr(settings, "simulated", lambda: others)
    return tasks


@pytest.fixture
def pretrained_on(data, monkeypatch):
    """People whom each pretraining is given, none of which takes any time."""
    seen = []

    class Untrained:
        def __init__(self, *, electrodes, chs_info, sfreq, **_):
            signal = {"chs_info": chs_info, "n_times": N_TIMES, "sfreq": sfreq}
            torch.manual_seed(99)
            self.student = GCMAEStudent(electrodes=electrodes, **signal)

        def fit(self, X, groups):
            seen.append(set(groups.tolist()))

        def save_pretrained(self, folder):
            self.student.save_pretrained(f"{folder}/student")

    monkeypatch.setattr(braindecode_gcmae, "GCMAEPretrainer", Untrained)
    return seen


def a_fold(seed=0, number=0):
    return study.Fold(seed, number, BUDGET, "cpu", {})


def run(path, units=((0, 0),), settings=(MOTOR,), counts=(3,), budget=BUDGET):
    what = {"settings": settings, "counts": counts, "device": "cpu"}
    study.run(list(units), budget, path, **what)
    return study.read(path)


@pytest.mark.parametrize("seed, number", itertools.product((0, 3), range(5)))
def test_ten_labelled_people_are_the_harness_own_and_three_are_of_the_ten(seed, number):
    people, pool = protocol.LABELLED, protocol.POOL
    few = protocol.make_split(people, pool, "few", number, seed)
    ten, three = (study.deal(people, pool, number, seed, n) for n in (10, 3))
    assert ten == few
    assert three.test == ten.test and len(three.labelled) == 3
    assert set(three.labelled) < set(ten.labelled)
    assert len({*three.test, *three.labelled, *three.unlabelled}) == 34


def test_more_labels_than_training_people_are_refused():
    with pytest.raises(ValueError, match="17 labelled people of 16"):
        study.deal(protocol.LABELLED, (), 0, 0, 17)


def test_no_test_person_is_in_pretraining_whatever_the_task_and_cap(
    tmp_path, pretrained_on
):
    rows = run(tmp_path / "t.csv", [(0, 1), (1, 0)], (HEADBAND, REST))
    assert len(pretrained_on) == 2  # one a fold, for all its settings
    for seed, seen in enumerate(pretrained_on):
        tested = {int(row["person"]) for row in rows if row["seed"] == str(seed)}
        assert len(tested) == 4 and not tested & seen
        assert seen == {*protocol.LABELLED, *protocol.POOL} - tested


def test_a_test_person_who_was_pretrained_on_is_an_error(pretrained_on):
    fold = a_fold()
    others = fold.split(protocol.LABELLED, (), 10).labelled
    with pytest.raises(protocol.Leakage, match="pretraining"):
        fold.pretrained(others[:1])
    assert not pretrained_on


def test_shipped_weights_meet_simulated_people_alone(
    tmp_path, pretrained_on, monkeypatch
):
    loaded = []

    class Watched(GCMAEStudent):
        @classmethod
        def from_pretrained(cls, weights, **arguments):
            loaded.append(str(weights))
            return GCMAEStudent.from_pretrained(weights, **arguments)

    monkeypatch.setattr(braindecode_gcmae, "GCMAEStudent", Watched)
    run(tmp_path / "t.csv", settings=(MOTOR, REST))
    assert loaded and not any("physionet" in name for name in loaded)
    pretrained_on.clear(), loaded.clear()
    rows = run(tmp_path / "s.csv", settings=(SIMULATED,))
    assert not pretrained_on
    assert loaded == [study.SHIPPED[start] for start in SIMULATED.starts[1:]]
    assert {row["start"] for row in rows} == set(SIMULATED.starts)
    assert {row["weights"] for row in rows} == {"shipped"}


@pytest.mark.parametrize("setting", [HEADBAND, SIMULATED], ids=lambda s: s.name)
def test_starts_see_the_same_windows_in_the_same_order(
    setting, pretrained_on, monkeypatch
):
    windows, batches = settings.material(setting), {}
    beginning = study.beginning

    def watched(start, *arguments):
        module = beginning(start, *arguments)

        def note(module, inputs):
            if module.training:
                noise = torch.random.get_rng_state().sum().item()
                batches.setdefault(start, []).append((inputs[0].clone(), noise))

        module.register_forward_pre_hook(note)
        return module

    monkeypatch.setattr(study, "beginning", watched)
    study.cell_rows(setting, windows, a_fold(), 3)
    assert tuple(batches) == setting.starts
    n = 3 * PER_PERSON
    assert len(batches["scratch"]) == BUDGET.epochs * -(-n // BUDGET.batch_size)
    for own in batches.values():
        for (x, noise), (same, equal) in zip(own, batches["scratch"], strict=True):
            assert torch.equal(x, same) and noise == equal


def test_starts_differ_in_their_bodies_and_in_nothing_else(pretrained_on):
    signal = settings.material(HEADBAND).signal
    made = {}
    for start in SIMULATED.starts:
        weights = study.SHIPPED.get(start)
        made[start] = study.beginning(start, weights, signal, 0)
        assert made[start].network.n_nodes == 8
    states = {start: module.state_dict() for start, module in made.items()}
    scratch = states.pop("scratch")
    for state in states.values():
        assert torch.equal(state["final_layer.weight"], scratch["final_layer.weight"])
        name = "network.embed.weight"
        assert not torch.equal(state[name], scratch[name])
    pretrained, renewed = states["pretrained"], states["restandardised"]
    changed = {k for k in renewed if not torch.equal(renewed[k], pretrained[k])}
    assert changed == {
        f"network.{part}norm.{k}"
        for part in ("", "moments.")
        for k in ("windows", "count", "mean", "square")
    }
    assert pretrained["network.norm.windows"] > 0 == renewed["network.norm.windows"]


@pytest.mark.parametrize("setting", settings.SETTINGS, ids=lambda s: s.name)
def test_every_electrode_of_a_cap_is_used_by_every_start(setting, data):
    windows = settings.material(setting)
    for start in setting.starts:
        weights = study.SHIPPED.get(start)  # of motor-8, which larger caps contain
        module = study.beginning(start, weights, windows.signal, 0)
        assert module.network.n_nodes == windows.X.shape[1]
        assert module.network.n_nodes == len(settings.cap_names(setting.cap))


def test_a_cap_is_aligned_by_itself(data):
    windows = settings.material(HEADBAND)
    kept = [NAMES.index(name) for name in settings.cap_names("headband-8")]
    source = data["left-right"]
    alone = protocol.align(source.X[:, kept], source.person)
    np.testing.assert_array_equal(windows.X, alone)
    names = [channel["ch_name"] for channel in windows.signal["chs_info"]]
    assert tuple(names) == settings.cap_names("headband-8")


def test_pretraining_itself_is_that_of_the_harness(data, monkeypatch):
    arguments = {"emb_dim": 8, "depth": 1, "n_heads": 2}
    monkeypatch.setitem(cells.TEACHERS, "small", arguments)
    fold = a_fold()
    tested = fold.split(protocol.LABELLED, (), 10).test
    folder = fold.pretrained(tested)
    assert fold.pretrained(tested) == folder
    signal = settings.material(REST).signal
    student = study.beginning("pretrained", folder, signal, 0)
    assert student.network.norm.windows > 0
    assert GCMAETeacher.from_pretrained(folder.parent / "teacher").network.n_nodes == 19


def test_finished_folds_are_skipped_and_a_cut_one_is_done_again(
    tmp_path, data, monkeypatch
):
    calls = []

    def answer(setting, windows, fold, n_labelled):
        calls.append((setting.name, fold.seed, fold.number, n_labelled))
        return fake_rows(setting, fold, n_labelled)

    monkeypatch.setattr(study, "cell_rows", answer)
    monkeypatch.setattr(study, "code_digest", lambda: "c0de")
    path = tmp_path / "t.csv"
    units, both = [(0, 0), (0, 1)], (MOTOR, SIMULATED)
    run(path, units, both, counts=(3, 10))
    assert len(calls) == len(set(calls)) == 8
    run(path, units, both, counts=(3, 10))
    assert len(calls) == 8
    whole = path.read_text()
    path.write_text(whole[: -len(whole.splitlines()[-1]) // 2])
    rows = run(path, units, both, counts=(3, 10))
    assert calls[8:] == [calls[7]]
    assert len(rows) == 2 * 4 * sum(2 * len(setting.starts) for setting in both)
    run(path, units, (MOTOR,), budget=Budget(pretraining_epochs=2))
    assert len(calls) == 11  # another pretraining is another cell
    monkeypatch.setattr(study, "code_digest", lambda: "0ther")
    run(path, units[:1], (MOTOR,), counts=(3,))
    assert len(calls) == 12  # and so is another state of the code


def asked(*arguments):
    return options.asked(command.parser().parse_args(["--seeds", "3", *arguments]))


def test_shards_share_the_folds_and_one_file(tmp_path, data, monkeypatch, capsys):
    units = list(itertools.product(range(3), range(5)))
    parts = [asked(f"--shard={i}/4") for i in range(4)]
    assert sorted(itertools.chain(*parts)) == asked() == units
    for wrong in ("2/2", "-1/2"):
        with pytest.raises(SystemExit):
            asked(f"--shard={wrong}")
        assert "--shard" in capsys.readouterr().err
    made = lambda setting, windows, *rest: fake_rows(setting, *rest)  # noqa: E731
    monkeypatch.setattr(study, "cell_rows", made)
    for part in parts:
        rows = run(tmp_path / "t.csv", part)
    assert {(int(row["seed"]), int(row["fold"])) for row in rows} == set(units)


def fake_rows(setting, fold, n_labelled, gain=0.1):
    """Rows in which every start but scratch gains the same on every person."""
    tested = fold.split(protocol.LABELLED, (), n_labelled).test
    return [
        {
            "setting": setting.name,
            "weights": study.weights_of(setting, fold.budget),
            "start": start,
            "n_labelled": n_labelled,
            "fold": fold.number,
            "seed": fold.seed,
            "person": person,
            "score": 0.5 + person / 1000 + gain * (start != "scratch"),
            "n_windows": 45,
            "n_rows": len(setting.starts) * len(tested),
            "seconds": 1.0,
            "device": "cpu",
            "code": "c0de",
        }
        for start, person in itertools.product(setting.starts, tested)
    ]


def study_rows(settings=(MOTOR, SIMULATED), counts=(3, 10), seeds=2, gain=0.1):
    places = itertools.product(settings, counts, range(seeds), range(5))
    parts = (fake_rows(s, a_fold(seed, k), n, gain) for s, n, seed, k in places)
    return list(itertools.chain(*parts))


def test_the_table_pairs_people_and_averages_seeds():
    rows = study_rows(settings=(MOTOR,), counts=(3,))
    for row in rows:
        if row["start"] == "pretrained" and row["seed"] == 1:
            row["score"] -= 0.1  # this seed gains nothing
    scratch = np.mean([0.5 + person / 1000 for person in protocol.LABELLED])
    first, second = report.contrasts(rows)
    assert (first.start, second.start) == ("pretrained", "restandardised")
    assert first.scratch == second.scratch == pytest.approx(100 * scratch)
    assert (first.people, first.better, first.worse) == (20, 20, 0)
    assert [first.low, first.difference, first.high] == pytest.approx([5, 5, 5])
    assert second.difference == pytest.approx(10)
    assert second.p < 0.001


def test_holms_correction_is_over_the_rows_of_one_table():
    compared = report.contrasts(study_rows())
    counts = {start: len(own) for start, own in report.by_start(compared).items()}
    assert counts == {"pretrained": 4, "restandardised": 4, "classifier": 2}
    alone = report.contrasts(study_rows(settings=(MOTOR,), counts=(3,)))
    assert compared[0].p == pytest.approx(4 * alone[0].p)


def test_a_loss_is_reported_as_a_loss(tmp_path):
    path = tmp_path / "t.csv"
    append(path, study_rows(gain=-0.05), study.COLUMNS)
    command.main(["--table", "--out", str(path)])
    text = path.with_suffix(".md").read_text()
    for start in SIMULATED.starts[1:]:
        assert f"## {start} against scratch" in text
    assert text.count("| -5.0 | -5.0 to -5.0 |") == 10
    assert text.count("| 0 : 20 |") == 10
    assert path.with_suffix(".png").stat().st_size > 1000


def test_weights_of_two_pretrainings_are_not_averaged():
    rows = study_rows(settings=(MOTOR,), counts=(3,))
    rows += [{**row, "weights": "8 epochs, small teacher"} for row in rows]
    with pytest.raises(ValueError, match="different pretrainings"):
        report.markdown(rows)


def test_an_empty_study_says_so(tmp_path):
    with pytest.raises(SystemExit, match="no finished cells"):
        command.main(["--table", "--out", str(tmp_path / "none.csv")])
