"""Pretraining in several processes at once, under skorch's AccelerateMixin.

Each process sees its share of a step's windows. Gradients are averaged by torch's
DistributedDataParallel, statistics of the features and keys of the queue are shared by
the modules themselves; here is what is left for the net.
"""

import torch
from torch import Tensor

__all__ = ["mean_over_processes", "n_processes", "process_index"]


def n_processes(net) -> int:
    """Processes that train a net together."""
    return getattr(getattr(net, "accelerator", None), "num_processes", 1)


def process_index(net) -> int:
    """Number of this process among them."""
    return getattr(getattr(net, "accelerator", None), "process_index", 0)


def mean_over_processes(net, values: Tensor) -> Tensor:
    """Mean of values that every process has of its own, the same bits in all."""
    if n_processes(net) > 1:
        torch.distributed.all_reduce(values)
        values /= n_processes(net)
    return values
