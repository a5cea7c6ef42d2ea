"""Random numbers inside a fit that are not the fit's own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["unmoved_randomness"]


@contextmanager
def unmoved_randomness() -> Iterator[None]:
    """Give the states of torch (on the CPU), numpy and Python back.

    Whatever is drawn inside: outside, nothing has happened. What a net is validated on
    is drawn after its callbacks have prepared themselves.
    """
    python, array = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(array)
