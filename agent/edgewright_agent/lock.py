"""One agent at a time on one state directory: an advisory lock that the kernel drops when its holder dies.

>>> with exclusive(state / "lock"):   # doctest: +SKIP
...     update()
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk, faults


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file, or fail at once.

    Raises:
        StorageError: `busy` when another agent holds it.
    """
    if not path.parent.is_dir():
        Disk().make_dir(path.parent)
    with faults(path, "lock"):
        fd = _open(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(
                "busy", f"another agent is at work on {path.parent}; try again when it is done"
            ) from None
        yield
    finally:
        os.close(fd)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        # A disk that has gone read-only: what can be done without writing still is, and says what is wrong.
        if error.errno != errno.EROFS or not path.exists():
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
