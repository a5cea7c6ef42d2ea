"""skorch callbacks: pretraining as a stage, distillation as a loss term."""

from .distillation import TopologyDistillation
from .hooks import AuxiliaryLoss
from .stage import GCMAEPretraining

__all__ = ["AuxiliaryLoss", "GCMAEPretraining", "TopologyDistillation"]
