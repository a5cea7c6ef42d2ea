"""Data in: a simulated data set with known sources, and recordings on disk."""

from braindecode_gcmae.datasets.recordings import (
    Windows,
    physionet_subjects,
    windows_from_physionet,
)
from braindecode_gcmae.datasets.simulated import SimulatedEEG
from braindecode_gcmae.datasets.sources import COUPLINGS, EVENTS, SOURCES

__all__ = [
    "COUPLINGS",
    "EVENTS",
    "SOURCES",
    "SimulatedEEG",
    "Windows",
    "physionet_subjects",
    "windows_from_physionet",
]
