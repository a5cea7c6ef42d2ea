"""A training step as one CUDA graph: the GPU does not wait for Python."""

import gc
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from skorch.callbacks import Callback
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from .describe import DescribedCallback
from .distillation import TopologyDistillation
from .hooks import AuxiliaryLoss, check_all, device_of

__all__ = ["CudaGraph"]

_WARM_UP = 2  # steps of each epoch: libraries set themselves up in the first


class CudaGraph(DescribedCallback, Callback):
    """Replays the forward pass, the loss and the backward pass as one CUDA graph.

    The graphs of a few electrodes keep no GPU busy: a step's time is the number of its
    kernels, each started from Python. Recorded once, all of them are started together.
    For a :class:`~braindecode_gcmae.GCMAEPretrainer`, also as the ``callbacks`` in the
    ``arguments`` of a :class:`~braindecode_gcmae.GCMAEPretraining`, and for other
    skorch nets whose loss depends on the batch alone; distilled ones among them, with
    a :class:`~braindecode_gcmae.TopologyDistillation` without ``unlabelled`` and
    ``cross_fit``. The optimiser, what clips or logs gradients, schedules, key encoders
    and the queue are as without.

    In each epoch, and for each shape of batch, two steps are made as without, the next
    is recorded, and the others replay it: what changes between epochs counts, what
    Python code of a module or of a criterion would do from batch to batch does not.
    Each shape keeps the memory of a step. A step on which gradients of an earlier one
    are to be added up is made as without.

    Attributes
    ----------
    replayed_ : int
        Steps of this fit that were replayed.

    Raises
    ------
    ValueError
        If the net is not on a CUDA device, or has callbacks that add to its loss and
        look at each batch to do so.
    RuntimeError
        If the step cannot be recorded: in most cases it reads a value back to the host.
        CUDA's random numbers are of no use after that, in this process.

    References
    ----------
    https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    Examples
    --------
    >>> from braindecode_gcmae import CudaGraph, GCMAEPretrainer
    >>> pretrainer = GCMAEPretrainer(device="cuda", callbacks=[CudaGraph()])
    """

    def initialize(self):
        """Nothing is recorded yet."""
        self.replayed_ = 0
        return self

    def check(self, net, X=None, y=None) -> None:
        """Refuse a net whose step cannot be recorded."""
        device = device_of(net)
        if device.type != "cuda":
            raise ValueError(
                "CudaGraph needs a net on a CUDA device, this one is on "
                f"{device.type!r}: pass device='cuda', or leave the callback out"
            )
        if getattr(net, "accelerator", None) is not None:
            raise ValueError(
                "CudaGraph does not work with accelerate, which has a step of its own"
            )
        for name, callback in net.callbacks_:
            if isinstance(callback, AuxiliaryLoss) and not _is_replayable(callback):
                raise ValueError(
                    f"CudaGraph cannot replay what the callback {name!r} adds to the "
                    "loss: it looks at each batch, or at other windows. Leave one of "
                    "them out"
                )

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Stand in for the net's step."""
        _give_back(net)  # an earlier fit may have died
        check_all(self, net, X, y)
        self.replayed_ = 0
        net.train_step_single = _Steps(net, self)

    def on_epoch_begin(self, net, **kwargs):
        """Forget what was recorded: the epoch may be another one's."""
        net.train_step_single.forget()

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """Give the net its own step back, and the memory."""
        _give_back(net)


def _is_replayable(callback: AuxiliaryLoss) -> bool:
    """Whether its terms are made of the batch alone, on the device."""
    ours = type(callback) is TopologyDistillation
    return ours and callback.unlabelled is None and not callback.cross_fit


def _give_back(net) -> None:
    net.__dict__.pop("train_step_single", None)


class _Steps:
    """In the place of ``net.train_step_single``: recorded steps, by shape of batch."""

    def __init__(self, net, callback: CudaGraph):
        self.net, self.callback = weakref.ref(net), weakref.ref(callback)
        # Gradients are made where they were first made: all steps in one stream.
        device = device_of(net)
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.forget()

    def forget(self) -> None:
        """Record everything anew."""
        self.seen: Counter = Counter()
        self.recorded: dict[str, RecordedStep] = {}

    def __call__(self, batch, **fit_params):
        net = self.net()
        own = partial(type(net).train_step_single, net)
        leaves, structure = tree_flatten((batch, fit_params))
        parameters = [parameter for _, parameter in net.get_all_learnable_params()]
        adding = [c for _, c in net.callbacks_ if isinstance(c, AuxiliaryLoss)]

        def step(inputs: list):
            batch, fit_params = tree_unflatten(inputs, structure)
            found = own(batch, **fit_params)
            # Without history, or it would hold on to what is recorded.
            return _of_tensors(Tensor.detach, (found, [c.terms_ for c in adding]))

        adds_up = any(parameter.grad is not None for parameter in parameters)
        fixed = not adds_up and all(isinstance(leaf, Tensor) for leaf in leaves)
        key = _key(leaves, structure) if fixed else None
        with _within(self.stream):
            if self._is_to_replay(key):
                if key not in self.recorded:
                    place = device_of(net), self.stream
                    self.recorded[key] = RecordedStep(step, leaves, parameters, *place)
                self.callback().replayed_ += 1
                step = self.recorded[key]
            found, terms = step(leaves)
        for callback, values in zip(adding, terms, strict=True):
            callback.terms_ = values
        return found

    def _is_to_replay(self, key: str | None) -> bool:
        """Whether enough batches of this kind were seen; None is no kind."""
        if key is None:
            return False
        self.seen[key] += 1
        return self.seen[key] > _WARM_UP

    # A copy of a net that is taken inside a fit has its own step, from its fit on.
    def __reduce__(self):
        return _Copied, ()


class _Copied:
    """What a copy of a net, taken inside a fit, has in the place of its step."""

    def __call__(self, batch, **fit_params):
        raise RuntimeError(
            "this net was copied inside a fit with CudaGraph: before a train_step call "
            "its fit or partial_fit"
        )


def _key(leaves: list, structure) -> str:
    """Shapes and types of a batch."""
    return f"{structure} {[(leaf.shape, leaf.dtype) for leaf in leaves]}"


def _of_tensors(function, nest):
    """The function of each tensor in nested dicts and tuples."""
    return tree_map(lambda x: function(x) if isinstance(x, Tensor) else x, nest)


@contextmanager
def _within(stream) -> Iterator[None]:
    """Work in a stream, after what was begun before, and before what comes next."""
    if stream is None:
        yield
        return
    outside = torch.cuda.current_stream(stream.device)
    stream.wait_stream(outside)
    with torch.cuda.stream(stream):
        yield
    outside.wait_stream(stream)


class RecordedStep:
    """A step with fixed places for its batch, its gradients and what it returns.

    Parameters
    ----------
    step : callable
        From a list of tensors to a nested dict of tensors; leaves gradients.
    inputs : list of Tensor
        A batch, for the shapes.
    parameters : list of Parameter
        Those that may get gradients; they have none now.
    device : torch.device
    stream : torch.cuda.Stream
        The one that steps were made in until now.
    """

    def __init__(self, step, inputs: list, parameters: list, device, stream):
        self.inputs = [torch.empty_like(leaf, device=device) for leaf in inputs]
        self._fill(inputs)
        self._record(step, stream)
        self.gradients = [(p, p.grad) for p in parameters if p.grad is not None]

    def _record(self, step, stream) -> None:
        gc.collect()  # of an earlier step's history nothing may be left
        self.graph, first = torch.cuda.CUDAGraph(), None
        try:
            # Threads of loaders may pin their memory meanwhile.
            mode = "thread_local"
            with torch.cuda.graph(self.graph, stream=stream, capture_error_mode=mode):
                try:
                    self.outputs = step(self.inputs)
                except Exception as error:
                    first = error
                    raise
        except Exception as last:  # that the recording is invalid, and no more
            torch.cuda.set_stream(stream)
            why = first or last
            raise RuntimeError(
                "CudaGraph cannot record this net's training step. Begin a new process "
                f"and leave the callback out: {why}"
            ) from why

    def _fill(self, inputs: list) -> None:
        for place, leaf in zip(self.inputs, inputs, strict=True):
            place.copy_(leaf, non_blocking=True)

    def __call__(self, inputs: list):
        self._fill(inputs)
        self.graph.replay()
        for parameter, gradient in self.gradients:
            parameter.grad = gradient
        return _of_tensors(Tensor.clone, self.outputs)
