"""What models may take of the link: so many bytes a second, and nothing while it is closed.

>>> told: list[float] = []
>>> allowance = Allowance(clock=lambda: 0.0, sleep=told.append)
>>> allowance.limit(8_000)
>>> allowance.take(3_000)          # two seconds too many at 1,000 bytes a second, one of which may come at once
>>> told
[2.0]

Reading stops while an allowance sleeps. With a small receive buffer and small reads the sender notices at once (TCP
flow control, RFC 9293 3.8.6), so the cap holds on the wire, not only in the agent. Metadata is not slowed down: it is
little, and late news is worse.
"""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_S = 1.0
_LEAST_READ_BYTES, _MOST_READ_BYTES = 256, 256 * 1024
_LEAST_BUFFER_BYTES, _MOST_BUFFER_BYTES = 4 * 1024, 256 * 1024


def _open() -> None:
    """Let everything pass."""


class Allowance:
    """A token bucket over all mirrors together (as a generic cell rate algorithm: one time, no tokens to count).

    Args:
        clock: Seconds from an arbitrary start, never going back.
        sleep: Waits so many seconds.

    Attributes:
        permit: Called again and again while models are loaded; raises what ends that.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self.permit: Callable[[], None] = _open
        self._bytes_per_s: float | None = None
        self._paid_until_s = float("-inf")

    def limit(self, bits_per_s: int | None) -> None:
        """Set the cap; None lifts it."""
        self._bytes_per_s = bits_per_s / 8 if bits_per_s else None

    @property
    def bytes_per_s(self) -> float | None:
        """The cap."""
        return self._bytes_per_s

    @property
    def read_bytes(self) -> int:
        """How much to read at once: what a quarter of a second allows."""
        if self._bytes_per_s is None:
            return _MOST_READ_BYTES
        return int(min(max(self._bytes_per_s / 4, _LEAST_READ_BYTES), _MOST_READ_BYTES))

    @property
    def buffer_bytes(self) -> int | None:
        """How much the kernel may receive ahead of us; None is its own choice."""
        if self._bytes_per_s is None:
            return None
        return int(min(max(2 * self._bytes_per_s, _LEAST_BUFFER_BYTES), _MOST_BUFFER_BYTES))

    def take(self, count: int) -> None:
        """Account for bytes that have come, and wait until the next may."""
        if self._bytes_per_s is None:
            return
        now_s = self._clock()
        # What was not taken before is lost but for the burst: a pause earns nobody a flood.
        self._paid_until_s = max(self._paid_until_s, now_s - BURST_S) + count / self._bytes_per_s
        if self._paid_until_s > now_s:
            self._sleep(self._paid_until_s - now_s)
