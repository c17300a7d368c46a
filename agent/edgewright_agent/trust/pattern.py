"""Matching a stranger's name against a fleet's pattern, in bounded time.

Whoever gets a certificate chooses the name in it, and a pattern with nested repeats can work on one name for ever. The
update would hang there, and with it every later one, also the one with a better policy.

>>> matches("https://github.com/acme/.*", "https://github.com/acme/fleet")
True
>>> matches("(a+)+b", "a" * 60)
False
"""

from __future__ import annotations

import re
import signal
import threading
from types import FrameType

CPU_LIMIT_S = 0.25
"""For one match. A good pattern takes microseconds; a slow board is a hundred times slower than it may be."""


class _OutOfTime(Exception):
    """The match has had its time."""


def matches(pattern: str, name: str, *, limit_s: float = CPU_LIMIT_S) -> bool:
    """Whether `pattern` matches the whole of `name`; one that takes longer than `limit_s` of CPU time does not.

    The limit needs the main thread, which Python runs signal handlers in; a device verifies nowhere else.
    """
    if threading.current_thread() is not threading.main_thread():
        return re.fullmatch(pattern, name) is not None
    before = signal.getsignal(signal.SIGVTALRM)
    try:
        signal.signal(signal.SIGVTALRM, _stop)
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
            return re.fullmatch(pattern, name) is not None  # `re` looks for signals while it works
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, before if before is not None else signal.SIG_DFL)
    except _OutOfTime:
        return False


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _OutOfTime
