"""What a callback did to a module is noted on the module.

Not on the callback: the module may be made anew behind its back (``set_params``), or
the callback be in two nets. A mark goes with the module into pickles and copies, and
the callback's own is another each time that it has something done.
"""

from uuid import uuid4

from skorch.callbacks import Callback
from torch import nn

from ...models.wrapped import unwrap

__all__ = ["OncePerModule"]


class OncePerModule(Callback):
    """A callback that does something once for each module that a net makes."""

    mark_ = ""  # no module's
    fresh_ = True

    def initialize(self):
        """Note that a net may have been initialised anew.

        Or its parameters were set: skorch initialises all callbacks again then, and
        what was done to the module is not to be done again.
        """
        self.fresh_ = True
        return super().initialize()

    def is_new(self, net) -> bool:
        """Whether nothing was done to the net's module since the net made it."""
        module = unwrap(net.module_)
        if self.mark_ not in getattr(module, "marks_", ()):
            return True
        # A module that the user made stays the net's when that is initialised anew.
        given = isinstance(net.module, nn.Module) and unwrap(net.module) is module
        return self.fresh_ and given and not len(net.history)

    def is_loaded(self, net) -> bool:
        """Whether skorch's ``LoadInitState`` has just put weights into the module.

        Without files it loads nothing, and says that it did; a state has a history.
        """
        told = any(getattr(c, "did_load_", False) for _, c in net.callbacks_)
        return told and self.fresh_ and self.is_new(net) and bool(len(net.history))

    def note(self, net, *, anew: bool) -> None:
        """Note that it was done, ``anew`` or some time ago."""
        module = unwrap(net.module_)
        if anew:
            self.mark_ = uuid4().hex
            module.__dict__["marks_"] = (*getattr(module, "marks_", ()), self.mark_)
        self.fresh_ = False
