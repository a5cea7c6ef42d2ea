"""Warnings that point at the line of the user, however deep they arise."""

import inspect
import warnings

__all__ = ["warn"]

_LIBRARIES = {
    *("braindecode", "braindecode_gcmae", "contextlib", "joblib", "mne", "moabb"),
    *("sklearn", "skorch", "torch"),
}


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


def _library(frame) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
