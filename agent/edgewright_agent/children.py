"""Short-lived processes of the daemon: one by one, never left behind as zombies, ended when they take too long.

>>> child = Child.start("update", ["/usr/bin/true"])     # doctest: +SKIP
>>> child.ended()                                        # doctest: +SKIP
0
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# What is said to the daemon alone: its supervisor's sockets, and how its own memory is laid out.
PRIVATE = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
OF_THE_DAEMON = "EDGEWRIGHT_DAEMON"  # in the environment of its children: what they do is not done by hand


@dataclass(frozen=True)
class Child:
    """A process that was started and not yet waited for."""

    name: str
    pid: int

    @classmethod
    def start(cls, name: str, command: Sequence[str], reset: Collection[int] = ()) -> Child:
        """Start a program.

        Args:
            name: What it does, for the log.
            command: Path of the program and its arguments.
            reset: Signals that it shall take as the system has it.

        Raises:
            OSError: there is no such program, or no memory or process left at the moment.
        """
        environment = {key: value for key, value in os.environ.items() if key not in PRIVATE}
        environment[OF_THE_DAEMON] = "1"
        pid = os.posix_spawn(
            command[0], list(command), environment, setsigmask=(), setsigdef=(*reset, signal.SIGPIPE)
        )
        return cls(name, pid)

    def ended(self) -> int | None:
        """Return the exit code (a signal's number, negative, when one ended it), or None while it runs."""
        done, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if done else None

    def signal(self, number: int) -> None:
        """Send a signal; it has not been waited for, so the number is still its own."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end, of one that was killed; return the exit code."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
