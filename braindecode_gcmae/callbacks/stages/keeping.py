"""What comes before a training is kept stage by stage.

A pretraining, and each teacher that is trained, tells the net's
:class:`ResumableCheckpoint`, which has begun before them and knows neither.
"""

from torch import nn

from ...models import CheckpointError
from .states import model_state, rebuild_model

__all__ = ["keep_stage", "keep_teacher", "kept_teacher"]


def _keepers(net) -> list:
    return [c for _, c in net.callbacks_ if hasattr(c, "keep_stage")]


def keep_stage(net, callback) -> None:
    """The stage of a callback is over, and the callback's state tells of it."""
    (name,) = (n for n, c in net.callbacks_ if c is callback)
    for keeper in _keepers(net):
        keeper.keep_stage(net, {"callback": name})


def keep_teacher(net, model: nn.Module) -> None:
    """A teacher is trained."""
    for keeper in _keepers(net):
        keeper.keep_stage(net, model_state(model))


def kept_teacher(net, teacher) -> nn.Module | None:
    """The model of ``teacher``, which would be trained now, if that was done before.

    Raises
    ------
    CheckpointError
        If it cannot be built from what was kept.
    """
    for keeper in _keepers(net):
        state = keeper.kept_stage()
        if state is not None:
            try:
                model = rebuild_model(state, teacher)
            except Exception as error:
                raise CheckpointError(f"{keeper.file} is damaged: {error!r}") from error
            keeper.keep_stage(net, state)
            return model
    return None
