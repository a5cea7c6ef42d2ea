"""Training that was stopped anywhere goes on to the same bits, and only its own."""

from .checkpoint import ResumableCheckpoint

__all__ = ["ResumableCheckpoint"]
