"""StartFrom: training that begins with weights of a checkpoint, every time anew."""

from pathlib import Path

from skorch.callbacks import Callback
from torch import nn

from ..models.wrapped import unwrap
from .describe import DescribedCallback
from .hooks import check_all
from .states import load_model

__all__ = ["StartFrom"]


class StartFrom(DescribedCallback, Callback):
    """Begins each training with the weights of a checkpoint.

    A net around a loaded *instance* goes on training that instance: its second ``fit``
    starts where the first ended. A net around a *class*, with this callback, starts
    from the checkpoint whenever it is initialised, in every fold of a
    cross-validation::

        EEGClassifier(GCMAEStudent, callbacks=[("start", StartFrom("run1/student"))])

    Only the network's weights are taken; the head is the net's own. Once per
    initialisation, so that ``partial_fit`` and a warm start go on from where they are.

    Parameters
    ----------
    checkpoint : path, str, GCMAEStudent or GCMAETeacher
        What ``from_pretrained`` takes, or a model.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged.
    ValueError
        If the net's module has another architecture.
    """

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    def initialize(self):
        """A newly initialised net starts from the checkpoint again."""
        self.loaded_ = False
        return self

    def check(self, net, X=None, y=None) -> None:
        """Refuse weights that do not fit the net's module."""
        self.network_for(unwrap(net.module_))

    def network_for(self, module: nn.Module) -> nn.Module:
        """The network that a module starts from, after a look whether it fits."""
        given = self.checkpoint
        source = load_model(given) if isinstance(given, str | Path) else unwrap(given)
        if not hasattr(module, "network"):
            raise ValueError(
                "StartFrom needs a GCMAEStudent or GCMAETeacher as module, got "
                f"{type(module).__name__}"
            )
        mine, theirs = module.network.state_dict(), source.network.state_dict()
        shapes = [{k: tuple(v.shape) for k, v in s.items()} for s in (mine, theirs)]
        if shapes[0] != shapes[1]:
            items = shapes[0].items() ^ shapes[1].items()
            names = sorted({name for name, _ in items})
            raise ValueError(
                "the weights to start from and the model to be trained differ in "
                f"architecture, at {len(names)} tensors such as {names[0]!r}: build "
                "the model with the arguments of the checkpoint"
            )
        return source.network

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Load the weights, once."""
        check_all(self, net, X, y)
        if self.loaded_:
            return
        module = unwrap(net.module_)
        module.network.load_state_dict(self.network_for(module).state_dict())
        self.loaded_ = True

    def resume_state(self) -> dict:
        """For :class:`ResumableCheckpoint`: what goes on does not start again."""
        return {"loaded": self.loaded_}

    def resume_from(self, state: dict) -> None:
        """Leave the weights as they were when training was interrupted."""
        self.loaded_ = bool(state.get("loaded"))

    def __sklearn_clone__(self):
        return type(self)(self.checkpoint)  # a model is shared, not copied
