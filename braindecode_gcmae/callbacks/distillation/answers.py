"""What a frozen teacher says to windows that come again in every epoch."""

import math
from collections.abc import Callable
from hashlib import blake2b

import torch
from skorch.utils import to_device
from torch import Tensor, nn

from ...graph import EdgeMean
from ...models.wrapped import evaluating
from ..hooks import INPUTS, device_of
from ..randomness import unmoved_randomness

__all__ = ["TeacherAnswers", "inputs_of", "mean_graph", "refuse_unordered"]


class TeacherAnswers:
    """Logits and node embeddings of a frozen teacher, each window's worked out once.

    On the CPU a teacher's forward pass is most of a distillation step, and says the
    same in every epoch. Windows that were handed to :meth:`learn` are answered from
    memory, found by their content, so that augmented ones are worked out as before.
    Windows are learnt in the order of their data set: the bits do not depend on the
    batch in which one is met. On other devices nothing is kept, because to look at a
    window would be to wait for it.

    Parameters
    ----------
    teacher : GCMAETeacher or GCMAEStudent
        In evaluation mode, on its device.
    largest : int
        Bytes that the answers to one data set may take; more are not kept.
    others : list of nn.Module
        The rest of a committee: what is decided is decided by all
        (:func:`committee_logits`), the nodes are the teacher's.
    regression : bool
        Whether outputs are values instead of logits.
    instead : callable(x, logits) -> logits, optional
        Other answers to some of the windows, whose nodes stay the teacher's.
    """

    def __init__(
        self,
        teacher: nn.Module,
        largest: int = 1 << 28,
        others: list | tuple = (),
        *,
        regression: bool = False,
        instead: Callable[[Tensor, Tensor], Tensor] | None = None,
    ):
        self.regression, self.instead = regression, instead
        self.teacher, self.others, self.largest = teacher, list(others), largest
        self.rows: dict[bytes, tuple[Tensor, Tensor]] = {}

    @torch.no_grad()
    def __call__(self, inputs: dict) -> tuple[Tensor, Tensor]:
        """Logits (B, C) and node embeddings (B, m, D) of a batch."""
        if self.rows:
            found = [self.rows.get(key) for key in _digests(inputs)]
            if all(row is not None for row in found):
                logits, nodes = zip(*found, strict=True)
                return torch.stack(logits), torch.stack(nodes)
        logits, nodes = with_nodes(self.teacher, inputs)
        if self.others:
            logits = [logits, *(member(**inputs) for member in self.others)]
            logits = committee_logits(logits, regression=self.regression)
        if self.instead is not None:
            logits = self.instead(inputs["x"], logits)
        return logits, nodes

    def pays(self, n_windows: int, n_uses: int) -> bool:
        """Whether ``n_windows``, looked at ``n_uses`` times in all, are worth it."""
        network = self.teacher.network
        size = len(network.rows) * network.embed.out_features + self.teacher.n_outputs
        on_cpu = next(self.teacher.parameters()).device.type == "cpu"
        return on_cpu and n_uses > n_windows and 4 * size * n_windows <= self.largest

    def learn(self, batches) -> None:
        """Keep the answers to all windows of ``batches`` (dicts of inputs)."""
        learnt: dict[bytes, tuple[Tensor, Tensor]] = {}
        for inputs in batches:
            answers = zip(*self(inputs), strict=True)
            learnt.update(zip(_digests(inputs), answers, strict=True))
        self.rows.update(learnt)


def with_nodes(model: nn.Module, inputs: dict) -> tuple[Tensor, Tensor]:
    """What a model's own ``forward`` gives (B, C), and its node embeddings (B, m, D).

    They are what its readout is handed, as the student's are.
    """
    seen: list[Tensor] = []
    keep = model.network.readout.register_forward_pre_hook(
        lambda _, args: seen.append(args[0])
    )
    try:
        logits = model(**inputs)
    finally:
        keep.remove()
    return logits, seen[-1]


def committee_logits(logits: list[Tensor], *, regression: bool = False) -> Tensor:
    r"""What a committee says: the mean of its members' probabilities, as logits.

    .. math:: z_c = \log \frac1K \sum_k \mathrm{softmax}(z^{(k)})_c

    Parameters
    ----------
    logits : list of Tensor, shape (B, C)
        Of each member.
    regression : bool
        Whether they are values, whose mean is taken.

    Returns
    -------
    Tensor, shape (B, C)
    """
    stacked = torch.stack(logits)
    if regression:
        return stacked.mean(0)
    return stacked.log_softmax(-1).logsumexp(0) - math.log(len(logits))


def _digests(inputs: dict) -> list[bytes]:
    """Sixteen bytes of the content of each window, its positions and its mask."""
    n = len(inputs["x"])
    digests = [blake2b(digest_size=16) for _ in range(n)]
    for name in sorted(inputs):
        values = inputs[name]
        if values is None:
            continue
        shared = values.ndim == {"x": 3, "pos": 3, "ch_mask": 2}[name] - 1
        rows = values.expand(n, *values.shape) if shared else values
        kind = f"{name} {rows.dtype}".encode()
        content = rows.contiguous().view(torch.uint8).numpy()  # numpy has no bfloat16
        for digest, row in zip(digests, content, strict=True):
            digest.update(kind + row.tobytes())
    return [digest.digest() for digest in digests]


def inputs_of(net, windows, *, training: bool = False):
    """Batches of a data set as inputs of ``forward``, on the net's device.

    In order, unless they are to be those of a ``training``.
    """
    # Loaders draw a seed, augmentations more: looking must not move training.
    with unmoved_randomness():
        for x, _ in net.get_iterator(windows, training=training):
            given = x if isinstance(x, dict) else {"x": x}
            inputs = {name: given[name] for name in INPUTS if name in given}
            yield to_device(inputs, device_of(net))


def refuse_unordered(network: nn.Module, inputs: dict) -> None:
    """Refuse a student whose nodes are another electrode in each window."""
    if inputs.get("pos") is not None and not network.selects:
        raise ValueError(
            "the windows carry positions of their own: the student needs "
            "electrodes= to be distilled, so that its nodes keep their order"
        )


@torch.no_grad()
def mean_graph(model: nn.Module, net, windows) -> Tensor:
    """Mean adjacency of a model over windows, in evaluation mode."""
    network, mean = model.network, EdgeMean()
    with evaluating(network):
        for inputs in inputs_of(net, windows):
            refuse_unordered(network, inputs)
            _, _, adjacency, electrodes = network.graph_of(**inputs)
            mean.add(adjacency, electrodes.present)
    return mean.value()
