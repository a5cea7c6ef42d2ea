"""What training hangs on and no ``state_dict`` holds: it is kept beside them."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from ...models import CheckpointError
from ..randomness import numpy_state, restore_numpy_state

__all__ = ["loose_state", "restore_loose", "restore_trainable"]

_LOADERS = ("iterator_train", "iterator_valid")


def loose_state(net, modules: dict[str, nn.Module]) -> dict:
    """What is frozen, the scale of half precision, random states of the loaders."""
    frozen = {
        name: {n: p.requires_grad for n, p in module.named_parameters()}
        for name, module in modules.items()
    }
    scaler = _scaler(net)
    return {
        "trainable": frozen,
        "scaler": None if scaler is None else scaler.state_dict(),
        "generators": {name: _get(g) for name, g in _generators(net)},
    }


def restore_trainable(modules: dict[str, nn.Module], state: dict) -> None:
    """Freeze what was frozen: who froze it does so in a single epoch.

    Raises
    ------
    CheckpointError
        If the file tells of other parameters, or no yes or no of them.
    """
    for name, flags in _part(state, "trainable").items():
        known = dict(modules[name].named_parameters()) if name in modules else {}
        if not isinstance(flags, dict) or not flags.keys() <= known.keys():
            raise CheckpointError(f"what is frozen does not fit the {name!r:.60}")
        if not all(isinstance(flag, bool) for flag in flags.values()):
            raise CheckpointError(f"it does not tell what of {name} is frozen")
        for parameter, flag in flags.items():
            known[parameter].requires_grad_(flag)


def restore_loose(net, state: dict) -> None:
    """Put the rest back; what this net does not have is left out.

    Raises
    ------
    CheckpointError
        If a state is none.
    """
    states, scaler = _part(state, "generators"), _scaler(net)
    try:
        for name, generator in _generators(net):
            if name in states:
                _set(generator, states[name])
        if scaler is not None and state.get("scaler"):  # {} where it is switched off
            scaler.load_state_dict(state["scaler"])
    except Exception as error:
        raise CheckpointError(f"its loaders or its scale: {error!r}") from error


def _part(state: dict, name: str) -> dict:
    part = state.get(name, {})
    if not isinstance(part, dict):
        raise CheckpointError(f"it has no {name}")
    return part


def _scaler(net):
    """Of accelerate, in half precision."""
    return getattr(getattr(net, "accelerator", None), "scaler", None)


def _generators(net) -> Iterator[tuple[str, object]]:
    """Those that were handed over to the loaders, or to augmentations in them."""
    for loader in _LOADERS:
        given = net.get_params_for(loader)
        if isinstance(given.get("generator"), torch.Generator):
            yield f"{loader}__generator", given["generator"]
        transforms = given.get("transforms")
        transforms = getattr(transforms, "transforms", transforms)  # of a Compose
        if not isinstance(transforms, list | tuple):
            transforms = [transforms]
        for i, transform in enumerate(transforms):
            for name, value in getattr(transform, "__dict__", {}).items():
                if _is_generator(value):
                    yield f"{loader}__transforms[{i}].{name}", value


def _is_generator(value) -> bool:
    """Not numpy's global one, which is restored with the others."""
    own = isinstance(value, np.random.RandomState | torch.Generator)
    return own and value is not np.random.mtrand._rand


def _get(generator):
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    return numpy_state(generator.get_state(legacy=True))


def _set(generator, state) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state)
    else:
        restore_numpy_state(generator, state)
