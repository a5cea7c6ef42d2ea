"""Sweeps through joblib on dask's workers give what one process gives."""

import importlib
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from braindecode import EEGClassifier
from dask.distributed import Client, LocalCluster
from sklearn.model_selection import GridSearchCV, KFold
from tiny import FEW, NAMES, X, Y, classifier

from braindecode_gcmae import GCMAETeacher, TopologyDistillation

EXAMPLE = Path(__file__).parents[1] / "examples/launch/sweep_with_dask.py"


class Seeded(EEGClassifier):
    """Training that is the same in every process."""

    def fit(self, X, y, **fit_params):
        with torch.random.fork_rng():
            torch.default_generator.manual_seed(0)
            return super().fit(X, y, **fit_params)


@pytest.fixture(scope="module")
def client():
    arguments = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**arguments) as cluster, Client(cluster) as client:
        yield client


def tasks_done(client):
    counts = client.run(lambda dask_worker: dask_worker.state.executed_count)
    return np.array(list(counts.values()))


def net():
    teacher = classifier(GCMAETeacher, cls=Seeded, max_epochs=1)
    callbacks = [("distil", TopologyDistillation(teacher))]
    given = {"module__electrodes": NAMES[:5], "max_epochs": 2, "callbacks": callbacks}
    return classifier(cls=Seeded, **given)


def test_a_sweep_over_a_callbacks_weight_gives_the_scores_of_one_process(client):
    grid = {"callbacks__distil__gtd_weight": [0.0, 1.0, 10.0]}
    found = {}
    for backend in ("sequential", "dask"):
        search = GridSearchCV(net(), grid, cv=KFold(2), scoring="neg_log_loss")
        with joblib.parallel_config(backend):
            found[backend] = search.fit(X, Y)
    assert (tasks_done(client) > 0).all()
    expected, scores = (
        found[backend].cv_results_["mean_test_score"]
        for backend in ("sequential", "dask")
    )
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert len(set(np.round(expected, 8))) == 3  # the weight matters
    assert found["dask"].best_params_ == found["sequential"].best_params_


@pytest.mark.slow
def test_a_moabb_evaluation_gives_the_results_of_one_process(client, tmp_path):
    from moabb.evaluations import CrossSubjectEvaluation
    from moabb.paradigms import LeftRightImagery

    from braindecode_gcmae import SimulatedEEG

    recordings = SimulatedEEG(NAMES, 3, n_trials=6, trial_seconds=2.0, sfreq=100)
    pipeline = classifier(cls=Seeded, module__electrodes=FEW, max_epochs=1)
    found = {}
    for backend in ("sequential", "dask"):
        evaluation = CrossSubjectEvaluation(
            paradigm=LeftRightImagery(fmin=4, fmax=38, resample=100),
            datasets=[recordings.to_moabb()],
            hdf5_path=str(tmp_path / backend),
            n_jobs=2 if backend == "dask" else 1,
        )
        before = tasks_done(client)
        with joblib.parallel_config(backend):
            found[backend] = evaluation.process({"student": pipeline})
        assert (tasks_done(client) > before).any() == (backend == "dask")
    columns = ["subject", "score", "samples"]
    one, many = (
        found[b].sort_values("subject")[columns].to_numpy(float) for b in found
    )
    np.testing.assert_allclose(many, one)


@pytest.mark.slow
def test_the_script_of_the_documentation_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLE.parent)  # also of the workers it starts
    script = importlib.import_module(EXAMPLE.stem)
    monkeypatch.chdir(tmp_path)
    search, results, tasks = script.main(str(tmp_path))
    assert len(search.cv_results_["params"]) == 3 and len(results) == 3
    assert results["score"].between(0, 1).all()
    assert len(tasks) == 2 and min(tasks) > 0
    assert "gtd_weight 0.1:" in capsys.readouterr().out
