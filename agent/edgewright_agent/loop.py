"""Waiting for everything at once: signals, descriptors, timers.

>>> with Loop((signal.SIGTERM,)) as loop:                      # doctest: +SKIP
...     loop.watch(listener, accept)
...     while not loop.turn():
...         pass

One thread runs it. A signal only leaves its number: whatever is under way when it comes, a write to the record as much
as anything, is finished first.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any

from edgewright_agent.timers import Timers

# Timers run on while the device sleeps, epoll's own does not: after waking a timer is late by so much at most.
SLICE_S = 60.0
_WAKES = 4096


class Loop:
    """A selector, timers and the signals of this process.

    Args:
        signals: Those to take; others keep what they do.
        timers: When something is due; the default has none.
    """

    def __init__(self, signals: Iterable[int], timers: Timers | None = None) -> None:
        self.timers = timers or Timers()
        self._signals = tuple(signals)
        self._came: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        self._wake_before = -1

    def __enter__(self) -> Loop:
        self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in self._signals}
        self._selector.register(self._woken, selectors.EVENT_READ, self._drain)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wake_before)
        self._selector.close()
        os.close(self._woken)
        os.close(self._wake)

    def watch(self, what: Any, then: Callable[[], None], *, write: bool = False, read: bool = True) -> None:
        """Call `then` when a descriptor, or an object that has one, can be read (or written); again: as said last."""
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        if self.watches(what):
            self._selector.modify(what, events, then)
        else:
            self._selector.register(what, events, then)

    def watches(self, what: Any) -> bool:
        """Whether `what` is watched."""
        try:
            return self._selector.get_map().get(what) is not None
        except ValueError:  # it is closed
            return False

    def forget(self, what: Any) -> None:
        """Watch `what` no more; before it is closed. Fine when it is not watched."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(what)

    def turn(self) -> list[int]:
        """Wait until something happens, do what was to be done then, and return the signals that came."""
        left_s = self.timers.left_s()
        wait_s = 0.0 if self._came else min(SLICE_S, SLICE_S if left_s is None else left_s)
        for key, _events in self._selector.select(wait_s):
            # What an earlier one of this turn has closed must not be called, nor what now has its number.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        came, self._came = self._came, []
        return came

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number not in self._came:
            self._came.append(number)

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while len(os.read(self._woken, _WAKES)) == _WAKES:
                pass
