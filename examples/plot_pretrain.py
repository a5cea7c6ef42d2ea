"""
Pretrain without labels
=======================

A teacher with 19 electrodes and a student with 8 learn together from recordings without
labels: masked electrodes are reconstructed, and two masked views of a window are told
apart from those of other people. Monitors watch while it happens.
"""

# %%
# Recordings
# ----------
# Eight simulated people. Only the probe uses labels: it asks the nearest neighbours of
# an embedding which hand was imagined. (The other examples align each recording first.
# Alignment makes electrodes uncorrelated, which leaves little to reconstruct one from
# the others by: here the recordings stay as they are.)

from braindecode_gcmae import (
    CollapseMonitor,
    GCMAEPretrainer,
    ProbeMonitor,
    SimulatedEEG,
    montage_preset,
    plot_reconstruction,
    plot_training_curves,
)

recordings = SimulatedEEG(
    montage_preset("10-20-19"), n_subjects=8, n_trials=24, sfreq=100, trial_seconds=2
)
X, y, subject = recordings.windows()
print(f"{len(X)} windows of {X.shape[1]} electrodes and {X.shape[2]} samples, in µV")

# %%
# Pretraining
# -----------
# Eight epochs here; on real data start with 50 and stop when the probe no longer rises
# (the paper uses 200). The teacher is smaller than the default. ``groups`` tells
# who a window is from: two windows of the same person are not pushed apart.

probed = subject <= 6
probe = ProbeMonitor(X[probed], y[probed], X[~probed], y[~probed], probe="knn")
pretrainer = GCMAEPretrainer(
    electrodes=montage_preset("motor-8"),
    chs_info=recordings.chs_info,
    sfreq=recordings.sfreq,
    teacher__emb_dim=64,
    teacher__depth=2,
    max_epochs=8,
    batch_size=32,
    queue_size=256,
    callbacks=[("collapse", CollapseMonitor()), ("probe", probe)],
    verbose=0,
)
pretrainer.fit(X[probed], groups=subject[probed])

# %%
# What the monitors saw
# ---------------------
# The four loss terms, and below them: the spread and effective rank of the embeddings
# (a collapse would send the rank to 1), how evenly the queue's keys fill the sphere (0
# would be a collapse), and the accuracy of the probe on two people who are not in the
# pretraining: near chance, after eight epochs on six people.

plot_training_curves(
    pretrainer,
    ["rec", "contrast", "embedding_std", "embedding_rank", "queue_uniformity"]
    + ["probe_knn"],
)

# %%
# Masked electrodes
# -----------------
# Three electrodes of the unseen people are hidden and reconstructed from the others.
# The heads show one window before and after. On the right, how the reconstruction
# follows the truth over all windows (1 is perfect): little, after eight epochs.

rebuilt = pretrainer.reconstruct(X[~probed], ["C3", "C4", "Pz"])
plot_reconstruction(rebuilt, recordings.ch_names, window=0)

# %%
# ``pretrainer.save_pretrained(folder)`` writes ``folder/teacher`` and
# ``folder/student``; ``GCMAEStudent.from_pretrained(f"{folder}/student", n_outputs=2)``
# is then an ordinary braindecode model with pretrained weights.
