"""skorch callbacks: pretraining as a stage, distillation as a loss term, watching."""

from .distillation import TopologyDistillation
from .hooks import AuxiliaryLoss
from .monitors import CollapseMonitor, ProbeMonitor
from .resume import ResumableCheckpoint
from .stage import GCMAEPretraining
from .start import StartFrom

__all__ = [
    "AuxiliaryLoss",
    "CollapseMonitor",
    "GCMAEPretraining",
    "ProbeMonitor",
    "ResumableCheckpoint",
    "StartFrom",
    "TopologyDistillation",
]
