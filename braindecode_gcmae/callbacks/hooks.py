"""Adding a term to the loss of any skorch net, from a callback.

A forward hook on the initialised criterion returns ``loss + term``. The criterion keeps
its type, and what skorch back-propagates, scales, accumulates, clips and records is the
one sum.
"""

import sys
import threading
import weakref
from contextlib import contextmanager

import mne
import numpy as np
import torch
from skorch.callbacks import Callback
from torch import Tensor, nn

from ..models.wrapped import unwrap
from .checks.ahead import check_batches
from .checks.channels import refuse_others
from .checks.inputs import refuse_cropped
from .describe import DescribedCallback

__all__ = ["INPUTS", "AuxiliaryLoss", "check_all", "device_of"]

INPUTS = ("x", "pos", "ch_mask")  # of a network, in the order of its arguments


def device_of(net) -> torch.device:
    """Where a net's module is; ``net.device`` is None under accelerate."""
    return next(unwrap(net.module_).parameters()).device


def check_all(first: Callback, net, X, y) -> None:
    """The first of our callbacks asks all of them, before any trains a thing."""
    described = [c for _, c in net.callbacks_ if isinstance(c, DescribedCallback)]
    ours = [c for c in described if hasattr(c, "check")]
    if ours[0] is first:
        for callback in ours:
            callback.check(net, X, y)
        check_batches(net, X, y)


def _forget_compiled(net) -> None:
    """Let a compiled net be compiled anew, with the hooks that hang on it now.

    torch.compile keeps graphs by the code they are of, and does not look at hooks: one
    of an earlier net of this class, or of a prediction, would be run without them.
    """
    if getattr(net, "compile", False) or unwrap(net.module_) is not net.module_:
        torch.compiler.reset()


def _is_fitting(net) -> bool:
    """Whether a fit of this net has called what runs now.

    skorch tells callbacks of a KeyboardInterrupt only: of a fit that died by any other
    error nothing remains but that it is no longer among the callers.
    """
    frame = sys._getframe() if net is not None else None
    while frame is not None:
        within = frame.f_code.co_name in ("fit", "partial_fit", "fit_loop")
        if within and frame.f_locals.get("self") is net:
            return True
        frame = frame.f_back
    return False


class _Hook:
    """A hook that is gone when the module it hangs on is pickled or copied."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *args):
        return self.function(*args)

    def __reduce__(self):
        return _NoHook, ()


class _NoHook:
    """What a copied hook becomes: gone with the first call of what it hangs on.

    Not before: where a copy is made the hook does not know of what.
    """

    def __call__(self, module, *args):
        if torch.compiler.is_compiling():
            return
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for key in [key for key, hook in hooks.items() if hook is self]:
                del hooks[key]
                module._forward_pre_hooks_with_kwargs.pop(key, None)

    @property
    def __name__(self) -> str:  # which torch.jit.script asks for
        raise AttributeError(
            "a copy that was taken inside fit still has the place of a hook: call it "
            "once, then it can be scripted"
        )


def _record(history, key: str, value: float) -> None:
    """Record a value and, as skorch's scores do, whether it is the lowest so far."""
    earlier = [row[key] for row in history[:-1] if key in row]
    history.record(key, value)
    history.record(f"{key}_best", value < min(earlier, default=float("inf")))


class AuxiliaryLoss(DescribedCallback, Callback):
    """Base of callbacks that add weighted terms to the loss while a net trains.

    Subclasses implement :meth:`setup` (once per fit) and :meth:`compute`, which returns
    the terms of a batch by name. Terms are recorded as ``train_<name>`` and, on
    validation batches where they change nothing, as ``valid_<name>``; beside each,
    ``<key>_best`` serves skorch's ``Checkpoint(monitor=...)``. Where a net has several
    such callbacks, their names in it precede: ``train_<callback>_<name>``.
    """

    # -- to implement --------------------------------------------------------
    def setup(self, net, X, y) -> None:
        """Called when training begins, with the data of ``fit``."""
        raise TypeError(f"{type(self).__name__} does not implement setup")

    def compute(self, inputs: dict, nodes, electrodes, y_pred, training: bool) -> dict:
        """Terms of a batch: name -> (weight, scalar Tensor).

        Parameters
        ----------
        inputs : dict
            What the module was called with: ``x`` (B, C, T), ``pos``, ``ch_mask``.
        nodes : Tensor, shape (B, n, D)
            Node embeddings of this forward pass, with their gradients.
        electrodes : :class:`~braindecode_gcmae.features.Electrodes`
            Where they are, and which exist and have data.
        y_pred : Tensor
            What the criterion was called with.
        training : bool
            Whether this is a training batch.
        """
        raise TypeError(f"{type(self).__name__} does not implement compute")

    def check(self, net, X=None, y=None) -> None:
        """Refuse a net, or data, that cannot be; asked before anything is trained."""
        module = unwrap(net.module_)
        if not hasattr(module, "network"):
            raise TypeError(
                f"{type(self).__name__} needs a GCMAEStudent or GCMAETeacher, the "
                f"net's module is a {type(module).__name__}"
            )
        refuse_cropped(net, type(self).__name__)
        if not isinstance(net.criterion_, nn.Module):
            raise TypeError(
                f"{type(self).__name__} needs a criterion that is a torch Module"
            )
        if isinstance(X, mne.BaseEpochs):
            refuse_others(X, module)

    # -- skorch ----------------------------------------------------------------
    def initialize(self):
        """Forget an earlier net; not one that sets parameters while it is fitted."""
        if not _is_fitting(self._host()):
            self._detach()
        return self

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Prepare the terms and hang the hooks."""
        self._detach()  # an earlier fit may have died
        check_all(self, net, X, y)
        module, self.host_ = unwrap(net.module_), weakref.ref(net)
        self.thread_ = threading.get_ident()
        self.setup(net, X, y)
        _forget_compiled(net)
        readout, before = module.network.readout, _Hook(self._keep_inputs)
        self.handles_ = [
            module.register_forward_pre_hook(before, with_kwargs=True),
            readout.register_forward_pre_hook(_Hook(self._keep_nodes)),
            net.criterion_.register_forward_hook(_Hook(self._add_terms)),
        ]

    def on_epoch_begin(self, net, **kwargs):
        """Start the epoch's averages."""
        self.records_ = {"train": [], "valid": []}

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Listen to steps only: scoring callbacks call the module as well."""
        self.listening_, self.training_ = True, bool(training)
        self.inputs_ = self.nodes_ = self.terms_ = None

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        """Note the batch's terms; they stay on the device until the epoch ends."""
        if self.terms_ is not None:
            self.records_["train" if training else "valid"].append(self.terms_)
        self.listening_ = False
        self.inputs_ = self.nodes_ = self.terms_ = None

    def on_epoch_end(self, net, **kwargs):
        """Record the epoch's mean of each term, over the batches that had it."""
        for prefix, rows in self.records_.items():
            for name in dict.fromkeys(name for _, terms in rows for name in terms):
                having = [row for row in rows if name in row[1]]
                sizes = [size for size, _ in having]
                values = torch.stack([terms[name] for _, terms in having]).cpu()
                mean = float(np.average(values.double().numpy(), weights=sizes))
                _record(net.history, self._key(net, prefix, name), mean)

    def _key(self, net, prefix: str, name: str) -> str:
        """What a term is called in the history."""
        names = [n for n, c in net.callbacks_ if c is self]
        several = sum(isinstance(c, AuxiliaryLoss) for _, c in net.callbacks_) > 1
        return "_".join([prefix, *(names if several else []), name])

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Take the hooks off."""
        self._detach()

    # -- hooks -------------------------------------------------------------
    def _hears(self) -> bool:
        """Whether what runs now is what is learnt, or validated.

        In a training step that is what has gradients: without them other callbacks
        predict, and steps of other methods look at the module first. Who predicts in
        another thread is not heard either.
        """
        learns = torch.is_grad_enabled() or not self.training_
        return self.listening_ and learns and self._is_own()

    @torch.compiler.disable  # else torch warns that it cannot trace the question
    def _is_own(self) -> bool:
        """Whether this is the thread of the fit."""
        return self.thread_ == threading.get_ident()

    @contextmanager
    def _heard_alone(self):
        """Forward passes of this callback's own, of which no other is to hear."""
        net = self._host()
        ours = [c for _, c in net.callbacks_ if isinstance(c, AuxiliaryLoss)]
        others = [c for c in ours if c is not self and c.listening_]
        try:
            for callback in others:
                callback.listening_ = False
            yield
        finally:
            for callback in others:
                callback.listening_ = True

    def _host(self):
        """The net that is fitted; None without."""
        return getattr(self, "host_", None) and self.host_()

    def _keep_inputs(self, module, args, kwargs):
        if self._hears():
            # No strict=: torch 2.4 to 2.9 cannot compile a zip with an argument.
            given = {**dict(zip(INPUTS, args)), **kwargs}  # noqa: B905
            # A class of one's own may take more, e.g. weights of the windows.
            self.inputs_ = {k: v for k, v in given.items() if k in INPUTS}
        elif self._is_own() and self.listening_ and not _is_fitting(self._host()):
            self._detach()  # a prediction, after a fit that died in a step

    def _keep_nodes(self, readout, args):
        if self._hears():
            self.nodes_ = args

    def _add_terms(self, criterion, args, loss: Tensor):
        if not self._hears():
            return None
        if self.nodes_ is None:
            raise RuntimeError(
                f"{type(self).__name__}: the network was not seen. Hooks set after the "
                "first call of a compiled module are ignored: initialize the net again "
                "before adding this callback"
            )
        captured = self.inputs_, self.nodes_
        terms = self.compute(self.inputs_, *self.nodes_, args[0], self.training_)
        self.inputs_, self.nodes_ = captured
        total = sum(weight * value for weight, value in terms.values())
        values = {name: value for name, (_, value) in terms.items()} | {"distil": total}
        values = {
            name: torch.as_tensor(value, device=loss.device).detach()
            for name, value in values.items()
        }
        # With the size now: a callback that predicts leaves other nodes behind.
        self.terms_ = len(self.nodes_[0]), values
        return loss + total if self.training_ else None

    def _detach(self):
        for handle in getattr(self, "handles_", ()):
            handle.remove()
        self.handles_, self.records_ = [], {"train": [], "valid": []}
        self.listening_ = self.training_ = False
        self.inputs_ = self.nodes_ = self.terms_ = self.host_ = None

    def __getstate__(self):
        # A pickle taken inside fit carries neither hooks nor tensors of a batch.
        state = self.__dict__.copy()
        state.update(handles_=[], records_={"train": [], "valid": []})
        state.update(listening_=False, training_=False)
        state.update(inputs_=None, nodes_=None, terms_=None, host_=None, thread_=None)
        return state
