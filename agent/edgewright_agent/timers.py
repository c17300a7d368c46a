"""When what is due, on a clock that nobody can set and that goes on while the device sleeps.

>>> timers = Timers(clock=lambda: 100.0)
>>> timers.after("poll", 30); timers.left_s()
30.0
>>> Timers(clock=lambda: 0.0).left_s() is None
True
"""

from __future__ import annotations

import time
from collections.abc import Callable


def boottime_s() -> float:
    """Return seconds since the kernel started, suspended ones included (clock_gettime(2), CLOCK_BOOTTIME)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Timers:
    """Named moments, each at most once; setting one again moves it.

    Args:
        clock: Seconds from an arbitrary start, never going back.
    """

    def __init__(self, clock: Callable[[], float] = boottime_s) -> None:
        self.clock = clock
        self._due: dict[str, float] = {}

    def after(self, name: str, seconds: float) -> None:
        """Have `name` due in so many seconds."""
        self._due[name] = self.clock() + max(0.0, seconds)

    def sooner(self, name: str, seconds: float) -> None:
        """Have `name` due in so many seconds, unless it is due before."""
        self._due[name] = min(self.clock() + max(0.0, seconds), self._due.get(name, float("inf")))

    def cancel(self, name: str) -> None:
        """Forget `name`; also when it is not set."""
        self._due.pop(name, None)

    def left_s(self, name: str | None = None) -> float | None:
        """Return seconds until `name`, or until the first of all, is due; 0 when it is, None when none is set."""
        if name is not None and name not in self._due:
            return None
        moments = self._due.values() if name is None else (self._due[name],)
        return max(0.0, min(moments) - self.clock()) if moments else None

    def take(self) -> list[str]:
        """Return what is due, the longest due first, and forget it."""
        now = self.clock()
        due = sorted((at, name) for name, at in self._due.items() if at <= now)
        for _at, name in due:
            del self._due[name]
        return [name for _at, name in due]
