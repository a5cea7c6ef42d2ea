"""
Missing electrodes
==================

A cap loses contact at some electrodes. A channel that holds NaN is a *missing
electrode* to the models of this package: its node carries a learned token, and nothing
of its samples reaches the answer. Here electrodes go missing one after another at test
time.
"""

# %%
# Recordings and two students
# ---------------------------
# One student is trained as usual; from the other, electrodes are taken away at random
# while it trains (``electrode_dropout``).

import matplotlib.pyplot as plt
import numpy as np
import torch
from braindecode import EEGClassifier

from braindecode_gcmae import (
    GCMAEStudent,
    RecordingAlignment,
    SimulatedEEG,
    montage_preset,
)

recordings = SimulatedEEG(
    montage_preset("10-20-19"), n_subjects=16, n_trials=24, sfreq=100, trial_seconds=2
)
X, y, subject = recordings.windows()
X = RecordingAlignment().transform(X, groups=subject)
train, test = subject <= 10, subject > 10

students = {}
for dropout in (0.0, 0.3):
    torch.manual_seed(0)
    net = EEGClassifier(
        GCMAEStudent,
        module__chs_info=recordings.chs_info,
        module__sfreq=recordings.sfreq,
        module__electrode_dropout=dropout,
        optimizer=torch.optim.AdamW,
        lr=1e-3,
        max_epochs=20,
        batch_size=48,
        train_split=None,
        verbose=0,
    )
    students[dropout] = net.fit(X[train], y[train])

# %%
# What a missing electrode holds influences nothing
# --------------------------------------------------
# One sample that is not a number marks the channel; the others may hold anything.

broken = X[test].copy()
broken[:, 4, 0] = np.nan
noise = broken.copy()
noise[:, 4, 1:] = 1e3 * np.random.default_rng(0).normal(size=noise[:, 4, 1:].shape)
same = students[0.0].predict_proba(broken) == students[0.0].predict_proba(noise)
print("the same answers, bit for bit:", bool(same.all()))

# %%
# More and more of them
# ---------------------
# The same electrodes, in random order, are marked as missing (NaN) or left flat
# (zeros), as by a reader that does not check contacts. Each point is the mean over five
# orders and six unseen people. Marking counts: with flat zeros most of the lead over
# chance is lost at two electrodes. ``electrode_dropout`` makes no clear difference.

counts = [0, 2, 4, 6, 8, 10, 12]
curves = {}
for dropout, net in students.items():
    for fill, name in ((np.nan, "marked (NaN)"), (0.0, "left flat (zeros)")):
        right = np.zeros((5, len(counts)))
        for order in range(5):
            rows = np.random.default_rng(order).permutation(X.shape[1])
            for column, count in enumerate(counts):
                fewer = X[test].copy()
                fewer[:, rows[:count]] = fill
                right[order, column] = net.score(fewer, y[test])
        curves[f"electrode_dropout={dropout}, {name}"] = 100 * right.mean(0)

fig, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
styles = [("#0072B2", "o-"), ("#0072B2", "o:"), ("#D55E00", "s-"), ("#D55E00", "s:")]
for (name, curve), (colour, style) in zip(curves.items(), styles, strict=True):
    ax.plot(counts, curve, style, color=colour, label=name)
ax.axhline(50, color="0.3", linestyle="--", linewidth=0.8)
ax.annotate("chance", (0, 50.3), color="0.3")
ax.set_xlabel("electrodes lost, of 19")
ax.set_ylabel("right on unseen people (%)")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, fontsize=8)
