"""The clean end of a worker process of `multiprocessing`, which leaves by `os._exit`, behind the back of `atexit`.

>>> at_end(lambda: print("closed"))     # in a worker; elsewhere nothing happens: `atexit` does it
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

_FINALIZERS: list[object] = []


def at_end(work: Callable[[], None]) -> None:
    """Have some work done when this worker ends cleanly, if this process is one; again: no effect.

    It is done as `atexit` would: after the last thread that is no daemon, which may be using what the work ends.
    """
    # Without it in memory this process is no worker; importing it takes milliseconds.
    process = sys.modules.get("multiprocessing.process")
    if process is None or process.parent_process() is None or _FINALIZERS:
        return
    from multiprocessing.util import Finalize

    _FINALIZERS.append(Finalize(None, _end, (work,), exitpriority=0))


def _end(work: Callable[[], None]) -> None:
    # A worker waits for its threads only after its finalizers, and has executors end theirs only then: so where there
    # are any, one more thread waits for them.
    if _others():
        try:
            threading.Thread(target=_after_others, args=(work,), name="edgewright-exit").start()
            return
        except RuntimeError:  # no more threads here: better too early than never
            pass
    work()


def _after_others(work: Callable[[], None]) -> None:
    while others := _others():
        with contextlib.suppress(RuntimeError):  # it is only just starting
            others[0].join()
    work()


def _others() -> list[threading.Thread]:
    ours = (threading.current_thread(), threading.main_thread())
    return [one for one in threading.enumerate() if not one.daemon and one not in ours]


os.register_at_fork(after_in_child=_FINALIZERS.clear)  # a finalizer is its own process's alone
