"""What a teacher knew, as terms of the loss: who it is, what it says, and to whom."""

from .callback import TopologyDistillation

__all__ = ["TopologyDistillation"]
