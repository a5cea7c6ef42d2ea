"""What a fit begins with: a pretraining of its own, or the weights of another."""

from .pretraining import GCMAEPretraining
from .start import StartFrom

__all__ = ["GCMAEPretraining", "StartFrom"]
