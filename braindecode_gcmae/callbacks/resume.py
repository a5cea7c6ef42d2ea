"""ResumableCheckpoint: stop training anywhere, go on to the same bits."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from ..models import CheckpointError
from ..models.checkpoint import replace_file
from .describe import DescribedCallback
from .hooks import unwrap

__all__ = ["ResumableCheckpoint"]

_FORMAT = 1


class ResumableCheckpoint(DescribedCallback, Callback):
    """Writes all that training needs to go on, and goes on from it.

    Put it first in the list of callbacks. When ``fit`` finds ``folder/training.pt`` it
    continues after the last finished epoch (or step) instead of starting anew; on the
    CPU the result is bit for bit that of an uninterrupted run: weights, key encoders
    and queue, optimiser, schedulers, history and random states are restored. The file
    is replaced atomically and read with ``weights_only=True``.

    Parameters
    ----------
    folder : str or Path
        One folder a run.
    every_n_steps : int, optional
        For a :class:`~braindecode_gcmae.GCMAEPretrainer`: also inside an epoch.

    Raises
    ------
    CheckpointError
        If the file is damaged, or belongs to another net.
    ValueError
        If it is not the first of the callbacks.
    """

    def __init__(self, folder, every_n_steps=None):
        self.folder = folder
        self.every_n_steps = every_n_steps

    @property
    def file(self) -> Path:
        """Where the state is kept."""
        return Path(self.folder) / "training.pt"

    def initialize(self):
        """Nothing has been restored yet."""
        self.state_ = None
        return self

    # -- skorch --------------------------------------------------------------
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Restore what is there, and leave only the rest of the epochs to do."""
        self._check_order(net)
        self.state_, self.max_epochs_ = None, None
        if not self.file.exists():
            return
        self.state_ = self._read(net)
        self._restore_tensors(net, self.state_)
        net.history[:] = json.loads(self.state_["history"])
        for name, callback in _ours(net):
            callback.resume_from(self.state_["callbacks"].get(name, {}))
        # fit_loop reads max_epochs after this; it is put back at the first epoch.
        self.max_epochs_ = net.max_epochs
        net.max_epochs = max(0, net.max_epochs - len(net.history))

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Save: the last epoch is over for every callback, this one untouched."""
        if self.state_ is not None:
            self._resume(net)
            return
        self._write(net, net.history.to_list()[:-1], partial=None)

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Save inside an epoch, where the net can be continued there."""
        if not (training and self.every_n_steps and hasattr(net, "position_")):
            return
        # The pretrainer's own count: this batch has been recorded.
        if net.position_ % self.every_n_steps == 0:
            rows = net.history.to_list()
            self._write(net, rows[:-1], partial=rows[-1])

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Save the end, and put ``max_epochs`` back if no epoch was left."""
        self._put_back(net)
        self._write(net, net.history.to_list(), partial=None)

    # -- saving ----------------------------------------------------------------
    def _write(self, net, rows: list, partial: dict | None) -> None:
        accelerator = getattr(net, "accelerator", None)
        if accelerator is not None and not accelerator.is_main_process:
            return
        state = {
            "format": _FORMAT,
            "net": type(net).__name__,
            "tensors": _tensors(net),
            "history": json.dumps(rows, default=_plain),
            "partial": None if partial is None else json.dumps(partial, default=_plain),
            "position": net.resume_state() if hasattr(net, "resume_state") else {},
            "random": _random_state(),
            "callbacks": {name: c.resume_state() for name, c in _ours(net)},
            "learnt": {name: _learnt(c) for name, c in net.callbacks_},
        }
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        replace_file(self.file, lambda name: torch.save(state, name))

    # -- restoring ---------------------------------------------------------------
    def _read(self, net) -> dict:
        try:
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{self.file} is damaged: {error}") from error
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise CheckpointError(f"{self.file} has another format than {_FORMAT}")
        if state["net"] != type(net).__name__:
            raise CheckpointError(
                f"{self.file} is of a {state['net']}, not of a {type(net).__name__}"
            )
        return state

    def _restore_tensors(self, net, state: dict) -> None:
        try:
            for name, module in _modules(net).items():
                module.load_state_dict(state["tensors"][name])
            for name in net._optimizers:
                getattr(net, f"{name}_").load_state_dict(state["tensors"][name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"{self.file} does not fit this net: {error}") from error

    def _resume(self, net) -> None:
        """Once every callback has begun: what they overwrote, and the random states."""
        self._put_back(net)
        state, self.state_ = self.state_, None
        self._restore_tensors(net, state)
        for name, callback in net.callbacks_:
            _restore_learnt(callback, state["learnt"].get(name, {}))
        if state["partial"] is not None:
            net.history[-1] = json.loads(state["partial"])
        if state["position"]:
            net.resume_from(state["position"])
        _restore_random_state(state["random"])

    def _put_back(self, net) -> None:
        if self.max_epochs_ is not None:
            net.max_epochs = self.max_epochs_
        self.max_epochs_ = None

    def _check_order(self, net) -> None:
        ours = [c for _, c in net.callbacks_ if isinstance(c, DescribedCallback)]
        if ours and ours[0] is not self:
            raise ValueError(
                f"ResumableCheckpoint must come before {type(ours[0]).__name__} in "
                "callbacks: what that does is not to be done again on resuming"
            )


def _ours(net) -> list:
    """Callbacks that know how to resume."""
    return [(n, c) for n, c in net.callbacks_ if hasattr(c, "resume_state")]


def _modules(net) -> dict[str, nn.Module]:
    names = [*net._modules, *net._criteria]
    return {name: unwrap(getattr(net, f"{name}_")) for name in names}


def _tensors(net) -> dict:
    states = {name: module.state_dict() for name, module in _modules(net).items()}
    states.update({n: getattr(net, f"{n}_").state_dict() for n in net._optimizers})
    return states


def _plain(value):
    """Numbers of numpy and torch as JSON."""
    if isinstance(value, np.generic | np.ndarray | torch.Tensor):
        return value.tolist()
    return str(value)


def _is_plain(value) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | np.number)


def _learnt(callback) -> dict:
    """Learnt numbers of a foreign callback, and its scheduler if it has one."""
    state = {
        name: value.item() if isinstance(value, np.number) else value
        for name, value in vars(callback).items()
        if name.endswith("_") and _is_plain(value)
    }
    scheduler = getattr(callback, "lr_scheduler_", None)
    if scheduler is not None:
        plain = scheduler.state_dict().items()
        state["lr_scheduler_"] = {k: v for k, v in plain if _is_plain(v)}
    return state


def _restore_learnt(callback, state: dict) -> None:
    if isinstance(callback, DescribedCallback):
        return  # ours resume themselves
    for name, value in state.items():
        if name == "lr_scheduler_":
            callback.lr_scheduler_.load_state_dict(value)
        else:
            setattr(callback, name, value)


def _random_state() -> dict:
    kind, keys, position, has_gauss, cached = np.random.get_state()
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position],
        "numpy_gauss": [has_gauss, cached],
        "python": [version, list(words), gauss],
    }


def _restore_random_state(state: dict) -> None:
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    kind, keys, position = state["numpy"]
    keys = keys.numpy().astype(np.uint32)
    np.random.set_state((kind, keys, position, *state["numpy_gauss"]))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
