"""What pretraining gives back besides models."""

from typing import NamedTuple

import numpy as np

__all__ = ["Reconstruction"]


class Reconstruction(NamedTuple):
    """Node features before and after in-painting.

    Attributes
    ----------
    target, reconstruction : ndarray, shape (n, N, F)
        Standardised node features.
    masked : ndarray of bool, shape (N,)
        Electrodes that were hidden.
    positions : ndarray, shape (N, 3)
        Metres, head frame.
    """

    target: np.ndarray
    reconstruction: np.ndarray
    masked: np.ndarray
    positions: np.ndarray
