"""A callback that is called once, after every other one of a net."""

from skorch.callbacks import Callback

__all__ = ["AfterAll"]


class AfterAll(Callback):
    """Tells a checkpoint that all callbacks have begun, or have ended an epoch.

    skorch tells this nobody, and a checkpoint is called before the others. Among a
    net's callbacks from :meth:`follow` until it is called.
    """

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    @classmethod
    def follow(cls, net, checkpoint) -> None:
        """To be called last of all in the notification that is under way."""
        cls.leave(net)  # an earlier notification may have died
        net.callbacks_.append(("after_all", cls(checkpoint)))

    @classmethod
    def leave(cls, net) -> None:
        """Take it out of the list that skorch may be going through."""
        rest = [pair for pair in net.callbacks_ if not isinstance(pair[1], cls)]
        net.callbacks_[:] = rest

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Every callback has begun."""
        self.leave(net)
        self.checkpoint.all_have_begun(net)

    def on_epoch_end(self, net, **kwargs):
        """The epoch is over for every callback."""
        self.leave(net)
        self.checkpoint.epoch_over_ = True
