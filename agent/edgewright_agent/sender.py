"""When telemetry is sent: by a short-lived child, one at a time, ended when it takes too long.

>>> sender = Sender(("/usr/bin/true",), timers, due_s=lambda: 0.0)      # doctest: +SKIP
>>> sender.begin()                                                      # doctest: +SKIP
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection

from edgewright_agent.children import Child
from edgewright_agent.errors import AgentError
from edgewright_agent.journal import log
from edgewright_agent.timers import Timers

LIMIT_S = 300.0  # of a child
CHECK_S = 300.0  # how often it is asked whether something is to be sent
PAUSE_S = 30.0  # between two children; doubled by every failure
MAX_PAUSE_S = 3600.0


class Sender:
    """Starts and ends the children.

    Args:
        command: The child.
        timers: When; `due` says what follows from them.
        due_s: Seconds until something should be sent; None while there is nothing, or nowhere.
        reset: Signals that the child shall take as the system has it.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        timers: Timers,
        due_s: Callable[[], float | None],
        reset: Collection[int] = (),
    ) -> None:
        self.due: dict[str, Callable[[], None]] = {"send": self._send, "sending": self._give_up}
        self._command, self._timers, self._due_s, self._reset = command, timers, due_s, reset
        self._child: Child | None = None
        self._failures = 0

    def begin(self) -> None:
        """There may be something to send by and by."""
        self._timers.sooner("send", PAUSE_S)

    def reap(self) -> None:
        """See whether the child has ended."""
        if self._child and (code := self._child.ended()) is not None:
            self._child = None
            log("telemetry", exit_code=code)
            self._ended(code)

    def close(self) -> None:
        """End the child, if there is one: what it had to send is sent the next time."""
        if self._child:
            self._child.signal(signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _send(self) -> None:
        if self._child:
            return
        try:
            due_s = self._due_s()
        except AgentError as error:
            log("failed", code=error.code, message=str(error))
            due_s = None
        if due_s is None or due_s > 0:
            self._timers.after("send", CHECK_S if due_s is None else min(due_s, CHECK_S))
            return
        try:
            self._child = Child.start("telemetry", self._command, self._reset)
            self._timers.after("sending", LIMIT_S)
        except OSError as error:  # no memory or no process left at the moment
            log("failed", code="no-process", message=f"cannot send telemetry: {error.strerror}")
            self._ended(1)

    def _give_up(self) -> None:
        if self._child:
            log("failed", code="timeout", message=f"telemetry was not sent in {LIMIT_S:g} s")
            self._child.signal(signal.SIGKILL)

    def _ended(self, code: int) -> None:
        self._timers.cancel("sending")
        self._failures = self._failures + 1 if code else 0
        self._timers.after("send", min(PAUSE_S * 2.0 ** min(self._failures, 30), MAX_PAUSE_S))
