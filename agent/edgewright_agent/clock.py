"""Moments as text: UTC, whole seconds, RFC 3339, as TUF writes them.

>>> to_text(from_text("2030-01-02T03:04:05Z"))
'2030-01-02T03:04:05Z'
"""

from __future__ import annotations

from datetime import datetime, timezone


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
