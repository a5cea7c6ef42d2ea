"""A trained model as it is kept, in the checkpoint of a training or in a folder."""

import json
from pathlib import Path

from torch import nn

from ..models import GCMAEStudent, GCMAETeacher
from ..models.checkpoint import read_checkpoint
from ..models.hub import locate

__all__ = ["load_model", "model_state", "rebuild_model"]

_CLASSES = {c.__name__: c for c in (GCMAETeacher, GCMAEStudent)}


def model_state(model: nn.Module) -> dict:
    """Class, configuration and weights, for :class:`ResumableCheckpoint`."""
    return {
        "class": type(model).__name__,
        "config": json.dumps(model.get_config()),
        "weights": model.state_dict(),
    }


def rebuild_model(state: dict) -> nn.Module:
    """The model of a :func:`model_state`; only our two classes can be named."""
    model = _CLASSES[state["class"]].from_config(json.loads(state["config"]))
    model.load_state_dict(state["weights"])
    return model


def load_model(where: str | Path) -> nn.Module:
    """What ``save_pretrained`` wrote, teacher or student.

    Parameters
    ----------
    where : path or str
        As in ``from_pretrained``: a folder, a shipped name or a repository on the Hub.

    Raises
    ------
    CheckpointError
        If it is damaged, or neither of the two.
    """
    config, _ = read_checkpoint(locate(where))
    cls = _CLASSES.get(config.get("architecture"), GCMAETeacher)
    return cls.from_pretrained(where)
