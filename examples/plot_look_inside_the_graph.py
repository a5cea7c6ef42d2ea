"""
Look inside the electrode graph
===============================

The simulated data set knows which sources are coupled, so the graph that a model
learned can be held against the truth.
"""

# %%
# A teacher
# ---------
# Trained on the labelled windows of eight simulated people.

import matplotlib.pyplot as plt
import numpy as np
import torch
from braindecode import EEGClassifier
from sklearn.metrics import roc_auc_score

from braindecode_gcmae import (
    GCMAETeacher,
    RecordingAlignment,
    SimulatedEEG,
    montage_preset,
    plot_electrode_graph,
    plot_embedding,
)
from braindecode_gcmae.selection import mean_graph

recordings = SimulatedEEG(
    montage_preset("10-10-32"), n_subjects=8, n_trials=24, sfreq=100, trial_seconds=2
)
X_raw, y, subject = recordings.windows()
X = RecordingAlignment().transform(X_raw, groups=subject)
train = subject <= 6

torch.manual_seed(0)
teacher = EEGClassifier(
    GCMAETeacher,
    module__chs_info=recordings.chs_info,
    module__sfreq=recordings.sfreq,
    module__emb_dim=64,
    module__depth=2,
    optimizer=torch.optim.AdamW,
    lr=1e-3,
    max_epochs=12,
    batch_size=48,
    train_split=None,
    verbose=0,
)
teacher.fit(X[train], y[train])
print(f"right on two unseen people: {100 * teacher.score(X[~train], y[~train]):.0f} %")

# %%
# Its graph and the truth
# -----------------------
# Left: the strongest edges of the learned graph, the mean over the windows of the
# unseen people, as many as there are true ones: most of them join neighbours. Right:
# the pairs of electrodes that lie over coupled sources.

true = recordings.topology()
fig, axes = plt.subplots(
    1, 2, figsize=(12, 5), width_ratios=[1.2, 1], layout="constrained"
)
n_true = int(np.triu(true, 1).sum())
plot_electrode_graph(teacher, windows=X[~train], top_k=n_true, ax=axes[0])
plot_electrode_graph(true.astype(float), recordings.chs_info, ax=axes[1])
axes[0].set_title(f"learned ({n_true} strongest)")
axes[1].set_title(f"coupled sources ({n_true} pairs)")

# %%
# Does it find them?
# ------------------
# The area under the ROC curve of edge weights against true pairs: 0.5 is no better than
# guessing. Neighbours share signal by volume conduction, coupled or not, so the plain
# correlation of the raw windows is the thing to beat.

pairs = np.triu_indices(len(true), 1)
graph = mean_graph(teacher.module_, X[~train])
correlation = np.abs([np.corrcoef(window) for window in X_raw[~train]]).mean(0)
for name, weights in (("learned graph", graph), ("raw correlation", correlation)):
    print(f"{name}: {roc_auc_score(true[pairs], weights[pairs]):.2f}")

# %%
# And the embedding
# -----------------
# Windows of the unseen people in the plane of the two largest principal components.

with torch.no_grad():
    inputs = torch.from_numpy(X[~train])
    embedding = teacher.module_.eval()(inputs, return_features=True)["features"]
hands = np.array(["left", "right"])[y[~train]]
plot_embedding(embedding.numpy(), hands, subject[~train], label_name="hand")
