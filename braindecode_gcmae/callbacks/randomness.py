"""All random states there are: put back, and written without pickles."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = [
    "known_numbers",
    "numpy_state",
    "random_state",
    "restore_numpy_state",
    "restore_random_state",
    "unmoved_randomness",
]


@contextmanager
def unmoved_randomness(device: torch.device | None = None) -> Iterator[None]:
    """Give the states of torch, numpy and Python back.

    Whatever is drawn inside: outside, nothing has happened. What a net is validated on
    is drawn after its callbacks have prepared themselves. Of torch that is the state on
    the CPU, and on a ``device`` whose dropout must not move either.
    """
    python, array = random.getstate(), np.random.get_state()
    kind = "cpu" if device is None else device.type
    mps = torch.mps.get_rng_state() if kind == "mps" else None
    try:
        with torch.random.fork_rng(devices=[device] if kind == "cuda" else []):
            yield
    finally:
        if mps is not None:
            torch.mps.set_rng_state(mps)
        random.setstate(python)
        np.random.set_state(array)


@contextmanager
def known_numbers() -> Iterator[None]:
    """The same random numbers whenever it is entered; those of before come after."""
    with unmoved_randomness():
        torch.default_generator.manual_seed(0)
        random.setstate(random.Random(0).getstate())
        np.random.set_state(np.random.RandomState(0).get_state())
        yield


def random_state() -> dict:
    """States of torch, CUDA, MPS, numpy and Python."""
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "mps": torch.mps.get_rng_state() if _has_mps() else None,
        **numpy_state(np.random.get_state()),
        "python": [version, list(words), gauss],
    }


def restore_random_state(state: dict) -> None:
    """Put back what :func:`random_state` found."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    if _has_mps() and state.get("mps") is not None:  # not in old files
        torch.mps.set_rng_state(state["mps"])
    restore_numpy_state(np.random, state)
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))


def numpy_state(state: tuple) -> dict:
    """What ``get_state`` of numpy gives, as a file can hold it."""
    kind, keys, position, has_gauss, cached = state
    return {
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position],
        "numpy_gauss": [has_gauss, cached],
    }


def restore_numpy_state(generator, state: dict) -> None:
    """Put it back into a ``RandomState``, or into ``numpy.random`` itself."""
    kind, keys, position = state["numpy"]
    keys = keys.numpy().astype(np.uint32)
    generator.set_state((kind, keys, position, *state["numpy_gauss"]))


def _has_mps() -> bool:
    return torch.backends.mps.is_available()
