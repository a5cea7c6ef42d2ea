"""
Which electrodes to keep
========================

A cap is to have four or eight electrodes: which?
:func:`braindecode_gcmae.select_electrodes` asks the teacher. Every electrode should be
represented by a kept one that is close to it in the teacher's graph, the more so the
more it matters to the teacher's answer.
"""

# %%
# A teacher
# ---------

import matplotlib.pyplot as plt
import numpy as np
import torch
from braindecode import EEGClassifier

from braindecode_gcmae import (
    GCMAEStudent,
    GCMAETeacher,
    RecordingAlignment,
    SimulatedEEG,
    montage_preset,
    plot_density_curve,
    plot_electrode_graph,
    select_electrodes,
)
from braindecode_gcmae.selection import occlusion_importance

recordings = SimulatedEEG(
    montage_preset("10-10-32"), n_subjects=14, n_trials=20, sfreq=100, trial_seconds=2
)
X, y, subject = recordings.windows()
X = RecordingAlignment().transform(X, groups=subject)
train, test = subject <= 8, subject > 8

shared = {
    "module__chs_info": recordings.chs_info,
    "module__sfreq": recordings.sfreq,
    "optimizer": torch.optim.AdamW,
    "lr": 1e-3,
    "batch_size": 40,
    "train_split": None,
    "verbose": 0,
}
torch.manual_seed(0)
teacher = EEGClassifier(
    GCMAETeacher, module__emb_dim=64, module__depth=2, max_epochs=12, **shared
)
teacher.fit(X[train], y[train])

# %%
# Its choice
# ----------
# Windows of training people, no labels. The first n names are the answer for n. Colour:
# how much the answer changes when the electrode goes missing; ringed: the eight kept.

chosen = select_electrodes(teacher, 16, windows=X[train])
print("in the order of choice:", ", ".join(chosen))
importance = occlusion_importance(teacher, X[train])
plot_electrode_graph(
    teacher,
    windows=X[train],
    node_values=importance,
    node_label="importance (occlusion)",
    kept=chosen[:8],
)

# %%
# Students with them
# ------------------
# The same student with the teacher's choice, and with as many electrodes drawn at
# random (three draws), on six unseen people. Bands are the standard error over people.
# The simulated sources lie under the motor strip: four well-chosen electrodes do as
# well as sixteen, two do not. On PhysioNet, with a teacher of ten people, the choice
# was not clearly better than random sets (``benchmarks/results/which_electrodes.md``):
# see how good your teacher is before you trust its choice.

rng = np.random.default_rng(0)
people, rows = np.unique(subject[test]), []
for k in (2, 4, 8, 16):
    draws = {"chosen by the teacher": [chosen[:k]], "random": []}
    for _ in range(3):
        draws["random"].append(rng.permutation(recordings.ch_names)[:k].tolist())
    for method, sets in draws.items():
        scores = np.zeros(len(people))
        for electrodes in sets:
            torch.manual_seed(0)
            net = EEGClassifier(
                GCMAEStudent, module__electrodes=electrodes, max_epochs=12, **shared
            )
            right = net.fit(X[train], y[train]).predict(X[test]) == y[test]
            scores += [right[subject[test] == p].mean() / len(sets) for p in people]
        error = scores.std(ddof=1) / np.sqrt(len(people))
        mean = scores.mean()
        rows.append(
            {
                "method": method,
                "n_electrodes": k,
                "score": mean,
                "low": mean - error,
                "high": mean + error,
            }
        )

plot_density_curve(rows, interval="standard error over people")
plt.show()
