"""StartFrom: training that begins with weights of a checkpoint, every time anew."""

from pathlib import Path

from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from ...models.arguments import same_nodes
from ...models.wrapped import unwrap
from ...montage import name_of
from ..checks.inputs import check_seen
from ..describe import DescribedCallback
from ..hooks import check_all
from .marks import OncePerModule
from .states import load_model

__all__ = ["StartFrom"]

# Arguments that change what a model computes, and no tensor's shape.
_NOT_IN_SHAPES = (
    "features",
    "graph",
    "encoder",
    "readout",
    "activation",
    "n_heads",
    "f_min",
    "f_max",
    "segment_seconds",
)


class StartFrom(OncePerModule, DescribedCallback, Callback):
    """Begins each training with the weights of a checkpoint.

    A net around a loaded *instance* goes on training that instance: its second ``fit``
    starts where the first ended. A net around a *class*, with this callback, starts
    from the checkpoint whenever it is initialised, in every fold of a
    cross-validation::

        EEGClassifier(GCMAEStudent, callbacks=[("start", StartFrom("run1/student"))])

    Only the network's weights are taken; the head is the net's own. Once for each
    module that the net makes, so that ``partial_fit`` and a warm start go on from where
    they are. Weights that ``load_params`` put into a module that was never trained are
    replaced; what skorch's ``LoadInitState`` loaded is left alone.

    Parameters
    ----------
    checkpoint : path, str, GCMAEStudent or GCMAETeacher
        What ``from_pretrained`` takes, or a model, or a fitted net around one. A search
        (``{"callbacks__start__checkpoint": [...]}``) is over folders or models
        (``net.module_``): scikit-learn clones candidates, and a net's clone is
        unfitted.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged.
    TypeError
        If it is no model of this package, or an unfitted net.
    ValueError
        If the net's module has another architecture, or other electrodes than weights
        that are tied to theirs, a pretraining comes before, or the windows hold no
        signal or have another sampling rate than the model.
    """

    def __init__(self, checkpoint):
        self.checkpoint = checkpoint

    looks_at_windows = True  # so that a GCMAEClassifier need not
    resumed_ = False

    def initialize(self):
        """A newly initialised net starts from the checkpoint again."""
        self.resumed_ = False
        return super().initialize()

    def check(self, net, X=None, y=None) -> None:
        """Refuse weights that do not fit, and those of a pretraining being replaced."""
        callbacks = [callback for _, callback in net.callbacks_]
        before = callbacks[: callbacks.index(self)]
        if any(hasattr(callback, "planned_teacher") for callback in before):
            raise ValueError(
                "StartFrom would replace what GCMAEPretraining, which comes before it "
                "in callbacks, has learnt: put it first, to go on pretraining from "
                "there, or leave one of them out"
            )
        self.network_for(unwrap(net.module_))
        others = [callback for callback in callbacks if callback is not self]
        if not any(hasattr(callback, "looks_at_windows") for callback in others):
            check_seen(X, unwrap(net.module_))

    def _source(self, module: nn.Module) -> nn.Module:
        """The model to start from; of a folder one built of the module's classes."""
        given = self.checkpoint
        if isinstance(given, str | Path):
            return load_model(given, module)
        if getattr(given, "initialized_", False):  # a net
            given = given.module_
        if isinstance(given, NeuralNet):
            raise TypeError(
                "StartFrom has got an unfitted net: fit it first. A search clones its "
                "candidates, and a net's clone is unfitted: search over folders or "
                "models (net.module_) instead"
            )
        model = unwrap(given) if isinstance(given, nn.Module) else given
        if not hasattr(model, "network"):
            raise TypeError(
                "StartFrom takes a folder, a model or a fitted net around one (of a "
                "GCMAEPretrainer: pretrainer.student_), got "
                f"{type(self.checkpoint).__name__}"
            )
        return model

    def network_for(self, module: nn.Module) -> nn.Module:
        """The network that a module starts from, after a look whether it fits."""
        source = self._source(module)
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
                "the model with the arguments of the checkpoint (EvokedFeatures: for "
                "windows of its length, too)"
            )
        configs = [model.get_config() for model in (source, module)]
        for name in _NOT_IN_SHAPES:
            theirs, mine = (config.get(name) for config in configs)
            if theirs != mine:
                raise ValueError(
                    "the weights to start from and the model to be trained differ in "
                    f"architecture: {name} is {theirs} and {mine}"
                )
        _check_tied(source, module)
        return source.network

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Load the weights, once."""
        check_all(self, net, X, y)
        module, anew = unwrap(net.module_), self.is_new(net)
        if anew and not (self.resumed_ or self.is_loaded(net)):
            module.network.load_state_dict(self.network_for(module).state_dict())
        self.note(net, anew=anew)
        self.resumed_ = False

    def resume_state(self) -> dict:
        """For :class:`ResumableCheckpoint`: what goes on does not start again."""
        return {"loaded": True}  # long before anything is kept

    def resume_from(self, state: dict) -> None:
        """Leave the weights as they were when training was interrupted."""
        self.resumed_ = bool(state.get("loaded"))


def _check_tied(source: nn.Module, module: nn.Module) -> None:
    """Refuse weights for each electrode where the electrodes are others."""
    named = all(model.input_channels() for model in (source, module))
    if not (source.network.tied and named):
        return
    nodes = source.node_channels()
    if not same_nodes(nodes, module.node_channels()):
        raise ValueError(
            "the weights to start from are tied to their electrodes: build the model "
            f"with electrodes={[name_of(node) for node in nodes]}"
        )
