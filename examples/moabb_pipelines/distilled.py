"""A student with eight electrodes, distilled from a teacher with all of them.

The teacher is trained on each training fold: nothing of a test fold is seen.
"""

import torch
from braindecode import EEGClassifier

from braindecode_gcmae import (
    GCMAEStudent,
    GCMAETeacher,
    TopologyDistillation,
    montage_preset,
)

shared = {
    "module__sfreq": 160,
    "module__f_min": 8.0,  # LeftRightImagery band-passes to 8-32 Hz
    "module__f_max": 32.0,
    "optimizer": torch.optim.AdamW,
    "lr": 1e-3,
    "max_epochs": 100,
    "batch_size": 64,
    "train_split": None,
    "verbose": 0,
}
teacher = EEGClassifier(GCMAETeacher, **shared)

PIPELINE = {
    "name": "GCMAEStudent motor-8 distilled",
    "paradigms": ["LeftRightImagery"],
    "pipeline": EEGClassifier(
        GCMAEStudent,
        module__ch_names=montage_preset("10-10-64"),
        module__electrodes=montage_preset("motor-8"),
        callbacks=[("distil", TopologyDistillation(teacher))],
        **shared,
    ),
}
