"""Who is who in the key queue, which outlives a call of fit and its windows."""

import copy
from hashlib import blake2b

import numpy as np
from torch import Tensor

from ..models.joint import NOBODY
from ..warning import warn
from .data import UnlabelledWindows, subject_codes

__all__ = ["People", "keeps_people_together", "people_for_split"]

_SETS = NOBODY.bit_length()  # above the number of a window of an unknown person
_FEW = 4  # windows of a recording that are looked at


class People:
    """Numbers of subjects that are the same in every call of a net.

    In the first call they are those of the windows. A window of an unknown person is a
    person of its own, in every call on the same windows; so is a window of the only
    person there is.

    Attributes
    ----------
    codes : dict of str to int
        Number of each known subject.
    first : int or None
        Digest of the first windows with unknown people.
    """

    def __init__(self, codes: dict | None = None, first: int | None = None):
        self.codes = {str(name): int(code) for name, code in (codes or {}).items()}
        self.first = None if first is None else int(first)

    def state(self) -> dict:
        """Plain types, for a checkpoint."""
        return {"codes": dict(self.codes), "first": self.first}

    def numbered(
        self, windows: UnlabelledWindows, *, tell: bool = False
    ) -> UnlabelledWindows:
        """The same windows with this net's numbers; who is new gets a new one.

        Parameters
        ----------
        windows : UnlabelledWindows
        tell : bool
            Warn where windows of one person are contrasted with each other.
        """
        out = copy.copy(windows)
        out.groups = subject_codes(windows.ids, self.codes)
        if len(self.codes) == 1 and (out.groups >= 0).all():
            out.groups[:] = -1
            if tell:
                warn(
                    "all windows are of one person, and keys of the same person are "
                    "no negatives: to have any, this person's windows are contrasted "
                    "with each other"
                )
        unknown = np.flatnonzero(out.groups < 0)
        if len(unknown):
            digest = _digest(windows)
            self.first = digest if self.first is None else self.first
            if digest != self.first:  # else the module numbers them
                out.groups[unknown] = unknown + NOBODY
                out.groups[unknown] ^= (digest ^ self.first) << _SETS
        return out

    def compared(self, windows: UnlabelledWindows) -> UnlabelledWindows:
        """The same windows to be validated on: nobody is taken in by that."""
        out = copy.copy(windows)
        out.groups = subject_codes(windows.ids, dict(self.codes))
        return out

    def translate(self, groups: Tensor, state: dict) -> None:
        """Give the subjects of keys, numbered as in ``state``, the numbers of here."""
        there = People(**state)
        new = groups.clone()
        for name, code in there.codes.items():
            new[groups == code] = self.codes.setdefault(name, len(self.codes))
        if there.first is not None and self.first is not None:
            own = groups >= NOBODY
            new[own] = groups[own] ^ ((there.first ^ self.first) << _SETS)
        self.first = there.first if self.first is None else self.first
        groups.copy_(new)


def keeps_people_together(train_split) -> bool:
    """Whether a validation split is by groups (``ValidSplit(GroupKFold(5))``)."""
    return "Group" in type(getattr(train_split, "cv", None)).__name__


def people_for_split(train_split, ids) -> np.ndarray | None:
    """Numbers of the people, for a splitter that keeps people together; else None.

    Raises
    ------
    ValueError
        If such a splitter does not hear of everybody.
    """
    if not keeps_people_together(train_split):
        return None
    people = subject_codes(ids, {})
    if (people < 0).any():
        raise ValueError(
            "train_split keeps people together, and some windows have no subject id: "
            "pass groups= to fit"
        )
    return people


def _digest(windows: UnlabelledWindows) -> int:
    """Twenty bits of windows: of a few of those in memory, and of all their shapes."""
    text = blake2b(digest_size=4)
    for source in windows.sources:
        text.update(repr((len(source), *source.shape)).encode())
        if source.in_memory and len(source):
            for row in np.linspace(0, len(source) - 1, _FEW).astype(int):
                text.update(np.ascontiguousarray(source[int(row)]).tobytes())
    return int.from_bytes(text.digest(), "big") >> 12
