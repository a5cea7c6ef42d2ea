"""A trained model as it is kept, in the checkpoint of a training or in a folder."""

import json
from pathlib import Path

from torch import nn

from ...models import CheckpointError, GCMAEStudent, GCMAETeacher
from ...models.checkpoint import read_checkpoint
from ...models.hub import locate
from ...models.own import classes_within, own_parts

__all__ = ["load_model", "model_state", "rebuild_model"]

_CLASSES = {c.__name__: c for c in (GCMAETeacher, GCMAEStudent)}


def model_state(model: nn.Module) -> dict:
    """Class, configuration and weights, for :class:`ResumableCheckpoint`."""
    return {
        "class": type(model).__name__,
        "config": json.dumps(model.get_config()),
        "weights": model.state_dict(),
    }


def rebuild_model(state: dict, *given) -> nn.Module:
    """The model of a :func:`model_state`; its classes are ours or within ``given``."""
    own, config = classes_within(*given), json.loads(state["config"])
    cls = _class_named(state["class"], own)
    model = cls.from_config({**config, **own_parts(config, own)})
    model.load_state_dict(state["weights"])
    return model


def load_model(where: str | Path, *given) -> nn.Module:
    """What ``save_pretrained`` wrote, teacher or student.

    Parameters
    ----------
    where : path or str
        As in ``from_pretrained``: a folder, a shipped name or a repository on the Hub.
    *given : as in :func:`~braindecode_gcmae.models.own.classes_within`
        What may hold the classes that are not ours.

    Raises
    ------
    CheckpointError
        If it is damaged, or of a class that is neither ours nor within ``given``.
    """
    own, (config, _) = classes_within(*given), read_checkpoint(locate(where))
    cls = _class_named(config.get("architecture", "GCMAETeacher"), own)
    return cls.from_pretrained(where, **own_parts(config, own))


def _class_named(name: str, own: dict[str, type]) -> type:
    models = [c for c in own.values() if hasattr(c, "from_pretrained")]
    found = {**{c.__name__: c for c in models}, **_CLASSES}
    if not isinstance(name, str) or name not in found:
        raise CheckpointError(
            f"a {name!r:.60} is no model of this package: hand over the model itself "
            "instead of a folder"
        )
    return found[name]
