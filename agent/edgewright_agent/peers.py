"""Processes that are not ours: whether one still lives, without being fooled by the next one with its number.

>>> peer = Peer.of(os.getpid())     # doctest: +SKIP
>>> peer.alive()                    # doctest: +SKIP
True
"""

from __future__ import annotations

import contextlib
import os
import select
from dataclasses import dataclass
from pathlib import Path

_START_TIME = 19  # of /proc/PID/stat, counted from the state: field 22 (proc_pid_stat(5))


@dataclass(frozen=True)
class Peer:
    """A process.

    Attributes:
        pid: Its number, as this process sees it; 0 when it lives where this one cannot look (another PID namespace).
        started: When it was started, in clock ticks since boot; None when that cannot be read.
        fd: A pidfd, readable once the process has ended; None on kernels without (before Linux 5.3) or none left.
    """

    pid: int
    started: int | None
    fd: int | None

    @classmethod
    def of(cls, pid: int) -> Peer:
        """Look at a process that has just been heard."""
        fd = None
        if pid:
            with contextlib.suppress(OSError, AttributeError):
                fd = os.pidfd_open(pid)
        return cls(pid, _started(pid) if pid else None, fd)

    def alive(self) -> bool | None:
        """Whether it lives; None when nobody can tell."""
        if self.fd is not None:
            ended = select.poll()
            ended.register(self.fd, select.POLLIN)
            return not ended.poll(0)
        if not self.pid:
            return None
        found = _started(self.pid)
        return found is not None and (self.started is None or found == self.started)

    def replaced(self) -> bool:
        """Whether it has ended, and another process lives that has its number by now."""
        if self.alive() is not False:
            return False
        found = _started(self.pid)
        return found is not None and found != self.started

    def close(self) -> None:
        """Look no more."""
        if self.fd is not None:
            os.close(self.fd)


def _started(pid: int) -> int | None:
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[_START_TIME])
    except (OSError, ValueError, IndexError):
        return None
