"""Saving and loading that never runs code: JSON, safetensors, allowed classes."""

import hashlib
import json
import logging
import math
import os
import re
import tempfile
import warnings
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

__all__ = [
    "CheckpointError",
    "load_weights",
    "read_config",
    "replace_file",
    "resolve_class",
    "weights_digest",
    "write_checkpoint",
]

_PACKAGES = ("torch.nn", "torch_geometric.nn", "braindecode", "braindecode_gcmae")
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_CONFIG, _WEIGHTS, _DIGEST = "config.json", "model.safetensors", "weights_sha256"
_LARGEST_CONFIG = 4 << 20  # bytes; 256 electrodes with positions take 100 kB
_LARGEST_WEIGHTS = 4 << 30

logger = logging.getLogger("braindecode_gcmae")


class CheckpointError(ValueError):
    """A checkpoint that is damaged, hostile, or of another model."""


def resolve_class(path: str) -> type[nn.Module]:
    """The ``nn.Module`` class of a dotted path, from allowed packages only.

    Parameters
    ----------
    path : str
        ``module.Class`` inside torch.nn, torch_geometric.nn, braindecode or
        braindecode_gcmae; anything else is refused before it is imported.

    Raises
    ------
    CheckpointError
        If the path leaves those packages or is no ``nn.Module``.
    """
    inside = any(path.startswith(f"{package}.") for package in _PACKAGES)
    if not inside or not _DOTTED.fullmatch(path):
        raise CheckpointError(
            f"the configuration names the class {path!r}, which is not in "
            f"{', '.join(_PACKAGES)}: refused without importing it"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise CheckpointError(f"no class {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise CheckpointError(f"{path!r} is not a torch.nn.Module")
    return found


def read_config(folder: str | Path) -> dict:
    """Read a checkpoint's ``config.json``.

    Raises
    ------
    CheckpointError
        If it is missing, too large, or not a JSON object.
    """
    path = Path(folder) / _CONFIG
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise CheckpointError(f"{path} is larger than {_LARGEST_CONFIG} bytes")
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"no readable checkpoint at {folder}: {error}") from error
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return config


def weights_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def replace_file(path: Path, write) -> None:
    """Write a file so that it is there whole or not at all.

    Parameters
    ----------
    path : Path
    write : callable
        Writes the file whose name it is given.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        write(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # mkstemp's files are private
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_checkpoint(
    folder: str | Path, config: dict, state: dict[str, Tensor]
) -> None:
    """Write ``model.safetensors`` and ``config.json``, each atomically.

    Parameters
    ----------
    folder : path
        Created if needed.
    config : dict
        JSON-safe; the digest of the weights is added.
    state : dict of Tensor

    Raises
    ------
    OSError
        If the folder cannot be written; no partial file is left.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # Copies: safetensors refuses tensors that share memory.
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.items()}
    replace_file(folder / _WEIGHTS, lambda name: save_file(tensors, name))
    text = json.dumps({**config, _DIGEST: weights_digest(tensors)}, indent=2)
    replace_file(
        folder / _CONFIG, lambda name: Path(name).write_text(text, encoding="utf-8")
    )


def load_weights(
    model: nn.Module,
    folder: str | Path,
    *,
    digest: str | None = None,
    skip: tuple[str, ...] = (),
) -> int:
    """Load ``model.safetensors`` into a model and count what matched.

    Parameters
    ----------
    model : nn.Module
    folder : path
    digest : str, optional
        Expected SHA-256 of the weights (:func:`weights_digest`).
    skip : tuple of str
        Prefixes of tensors to leave alone.

    Returns
    -------
    int
        Number of tensors loaded.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, a tensor has another shape, or nothing
        matches.
    """
    path = Path(folder) / _WEIGHTS
    try:
        if path.stat().st_size > _LARGEST_WEIGHTS:
            raise CheckpointError(f"{path} is larger than {_LARGEST_WEIGHTS} bytes")
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error}") from error
    if digest is not None and weights_digest(saved) != digest:
        raise CheckpointError(
            f"{path} is damaged: its weights do not have the digest that "
            f"{_CONFIG} records"
        )
    own = model.state_dict()
    wanted = {k: v for k, v in own.items() if not k.startswith(skip)}
    matched = {k: v for k, v in saved.items() if k in wanted}
    wrong = [k for k, v in matched.items() if v.shape != wanted[k].shape]
    if wrong:
        shapes = [(tuple(saved[k].shape), tuple(own[k].shape)) for k in wrong]
        raise CheckpointError(
            f"{path}: {wrong[0]} has shape {shapes[0][0]}, the model expects "
            f"{shapes[0][1]} ({len(wrong)} such tensors): other architecture "
            "arguments?"
        )
    if not matched:
        raise CheckpointError(
            f"{path}: none of its {len(saved)} tensors matches one of the "
            f"{len(own)} of {type(model).__name__}: a checkpoint of another model?"
        )
    missing = sorted(wanted.keys() - matched.keys())
    if missing:
        warnings.warn(
            f"{path}: {len(matched)} of {len(wanted)} tensors matched; keep their "
            f"initial values: {', '.join(missing)}",
            UserWarning,
            stacklevel=3,
        )
    model.load_state_dict(matched, strict=False)
    logger.info("%s: %d of %d tensors matched", path, len(matched), len(wanted))
    return len(matched)


def check_size(name: str, value, low: float, high: float) -> None:
    """Refuse a size that no model has, before memory is asked for.

    Raises
    ------
    ValueError
        If ``value`` is no number in [low, high].
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise ValueError(f"{name} must be between {low:g} and {high:g}, got {value!r}")
