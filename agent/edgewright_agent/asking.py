"""Asking whether anything is new, without waiting for the answer: one request at a time, in a thread of its own.

>>> asking = Asking(loop.wake)                       # doctest: +SKIP
>>> asking.begin(config, polls=7, etag='"known"')    # doctest: +SKIP
>>> asking.take()                                    # doctest: +SKIP
False

A registry, a name server or a proxy may hold a request for minutes; nothing can end a look-up of a name from outside.
Meanwhile sockets are served, the watchdog is fed and SIGTERM stops at once. The thread does nothing but ask: every
decision, and every write, is the loop's. With one heap for both (`MALLOC_ARENA_MAX`, set by `edgewright-agent run`) it
takes no memory that could be measured; with two it was half a MiB.
"""

from __future__ import annotations

import _thread
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from edgewright_agent.config import Config
from edgewright_agent.poll import ask

if TYPE_CHECKING:
    from edgewright_agent.transport import Source

# Of which a request touches a few dozen KiB; what libc or a provider of TLS may want has room.
_STACK_BYTES = 1024 * 1024
MIRRORS_WITHIN_S = 60.0  # for all of them together: hostile ones could drip for hours


class Asking:
    """At most one request under way.

    Args:
        done: Called in the thread when there is an answer to take.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self.mirrors: Source | None = None  # which of several were asked last, and how they answered
        self._busy = False
        self._answer: bool | Exception | None = None

    @property
    def busy(self) -> bool:
        """Whether there is a request whose answer has not been taken."""
        return self._busy

    def begin(self, config: Config, *, polls: int, etag: str) -> None:
        """Ask.

        Args:
            config: Where.
            polls: How many polls there have been.
            etag: Of what is known already.

        Raises:
            OSError: there is no thread left at the moment.
        """
        if self._busy:
            raise ValueError("a request is under way")
        self._busy, self._answer = True, None
        before = _thread.stack_size(_STACK_BYTES)
        try:
            _thread.start_new_thread(self._ask, (config, polls, etag))
        except RuntimeError as error:
            self._busy = False
            raise OSError(str(error)) from error
        finally:
            _thread.stack_size(before)

    def take(self) -> bool | None:
        """Return whether there is something new; None as long as there is no answer.

        Raises:
            AgentError: as `Origin.open` and `poll.ask`.
        """
        answer = self._answer
        if answer is None:
            return None
        self._busy, self._answer = False, None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, config: Config, polls: int, etag: str) -> None:
        try:
            within_s = MIRRORS_WITHIN_S if len(config.origin.mirrors) > 1 else None
            source = config.origin.open(polls=polls, within_s=within_s)
            self.mirrors = source if within_s else None
            with contextlib.closing(source):
                self._answer = ask(source, etag) is not None
        except Exception as error:  # noqa: BLE001  raised where it is taken
            self._answer = error
        self._done()
