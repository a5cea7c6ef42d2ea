"""A trained model as it is kept in the checkpoint of a training."""

import json

from torch import nn

from ..models import GCMAEStudent, GCMAETeacher

__all__ = ["model_state", "rebuild_model"]


def model_state(model: nn.Module) -> dict:
    """Class, configuration and weights, for :class:`ResumableCheckpoint`."""
    return {
        "class": type(model).__name__,
        "config": json.dumps(model.get_config()),
        "weights": model.state_dict(),
    }


def rebuild_model(state: dict) -> nn.Module:
    """The model of a :func:`model_state`; only our two classes can be named."""
    classes = {c.__name__: c for c in (GCMAETeacher, GCMAEStudent)}
    model = classes[state["class"]].from_config(json.loads(state["config"]))
    model.load_state_dict(state["weights"])
    return model
