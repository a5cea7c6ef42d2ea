"""Settings: where the weights are tried, and the windows that there are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks.demonstration.data import load
from benchmarks.electrodes import SETS
from benchmarks.prepare import load_or_prepare
from benchmarks.protocol import align

REFERENCE = "scratch"


@dataclass(frozen=True)
class Setting:
    """Where the weights are tried: a task of PhysioNet's or the simulation, a cap."""

    data: str
    cap: str
    new: str
    starts: tuple = (REFERENCE, "pretrained", "restandardised")

    @property
    def name(self):
        """How rows and tables call it."""
        return f"{self.data} {self.cap}"

    @property
    def simulated(self):
        """Whether its people are none of PhysioNet's."""
        return self.data == "simulated"


_WITH_CLASSIFIER = (*Setting.starts, "classifier")
SETTINGS = (
    Setting("left-right", "motor-8", "people"),
    Setting("left-right", "headband-8", "people, cap"),
    Setting("left-right", "both-16", "people, cap"),
    Setting("left-right", "10-20-19", "people, cap"),
    Setting("rest-imagery", "motor-8", "people, task"),
    Setting("simulated", "motor-8", "people, amplifier", _WITH_CLASSIFIER),
    Setting("simulated", "headband-8", "people, amplifier, cap", _WITH_CLASSIFIER),
)


@dataclass
class Material:
    """Aligned windows (B, n, T) of a cap, and the signal arguments of its student."""

    X: np.ndarray
    y: np.ndarray
    person: np.ndarray
    people: tuple
    pool: tuple
    signal: dict

    def rows(self, people):
        """Rows of these people's windows."""
        return np.flatnonzero(np.isin(self.person, list(people)))


@cache
def recorded(task):
    """PhysioNet's windows of a task."""
    return load_or_prepare(task)


@cache
def simulated():
    """Simulated recordings of people whom no weights have seen."""
    return load("simulated")


def cap_names(cap):
    """Electrodes of a cap."""
    if cap in SETS:
        return SETS[cap]
    from braindecode_gcmae import montage_preset

    return tuple(montage_preset(cap))


def material(setting):
    """Windows of a setting, each person aligned on the cap's electrodes alone."""
    names = cap_names(setting.cap)
    if setting.simulated:
        study = simulated()
        kept = [study.names.index(name) for name in names]
        X = align(study.X[:, kept], study.recording)
        chs_info, sfreq = [study.chs_info[row] for row in kept], study.sfreq
    else:
        study = recorded(setting.data)
        X = study.view("low", names)
        chs_info, sfreq = study.chs_info(names), study.task.sfreq
    signal = {"n_outputs": 2, "n_times": X.shape[2], "sfreq": sfreq}
    signal["chs_info"] = chs_info
    people, pool = tuple(study.people), tuple(study.pool)
    return Material(X, study.y, study.person, people, pool, signal)
