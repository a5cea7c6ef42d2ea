"""ResumableCheckpoint: stop training anywhere, go on to the same bits."""

import json
import random
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback, EpochTimer
from torch import nn

from ..models import CheckpointError
from ..models.checkpoint import replace_file
from ..models.wrapped import unwrap
from .describe import DescribedCallback
from .fingerprint import check_run, fingerprint
from .hooks import check_all

__all__ = ["ResumableCheckpoint"]

_FORMAT = 1
_NUMBERS = (type(None), bool, int, float, str, np.number, np.bool_)
_PARTS = {
    "module": str,
    "tensors": dict,
    "history": str,
    "position": dict,
    "random": dict,
    "random_at_begin": dict,
    "callbacks": dict,
    "learnt": dict,
}


class ResumableCheckpoint(DescribedCallback, Callback):
    """Writes all that training needs to go on, and goes on from it.

    Put it first in the list of callbacks. When ``fit`` finds ``folder/training.pt`` it
    continues after the last finished epoch (or step) instead of starting anew; on the
    CPU the result is bit for bit that of an uninterrupted run: weights, key encoders
    and queue, optimiser, schedulers, history and random states are restored. The file
    is replaced atomically and read with ``weights_only=True``. Training that was
    finished is not done again; with a larger ``max_epochs`` it goes on. With several
    processes the first one writes, and any number of them can go on.

    One folder is for one run. Each fit of a cross-validation or a grid search
    (``cross_val_score``, ``GridSearchCV``) is a run of its own: give it a folder of its
    own, or leave this callback out. The file tells which run it is of, and any other
    is refused: one with other windows, labels or groups, another module, criterion,
    optimiser, learning rate or batch size, or other arguments of the callbacks. Of
    windows on disk a few are read for that. More epochs, another device, other loaders,
    other initial weights (another seed of torch) and skorch's loggers make no other
    run. Callbacks of your own may train or only watch: where they differ, a warning
    says so.

    Parameters
    ----------
    folder : str or Path
        One folder a run.
    every_n_steps : int, optional
        For a :class:`~braindecode_gcmae.GCMAEPretrainer`: also inside an epoch.

    Raises
    ------
    CheckpointError
        If the file is damaged, or belongs to another net or another run. Also if it
        was written by a version that did not note the run: it could be of any.
    ValueError
        If another callback of this package comes before it.
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
        self.state_ = self.replay_ = None
        return self

    def check(self, net, X=None, y=None) -> None:
        """Refuse an order of callbacks in which things would be done again."""
        self._check_order(net)

    # -- skorch --------------------------------------------------------------
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Restore what is there, and leave only the rest of the epochs to do."""
        self._check_order(net)
        self._put_back(net)  # an earlier fit may have died
        self.state_ = self.replay_ = None
        self.epoch_over_ = False
        self.begin_ = _random_state()
        others = [(n, c) for n, c in net.callbacks_ if c is not self]
        self.run_ = fingerprint(net, X, y, others)
        _restore_random_state(self.begin_)
        if self.file.exists():
            self._begin_again(net)
        check_all(self, net, X, y)
        if _is_main(net):
            self._clear()
        # Nobody writes before everybody has read.
        _wait_for_all()

    def _begin_again(self, net) -> None:
        state = self._read(net)
        check_run(self.file, state.get("run"), self.run_)
        if len(net.history) and len(json.loads(state["history"])) >= net.max_epochs:
            warnings.warn(
                f"{self.file} holds this run, all {net.max_epochs} epochs of it: there "
                "is nothing left to do. To train on, raise max_epochs, or remove the "
                "callback",
                UserWarning,
                stacklevel=2,
            )
        self.state_ = state
        self.begin_ = state["random_at_begin"]
        try:
            # Validation splits that follow are drawn as they were.
            _restore_random_state(self.begin_)
            self._restore_tensors(net, state)
            net.history[:] = json.loads(state["history"])
            for name, callback in _ours(net):
                callback.resume_from(state["callbacks"].get(name, {}))
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"{self.file} is damaged: {error!r}") from error
        # fit_loop reads max_epochs after this; it is put back at the first epoch.
        self.max_epochs_ = net.max_epochs
        net.max_epochs = max(0, net.max_epochs - len(net.history))

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Save: the last epoch is over for every callback, this one untouched."""
        self.epoch_over_ = False
        if self.state_ is not None:
            self._resume(net)
            return
        self._write(net, net.history.to_list()[:-1], partial=None)

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Save inside an epoch, where the net can be continued there.

        Here the last batch is over for every callback.
        """
        if self.replay_ is not None:
            # The loader that has just begun drew a number of its own again.
            _restore_random_state(self.replay_)
            self.replay_ = None
            return
        if not (training and self.every_n_steps and hasattr(net, "position_")):
            return
        if net.position_ and net.position_ % self.every_n_steps == 0:
            rows = net.history.to_list()
            *done, _ = rows[-1]["batches"]  # the batch that is about to begin
            self._write(net, rows[:-1], partial={**rows[-1], "batches": done})

    def on_epoch_end(self, net, **kwargs):
        """Count all batches of the epoch, those before an interruption included."""
        if hasattr(net, "position_"):
            net.history.record("train_batch_count", net.position_)
        self.epoch_over_ = True

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Save the end; or give back what was found, if no epoch was left to do.

        Where training was stopped (Ctrl-C, early stopping) the last checkpoint stays:
        going on replays from there, and what stopped it by rule stops it again.
        """
        if self.state_ is not None:
            self._resume(net)
        elif self.epoch_over_ and len(net.history) >= net.max_epochs:
            self._write(net, net.history.to_list(), partial=None)

    # -- saving ----------------------------------------------------------------
    def _write(self, net, rows: list, partial: dict | None) -> None:
        if not _is_main(net):
            return
        state = {
            "format": _FORMAT,
            "module": type(unwrap(net.module_)).__name__,
            "run": self.run_,
            "tensors": _tensors(net),
            "history": json.dumps(rows, default=_plain),
            "partial": None if partial is None else json.dumps(partial, default=_plain),
            "position": {} if partial is None else net.resume_state(),
            "random": _random_state(),
            "random_at_begin": self.begin_,
            "callbacks": {name: c.resume_state() for name, c in _ours(net)},
            "learnt": {name: _learnt(c) for name, c in net.callbacks_},
        }
        Path(self.folder).mkdir(parents=True, exist_ok=True)
        replace_file(self.file, lambda name: torch.save(state, name))

    def _clear(self) -> None:
        """Remove what a process that was killed while it wrote has left."""
        for left in Path(self.folder).glob(f".{self.file.name}.*"):
            left.unlink(missing_ok=True)

    # -- restoring ---------------------------------------------------------------
    def _read(self, net) -> dict:
        try:
            # torch.load does not look at the check sums.
            with zipfile.ZipFile(self.file) as archive:
                broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"wrong check sum of {broken}")
            state = torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{self.file} is damaged: {error}") from error
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise CheckpointError(f"{self.file} has another format than {_FORMAT}")
        parts = {**_PARTS, "run": dict} if "run" in state else _PARTS  # not in old ones
        for part, kind in parts.items():
            if not isinstance(state.get(part), kind):
                raise CheckpointError(f"{self.file} is damaged: it has no {part}")
        module = type(unwrap(net.module_)).__name__
        if state["module"] != module:
            raise CheckpointError(
                f"{self.file} is of a {state['module']}, not of a {module}"
            )
        return state

    def _restore_tensors(self, net, state: dict) -> None:
        try:
            for name, module in _modules(net).items():
                module.load_state_dict(state["tensors"][name])
            for name in net._optimizers:
                getattr(net, f"{name}_").load_state_dict(state["tensors"][name])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.file} does not fit this net: {error}"
            ) from error

    def _resume(self, net) -> None:
        """Once every callback has begun: what they overwrote, and the random states."""
        self._put_back(net)
        state, self.state_ = self.state_, None
        self._restore_tensors(net, state)
        for name, callback in net.callbacks_:
            _restore_learnt(callback, state["learnt"].get(name, {}))
        if hasattr(net, "choose_objective"):  # by max_epochs, which was another
            net.choose_objective()
        if state["partial"] is not None:
            net.history[-1] = json.loads(state["partial"])
            net.resume_from(state["position"])
            self.replay_ = state["random"]
        _restore_random_state(state["random"])

    def _put_back(self, net) -> None:
        if getattr(self, "max_epochs_", None) is not None:
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


def _is_main(net) -> bool:
    """Whether this process is the one that writes."""
    accelerator = getattr(net, "accelerator", None)
    if accelerator is not None:
        return accelerator.is_main_process
    distributed = torch.distributed
    running = distributed.is_available() and distributed.is_initialized()
    return not running or distributed.get_rank() == 0


def _wait_for_all() -> None:
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()


def _is_plain(value) -> bool:
    """Whether a value can be written and read without running code."""
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        # Of a dict's subclasses a state_dict alone comes back as what it was.
        state = type(value) in (dict, OrderedDict)
        tensors = (torch.Tensor, *_NUMBERS)
        return state and all(
            type(k) in (str, int) and (isinstance(v, tensors) or _is_plain(v))
            for k, v in value.items()
        )
    return isinstance(value, _NUMBERS)


def _as_plain(value):
    """The same with the numbers of Python instead of numpy's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {name: _as_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_as_plain, value))
    return value


def _plain_part(values: dict) -> dict:
    """The entries that are plain; of dicts in lists, too, what is plain of them."""
    kept = {}
    for name, value in values.items():
        if type(value) is list and value and all(type(v) is dict for v in value):
            kept[name] = [_plain_part(v) for v in value]  # schedulers in a scheduler
        elif _is_plain(value):
            kept[name] = _as_plain(value)
    return kept


def _learnt(callback) -> dict:
    """Learnt numbers of a foreign callback, and its scheduler if it has one."""
    if isinstance(callback, DescribedCallback | EpochTimer):
        return {}  # ours resume themselves; the clock goes on by itself
    ended = {n: v for n, v in vars(callback).items() if n.endswith("_")}
    state = _plain_part(ended)
    scheduler = getattr(callback, "lr_scheduler_", None)
    if scheduler is not None:
        state["lr_scheduler_"] = _plain_part(scheduler.state_dict())
    return state


def _restore_learnt(callback, state: dict) -> None:
    """Put back what :func:`_learnt` took, and nothing else: a file is not trusted."""
    for name, value in state.items():
        known = name in vars(callback) or not name.startswith("_")  # not "__dict__"
        if name == "lr_scheduler_":
            callback.lr_scheduler_.load_state_dict(value)
        elif name.endswith("_") and known and _is_plain(value):
            setattr(callback, name, value)
        else:
            raise CheckpointError(f"{name!r} is nothing that a callback has learnt")


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
