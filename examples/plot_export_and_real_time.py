"""
One file, ten decisions a second
================================

A trained student is written to one ONNX file, from raw windows of eight electrodes to
class probabilities. Then a recording is read from it sample by sample, as a headband
would deliver it, with a decision every 100 ms.
"""

# %%
# A student for eight electrodes
# ------------------------------
# Simulated motor imagery of twelve people, one of whom will wear the cap again, each
# recording aligned. The student may be pretrained and distilled first; the export is
# the same.

import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from braindecode import EEGClassifier

from braindecode_gcmae import (
    GCMAEStudent,
    RecordingAlignment,
    SimulatedEEG,
    StreamingClassifier,
    export_onnx,
    montage_preset,
)
from braindecode_gcmae.alignment import StreamingAlignment

cap = {"channels": montage_preset("motor-8"), "sfreq": 100, "trial_seconds": 2}
first = SimulatedEEG(n_subjects=12, n_trials=40, **cap)
X, y, subject = first.windows()
X = RecordingAlignment().transform(X, groups=subject).astype(np.float32)
torch.manual_seed(0)
net = EEGClassifier(
    GCMAEStudent,
    module__chs_info=first.chs_info,
    module__sfreq=first.sfreq,
    optimizer=torch.optim.AdamW,
    lr=2e-3,
    batch_size=48,
    max_epochs=30,
    train_split=None,
    verbose=0,
)
net.fit(X, y)

# %%
# The file
# --------
# Electrodes, sampling rate and classes are written into it. Eight-bit weights make it
# smaller; the Fourier transform stays in full precision.

folder = Path(tempfile.mkdtemp())
classes = ["left hand", "right hand"]
files = {
    "float32": export_onnx(net.module_, folder / "student.onnx", classes=classes),
    "int8": export_onnx(
        net.module_, folder / "student-int8.onnx", classes=classes, int8=True
    ),
}
window = X[:1]
expected = net.predict_proba(window)
for name, file in files.items():
    gap = np.abs(StreamingClassifier(file).predict(window) - expected).max()
    print(f"{name}: {file.stat().st_size / 1e3:.0f} kB, off by {gap:.0e}")

# %%
# Sample by sample
# ----------------
# The stream keeps the last window in a ring and knows when a decision is due. What the
# student was trained on was aligned, so the stream is, by what it has seen so far. One
# electrode comes off on the way: its samples are then NaN, a missing electrode and no
# error.

wearer, lost_at = 12, 95
second = SimulatedEEG(n_subjects=12, n_sessions=2, n_trials=40, **cap)
raw = second.raw(wearer, session=1)
signal = raw.get_data(units="uV").astype(np.float32)
signal[2, int(lost_at * second.sfreq) :] = np.nan

stream = StreamingClassifier(files["float32"], step=0.1, align=StreamingAlignment())
decisions, delays = [], []
for sample in signal.T:
    start = time.perf_counter()
    made = stream.push(sample)
    if made:
        delays.append(1e3 * (time.perf_counter() - start))
        decisions += made

seconds = np.array([decision.sample for decision in decisions]) / stream.sfreq
right = np.array([decision.probabilities[1] for decision in decisions])
print(
    f"{len(decisions)} decisions; delay: median {np.median(delays):.2f} ms, "
    f"99 % below {np.percentile(delays, 99):.2f} ms"
)

# %%
# What the wearer would see
# -------------------------
# Shaded: two seconds of imagery after each cue. A decision looks two seconds back, so
# it follows the imagery with a lag that no computer can remove; what the computer adds
# is the delay on the right.

fig, (left, box) = plt.subplots(
    1, 2, figsize=(9, 3.2), width_ratios=[3, 1], layout="constrained"
)
colours = {"left": "#0072B2", "right": "#D55E00"}
labelled = set()
for onset, text in zip(raw.annotations.onset, raw.annotations.description, strict=True):
    side = next((name for name in colours if name in text), None)
    if side is not None:
        label = None if side in labelled else f"{side} imagined"
        left.axvspan(
            onset, onset + 2, color=colours[side], alpha=0.25, lw=0, label=label
        )
        labelled.add(side)
left.plot(seconds, right, color="0.15", lw=1)
left.axhline(0.5, color="0.5", ls=":")
left.axvline(lost_at, color="0.3", ls="--", lw=1)
left.set(
    xlim=(60, 118),
    ylim=(0, 1),
    xlabel="time (s)",
    ylabel="probability of the right hand",
)
left.text(lost_at + 0.5, 0.02, "one electrode off", fontsize=8)
left.legend(frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))

box.hist(delays, bins=np.geomspace(0.05, 200, 40), color="0.4")
box.axvline(100, color="#D55E00", label="next decision")
box.set(xscale="log", xlabel="delay (ms)", ylabel="decisions")
box.legend(frameon=False, fontsize=8)
