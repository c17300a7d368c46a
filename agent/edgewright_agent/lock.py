"""One agent at a time on one state directory: an advisory lock that the kernel drops when its holder dies.

>>> with exclusive(state / "lock"):   # doctest: +SKIP
...     update()
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk, faults
from edgewright_agent.owner import as_owner

PRIVATE = 0o600
_AGAIN_S = 0.02


@contextlib.contextmanager
def exclusive(path: Path, *, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file, or fail.

    Args:
        path: The file.
        patience_s: How long to wait for whoever holds it.

    Raises:
        StorageError: `busy` when another agent holds it, `not-permitted` when it is another user's.
    """
    with as_owner(path.parent), faults(path, "lock"):  # one of root's would keep the agent's user out
        if not path.parent.is_dir():
            Disk().make_dir(path.parent)
        fd = open_lock(path)
    try:
        _lock(fd, path, time.monotonic() + patience_s)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, path: Path, until: float) -> None:
    while not _taken(fd, path):
        if time.monotonic() >= until:
            raise StorageError(
                "busy", f"another agent is at work on {path.parent}; try again when it is done"
            )
        time.sleep(_AGAIN_S)


def _taken(fd: int, path: Path) -> bool:
    with faults(path, "lock"):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def open_lock(path: Path) -> int:
    """Return a descriptor of a lock file that nobody else can open.

    Who can open a file, if only to read it, can hold its lock (flock(2)): any account of the device could keep the
    agent from its work for ever.

    Raises:
        OSError: it cannot be opened; a link is not followed.
    """
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, PRIVATE)
    except OSError as error:
        # A disk that has gone read-only: what can be done without writing still is, and says what is wrong.
        if error.errno != errno.EROFS or not path.exists():
            raise
        return os.open(path, os.O_RDONLY | flags)
    if (
        os.fstat(fd).st_mode & 0o077
    ):  # of an earlier agent; who has it open already keeps it until the next boot
        with contextlib.suppress(OSError):
            os.fchmod(fd, PRIVATE)
    return fd
