"""Models: the student, the teacher, and the module that pretrains them jointly."""

from .checkpoint import CheckpointError
from .hub import shipped_checkpoints
from .joint import JointPretraining
from .network import ElectrodeGraphNetwork
from .readouts import FlattenReadout, MeanReadout, PositionReadout
from .student import GCMAEStudent
from .teacher import GCMAETeacher

__all__ = [
    "CheckpointError",
    "ElectrodeGraphNetwork",
    "FlattenReadout",
    "GCMAEStudent",
    "GCMAETeacher",
    "JointPretraining",
    "MeanReadout",
    "PositionReadout",
    "shipped_checkpoints",
]
