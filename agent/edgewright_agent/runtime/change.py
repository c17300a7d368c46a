"""What has changed about who answers, and telling an application of it: everything, in order, one at a time.

>>> changes = Changes(lambda change: print(change.digest, change.rung))
>>> changes.note(Change("digit-reader", "sha256:12ab", "1.2.0", "normal", before=""))
>>> changes.announce()
sha256:12ab normal
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """What answers from now on, and why.

    Attributes:
        model: Its name.
        digest, version, rung: What answers; for the rung see `degrade.RUNGS`.
        before: Digest of what answered until now; empty at first.
        code: Why it is not the normal rung; empty when it is.
        reason: The same in words.
    """

    model: str
    digest: str
    version: str
    rung: str
    before: str
    code: str = ""
    reason: str = ""


class Changes:
    """Changes that a listener has still to hear of; safe to share between threads."""

    def __init__(self, listener: Callable[[Change], None] | None) -> None:
        self._listener = listener
        self._waiting: deque[Change] = deque()
        self._lock = threading.Lock()
        self._telling = False

    def note(self, change: Change) -> None:
        """Add one."""
        self._waiting.append(change)

    def announce(self) -> None:
        """Tell the listener of all that wait; where another thread is at it, that one goes on with them.

        To be called outside every lock: who listens may use the session.
        """
        while True:
            with self._lock:
                if self._telling or not self._waiting:
                    return
                self._telling = True
                change = self._waiting.popleft()
            try:
                if self._listener is not None:
                    self._listener(change)
            finally:
                with self._lock:
                    self._telling = False
