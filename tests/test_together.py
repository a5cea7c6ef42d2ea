"""Everything that skorch and MOABB offer, at once, with our callbacks in it."""

import copy
import pickle
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from braindecode import EEGClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import (
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
    TensorBoard,
    TrainEndCheckpoint,
    WandbLogger,
)
from skorch.dataset import ValidSplit
from skorch.hf import AccelerateMixin
from tiny import (
    NAMES,
    SFREQ,
    X,
    Y,
    classifier,
    distil,
    fit,
    pretrainer,
    small,
    student,
    vector,
    windows,
)

from braindecode_gcmae import (
    GCMAEPretrainer,
    GCMAEPretraining,
    GCMAETeacher,
    ResumableCheckpoint,
    plot_density_curve,
)
from braindecode_gcmae.callbacks import CollapseMonitor, ProbeMonitor

SUBJECTS = np.repeat(np.arange(4), 4)


class Run:
    """What Weights & Biases hands to a logger, as far as skorch asks for it."""

    def __init__(self, folder):
        self.dir, self.logged, self.watched = str(folder), [], []

    def watch(self, module):
        self.watched.append(module)

    def log(self, values):
        self.logged.append(values)


class Writer:
    """What TensorBoard's logger writes to."""

    def __init__(self):
        self.scalars = {}

    def add_scalar(self, tag, scalar_value, global_step):
        self.scalars.setdefault(tag, []).append(scalar_value)

    def close(self):
        pass


class Accumulating:
    """Two batches a step, as skorch documents it.

    Not by accelerate's gradient_accumulation_steps: skorch 1.4 sets the gradients to
    zero before the batch that is to complete them.
    """

    def get_loss(self, *args, **kwargs):
        return super().get_loss(*args, **kwargs) / 2

    def train_step(self, batch, **fit_params):
        n_train = len(self.history[-1, "batches"])
        step = self.train_step_single(batch, **fit_params)
        if n_train % 2 == 0:
            self.notify(
                "on_grad_computed", named_parameters=self.get_all_learnable_params()
            )
            self.optimizer_.step()
            self.optimizer_.zero_grad()
        return step


class Plain(Accumulating, EEGClassifier):
    """An accumulating classifier."""


class Accelerated(AccelerateMixin, Accumulating, EEGClassifier):
    """The same in accelerate's hands."""


def everything(folder, run, writer, f_pickle=None, **given):
    """A net with all of it: two stages of ours, nine callbacks, compiled."""
    inner = {"projection_dim": 5, "queue_size": 64, **small("teacher")}
    stage = GCMAEPretraining(max_epochs=1, batch_size=8, arguments=inner)
    # Without f_history: loading the best would cut the history there.
    best = {"monitor": "valid_distil_best", "dirname": folder / "best"}
    best |= {"f_history": None, "f_pickle": f_pickle}
    callbacks = [
        ("pretrain", stage),
        *distil(classifier(GCMAETeacher, max_epochs=1)),
        ("accuracy", EpochScoring("accuracy", lower_is_better=False)),
        ("clip", GradientNormClipping(1.0)),
        ("lr", LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=4)),
        ("bar", ProgressBar(detect_notebook=False)),
        ("wandb", WandbLogger(run)),
        ("board", TensorBoard(writer)),
        ("stop", EarlyStopping(monitor="valid_distil", patience=3)),
        ("best", Checkpoint(**best, load_best=True)),
        ("end", TrainEndCheckpoint(dirname=folder / "end")),
    ]
    given = {"max_epochs": 3, "callbacks": callbacks, "batch_size": 4, **given}
    split = ValidSplit(3, stratified=True)
    return classifier(train_split=split, warm_start=True, **given)


@pytest.mark.slow
@pytest.mark.parametrize("accelerated", [False, True])
def test_all_of_it_together(accelerated, tmp_path):
    run, writer = Run(tmp_path), Writer()
    compiling = {"compile": True, "compile__backend": "aot_eager"}
    given = {"cls": Plain, "f_pickle": "net.pkl"}
    if accelerated:  # whose optimizer cannot be pickled while it trains
        given = {"cls": Accelerated, "accelerator": Accelerator(cpu=True)}
        given["device"] = None
    net = everything(tmp_path, run, writer, **compiling, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(net)
        first = len(net.history)
        fit(net)  # warm: goes on
    rows = net.history
    assert first == 3 < len(rows) <= 6
    terms = {"train_kd", "train_gtd", "valid_distil", "accuracy"}
    for row in rows:
        assert {name: np.isfinite(row[name]) for name in terms} == dict.fromkeys(
            terms, True
        )
    # The loggers were told our terms, epoch by epoch.
    assert [told["train_distil"] for told in run.logged] == rows[:, "train_distil"]
    assert len(run.watched) == 2 and (tmp_path / "best_model.pth").is_file()
    assert writer.scalars["Loss/valid_distil"] == rows[:, "valid_distil"]
    # What is left is the best epoch: its checkpoint, in the net and in the file.
    saved = torch.load(tmp_path / "best" / "params.pt", weights_only=True)
    assert all(torch.equal(net.module_.state_dict()[k], v) for k, v in saved.items())
    if not accelerated:
        inside = pickle.loads((tmp_path / "best" / "net.pkl").read_bytes())
        assert inside.predict(X).shape == Y.shape
    assert (tmp_path / "end" / "train_end_params.pt").is_file()
    lr = [group["lr"] for group in net.optimizer_.param_groups]
    assert all(0 <= value < 1e-2 for value in lr)
    assert net.predict_proba(X).shape == (len(X), 2)


@pytest.mark.parametrize("accelerated", [False, True])
def test_two_halves_of_a_batch_are_a_step_of_the_whole(accelerated):
    """With distillation, and in accelerate's hands."""
    given = {"cls": Plain, "batch_size": 4}
    if accelerated:
        given |= {"cls": Accelerated, "accelerator": Accelerator(cpu=True)}
        given["device"] = None
    plain = {"optimizer": torch.optim.SGD, "lr": 0.1, "max_epochs": 1}
    plain["iterator_train__shuffle"] = False
    # Statistics of the features that are complete: they change with no batch.
    pupil = student()
    real = torch.ones(9000, 1).bool()
    pupil.network.norm.observe(torch.randn(9000, 1, 6), real)
    pupil.network.moments.norm.observe(torch.randn(9000, 1, 1), real)
    one, other, third = (copy.deepcopy(pupil) for _ in range(3))
    soft = {"gtd_weight": 0.0}  # the topology's term is no mean over windows
    made = fit(classifier(one, callbacks=distil(**soft), **plain, **given))
    expected = fit(classifier(other, callbacks=distil(**soft), **plain))
    torch.testing.assert_close(vector(made), vector(expected), atol=1e-5, rtol=0)
    untaught = fit(classifier(third, **plain))
    assert (vector(untaught) - vector(expected)).abs().max() > 1e-3


def test_a_pretrainer_with_the_usual_callbacks_and_ours(tmp_path):
    run, writer = Run(tmp_path), Writer()
    x, y = X[:16], Y[:16]
    callbacks = [
        ("resume", ResumableCheckpoint(tmp_path / "resume")),
        ("collapse", CollapseMonitor()),
        ("probe", ProbeMonitor(x, y, X[16:], Y[16:])),
        ("clip", GradientNormClipping(1.0)),
        ("lr", LRScheduler(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=3)),
        ("bar", ProgressBar(detect_notebook=False)),
        ("wandb", WandbLogger(run, save_model=False)),
        ("board", TensorBoard(writer)),
        ("stop", EarlyStopping(monitor="rec_student", patience=5)),
        (
            "best",
            Checkpoint(
                monitor="train_loss_best",
                dirname=tmp_path,
                f_history=None,
                load_best=True,
            ),
        ),
    ]
    net = pretrainer(callbacks=callbacks, max_epochs=3)
    net.fit(windows(16), groups=SUBJECTS)
    assert len(net.history) == 3 == len(run.logged)
    told = {"rec_student", "contrast_teacher", "embedding_rank", "probe_linear"}
    assert all(told <= set(row) for row in run.logged)
    again = pretrainer().set_params(callbacks=None)
    again.signal_ = net.signal_
    again.initialize().load_params(f_params=tmp_path / "params.pt")
    rows = net.transform(windows(3))
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(again.transform(windows(3)), rows)


def test_an_accumulating_pretrainer_steps_every_other_batch():
    steps = []

    class Net(Accumulating, GCMAEPretrainer):
        pass

    class Counting(torch.optim.SGD):
        def step(self, closure=None):
            steps.append(1)
            return super().step(closure)

    arguments = pretrainer(max_epochs=1, batch_size=4).get_params(deep=False)
    net = Net(**{**arguments, "optimizer": Counting})
    net.fit(windows(16), groups=SUBJECTS)
    assert len(steps) == 2 and len(net.history[-1]["batches"]) == 4


# ------------------------------------------------------------------ scikit-learn
def test_embeddings_come_as_a_table_if_asked_for():
    net = pretrainer(max_epochs=1).fit(windows(16), groups=SUBJECTS)
    plain = net.transform(windows(3))
    net.set_output(transform="pandas")
    table = net.transform(windows(3))
    assert isinstance(table, pd.DataFrame)
    assert list(table.columns) == list(net.get_feature_names_out())
    assert table.columns[1] == "gcmaepretrainer1" and len(table.columns) == len(plain.T)
    np.testing.assert_array_equal(table.to_numpy(), plain)
    pipeline = make_pipeline(pretrainer(max_epochs=1), FunctionTransformer())
    pipeline.set_output(transform="pandas")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        assert isinstance(pipeline.fit_transform(X), pd.DataFrame)


# ------------------------------------------------------------------------- MOABB
@pytest.fixture(scope="module")
def dataset():
    from moabb.datasets.fake import FakeDataset

    return FakeDataset(
        ["left_hand", "right_hand"],
        n_sessions=2,
        n_runs=1,
        n_subjects=3,
        channels=tuple(NAMES),
        sfreq=SFREQ,
        n_events=12,
        seed=1,
    )


def pipelines():
    short = {"max_epochs": 1, "module__sfreq": SFREQ}
    teacher = classifier(GCMAETeacher, **short)
    to_float = FunctionTransformer(np.float32)
    return {
        "scratch": make_pipeline(to_float, classifier(**short)),
        "distilled": make_pipeline(
            to_float, classifier(callbacks=distil(teacher), **short)
        ),
    }


@pytest.fixture(scope="module")
def results(dataset, tmp_path_factory):
    """Within a session and across subjects, models saved."""
    from moabb.evaluations import CrossSubjectEvaluation, WithinSessionEvaluation
    from moabb.paradigms import LeftRightImagery

    folder, tables = tmp_path_factory.mktemp("moabb"), {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in (WithinSessionEvaluation, CrossSubjectEvaluation):
            evaluation = kind(
                paradigm=LeftRightImagery(),
                datasets=[dataset],
                hdf5_path=str(folder / kind.__name__),
                save_model=True,
                random_state=0,
            )
            tables[kind.__name__] = evaluation.process(pipelines())
    return folder, tables


def test_both_evaluations_score_every_person(results):
    _, tables = results
    for name, n in (("WithinSessionEvaluation", 6), ("CrossSubjectEvaluation", 6)):
        table = tables[name]
        for pipeline in ("scratch", "distilled"):
            mine = table[table["pipeline"] == pipeline]
            assert len(mine) == n, (name, pipeline, len(mine))
            assert set(mine["subject"].astype(str)) == {"1", "2", "3"}
            assert mine["score"].between(0, 1).all()


def test_saved_models_are_read_again_by_another_net(results):
    folder, _ = results
    found = (folder / "CrossSubjectEvaluation").rglob("*_model.pkl")
    mine = sorted(path for path in found if "distilled" in str(path))
    assert len(mine) == 3  # a fold for each person
    state = torch.load(mine[0], weights_only=True)
    net = classifier(module__n_times=300, module__n_outputs=2, module__sfreq=SFREQ)
    net.initialize()
    net.module_.load_state_dict(state)
    assert all(torch.equal(net.module_.state_dict()[k], v) for k, v in state.items())


def test_statistics_and_plots_of_moabb_take_the_results(results):
    from moabb.analysis import plotting
    from moabb.analysis.meta_analysis import (
        compute_dataset_statistics,
        find_significant_differences,
    )

    _, tables = results
    table = tables["CrossSubjectEvaluation"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        statistics = compute_dataset_statistics(table)
        p, effects = find_significant_differences(statistics)
        assert p.shape == effects.shape == (2, 2)
        plotting.score_plot(table)
        plotting.paired_plot(table, "scratch", "distilled")
        plotting.summary_plot(p, effects)
        plotting.meta_analysis_plot(statistics, "scratch", "distilled")
    assert len(plt.get_fignums()) >= 4
    plt.close("all")


def test_a_density_study_is_one_evaluation(dataset, tmp_path):
    """All pipelines are given all electrodes; the density is in the name."""
    from moabb.evaluations import CrossSubjectEvaluation
    from moabb.paradigms import LeftRightImagery

    short = {"max_epochs": 1, "module__sfreq": SFREQ}
    teacher = classifier(GCMAETeacher, **short)
    made = {"teacher, 6": teacher}
    for n in (3, 5):
        few = {"module__electrodes": NAMES[:n], **short}
        made[f"scratch, {n}"] = classifier(**few)
        made[f"distilled, {n}"] = classifier(callbacks=distil(teacher), **few)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluation = CrossSubjectEvaluation(
            paradigm=LeftRightImagery(), datasets=[dataset], hdf5_path=str(tmp_path)
        )
        table = evaluation.process(made)
    assert set(table["pipeline"]) == set(made)  # no digest stands for another's
    assert (table.groupby("pipeline").size() == 6).all()
    means = table.groupby("pipeline", as_index=False)["score"].mean()
    means[["method", "n_electrodes"]] = means["pipeline"].str.split(", ", expand=True)
    means["n_electrodes"] = means["n_electrodes"].astype(int)
    ax = plot_density_curve(means, metric="ROC AUC", unit="")
    assert len(ax.get_legend_handles_labels()[1]) >= 3
    plt.close(ax.figure)


def test_a_pickled_net_of_everything_is_whole(tmp_path):
    net = everything(tmp_path, Run(tmp_path), Writer(), max_epochs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit(net)
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))
