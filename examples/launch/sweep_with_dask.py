"""A sweep and a MOABB evaluation on the workers of a dask cluster, through joblib.

    python sweep_with_dask.py

scikit-learn and MOABB hand their fits to joblib, and joblib hands them to whatever
``parallel_config`` names. Two local workers of one thread stand for a cluster here. On
several machines only the client changes: ``Client("tcp://scheduler:8786")``, or one of
dask-jobqueue.
"""

import joblib
import torch
from braindecode import EEGClassifier
from dask.distributed import Client, LocalCluster
from moabb.evaluations import CrossSubjectEvaluation
from moabb.paradigms import LeftRightImagery
from sklearn.model_selection import GridSearchCV, GroupKFold

from braindecode_gcmae import (
    GCMAEStudent,
    GCMAETeacher,
    SimulatedEEG,
    TopologyDistillation,
    montage_preset,
)

DENSE, FEW = montage_preset("10-20-19"), montage_preset("motor-8")
TRAIN = {
    "optimizer": torch.optim.AdamW,
    "lr": 1e-3,
    "max_epochs": 2,  # 50 on real data
    "batch_size": 8,
    "train_split": None,
    "verbose": 0,
}


def classifier(sfreq):
    """A student, and a teacher of its own in every fold."""
    teacher = EEGClassifier(GCMAETeacher, module__emb_dim=16, module__depth=1, **TRAIN)
    return EEGClassifier(
        GCMAEStudent,
        module__ch_names=DENSE,
        module__sfreq=sfreq,
        module__electrodes=FEW,
        callbacks=[("distil", TopologyDistillation(teacher))],
        **TRAIN,
    )


def sweep(recordings):
    """Every weight in every fold is a task; people stay apart."""
    X, y, subject = recordings.windows()
    search = GridSearchCV(
        classifier(recordings.sfreq),
        {"callbacks__distil__gtd_weight": [0.0, 0.1, 1.0]},
        cv=GroupKFold(2),
        n_jobs=2,
    )
    return search.fit(X, y, groups=subject)


def evaluate(recordings, folder):
    """MOABB: every fold is a task. ``n_jobs`` says how many at a time."""
    paradigm = LeftRightImagery(fmin=4, fmax=38, resample=100)
    evaluation = CrossSubjectEvaluation(
        paradigm=paradigm,
        datasets=[recordings.to_moabb()],
        hdf5_path=folder,
        n_jobs=2,
        overwrite=True,
    )
    return evaluation.process({"student": classifier(100.0)})


def main(folder="sweep"):
    recordings = SimulatedEEG(DENSE, n_subjects=3, n_trials=8, sfreq=100)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as here,
        Client(here) as client,
        joblib.parallel_config("dask"),
    ):
        search = sweep(recordings)
        for row in range(3):
            weight = search.cv_results_["param_callbacks__distil__gtd_weight"][row]
            print(
                f"gtd_weight {weight}: {search.cv_results_['mean_test_score'][row]:.2f}"
            )
        results = evaluate(recordings, folder)
        print(results[["subject", "pipeline", "score"]].to_string(index=False))
        tasks = client.run(lambda dask_worker: dask_worker.state.executed_count)
        print("tasks of each worker:", *tasks.values())
    return search, results, list(tasks.values())


if __name__ == "__main__":
    main()
