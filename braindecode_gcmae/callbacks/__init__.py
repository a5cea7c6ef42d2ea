"""skorch callbacks: pretraining as a stage, distillation as a loss term, watching."""

from .cuda_graph import CudaGraph
from .distillation import TopologyDistillation
from .hooks import AuxiliaryLoss
from .monitors import CollapseMonitor, ProbeMonitor
from .resuming import ResumableCheckpoint
from .stages import GCMAEPretraining, StartFrom

__all__ = [
    "AuxiliaryLoss",
    "CollapseMonitor",
    "CudaGraph",
    "GCMAEPretraining",
    "ProbeMonitor",
    "ResumableCheckpoint",
    "StartFrom",
    "TopologyDistillation",
]
