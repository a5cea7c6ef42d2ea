"""Functions are told apart by what they read, and objects by what is in their slots."""

import copy
import textwrap
from types import ModuleType

import numpy as np
import pytest
import torch
from one_run import accepted, refused, run
from tiny import distil, fit, teacher

from braindecode_gcmae import TopologyDistillation
from braindecode_gcmae.callbacks.describe import describe

CONSTANT = "SCALE = {}\ndef ramp(epoch): return SCALE * epoch"
CALLED = "def rate(): return {}\ndef ramp(epoch): return rate() * epoch"
FAR = "SCALE = {}\ndef rate(): return SCALE\ndef ramp(epoch): return rate() * epoch"
WITHIN = "SCALE = {}\ndef ramp(epoch): return sum(SCALE * i for i in range(epoch))"
ARRAY = "import numpy as np\nSTEPS = np.arange(9) * {}\ndef ramp(e): return STEPS[e]"
TENSOR = "import torch\nSTEPS = torch.ones(9) * {}\ndef ramp(e): return STEPS[e]"
TABLE = "PLAN = {{'late': [1.0, {}]}}\ndef ramp(epoch): return PLAN['late'][1]"
PRIVATE = "_scale_ = {}\ndef ramp(epoch): return _scale_"
DECORATED = """
import functools, torch
@{1}
def rate(): return {0}
def ramp(epoch): return rate() * epoch
"""
EACH_OTHER = """
SCALE = {}
def ramp(epoch): return SCALE if epoch == 0 else down(epoch)
def down(epoch): return 0.5 * ramp(epoch - 1)
"""
READS = {
    "constant": CONSTANT,
    "function": CALLED,
    "constant of a function": FAR,
    "generator expression": WITHIN,
    "array": ARRAY,
    "tensor": TENSOR,
    "table": TABLE,
    "private": PRIVATE,
    "cycle": EACH_OTHER,
}


def ramp(text, *values):
    """The function of that name in a module of one's own."""
    module = ModuleType("own")
    exec(textwrap.dedent(text).format(*values), vars(module))
    return module.ramp


@pytest.mark.parametrize("text", READS.values(), ids=READS)
def test_functions_that_read_another_value_are_described_differently(text):
    one, again, other = (ramp(text, value) for value in (1.0, 1.0, 5.0))
    texts = [repr(TopologyDistillation("t", kd_weight=f)) for f in (one, again, other)]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("decorator", ["torch.no_grad()", "functools.cache"])
def test_functions_that_a_library_decorates_are_followed(decorator):
    one, other = (describe(ramp(DECORATED, n, decorator)) for n in (1.0, 5.0))
    assert one != other


def test_a_run_goes_on_with_the_value_that_its_weights_are_made_of(tmp_path):
    def distilled(scale):
        return run(tmp_path, *distil(teacher(), kd_weight=ramp(CONSTANT, scale)))

    fit(distilled(1.0))
    accepted(distilled(1.0))
    refused(distilled(5.0), "callbacks__distil")


def test_modules_and_classes_are_told_by_name_and_other_objects_by_their_class():
    text = (
        "import {} as lib\nfrom enum import {} as Kind\ndef ramp(e): return lib, Kind"
    )
    given = [("math", "Enum"), ("cmath", "Enum"), ("math", "Flag")]
    assert len({describe(ramp(text, *names)) for names in given}) == 3
    held = "class Held:\n    {0} = {0!r}\nheld = Held()\ndef ramp(e): return held"
    assert describe(ramp(held, "a")) == describe(ramp(held, "b"))


def test_what_a_function_sets_or_does_not_read_makes_no_other():
    counts = """
    COUNT, OTHER = {}, {}
    def ramp(epoch):
        global COUNT
        COUNT += 1
        return epoch
    """
    assert describe(ramp(counts, 0, 1)) == describe(ramp(counts, 7, 2))
    plain = ramp("def ramp(epoch): return 2 * epoch")
    noted = ramp("SCALE = 3\ndef ramp(epoch): return 2 * epoch")
    assert describe(plain) == describe(noted)


def test_functions_of_libraries_are_not_followed():
    text = "from torch.nn.functional import relu\ndef ramp(epoch): return relu(epoch)"
    told = describe(ramp(text))
    kept = torch.nn.functional.has_torch_function_unary
    try:
        torch.nn.functional.has_torch_function_unary = 7
        assert describe(ramp(text)) == told
    finally:
        torch.nn.functional.has_torch_function_unary = kept


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
