"""Ctrl-C in a fit within a fit ends both."""

import signal
import threading
from contextlib import contextmanager

__all__ = ["interrupts_reach_out"]


@contextmanager
def interrupts_reach_out():
    """Raise KeyboardInterrupt at the end of the block if a signal raised it within.

    skorch's ``fit`` keeps it to itself. Not if a callback raised it: so does
    EarlyStopping, to end a training by rule.
    """
    interrupts: list[int] = []
    with _noting(interrupts):
        yield
    if interrupts:
        raise KeyboardInterrupt


@contextmanager
def _noting(interrupts: list):
    """Note the interrupts that the handler of SIGINT raises."""
    usual = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not (main and callable(usual)):  # signals reach no other thread
        yield
        return

    def note(number, frame):
        try:
            usual(number, frame)
        except KeyboardInterrupt:
            interrupts.append(number)
            raise

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, usual)
