"""One piece of work in the background, done once more whenever it is wanted: a thread while there is something to do.

>>> errand = Errand(lambda: print("settled"), "edgewright-loader")
>>> errand.want(); join_all(10.0)
settled
True
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable

log = logging.getLogger("edgewright")


_THREADS: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def begin(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that keeps no process from ending, and that `join_all` waits for.

    Raises:
        RuntimeError: there can be no more threads.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    _THREADS.add(thread)
    thread.start()
    return thread


def join_all(timeout_s: float) -> bool:
    """Wait until every such thread has ended; return whether that is so.

    A process that ends while one of them is in the engine is aborted: the interpreter unwinds the engine's C++
    (SIGABRT, "terminate called without an active exception").
    """
    ends = time.monotonic() + timeout_s
    ours = threading.current_thread()
    # What could not be started is nothing to wait for, and nothing that can be.
    threads = [thread for thread in list(_THREADS) if thread is not ours and thread.ident is not None]
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


os.register_at_fork(after_in_child=_THREADS.clear)


class Errand:
    """Work for a thread of its own; safe to share between threads.

    Args:
        work: What to do. What it raises is logged; the next `want` tries again.
        name: Of the thread.
        failed: Called when it has raised something.
    """

    def __init__(
        self, work: Callable[[], None], name: str, failed: Callable[[], None] = lambda: None
    ) -> None:
        self._work, self._name, self._failed = work, name, failed
        self._lock = threading.Lock()
        self._wanted = self._ended = False
        self._thread: threading.Thread | None = None

    def want(self) -> None:
        """Have the work done once more, after what is being done now; returns at once, and never fails."""
        with self._lock:
            self._wanted = True
            if self._thread is not None or self._ended:
                return
            try:
                self._thread = begin(self._run, self._name)
            except (
                RuntimeError
            ) as error:  # no more threads here, or the interpreter is ending: later, perhaps
                log.warning("%s cannot start: %s", self._name, error)

    def end(self) -> None:
        """Begin nothing any more; what is being done goes on to its end."""
        with self._lock:
            self._ended = True

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._wanted or self._ended:
                    self._thread = None
                    return
                self._wanted = False
            try:
                self._work()
            except Exception:
                log.exception("%s failed", self._name)
                self._failed()
            except (
                BaseException
            ):  # an application's listener that ends its thread must not end updates for good
                with self._lock:
                    self._thread = None
                raise
