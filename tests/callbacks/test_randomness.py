"""Random states are put back wherever numbers are drawn."""

import numpy as np
import pytest
import torch

from braindecode_gcmae.callbacks.randomness import random_state, restore_random_state


def drawn():
    return torch.rand(3).tolist(), np.random.rand(3).tolist()


@pytest.fixture
def apple(monkeypatch):
    """A GPU of Apple, whose random state is the list's only tensor."""
    states = [torch.arange(4, dtype=torch.uint8)]
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states[0])
    monkeypatch.setattr(
        torch.mps, "set_rng_state", lambda state: states.__setitem__(0, state)
    )
    return states


def test_numbers_of_an_apple_gpu_go_on(apple):
    state = random_state()
    expected = drawn()
    apple[0] = torch.zeros(4, dtype=torch.uint8)
    restore_random_state(state)
    assert apple[0].tolist() == [0, 1, 2, 3] and drawn() == expected


def test_states_of_before_know_no_apple_gpu(apple):
    state = random_state()
    del state["mps"]
    expected = drawn()
    apple[0] = torch.zeros(4, dtype=torch.uint8)
    restore_random_state(state)
    assert not apple[0].any() and drawn() == expected


def test_a_run_of_an_apple_gpu_goes_on_without_one(apple, monkeypatch):
    state = random_state()
    expected = drawn()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    restore_random_state(state)
    assert drawn() == expected and random_state()["mps"] is None
