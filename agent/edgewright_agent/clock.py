"""Moments as text (UTC, whole seconds, RFC 3339, as TUF writes them), and time that nobody can set.

>>> to_text(from_text("2030-01-02T03:04:05Z"))
'2030-01-02T03:04:05Z'
>>> elapsed_s(Uptime("this boot", 60), Uptime("this boot", 3660)), elapsed_s(Uptime("before", 60), Uptime("now", 90))
(3600, 90)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Uptime:
    """Whole seconds since a boot, suspended ones included, and the kernel's id of that boot."""

    boot: str
    seconds: int


def boot_id() -> str:
    """Return the kernel's id of this boot; empty where it has none."""
    return _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""


def uptime() -> Uptime:
    """Return how long this device has been up."""
    return Uptime(boot_id(), int(time.clock_gettime(time.CLOCK_BOOTTIME)))


def elapsed_s(since: Uptime | None, now: Uptime) -> int:
    """Return seconds that have certainly gone by: all since then, or after another boot all since that boot."""
    if since is None:
        return 0
    return max(0, now.seconds - since.seconds) if since.boot == now.boot else now.seconds


def later(moment: datetime, seconds: float) -> datetime:
    """Return a moment so many seconds later; at most the last one that there is a way to write.

    >>> to_text(later(from_text("9999-12-31T23:59:30Z"), 60))
    '9999-12-31T23:59:59Z'
    """
    last = datetime.max.replace(microsecond=0, tzinfo=timezone.utc)
    return moment + min(timedelta(seconds=seconds), max(last - moment, timedelta(0)))


def utc_now() -> datetime:
    """Return the system clock's time, whole seconds, UTC."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def to_text(moment: datetime) -> str:
    """Return `YYYY-MM-DDTHH:MM:SSZ`."""
    return moment.astimezone(timezone.utc).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def from_text(text: str) -> datetime:
    """Parse what `to_text` writes, or any RFC 3339 time with an offset.

    Raises:
        ValueError: not such a time.
    """
    moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
