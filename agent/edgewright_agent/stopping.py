"""Being told to end while a model is on trial: the attempt is given back first, then the process ends as it was told.

>>> with put_off():           # doctest: +SKIP
...     wait(child)           # calls `check`, which raises `Stopped`

A stop is no verdict: `systemctl restart`, an orderly shutdown and Ctrl-C say nothing about a model, and three of them
must not be its end. SIGKILL and a power cut cannot be told from a model that takes the device down, and count.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

_STOPS = (signal.SIGTERM, signal.SIGINT)
_told: list[int] = []  # as signals are: of the process


class Stopped(KeyboardInterrupt):
    """This process has been told to end."""


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Let SIGTERM and SIGINT wait until the end of this context, where they do what they did before.

    What is ignored stays ignored, and only the main thread may do this (signal(7) in Python): elsewhere nothing waits.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _STOPS}
    waiting = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    for number in waiting:
        signal.signal(number, _note)
    try:
        yield
    finally:
        for number, handler in waiting.items():
            signal.signal(number, handler)
        if _told:
            first = _told[0]
            _told.clear()
            signal.raise_signal(first)


def check() -> None:
    """End what is under way, if this process has been told to end.

    Raises:
        Stopped: it has.
    """
    if _told:
        raise Stopped


def _note(number: int, _frame: FrameType | None) -> None:
    _told.append(number)
