"""Data in: a simulated data set with known sources, and recordings on disk."""

from braindecode_gcmae.datasets.eegdash_side import fetch_hbn
from braindecode_gcmae.datasets.reading import (
    read_embarc,
    read_hbn,
    read_recordings,
)
from braindecode_gcmae.datasets.recordings import (
    Windows,
    physionet_subjects,
    windows_from_physionet,
)
from braindecode_gcmae.datasets.simulated import SimulatedEEG
from braindecode_gcmae.datasets.sources import COUPLINGS, EVENTS, SOURCES
from braindecode_gcmae.datasets.unlabelled import ToMicrovolts, unlabelled_windows

__all__ = [
    "COUPLINGS",
    "EVENTS",
    "SOURCES",
    "SimulatedEEG",
    "ToMicrovolts",
    "Windows",
    "fetch_hbn",
    "physionet_subjects",
    "read_embarc",
    "read_hbn",
    "read_recordings",
    "unlabelled_windows",
    "windows_from_physionet",
]
