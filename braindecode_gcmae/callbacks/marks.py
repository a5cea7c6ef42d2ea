"""What a callback did to a module is noted on the module.

Not on the callback: the module may be made anew behind its back (``set_params``), or
the callback be in two nets. A mark goes with the module into pickles and copies, and
the callback's own is another after each initialisation of the net.
"""

from uuid import uuid4

from torch import nn

__all__ = ["is_marked", "new_mark", "put_mark"]


def new_mark() -> str:
    """A mark that no module has."""
    return uuid4().hex


def is_marked(module: nn.Module, mark: str) -> bool:
    """Whether :func:`put_mark` was called with both."""
    return mark in getattr(module, "marks_", ())


def put_mark(module: nn.Module, mark: str) -> None:
    """Note on a module that something was done."""
    marks = (*getattr(module, "marks_", ()), mark)
    module.__dict__["marks_"] = marks
