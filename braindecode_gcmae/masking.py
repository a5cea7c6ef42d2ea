"""Which nodes and edges are hidden, and the randomness that decides it.

Everything random in pretraining comes from :func:`counter_uniform`: a number is a
function of (seed, epoch, sample, stream, element) and of nothing else, so it is
the same with any batch size, number of workers, device or interruption.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, nn

__all__ = [
    "MaskToken",
    "counter_normal",
    "counter_uniform",
    "drop_edges",
    "drop_nodes",
    "failing_electrodes",
    "own_randomness",
    "restore_incident_edges",
]

_WORD = 1 << 64
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def _signed(word: int) -> int:
    """Read the low 64 bits of an integer as two's complement, as torch stores it."""
    return (word + _WORD // 2) % _WORD - _WORD // 2


def _mix_int(word: int) -> int:
    """Apply the SplitMix64 finaliser to one Python integer."""
    word %= _WORD
    word = (word ^ (word >> 30)) * _MIX_1 % _WORD
    word = (word ^ (word >> 27)) * _MIX_2 % _WORD
    return word ^ (word >> 31)


def _xor_shift(word: Tensor, bits: int) -> Tensor:
    # torch shifts int64 arithmetically: the copied sign bits are masked away
    return word ^ ((word >> bits) & ((1 << (64 - bits)) - 1))


def _mix(word: Tensor) -> Tensor:
    """Apply the SplitMix64 finaliser to int64 words (products wrap around)."""
    word = _xor_shift(word, 30) * _signed(_MIX_1)
    word = _xor_shift(word, 27) * _signed(_MIX_2)
    return _xor_shift(word, 31)


def _key(seed: int, epoch: int | Tensor, stream: int) -> int | Tensor:
    """Hash of what all rows share, in two's complement."""
    key = _mix_int(int(seed) * _GOLDEN + _GOLDEN)  # numpy's would overflow
    then = int(stream) * _GOLDEN + _GOLDEN
    if not isinstance(epoch, Tensor):
        key = _mix_int(key + int(epoch) * _GOLDEN + _GOLDEN)
        return _signed(_mix_int(key + then))
    passed = _mix(epoch * _signed(_GOLDEN) + _signed(key + _GOLDEN))
    return _mix(passed + _signed(then))


def _words(
    seed: int, epoch: int | Tensor, index: Tensor, stream: int, size: tuple
) -> Tensor:
    """Return 64 random bits for every element, as int64 of shape (B, *size)."""
    if index.ndim != 1 or index.is_floating_point() or index.dtype == torch.bool:
        raise ValueError(
            "index holds one sample number per row: expected an integer tensor of "
            f"shape (B,), got {index.dtype} of shape {tuple(index.shape)}."
        )
    # Each row is a SplitMix64 sequence of its own, started at a hash of its sample.
    start = _mix(_mix(index.long() * _signed(_GOLDEN)) ^ _key(seed, epoch, stream))
    # xor: inductor takes products of a plain arange for indices, and refuses those that
    # overflow.
    element = torch.arange(1, prod(size) + 1, device=index.device).bitwise_xor(0)
    words = _mix(start.unsqueeze(1) + element * _signed(_GOLDEN))
    return words.reshape(len(index), *size)


def counter_uniform(
    seed: int, epoch: int | Tensor, index: Tensor, stream: int, size: tuple
) -> Tensor:
    r"""Draw uniform numbers that depend on the sample, not on the batch.

    .. math:: u_{be} = h(h(seed, epoch, stream, index_b) + e \gamma) / 2^{24}

    where :math:`h` is the SplitMix64 finaliser (its upper 24 bits are used).
    Integer arithmetic only: the same bits on every device, no host
    synchronisation, and the global random state is neither read nor moved.

    Parameters
    ----------
    seed, epoch, stream : int
        Run, pass over the data, and purpose (one number per kind of draw). The epoch
        may be an int64 tensor, which a compiled program reads anew in every call.
    index : Tensor, shape (B,), integer
        Number of each window in its data set; its device is used.
    size : tuple of int
        Shape of what is drawn for each window.

    Returns
    -------
    Tensor, shape (B,) + size, float32, in [0, 1)

    Raises
    ------
    ValueError
        If ``index`` is not a vector of integers.

    References
    ----------
    Steele, Lea, Flood (2014), Fast splittable pseudorandom number generators,
    doi:10.1145/2660193.2660195.
    """
    words = _words(seed, epoch, index, stream, tuple(size))
    return ((words >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def counter_normal(
    seed: int, epoch: int | Tensor, index: Tensor, stream: int, size: tuple
) -> Tensor:
    r"""Draw standard normal numbers that depend on the sample, not on the batch.

    .. math:: z = \sqrt{-2 \ln u_1} \cos(2 \pi u_2)

    with both uniforms cut out of the one 64-bit word that
    :func:`counter_uniform` would use. Computed in float64 and rounded once, so
    that devices whose logarithms differ in the last bit still agree.

    Parameters
    ----------
    seed, epoch, stream : int
        Run, pass over the data, and purpose (one number per kind of draw). The epoch
        may be an int64 tensor, which a compiled program reads anew in every call.
    index : Tensor, shape (B,), integer
        Number of each window in its data set; its device is used.
    size : tuple of int
        Shape of what is drawn for each window.

    Returns
    -------
    Tensor, shape (B,) + size, float32

    Raises
    ------
    ValueError
        If ``index`` is not a vector of integers.

    References
    ----------
    Box, Muller (1958), doi:10.1214/aoms/1177706645.
    """
    words = _words(seed, epoch, index, stream, tuple(size))
    exact = _exact(words.device)
    upper = ((words >> 32) & 0xFFFFFFFF).to(exact)
    lower = (words & 0xFFFFFFFF).to(exact)
    radius = (-2.0 * ((upper + 0.5) * 2.0**-32).log()).sqrt()
    angle = lower * (2.0 * torch.pi * 2.0**-32)
    return (radius * angle.cos()).to(torch.float32)


def _exact(device: torch.device) -> torch.dtype:
    """Double precision, where the device has it: Apple's has not."""
    return torch.float32 if device.type == "mps" else torch.float64


def _check_ratio(ratio: float) -> None:
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio must lie between 0 and 1, got {ratio}.")


def drop_nodes(noise: Tensor, ratio: float, present: Tensor | None = None) -> Tensor:
    """Choose, per window, which electrodes are dropped from a view and masked.

    The ``round(ratio * n_present)`` present nodes of lowest noise are dropped
    (halves go to the even number). At least one present node always stays; if
    ``ratio > 0`` and two or more are present, at least one is dropped.

    Parameters
    ----------
    noise : Tensor, shape (B, N)
        Uniform numbers, e.g. of :func:`counter_uniform`.
    ratio : float
        Share of the present nodes to drop, 0 to 1.
    present : Tensor, shape (B, N), bool, optional
        True where the window has this electrode. Default: everywhere.

    Returns
    -------
    Tensor, shape (B, N), bool
        True = dropped; never True for an absent node.

    Raises
    ------
    ValueError
        If ``ratio`` lies outside 0 to 1.

    References
    ----------
    METHOD D5; per-sample masks by argsort as in MAE, arXiv:2111.06377.
    """
    _check_ratio(ratio)
    if present is None:
        present = torch.ones_like(noise, dtype=torch.bool)
    n_present = present.sum(dim=1)
    n_dropped = (n_present.to(_exact(noise.device)) * ratio).round().long()
    if ratio > 0:
        n_dropped = n_dropped.clamp(min=1)
    n_dropped = torch.minimum(n_dropped, (n_present - 1).clamp(min=0))
    return _lowest(noise, present, n_dropped)


def _lowest(score: Tensor, present: Tensor, count: Tensor) -> Tensor:
    """The ``count`` (B,) present nodes of lowest score (B, N), as a mask (B, N)."""
    order = score.masked_fill(~present, torch.inf).argsort(dim=1, stable=True)
    return order.argsort(dim=1) < count.unsqueeze(1)


def failing_electrodes(
    noise: Tensor, ratio: float, present: Tensor, positions: Tensor, together: Tensor
) -> Tensor:
    """Choose, per window, which electrodes fail: each by itself, or neighbours.

    Every present electrode fails with probability ``ratio``; the one of largest noise
    never does. Where ``together``, as many fail as otherwise would, but a random one
    and those nearest to it: a pulled cable, dried gel, a cap that lifts on one side.
    One electrode always stays.

    Parameters
    ----------
    noise : Tensor, shape (B, N)
        Uniform numbers.
    ratio : float
        Probability of failing.
    present : Tensor, shape (B, N), bool
        True where the window has this electrode.
    positions : Tensor, shape (B or 1, N, 3)
        Metres. An electrode without a finite position is nobody's neighbour.
    together : Tensor, shape (B,), bool

    Returns
    -------
    Tensor, shape (B, N), bool
        True = fails; never True for an absent node.
    """
    _check_ratio(ratio)
    largest = torch.where(present, noise, -1.0).argmax(1, keepdim=True)
    fails = present & (noise < ratio)
    fails = fails.scatter(1, largest, False)
    # Which electrode has the largest noise says nothing about how many fail: it is the
    # random one.
    positions = positions.expand(noise.shape[0], -1, -1)
    centre = positions.gather(1, largest.unsqueeze(-1).expand(-1, -1, 3))
    gap = (positions - centre).square().sum(-1)
    far = torch.where(torch.isfinite(gap), gap, 1.0 + noise)  # beyond any head
    near = _lowest(far, present, fails.sum(1))
    return torch.where(together.unsqueeze(1), near, fails)


def drop_edges(noise: Tensor, ratio: float) -> Tensor:
    """Choose, per window, which edges a view keeps: a symmetric Bernoulli draw.

    Each unordered pair of nodes is dropped with probability ``ratio``, decided
    by the noise above the diagonal; self-loops always stay.

    Parameters
    ----------
    noise : Tensor, shape (B, N, N)
        Uniform numbers in [0, 1).
    ratio : float
        Probability of dropping an edge, 0 to 1.

    Returns
    -------
    Tensor, shape (B, N, N), bool
        True = kept.

    Raises
    ------
    ValueError
        If ``ratio`` lies outside 0 to 1.

    References
    ----------
    METHOD D5, and B-32 for the ratio that other code does not keep.
    """
    _check_ratio(ratio)
    upper = (noise >= ratio).triu(1)
    loops = torch.eye(noise.shape[-1], dtype=torch.bool, device=noise.device)
    return upper | upper.mT | loops


def restore_incident_edges(keep: Tensor, masked: Tensor) -> Tensor:
    """Put back every edge that touches a masked node.

    A masked node without edges could not be in-painted from its neighbours.

    Parameters
    ----------
    keep : Tensor, shape (B, N, N), bool
        Edges kept, e.g. by :func:`drop_edges`.
    masked : Tensor, shape (B, N), bool
        Nodes that carry the mask token.

    Returns
    -------
    Tensor, shape (B, N, N), bool

    References
    ----------
    METHOD D5.
    """
    return keep | masked.unsqueeze(2) | masked.unsqueeze(1)


@contextmanager
def own_randomness(
    *key: int, device: str | torch.device = "cpu"
) -> Iterator[torch.Generator]:
    """Draw torch's random numbers from a key, and give the global state back.

    For what has no counter-based form (initial weights, dropout): inside, they depend
    on the key alone; outside, nothing has happened.

    Parameters
    ----------
    *key : int
        E.g. (seed, epoch, step).
    device : str or torch.device
        Also its generator, if it is a CUDA or MPS device.
    """
    word = 0
    for number in key:
        word = _mix_int(word + _GOLDEN + int(number))
    device = torch.device(device)
    cuda = [device] if device.type == "cuda" else []
    before = torch.mps.get_rng_state() if device.type == "mps" else None
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(word)
        if before is not None:
            torch.mps.manual_seed(word)
        for gpu in cuda:
            index = torch.cuda.current_device() if gpu.index is None else gpu.index
            torch.cuda.default_generators[index].manual_seed(word)
        try:
            yield torch.default_generator
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


class MaskToken(nn.Module):
    """The learned embedding that stands for a hidden or missing electrode.

    One vector per model, zero at first (a network draws it). What a masked node held
    influences nothing, gradients included, even if it is not finite.

    Parameters
    ----------
    size : int
        Width of what it stands for; of the networks here the embedding's, D.

    References
    ----------
    METHOD A.5, step 2, and D5.
    """

    def __init__(self, size: int):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(size))

    def forward(self, nodes: Tensor, masked: Tensor) -> Tensor:
        """Replace the masked rows of ``nodes`` (B, N, D); ``masked`` is (B, N)."""
        return torch.where(masked.unsqueeze(-1), self.token.to(nodes.dtype), nodes)
