"""
A line of a MOABB benchmark
===========================

Scratch and distilled students beside a linear pipeline in MOABB's own cross-subject
evaluation. The data set is the simulated one, so nothing is downloaded; any motor
imagery data set of MOABB takes its place.
"""

# %%
# Pipelines
# ---------
# ``return_epochs=True`` hands ``mne.Epochs`` to the pipelines: channel names and
# positions arrive, and ``RecordingAlignment`` finds out who each window is from. It
# aligns the few electrodes by themselves: whitened together with all others, they would
# hold what a cap of eight never sees. The teacher of the distillation is not fitted: it
# is trained on the training fold first, so that nothing of the test person leaks.

import tempfile

import matplotlib.pyplot as plt
import moabb
import seaborn as sns
import torch
from braindecode import EEGClassifier
from mne.decoding import CSP
from moabb.evaluations import CrossSubjectEvaluation
from moabb.paradigms import LeftRightImagery
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from braindecode_gcmae import (
    GCMAEStudent,
    GCMAETeacher,
    RecordingAlignment,
    SimulatedEEG,
    TopologyDistillation,
    montage_preset,
)

moabb.set_log_level("error")
few = montage_preset("motor-8")
train = {
    "optimizer": torch.optim.AdamW,
    "lr": 1e-3,
    "max_epochs": 12,
    "batch_size": 40,
    "train_split": None,
    "verbose": 0,
}


def student(**arguments):
    """Aligned windows into a student with eight electrodes."""
    net = EEGClassifier(GCMAEStudent, module__electrodes=few, **train, **arguments)
    return make_pipeline(RecordingAlignment(electrodes=few), net)


def voltages(epochs):
    """Epochs as an array in µV, of the student's electrodes."""
    return epochs.get_data(picks=few, units="uV")


teacher = EEGClassifier(GCMAETeacher, module__emb_dim=32, module__depth=1, **train)
pipelines = {
    "student, scratch": student(),
    "student, distilled": student(
        callbacks=[("distil", TopologyDistillation(teacher))]
    ),
    "CSP + LDA": make_pipeline(
        RecordingAlignment(electrodes=few),
        FunctionTransformer(voltages),
        CSP(4),
        LinearDiscriminantAnalysis(),
    ),
}

# %%
# Evaluation
# ----------
# Each of five people is tested by models of the other four. MOABB caches results by a
# digest of each pipeline, which tells callbacks and weights of this package apart.

dataset = SimulatedEEG(
    montage_preset("10-20-19"), n_subjects=5, n_trials=24, sfreq=100, trial_seconds=2
).to_moabb()
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as folder:
    evaluation = CrossSubjectEvaluation(
        paradigm=LeftRightImagery(fmin=4, fmax=40, resample=100),
        datasets=[dataset],
        hdf5_path=folder,
        return_epochs=True,
        random_state=0,
    )
    results = evaluation.process(pipelines)
print(results.groupby("pipeline")["score"].agg(["mean", "std"]).round(3))

# %%
# Result
# ------
# MOABB scores two classes by the area under the ROC curve. Five people are too few to
# tell the three apart: read it as a demonstration of the plumbing.

fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
shown = {"x": "pipeline", "y": "score", "order": list(pipelines), "ax": ax}
sns.stripplot(results, hue="subject", palette="colorblind", **shown)
sns.pointplot(results, color="0.3", linestyle="none", errorbar=None, **shown)
ax.axhline(0.5, color="0.3", linestyle=":")
ax.text(0.99, 0.51, "chance", ha="right", transform=ax.get_yaxis_transform())
ax.set(xlabel="", ylabel="ROC AUC, unseen person\n(large: mean)", ylim=(0.2, 1.02))
place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False}
sns.move_legend(ax, title="person", **place)
