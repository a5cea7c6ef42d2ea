"""Classes of the caller's own, which a configuration names and nothing imports.

They are found again in what the caller has handed over.
"""

import inspect

from torch import nn

from .wrapped import unwrap

__all__ = ["classes_within", "own_parts"]


def classes_within(*given) -> dict[str, type]:
    """Classes in what was handed over, by the paths that configurations have for them.

    Parameters
    ----------
    *given : class, model, net, or dict or list of these
        Of a class also those that its arguments have by default; of a model and a net
        those that it was built from. Nothing is known of anything else.
    """
    found: dict[str, type] = {}
    for item in given:
        if isinstance(item, type):
            found[f"{item.__module__}.{item.__qualname__}"] = item
        for inner in _within(item):
            found |= classes_within(inner)
    return found


def _within(item) -> list:
    if isinstance(item, dict | list | tuple):
        return list(item.values() if isinstance(item, dict) else item)
    if isinstance(item, nn.Module):
        model = unwrap(item)
        return [type(model), getattr(model, "_braindecode_init_kwargs", {})]
    if hasattr(item, "get_params_for"):  # a net
        return [item.module, item.get_params_for("module")]
    if isinstance(item, type) and issubclass(item, nn.Module):
        arguments = inspect.signature(item).parameters.values()
        return [a.default for a in arguments if a.default is not a.empty]
    return []


def own_parts(config: dict, classes: dict[str, type]) -> dict[str, type]:
    """Arguments of a configuration whose classes are among these, by name."""
    paths = {name: path for name, path in config.items() if isinstance(path, str)}
    return {name: classes[path] for name, path in paths.items() if path in classes}
