"""
Pretrain on a BIDS data set of your own
=======================================

A folder in BIDS is read lazily: only headers are opened, and every window is read from
disk when it is its turn. To have something to read, this example first writes a small
data set of four people in BrainVision format, at two different sampling rates.
"""

# %%
# A BIDS folder
# -------------
# Resting recordings of simulated people, written by MNE-BIDS.

import tempfile
from pathlib import Path

import mne
from mne_bids import BIDSPath, print_dir_tree, write_raw_bids

from braindecode_gcmae import (
    GCMAEPretrainer,
    SimulatedEEG,
    montage_preset,
    plot_embedding,
)
from braindecode_gcmae.datasets import unlabelled_windows

mne.set_log_level("ERROR")
temporary = tempfile.TemporaryDirectory()
root = Path(temporary.name) / "rest"
dense = montage_preset("10-20-19")
for number, sfreq in enumerate((200, 200, 250, 250), start=1):
    people = SimulatedEEG(dense, n_subjects=4, n_trials=20, sfreq=sfreq)
    write_raw_bids(
        people.raw(number, rest=True),
        BIDSPath(subject=f"{number:02d}", task="rest", datatype="eeg", root=root),
        format="BrainVision",
        allow_preload=True,
        verbose=False,
    )
print_dir_tree(root, max_depth=2)

# %%
# Windows, read when asked for
# ----------------------------
# Two seconds each, in µV, all brought to 100 Hz on the way; subjects come from the file
# names. ``read_recordings``, ``read_hbn`` and ``read_embarc`` open folders that are not
# BIDS; a MOABB or EEGDash data set can be given just so.

windows = unlabelled_windows(root, window_seconds=2.0, sfreq=100)
print(len(windows), "windows of subjects", sorted(set(windows.description["subject"])))

# %%
# Pretraining from disk
# ---------------------
# ``iterator_train__num_workers=4`` would read ahead in other processes.

pretrainer = GCMAEPretrainer(
    electrodes=montage_preset("motor-8"),
    ch_names=dense,
    sfreq=100,
    teacher__emb_dim=32,
    teacher__depth=1,
    max_epochs=5,
    batch_size=32,
    queue_size=256,
    verbose=0,
)
pretrainer.fit(windows)
for row in pretrainer.history:
    print(row["epoch"], f"loss {row['train_loss']:.2f}")

# %%
# Embeddings
# ----------
# The student's embeddings of all windows. At rest, without any labels, what separates
# windows most is whose they are.

subject = [
    part.description["subject"] for part in windows.datasets for _ in range(len(part))
]
ax = plot_embedding(pretrainer.transform(windows), subjects=subject)
ax.figure.set_layout_engine("constrained")
temporary.cleanup()
