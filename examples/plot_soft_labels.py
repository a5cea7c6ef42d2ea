"""
Soft labels of people a teacher has not seen
============================================

A student might learn more from how sure its teacher is than from labels alone, if the
teacher's doubts are real (:ref:`what was gained by it <expect-cross-fit>`). Of windows
that it was trained on a teacher has few. Here is what it says of them, what it says of
new people, and what teachers say that were each trained without the people they are
asked about.
"""

# %%
# Recordings
# ----------
# Twenty simulated people, twelve of them for training, aligned one by one.

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_predict

from braindecode_gcmae import (
    GCMAEClassifier,
    GCMAEStudent,
    GCMAETeacher,
    RecordingAlignment,
    SimulatedEEG,
    TopologyDistillation,
    montage_preset,
)

few = montage_preset("headband-8")
recordings = SimulatedEEG(
    montage_preset("10-20-19"), n_subjects=20, n_trials=20, sfreq=100, trial_seconds=2
)
X, y, subject = recordings.windows()
align = RecordingAlignment(electrodes=few, ch_names=recordings.ch_names)
X = align.transform(X, groups=subject)
train, new = subject <= 12, subject > 12

settings = {
    "module__chs_info": recordings.chs_info,
    "module__sfreq": recordings.sfreq,
    "optimizer": torch.optim.AdamW,
    "lr": 1e-3,
    "batch_size": 32,
    "max_epochs": 20,
    "train_split": None,
    "verbose": 0,
}
teacher = GCMAEClassifier(GCMAETeacher, module__emb_dim=32, module__depth=1, **settings)

# %%
# Three kinds of answers
# ----------------------
# The teacher is asked about its own windows and about new people. Scikit-learn's
# ``cross_val_predict`` trains it three times more, each time without a third of the
# people, and asks it about these.

torch.manual_seed(0)
answers = {
    "the same people, not trained on": cross_val_predict(
        teacher,
        X[train],
        y[train],
        groups=subject[train],
        cv=GroupKFold(3),
        method="predict_proba",
    )
}
torch.manual_seed(0)
teacher.fit(X[train], y[train])
answers = {
    "people it was trained on": teacher.predict_proba(X[train]),
    **answers,
    "new people": teacher.predict_proba(X[new]),
}
labels = {name: y[new] if name == "new people" else y[train] for name in answers}

# %%
# How sure it is of the right class
# ---------------------------------
# Each line is the share of windows to whose class the teacher gives at most that much.
# Of its own windows it mostly knows the answer. Asked about people whom it has not
# seen, it is about as unsure of the training people as of new ones (people differ, and
# a third of the training is missing): that is what a student can learn.

fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
styles = {
    "people it was trained on": {"color": "#D55E00"},
    "the same people, not trained on": {"color": "#0072B2"},
    "new people": {"color": "0.4", "linestyle": "--"},
}
for name, probability in answers.items():
    given = np.sort(probability[np.arange(len(probability)), labels[name]])
    ax.plot(given, np.linspace(0, 100, len(given)), label=name, **styles[name])
ax.axvline(0.5, ymax=0.6, color="0.7", linestyle=":")
ax.set_xlim(0, 1)
ax.set_xlabel("probability of the right class")
ax.set_ylabel("windows (%)")
ax.legend(title="The teacher is asked about", frameon=False)

# %%
# In a distillation
# -----------------
# ``cross_fit`` does the same inside ``fit``: it takes an unfitted teacher, and
# ``subjects`` tell whose the windows are. What the topology term compares is still
# the teacher of all people.

distillation = TopologyDistillation(clone(teacher), cross_fit=3)
student = GCMAEClassifier(
    GCMAEStudent,
    module__electrodes=few,
    callbacks=[("distil", distillation)],
    **settings,
)
torch.manual_seed(0)
student.fit(X[train], y[train], subjects=subject[train])
terms = student.history[:, ("train_kd", "train_gtd")]
print(f"soft labels, first and last epoch: {terms[0][0]:.3f}, {terms[-1][0]:.3f}")
