"""Functions are told apart by code and closure, objects by what is in their slots."""

import copy
import functools
from types import FunctionType

import numpy as np
import pytest
import torch
from one_run import accepted, refused, run
from tiny import distil, fit, teacher

from braindecode_gcmae import TopologyDistillation
from braindecode_gcmae.callbacks.describe import describe


def constant(scale):
    return eval(f"lambda epoch: {scale} * epoch")


def constant_within(scale):
    return eval(f"lambda epoch: sum({scale} * i for i in range(epoch))")


def default(scale):
    return lambda epoch, scale=scale: scale * epoch


def keyword(scale):
    return lambda epoch, *, scale=scale: scale * epoch


def closure(scale):
    return lambda epoch: scale * epoch


def array(scale):
    steps = np.arange(9) * scale
    return lambda epoch: steps[epoch]


def decorated(scale):
    return torch.no_grad()(closure(scale))


def within_another(scale):
    inner = closure(scale)

    @functools.wraps(inner)
    def ramp(epoch):
        return inner(epoch) + 1

    return ramp


WAYS = (
    constant,
    constant_within,
    default,
    keyword,
    closure,
    array,
    decorated,
    within_another,
)


@pytest.mark.parametrize("ramp", WAYS, ids=lambda way: way.__name__)
def test_functions_that_differ_in_code_or_closure_are_described_differently(ramp):
    one, again, other = (ramp(scale) for scale in (1.0, 1.0, 5.0))
    assert isinstance(one, FunctionType)
    texts = [repr(TopologyDistillation("t", kd_weight=f)) for f in (one, again, other)]
    assert texts[0] == texts[1] != texts[2]


def test_a_run_goes_on_with_the_function_that_its_weights_are_made_of(tmp_path):
    def distilled(scale):
        return run(tmp_path, *distil(teacher(), kd_weight=closure(scale)))

    fit(distilled(1.0))
    accepted(distilled(1.0))
    refused(distilled(5.0), "callbacks__distil")


def test_a_function_within_that_calls_itself_is_described():
    def countdown(scale):
        def step(n):
            return scale if n == 0 else step(n - 1)

        return step

    assert describe(countdown(1.0)) == describe(countdown(1.0))
    assert describe(countdown(1.0)) != describe(countdown(5.0))


# ------------------------------------------------------------------------------ slots
class Slots:
    """An object without a ``__dict__``."""

    __slots__ = ("__hidden", "later", "scale", "used_")

    def __init__(self, scale, hidden=0):
        self.scale, self.__hidden, self.used_ = scale, hidden, object()

    def at(self, epoch):
        return self.scale * epoch


class Both(Slots):
    """Derived of one, with a ``__dict__``."""

    def __init__(self, scale, more=0):
        super().__init__(scale)
        self.more = more


@pytest.mark.parametrize(
    "values",
    [
        (Slots(1.0), Slots(5.0)),
        (Slots(1.0).at, Slots(5.0).at),
        (Slots(1.0, 1), Slots(1.0, 2)),
        (Slots(np.zeros(2)), Slots(np.ones(2))),
        (Both(1.0), Both(5.0)),
        (Both(1.0, 1), Both(1.0, 2)),
    ],
    ids=["value", "method", "private", "array", "derived", "beside"],
)
def test_objects_are_described_by_what_is_in_their_slots(values):
    texts = [describe(value) for value in values]
    assert texts[0] != texts[1]
    assert texts == [describe(copy.deepcopy(value)) for value in values]
    assert not any("0x" in text for text in texts)


def test_a_run_is_told_by_what_is_in_slots(tmp_path):
    def distilled(scale):
        return run(tmp_path, *distil(teacher(), kd_weight=Slots(scale).at))

    fit(distilled(1.0))
    accepted(distilled(1.0))
    refused(distilled(5.0), "callbacks__distil")
