"""Models by the name under which braindecode has them."""

from braindecode.models.util import models_dict

__all__ = ["registered"]


def registered(model):
    """The class of a name, as ``EEGClassifier`` takes it; all else as it is.

    Raises
    ------
    ValueError
        If braindecode has no model of this name.
    """
    if not isinstance(model, str):
        return model
    if model not in models_dict:
        raise ValueError(
            f"braindecode has no model of the name {model!r}: pass 'GCMAETeacher', "
            "'GCMAEStudent', or a class"
        )
    return models_dict[model]
