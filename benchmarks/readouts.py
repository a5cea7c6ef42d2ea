"""Readouts that serve comparisons alone."""

from torch import nn


class NoNodes(nn.Module):
    """A readout that says nothing: a window's embedding is its second moments alone.

    What is left is a linear classifier on correlations and powers, trained alike.

    Parameters
    ----------
    dim, n_basis, n_nodes : int
        Not used: every readout takes the same arguments.
    """

    def __init__(self, dim, n_basis, n_nodes):
        super().__init__()
        self.n_outputs = 0

    def forward(self, h, electrodes):
        """(B, N, D) -> (B, 0)."""
        return h.new_zeros(h.shape[0], 0)
