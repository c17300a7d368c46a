"""What looks after a session in the background: one thread, one wake-up every few seconds.

>>> keeper = Keeper(weakref.WeakMethod(session.tick))                # doctest: +SKIP
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable

log = logging.getLogger("edgewright")

BEAT_S = 10.0


class Keeper:
    """The background thread of a session: one wake-up every few seconds.

    It holds its session weakly, so that a session nobody has any more is no reason for a thread.
    """

    def __init__(self, work: weakref.WeakMethod[Callable[[], None]], every_s: float = BEAT_S) -> None:
        self._work = work
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgewright-session", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the thread; does not wait for it."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            work = self._work()
            if work is None:
                return
            try:
                work()
            except Exception:  # what it looks after goes on without it, and the next time may go well
                log.exception("the session's keeper failed")
            del work
