"""Every formula of the method, as functions of tensors.

A loss of a batch is the mean of the losses of its windows, whatever the formula:
batch size, gradient accumulation and batch-mates change nothing. All are computed
in float32 at least, also inside autocast.
"""

from .contrastive import info_nce
from .distillation import (
    fixed_projection,
    graph_contrastive_loss,
    local_structure_loss,
    logit_distillation_loss,
    topology_distillation_loss,
)
from .reconstruction import reconstruction_loss, scaled_cosine_error

__all__ = [
    "fixed_projection",
    "graph_contrastive_loss",
    "info_nce",
    "local_structure_loss",
    "logit_distillation_loss",
    "reconstruction_loss",
    "scaled_cosine_error",
    "topology_distillation_loss",
]
