"""The mean of many graphs of one montage, some of which lack electrodes."""

import torch
from torch import Tensor

__all__ = ["EdgeMean"]


class EdgeMean:
    """Mean of each edge over the windows that have both of its electrodes.

    So an electrode that some recordings lack is not taken for an isolated one. Edges
    that no window has measured are averaged over all windows.
    """

    def __init__(self) -> None:
        self.n_windows = 0
        self.total = self.measured = self.n_measured = torch.zeros(())

    def add(self, adjacency: Tensor, present: Tensor) -> None:
        """Add a batch of graphs (B, N, N) and who has data (B, N)."""
        both = present.unsqueeze(-1) & present.unsqueeze(-2)
        self.n_windows += len(adjacency)
        self.total = self.total + adjacency.sum(0)
        self.measured = self.measured + torch.where(both, adjacency, 0.0).sum(0)
        self.n_measured = self.n_measured + both.sum(0)

    def value(self) -> Tensor:
        """The mean graph, (N, N).

        Raises
        ------
        ValueError
            If no graph was added.
        """
        if not self.n_windows:
            raise ValueError("no graph was added: there is no mean")
        measured = self.measured / self.n_measured
        return torch.where(self.n_measured > 0, measured, self.total / self.n_windows)
