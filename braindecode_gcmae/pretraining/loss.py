"""The criterion of pretraining: the weighted sum of its terms."""

import torch
from torch import nn

__all__ = ["TERMS", "PretrainingLoss"]

TERMS = ("rec_teacher", "rec_student", "contrast_teacher", "contrast_student")


class PretrainingLoss(nn.Module):
    """Weighted sum of the loss terms (Eq. 6-7; the paper's weights are all 1).

    Parameters
    ----------
    reconstruction_weight, contrast_weight : float
    """

    def __init__(
        self, reconstruction_weight: float = 1.0, contrast_weight: float = 1.0
    ):
        super().__init__()
        self.weights = {"rec": reconstruction_weight, "contrast": contrast_weight}

    def forward(self, output: dict, target: torch.Tensor) -> torch.Tensor:
        """Scalar loss of the terms in the output of the joint module."""
        terms = [
            self.weights[name.split("_")[0]] * output[name]
            for name in TERMS
            if name in output
        ]
        return torch.stack(terms).sum()
