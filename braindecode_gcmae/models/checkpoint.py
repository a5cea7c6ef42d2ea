"""Saving and loading that never runs code: JSON, safetensors, allowed classes."""

import hashlib
import json
import logging
import os
import re
import secrets
import stat
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..warning import warn

__all__ = [
    "CheckpointError",
    "config_digest",
    "load_weights",
    "other_head",
    "read_checkpoint",
    "replace_file",
    "resolve_class",
    "weights_digest",
    "write_checkpoint",
]

_PACKAGES = ("torch.nn", "torch_geometric.nn", "braindecode", "braindecode_gcmae")
_DOTTED = re.compile(r"[A-Za-z]\w*(\.(?!__)[A-Za-z_]\w*)+", re.ASCII)
_CONFIG, _WEIGHTS, _DIGEST = "config.json", "model.safetensors", "weights_sha256"
_VERSION, _FORMAT = "format_version", 1
_LARGEST_CONFIG = 4 << 20  # bytes; 256 electrodes with positions take 100 kB
_LARGEST_WEIGHTS = 4 << 30
_NAMED = 4  # tensors in a warning; a layer has dozens

logger = logging.getLogger("braindecode_gcmae")


class CheckpointError(ValueError):
    """A checkpoint that is damaged, hostile, or of another model."""


def resolve_class(path: str, *, ours: bool = False) -> type[nn.Module]:
    """The ``nn.Module`` class of a dotted path, from allowed packages only.

    Parameters
    ----------
    path : str
        ``module.Class`` inside torch.nn, torch_geometric.nn, braindecode or
        braindecode_gcmae; anything else is refused before it is imported.
    ours : bool
        In braindecode_gcmae alone: for parts that no other package has, and whose
        arguments another class would take for sizes.

    Raises
    ------
    CheckpointError
        If the path leaves those packages or is no ``nn.Module``.
    """
    packages = _PACKAGES[-1:] if ours else _PACKAGES
    inside = any(path.startswith(f"{package}.") for package in packages)
    if not inside or len(path) > 200 or not _DOTTED.fullmatch(path):
        raise CheckpointError(
            f"the configuration names the class {path!r:.120}, which is not in "
            f"{', '.join(packages)}: refused without importing it. If it is a part of "
            "your own, hand it over: from_pretrained(folder, encoder=MyEncoder)"
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # a module may fail in any way while it is imported
        raise CheckpointError(f"no class {path!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise CheckpointError(f"{path!r} is not a torch.nn.Module")
    if not _inside(f"{found.__module__}."):  # imported there from somewhere else
        raise CheckpointError(f"{path!r} is {found.__module__}.{found.__qualname__}")
    return found


def _inside(path: str) -> bool:
    return any(path.startswith(f"{package}.") for package in _PACKAGES)


def _check_file(path: Path, largest: int) -> None:
    if not path.is_file():  # also no pipe, which would never end
        raise CheckpointError(f"no checkpoint: there is no file {path}")
    if path.stat().st_size > largest:
        raise CheckpointError(f"{path} is larger than {largest} bytes")


def _parse(text: str, where: str) -> dict:
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where} is damaged: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{where} does not hold a JSON object")
    version = config.get(_VERSION, _FORMAT)
    if version != _FORMAT:
        raise CheckpointError(
            f"{where} has {_VERSION} {version!r:.20}, this braindecode_gcmae reads "
            f"{_FORMAT}: install the version that wrote it"
        )
    return config


def read_checkpoint(folder: str | Path) -> tuple[dict, dict[str, Tensor]]:
    """Read and verify ``config.json`` and ``model.safetensors``, nothing else.

    Returns
    -------
    config : dict
    state : dict of Tensor

    Raises
    ------
    CheckpointError
        If a file is missing, too large or damaged, of another format version, or the
        weights do not have the digest that the configuration records.
    """
    path, weights = Path(folder) / _CONFIG, Path(folder) / _WEIGHTS
    try:
        _check_file(path, _LARGEST_CONFIG)
        _check_file(weights, _LARGEST_WEIGHTS)
        config = _parse(path.read_bytes().decode("utf-8", "replace"), str(path))
        with safe_open(weights, framework="pt") as file:
            written_with = (file.metadata() or {}).get(_CONFIG, "{}")
            state = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder} is unreadable or damaged: {error}") from error
    expected = config.get(_DIGEST)
    if expected is not None and expected != (digest := weights_digest(state)):
        # A save that died between its two files: the weights know their own config.
        config = _parse(written_with, str(weights))
        if config.get(_DIGEST) != digest:
            raise CheckpointError(
                f"{weights} is damaged: its weights do not have the digest that "
                f"{_CONFIG} records"
            )
    return config, state


def weights_digest(state: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values of a state dict."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name]
        if not isinstance(value, Tensor):  # quantised layers keep pairs and types
            digest.update(f"{name}{value!r}".encode())
            continue
        tensor = value.detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def config_digest(model) -> str:
    """SHA-256 of the arguments that a braindecode model was built from.

    Two models may have the same weights and other electrodes or another dropout.
    """
    told = json.dumps(model.get_config(), sort_keys=True, default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def replace_file(path: Path, write) -> None:
    """Write a file so that it is there whole or not at all.

    Parameters
    ----------
    path : Path
    write : callable
        Writes the file whose name it is given.

    Raises
    ------
    OSError
        If it cannot be written: no space, no permission, no folder.
    """
    # Not of tempfile, whose files are private: who may read it is for the umask to say.
    name = str(path.with_name(f".{path.name}.{secrets.token_hex(8)}"))
    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        usual = stat.S_IMODE(os.stat(name).st_mode)
        write(name)
        with open(name, "rb+") as file:
            os.fsync(file.fileno())
        os.chmod(name, usual)  # safetensors writes a private file of its own
        os.replace(name, path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, Exception) and not isinstance(error, OSError):
            # torch and safetensors have errors of their own for a full disk
            raise OSError(f"{path} could not be written: {error}") from error
        raise


def write_checkpoint(
    folder: str | Path, config: dict, state: dict[str, Tensor]
) -> None:
    """Write ``model.safetensors`` and ``config.json`` so that one whole pair is there.

    Each file is replaced atomically, and the weights carry their configuration: at
    any moment the folder holds the old checkpoint or the new one.

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
    config = {**config, _VERSION: _FORMAT, _DIGEST: weights_digest(tensors)}
    text = json.dumps(config, indent=2)
    metadata = {"format": "pt", _CONFIG: json.dumps(config)}
    replace_file(
        folder / _WEIGHTS, lambda name: save_file(tensors, name, metadata=metadata)
    )
    replace_file(
        folder / _CONFIG, lambda name: Path(name).write_text(text, encoding="utf-8")
    )


def other_head(config: dict, saved: dict, path: str | Path) -> tuple[str, ...]:
    """Prefixes of tensors that a model with another number of outputs leaves out."""
    wanted, there = config.get("n_outputs"), saved.get("n_outputs")
    if wanted == there:
        return ()
    if there is not None and wanted is not None:
        told = "%s: its head of %s outputs is left out, a new one of %s takes its place"
        logger.warning(told, path, there, wanted)
    return ("final_layer.",)


def load_weights(
    model: nn.Module,
    saved: dict[str, Tensor],
    *,
    path: str | Path,
    skip: tuple[str, ...] = (),
    strict: bool = False,
) -> int:
    """Load the tensors of a checkpoint into a model and count what matched.

    Parameters
    ----------
    model : nn.Module
    saved : dict of Tensor
    path : path
        Where they come from, for messages.
    skip : tuple of str
        Prefixes of tensors to leave alone.
    strict : bool
        Raise where else there is a warning.

    Returns
    -------
    int
        Number of tensors loaded.

    Raises
    ------
    CheckpointError
        If a tensor has another shape, or nothing matches; if ``strict``, also where
        one has no counterpart.

    Warns
    -----
    UserWarning
        If the model has tensors that the file has not, or the other way round.
    """
    own = model.state_dict()
    wanted = {k: v for k, v in own.items() if not k.startswith(skip)}
    matched = {k: v for k, v in saved.items() if k in wanted}
    wrong = [k for k, v in matched.items() if v.shape != wanted[k].shape]
    if wrong:
        shapes = [(tuple(saved[k].shape), tuple(own[k].shape)) for k in wrong]
        raise CheckpointError(
            f"{path}: {wrong[0]} has shape {shapes[0][0]}, the model expects "
            f"{shapes[0][1]} ({len(wrong)} such tensors): other architecture "
            "arguments, or EvokedFeatures of windows of another length?"
        )
    for name, tensor in matched.items():
        if tensor.is_floating_point() != wanted[name].is_floating_point():
            raise CheckpointError(
                f"{path}: {name} has the type {tensor.dtype}, the model expects "
                f"{wanted[name].dtype}"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {name} holds numbers that are not finite")
    if not matched:
        raise CheckpointError(
            f"{path}: none of its {len(saved)} tensors matches one of the "
            f"{len(own)} of {type(model).__name__}: a checkpoint of another model?"
        )
    told = []
    missing = sorted(wanted.keys() - matched.keys())
    if missing:
        told.append(
            f"{path}: {len(matched)} of {len(wanted)} tensors matched; keep their "
            f"initial values: {', '.join(missing)}"
        )
    unused = sorted(k for k in saved.keys() - own.keys() if not k.startswith(skip))
    if unused:
        more = f" and {len(unused) - _NAMED} more" if len(unused) > _NAMED else ""
        told.append(
            f"{path}: {len(unused)} of its {len(saved)} tensors have no place in this "
            f"{type(model).__name__} and are not loaded: "
            f"{', '.join(unused[:_NAMED])}{more}; other architecture arguments?"
        )
    if told and strict:
        raise CheckpointError("; ".join(told))
    for message in told:
        warn(message)
    model.load_state_dict(matched, strict=False)
    logger.info("%s: %d of %d tensors matched", path, len(matched), len(wanted))
    return len(matched)
