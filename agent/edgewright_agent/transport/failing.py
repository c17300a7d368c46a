"""Servers that cannot answer now: they ask to be left alone for a while, or fail themselves.

>>> retry_after_s("120")
120.0
>>> refuse_failing(503, "registry.example", "120")
Traceback (most recent call last):
edgewright_agent.transport.BusyError: 503 from registry.example
"""

from __future__ import annotations

import email.utils
import time

from edgewright_agent.errors import TransportError
from edgewright_agent.transport import BusyError

_MAX_RETRY_AFTER_S = 6 * 3600.0  # a hostile or confused server may not silence a device for longer


def refuse_failing(status: int, place: str, retry_after: str | None) -> None:
    """Refuse the answer of a server that cannot give one now; any other is left to the caller.

    Args:
        status: HTTP status.
        place: Who was asked for what.
        retry_after: Its header.

    Raises:
        BusyError: 429 or 503.
        TransportError: `network` for another status from 500 on.
    """
    if status in (429, 503):
        raise BusyError(f"{status} from {place}", retry_after_s=retry_after_s(retry_after))
    if status >= 500:
        raise TransportError("network", f"{status} from {place}; it may be better later")


def retry_after_s(header: str | None) -> float | None:
    """Parse Retry-After: seconds or a date (RFC 9110 10.2.3), bounded."""
    if header is None:
        return None
    if header.strip().isdecimal() and header.isascii():
        return min(float(header.strip()), _MAX_RETRY_AFTER_S)
    try:
        until = email.utils.parsedate_to_datetime(header).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(until - time.time(), 0.0), _MAX_RETRY_AFTER_S)
