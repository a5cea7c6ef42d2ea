"""ResumableCheckpoint: stop training anywhere, go on to the same bits."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from ...models import CheckpointError
from ...models.checkpoint import replace_file
from ...models.wrapped import unwrap
from ...pretraining.processes import n_processes, process_index
from ...warning import warn
from ..describe import DescribedCallback
from ..hooks import check_all, device_of
from ..randomness import random_state, restore_random_state
from .after_all import AfterAll
from .files import name_of_writer, remove_left
from .fingerprint import check_run, fingerprint
from .learnt import learnt, restore_learnt, unkept
from .loose import loose_state, restore_loose, restore_trainable

__all__ = ["ResumableCheckpoint"]

_FORMAT = 1
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
_NEWER = {"run": dict, "stages": list, "loose": dict}  # not in old files


class ResumableCheckpoint(DescribedCallback, Callback):
    """Writes all that training needs to go on, and goes on from it.

    Put it first in the list of callbacks. When ``fit`` finds ``folder/training.pt`` it
    continues after the last finished epoch (or step) instead of starting anew; on the
    CPU the result is bit for bit that of an uninterrupted run: weights, key encoders
    and queue, what is frozen, optimiser, schedulers, history and random states are
    restored, those of the loaders' ``generator`` and ``transforms`` and the scale of
    half precision among them (workers of a loader have copies of their own). The file
    is replaced atomically and read with ``weights_only=True``. Training that was
    finished is not done again; with a larger ``max_epochs`` it goes on. With several
    processes the first one writes, and any number of them can go on.

    What comes before the first epoch, a :class:`GCMAEPretraining` and unfitted
    teachers, is kept as well, each when it is over. So that one of them goes on where
    it was, give it such a callback with a folder of its own: in the ``arguments`` of
    the pretraining, in the ``callbacks`` of the teacher.

    One folder is for one run. Each fit of a cross-validation or a grid search
    (``cross_val_score``, ``GridSearchCV``) is a run of its own: give it a folder of its
    own, or leave this callback out. The file tells which run it is of, and any other
    is refused: one with other windows, labels or groups, another module, criterion,
    optimiser, learning rate or batch size, or other arguments of the callbacks. Of
    windows on disk a few are read for that; windows that are only rounded differently
    are the same, and checkpoints are known by what they hold, not by where. More
    epochs, another device, other loaders, other initial weights (another seed of torch)
    and skorch's loggers make no other run. Callbacks of your own may train or only
    watch: where they differ, a warning says so. Of other objects of yours the arguments
    of their ``__init__`` count. What your callbacks note under names that end in an
    underscore is restored, if it is made of numbers, text, arrays and tensors.

    Parameters
    ----------
    folder : str or Path
        One folder a run; ``~`` is the home. It stays what it was when ``fit`` began.
    every_n_steps : int, optional
        For a :class:`~braindecode_gcmae.GCMAEPretrainer`: also inside an epoch.

    Raises
    ------
    CheckpointError
        If the file is damaged, or belongs to another net or another run. Also if it
        was written by a version that did not note the run: it could be of any.
    ValueError
        If another callback of this package comes before it.

    Warns
    -----
    UserWarning
        If a callback of yours has noted something else under such a name: a run that
        goes on does not have it.
    """

    def __init__(self, folder, every_n_steps=None):
        self.folder = folder
        self.every_n_steps = every_n_steps

    folder_ = max_epochs_ = None

    @property
    def file(self) -> Path:
        """Where the state is kept; for a whole fit where it was when that began."""
        return (self.folder_ or _absolute(self.folder)) / "training.pt"

    def initialize(self):
        """Nothing has been restored yet."""
        self.state_ = self.replay_ = self.folder_ = None
        return self

    def check(self, net, X=None, y=None) -> None:
        """Refuse an order of callbacks in which things would be done again."""
        self._check_order(net)

    # -- skorch --------------------------------------------------------------
    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Restore what is there, and leave only the rest of the epochs to do."""
        self._check_order(net)
        self._put_back(net)  # an earlier fit may have died
        AfterAll.leave(net)
        self.state_ = self.replay_ = self.split_ = None
        self.stages_: list[dict] = []  # that are over
        self.n_found_, self.epoch_over_ = 0, False
        self.told_: set[tuple[str, str]] = set()  # what cannot be kept
        self.folder_ = _absolute(self.folder)
        self.begin_ = random_state()
        others = [(n, c) for n, c in net.callbacks_ if c is not self]
        self.run_ = fingerprint(net, X, y, others)
        restore_random_state(self.begin_)
        if self.file.exists():
            self._begin_again(net)
        check_all(self, net, X, y)
        if _is_main(net):
            remove_left(self.file)
        # Nobody writes before everybody has read.
        _wait_for_all(net)
        AfterAll.follow(net, self)

    def _begin_again(self, net) -> None:
        state = self._read(net)
        check_run(self.file, state.get("run"), self.run_)
        if len(net.history) and len(json.loads(state["history"])) >= net.max_epochs:
            warn(
                f"{self.file} holds this run, all {net.max_epochs} epochs of it: there "
                "is nothing left to do. To train on, raise max_epochs, or remove the "
                "callback"
            )
        self.state_ = state
        self.begin_ = state["random_at_begin"]
        try:
            self._restore_tensors(net, state)
            self._restore_loose(net, state)
            net.history[:] = json.loads(state["history"])
            for name, callback in _ours(net):
                callback.resume_from(state["callbacks"].get(name, {}))
            self.split_ = state.get("random_at_split")
            for known in (self.split_ or self.begin_, self.begin_):
                restore_random_state(known)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"{self.file} is damaged: {error!r}") from error
        self.n_found_ = len(net.history)

    def kept_stage(self) -> dict | None:
        """The stage that is next, if it was over when the file was written."""
        kept = self.state_ and self.state_.get("stages")
        return kept[len(self.stages_)] if len(kept or ()) > len(self.stages_) else None

    def keep_stage(self, net, stage: dict) -> None:
        """Save what came before the training; or go on behind it, if it was saved."""
        self.stages_.append(stage)
        if self.state_ is None:
            self._write(net, net.history.to_list(), partial=None)
        elif len(self.state_.get("stages") or ()) == len(self.stages_):
            self._resume(net)

    def all_have_begun(self, net) -> None:
        """Draw validation splits as they were, and leave only the rest to do."""
        if self.state_ is None:
            self.split_ = random_state()
        else:
            restore_random_state(self.split_ or self.begin_)
            # Before the first epoch: what is frozen in that one comes after.
            restore_trainable(_modules(net), self.state_.get("loose", {}))
        # fit_loop reads max_epochs after this; it is put back at the first epoch.
        left = max(0, net.max_epochs - self.n_found_)
        self.max_epochs_, net.max_epochs = (net.max_epochs, left), left

    def on_epoch_begin(self, net, dataset_train=None, **kwargs):
        """Save: the last epoch is over for every callback, this one untouched."""
        self._put_back(net)
        self.stages_, self.epoch_over_ = [], False
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
            restore_random_state(self.replay_["random"])
            restore_loose(net, self.replay_.get("loose", {}))
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
        AfterAll.follow(net, self)

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Save the end; or give back what was found, if no epoch was left to do.

        Where training was stopped (Ctrl-C, early stopping) the last checkpoint stays:
        going on replays from there, and what stopped it by rule stops it again.
        """
        AfterAll.leave(net)
        self._put_back(net)
        if self.state_ is not None:
            self._resume(net)
        elif self.epoch_over_ and len(net.history) >= net.max_epochs:
            self._write(net, net.history.to_list(), partial=None)

    # -- saving ----------------------------------------------------------------
    def _write(self, net, rows: list, partial: dict | None) -> None:
        if not _is_main(net):
            return
        over = [stage.get("callback") for stage in self.stages_]
        begun = not self.stages_  # else nothing is known of callbacks that follow
        known = {n: learnt(c) for n, c in net.callbacks_ if begun}
        self._warn_of_unkept(net, known)
        state = {
            "format": _FORMAT,
            "module": type(unwrap(net.module_)).__name__,
            "run": self.run_,
            "tensors": _tensors(net),
            "loose": loose_state(net, _modules(net)),
            "history": json.dumps(rows, default=_plain),
            "partial": None if partial is None else json.dumps(partial, default=_plain),
            "position": {} if partial is None else net.resume_state(),
            "random": random_state(),
            "random_at_begin": self.begin_,
            "random_at_split": self.split_,
            "stages": self.stages_,
            "callbacks": {
                name: callback.resume_state()
                for name, callback in _ours(net)
                if begun or name in over
            },
            "learnt": known,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        own = name_of_writer(self.file)
        replace_file(own, lambda name: torch.save(state, name))
        os.replace(own, self.file)

    def _warn_of_unkept(self, net, known: dict) -> None:
        """Once a fit, and before anything is lost."""
        for name, callback in net.callbacks_ if known else ():
            left = [(name, thing) for thing in unkept(callback, known[name])]
            new = [thing for _, thing in left if (name, thing) not in self.told_]
            self.told_.update(left)
            if new:
                warn(
                    f"{', '.join(new)} of the callback {name!r} is not kept in "
                    f"{self.file}: a run that goes on begins with another. Numbers, "
                    "text, arrays, tensors and lists and dicts of them (state_dict) "
                    "are kept. If nothing depends on it, leave out the last underscore"
                )

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
        parts = [*_PARTS.items(), *(p for p in _NEWER.items() if p[0] in state)]
        for part, kind in parts:
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

    def _restore_loose(self, net, state: dict) -> None:
        """Early, so that a damaged file is found before anything is trained."""
        try:
            restore_trainable(_modules(net), state.get("loose", {}))
            restore_loose(net, state.get("loose", {}))
        except CheckpointError as error:
            raise CheckpointError(f"{self.file} is damaged: {error}") from error

    def _resume(self, net) -> None:
        """Once callbacks have begun: what they overwrote, and the random states."""
        state, self.state_ = self.state_, None
        self._restore_tensors(net, state)
        for name, callback in net.callbacks_:
            learnt_there = state["learnt"].get(name, {})
            restore_learnt(callback, learnt_there, device_of(net))
        if hasattr(net, "choose_objective"):  # by max_epochs, which was another
            net.choose_objective()
        if state["partial"] is not None:
            net.history[-1] = json.loads(state["partial"])
            net.resume_from(state["position"])
            self.replay_ = {n: state[n] for n in ("random", "loose") if n in state}
        restore_loose(net, state.get("loose", {}))
        restore_random_state(state["random"])

    def _put_back(self, net) -> None:
        """Give the net its max_epochs back; not if somebody has set another since."""
        if self.max_epochs_ is not None:
            given, left = self.max_epochs_
            if net.max_epochs == left:
                net.max_epochs = given
        self.max_epochs_ = None

    def _check_order(self, net) -> None:
        ours = [c for _, c in net.callbacks_ if isinstance(c, DescribedCallback)]
        if ours and ours[0] is not self:
            raise ValueError(
                f"ResumableCheckpoint must come before {type(ours[0]).__name__} in "
                "callbacks: what that does is not to be done again on resuming"
            )


def _absolute(folder) -> Path:
    return Path(folder).expanduser().absolute()


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
    return process_index(net) == 0


def _wait_for_all(net) -> None:
    """Not for processes that train nets of their own: they may never come here."""
    if n_processes(net) > 1:
        net.accelerator.wait_for_everyone()
