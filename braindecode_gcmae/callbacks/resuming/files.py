"""Files that several processes may write: each by a name of its own, then in place."""

import os
import re
import socket
import threading
import time
from pathlib import Path

__all__ = ["name_of_writer", "remove_left"]

_DAY = 24 * 3600.0


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())


def name_of_writer(file: Path) -> Path:
    """Where this process and thread write what becomes a file when it is whole."""
    writer = f"{_host()}.{os.getpid()}.{threading.get_ident()}"
    return file.with_name(f".{file.name}.{writer}")


def remove_left(file: Path) -> None:
    """Remove what processes that were killed while they wrote a file have left.

    Not what one that lives is writing: on another host, where nobody can tell, it
    lives for a day.
    """
    names = (f"{dots}{file.name}.*" for dots in (".", ".."))
    for left in [path for name in names for path in file.parent.glob(name)]:
        try:
            old = time.time() - left.stat().st_mtime > _DAY
            if old or _writer_is_dead(left.name, file.name):
                left.unlink()
        except FileNotFoundError:  # its writer has put it in place
            continue


def _writer_is_dead(name: str, wanted: str) -> bool:
    """Whether a temporary file is of a process of this host that is no more."""
    told = re.fullmatch(
        rf"\.{{1,2}}{re.escape(wanted)}\.([\w-]+)\.(\d+)\.\d+(\.[0-9a-f]+)?", name
    )
    if told is None or told[1] != _host() or os.name == "nt":  # where kill kills
        return False
    try:
        os.kill(int(told[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # of another user
        return False
    return False
