"""One agent at a time on one state directory: an advisory lock that the kernel drops when its holder dies.

>>> with exclusive(state / "lock"):   # doctest: +SKIP
...     update()
"""

from __future__ import annotations

import contextlib
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
    Disk().make_dir(path.parent)
    with faults(path, "lock"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
