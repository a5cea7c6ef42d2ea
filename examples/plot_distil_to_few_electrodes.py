"""
Distil 32 electrodes into 8
===========================

A teacher reads 32 electrodes, a student the eight of a headband, far from the motor
cortex. Both students below are the same network with the same number of steps on the
same labelled windows; one of them also learns from the teacher.
"""

# %%
# Recordings
# ----------
# Twenty simulated people, twelve of them for training. Each recording is aligned by
# itself, and the eight electrodes without the others: the student's cap will not have
# the others either.

import matplotlib.pyplot as plt
import numpy as np
import torch
from braindecode import EEGClassifier

from braindecode_gcmae import (
    GCMAEStudent,
    GCMAETeacher,
    RecordingAlignment,
    SimulatedEEG,
    TopologyDistillation,
    montage_preset,
    plot_topology_gap,
)

few = montage_preset("headband-8")
recordings = SimulatedEEG(
    montage_preset("10-10-32"), n_subjects=20, n_trials=24, sfreq=100, trial_seconds=2
)
X, y, subject = recordings.windows()
kept = [recordings.ch_names.index(name) for name in few]
align = RecordingAlignment(electrodes=few, ch_names=recordings.ch_names)
X = align.transform(X, groups=subject)
train, test = subject <= 12, subject > 12

# %%
# The teacher
# -----------
# An ordinary classifier. It may start from pretrained weights: compare both.

signal = {
    "module__chs_info": recordings.chs_info,
    "module__sfreq": recordings.sfreq,
    "optimizer": torch.optim.AdamW,
    "lr": 1e-3,
    "batch_size": 48,
    "train_split": None,
    "verbose": 0,
}
torch.manual_seed(0)
teacher = EEGClassifier(
    GCMAETeacher, module__emb_dim=64, module__depth=2, max_epochs=12, **signal
)
teacher.fit(X[train], y[train])

# %%
# Two students
# ------------
# The student takes its electrodes, by name, out of the dense windows.

students = {}
for name, callbacks in {
    "from scratch": [],
    "distilled": [("distil", TopologyDistillation(teacher))],
}.items():
    torch.manual_seed(0)
    net = EEGClassifier(
        GCMAEStudent,
        module__electrodes=few,
        max_epochs=20,
        callbacks=callbacks,
        **signal,
    )
    students[name] = net.fit(X[train], y[train])

# %%
# On unseen people
# ----------------
# The students get the windows of their eight electrodes and nothing else. With eight
# people of 24 windows each, the difference between the students is within the noise:
# the tables of the documentation have more people and several seeds.

correct = {
    name: net.predict(X[test][:, kept]) == y[test] for name, net in students.items()
}
correct["teacher, 32 electrodes"] = teacher.predict(X[test]) == y[test]

fig, ax = plt.subplots(figsize=(6, 3.2), layout="constrained")
people = np.unique(subject[test])
table = np.array(
    [
        [100 * right[subject[test] == p].mean() for p in people]
        for right in correct.values()
    ]
)
ax.plot(table, "o-", color="0.75", markersize=4)
ax.plot(table.mean(1), "D", color="#0072B2", markersize=9, label="mean")
ax.axhline(50, color="0.3", linestyle=":", label="chance")
ax.set_xticks(range(len(correct)), correct)
ax.set_xlim(-0.4, len(correct) - 0.6)
ax.set_ylabel("accuracy (%), a line per person")
ax.legend(frameon=False)

# %%
# Student and teacher graph
# -------------------------
# Left: the pairs of the student's electrodes that the teacher links, directly or
# through electrodes that the student lacks. Middle: as many of the student's strongest
# edges. Right: where the two agree, which is in a part of the pairs after so few steps.

plot_topology_gap(students["distilled"], teacher, X[train][:64])
