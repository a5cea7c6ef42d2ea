"""Warnings that point at the line of the user, however deep they arise."""

import inspect
import warnings

__all__ = ["Notes", "warn"]

_LIBRARIES = {
    *("braindecode", "braindecode_gcmae", "contextlib", "joblib", "mne", "moabb"),
    *("sklearn", "skorch", "torch"),
}


_NAMED = 3  # recordings


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, at the innermost line that is of no library.

    Python says a text once for each line. Where all callers together are to hear of
    something once, ``warnings.warn`` is called itself.
    """
    depth, frame = 0, inspect.currentframe()
    while frame is not None and _library(frame) in _LIBRARIES:
        depth, frame = depth + 1, frame.f_back
    # In a thread of a library there is no such line.
    warnings.warn(message, category, stacklevel=1 if frame is None else depth + 1)


class Notes:
    """What is to be said of many recordings, each text once."""

    def __init__(self):
        self._labels: dict[str, list] = {}

    def add(self, label, text: str) -> None:
        """Note a text of a recording; a label of None is the only one."""
        self._labels.setdefault(text, []).append(label)

    def tell(self) -> None:
        """Warn of all texts, with the recordings that each is of."""
        for text, labels in self._labels.items():
            if labels == [None]:
                warn(f"the recording: {text}")
            elif len(labels) == 1:
                warn(f"recording {labels[0]!r}: {text}")
            else:
                named = ", ".join(repr(label) for label in labels[:_NAMED])
                more = ", ..." if len(labels) > _NAMED else ""
                warn(f"{len(labels)} recordings ({named}{more}): {text}")


def _library(frame) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
