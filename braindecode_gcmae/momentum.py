"""The slow twin of an encoder, and the queue of keys that it has made."""

from copy import deepcopy

import torch
from torch import Tensor, nn

__all__ = ["KeyQueue", "momentum_copy", "update_momentum"]


def momentum_copy(module: nn.Module) -> nn.Module:
    """Return a deep copy that shares no tensor with the module and never learns.

    Parameters
    ----------
    module : nn.Module
        The query encoder, with its projection head.

    Returns
    -------
    nn.Module
        Same class and values, in the same mode; no parameter requires gradients.

    References
    ----------
    METHOD D3; MoCo, arXiv:1911.05722.
    """
    copy = deepcopy(module)
    copy.zero_grad(set_to_none=True)
    return copy.requires_grad_(False)


def _pair(kind: str, key: list, query: list) -> tuple[list, list]:
    """Check that two lists of named tensors belong to twins; drop the names."""
    for (name, ours), (other, theirs) in zip(key, query, strict=False):
        if name != other or ours.shape != theirs.shape:
            raise ValueError(
                f"key and query differ at {kind} {name!r} {tuple(ours.shape)} against "
                f"{other!r} {tuple(theirs.shape)}: make it by momentum_copy(query)."
            )
        if ours is theirs:
            raise ValueError(
                f"key and query share the {kind} {name!r}, so momentum would change "
                "nothing: make the key by momentum_copy(query)."
            )
    if len(key) != len(query):
        raise ValueError(
            f"key has {len(key)} {kind}s and query {len(query)}: make the key by "
            "momentum_copy(query)."
        )
    return [tensor for _, tensor in key], [tensor for _, tensor in query]


@torch.no_grad()
def update_momentum(key: nn.Module, query: nn.Module, momentum: float) -> None:
    r"""Move the key encoder a little towards the query encoder, in place.

    .. math:: \theta_k \leftarrow \mu \theta_k + (1 - \mu) \theta_q

    for floating-point parameters; other parameters and all buffers (running
    statistics, counters) are copied.

    Parameters
    ----------
    key, query : nn.Module
        The twin made by :func:`momentum_copy`, and its original.
    momentum : float
        :math:`\mu`, 0 (copy) to 1 (stand still).

    Raises
    ------
    ValueError
        If ``momentum`` lies outside 0 to 1, or the modules are not twins or
        share a tensor.

    References
    ----------
    METHOD A.5 (:math:`\mu` = 0.999); MoCo, eq. 2, arXiv:1911.05722.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum must lie between 0 and 1, got {momentum}.")
    keys, queries = _pair(
        "parameter", list(key.named_parameters()), list(query.named_parameters())
    )
    copies, originals = _pair(
        "buffer", list(key.named_buffers()), list(query.named_buffers())
    )
    moving = [slow.is_floating_point() for slow in keys]
    slow = [tensor for tensor, moves in zip(keys, moving, strict=True) if moves]
    fast = [tensor for tensor, moves in zip(queries, moving, strict=True) if moves]
    copies += [tensor for tensor, moves in zip(keys, moving, strict=True) if not moves]
    originals += [t for t, moves in zip(queries, moving, strict=True) if not moves]
    if slow:
        torch._foreach_lerp_(slow, fast, 1 - momentum)
    if copies:
        torch._foreach_copy_(copies, originals)


class KeyQueue(nn.Module):
    """A ring of the last Q keys, unit vectors without history, in a state_dict.

    The t-th key ever pushed lies in slot t mod Q. Teacher and student contrast
    against the same queue. All of its state is in buffers and no method reads a
    value back to the host, so it can sit inside a captured training step.

    Parameters
    ----------
    size : int
        Number of slots Q.
    dim : int
        Length of a key.

    Attributes
    ----------
    keys : Tensor, shape (Q, dim)
        Unit keys; zero where nothing was pushed yet.
    groups : Tensor, shape (Q,), int64
        Subject of each key, -1 = unknown.
    pointer, fill : Tensor, 0-d int64
        Slot of the next key, and number of slots in use.

    References
    ----------
    METHOD D2; MoCo, arXiv:1911.05722.
    """

    keys: Tensor
    groups: Tensor
    pointer: Tensor
    fill: Tensor

    def __init__(self, size: int, dim: int):
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"a queue needs size, dim >= 1, got {size} and {dim}.")
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("groups", torch.full((size,), -1))
        self.register_buffer("pointer", torch.tensor(0))
        self.register_buffer("fill", torch.tensor(0))

    @torch.no_grad()
    def enqueue(self, keys: Tensor, groups: Tensor | None = None) -> None:
        """Push keys (M, dim), any M; the oldest leave. Call it after the loss.

        ``groups`` (M,) holds the subject of each key; None or -1 = unknown.
        """
        if keys.ndim != 2 or keys.shape[1] != self.keys.shape[1]:
            raise ValueError(
                f"keys must have shape (M, {self.keys.shape[1]}), "
                f"got {tuple(keys.shape)}."
            )
        if groups is not None and groups.shape != keys.shape[:1]:
            raise ValueError(
                f"groups must name the subject of each of the {len(keys)} keys, "
                f"got shape {tuple(groups.shape)}."
            )
        size, pushed = len(self.keys), len(keys)
        kept = min(size, pushed)
        places = torch.arange(pushed - kept, pushed, device=self.keys.device)
        slots = (self.pointer + places) % size
        unit = nn.functional.normalize(keys[pushed - kept :].to(self.keys.dtype), dim=1)
        self.keys.index_copy_(0, slots, unit)
        if groups is None:
            self.groups.index_fill_(0, slots, -1)
        else:
            self.groups.index_copy_(0, slots, groups[pushed - kept :].long())
        self.pointer.add_(pushed).remainder_(size)
        self.fill.add_(pushed).clamp_(max=size)

    def negatives(self) -> Tensor:
        """Return a copy of the keys, (Q, dim): pushing more harms no backward."""
        return self.keys.clone()

    def usable(self, groups: Tensor | None = None) -> Tensor:
        """Tell which slots may serve as negatives of which query.

        A slot is usable if it holds a key of another subject, or if one of the
        two subjects is unknown.

        Parameters
        ----------
        groups : Tensor, shape (B,), integer, optional
            Subject of each query, -1 = unknown. None = nobody is known.

        Returns
        -------
        Tensor, shape (B, Q), bool
            (1, Q) if ``groups`` is None.
        """
        slots = torch.arange(len(self.keys), device=self.keys.device)
        filled = (slots < self.fill).unsqueeze(0)
        if groups is None:
            return filled
        known = (groups >= 0).unsqueeze(1)
        return filled & ~(known & (groups.unsqueeze(1) == self.groups))
