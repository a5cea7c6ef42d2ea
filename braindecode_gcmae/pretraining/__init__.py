"""Pretraining without labels: windows, the joint net, its results."""

from .data import CounterShuffle, UnlabelledWindows, check_windows, collate_windows
from .loss import PretrainingLoss
from .pretrainer import GCMAEPretrainer
from .results import Reconstruction

__all__ = [
    "CounterShuffle",
    "GCMAEPretrainer",
    "PretrainingLoss",
    "Reconstruction",
    "UnlabelledWindows",
    "check_windows",
    "collate_windows",
]
