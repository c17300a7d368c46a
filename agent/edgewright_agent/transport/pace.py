"""How much and how slowly a server may send: a meter between http.client and the socket.

It sits under http.client, so it also covers what http.client reads on its own account: status lines, headers,
interim responses and chunk trailers, the last two without bound before Python's fix of 2026 (gh-150743).

>>> meter = Meter(Pace(min_rate_bytes_s=1024, window_s=30), ceiling=10, host="registry.example")
>>> meter.read(lambda: 10)
10
>>> meter.read(lambda: 1)
Traceback (most recent call last):
edgewright_agent.errors.TransportError: registry.example sends more than the answer may have
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgewright_agent.errors import TransportError


@dataclass(frozen=True)
class Pace:
    """How slow a server may be before it counts as a slow-retrieval attack (TUF 1.5.2).

    Attributes:
        min_rate_bytes_s: Least average rate while we wait for bytes. 1 KiB/s is below any link that could
            carry a model at all (GPRS gives 4).
        window_s: Time over which the average is taken; also the longest wait a drip-feeding server can cause.
        clock: Seconds from an arbitrary start, never going back.
    """

    min_rate_bytes_s: float = 1024.0
    window_s: float = 30.0
    clock: Callable[[], float] = time.monotonic


class Patience:
    """How long one source may keep us altogether, from the first time it is asked.

    >>> Patience(20.0, clock=lambda: 7.0).left_s
    20.0

    Args:
        total_s: Seconds, over all its requests, redirects and log-ins.
        clock: Seconds from an arbitrary start, never going back.
    """

    def __init__(self, total_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total_s, self._clock = total_s, clock
        self._until_s: float | None = None

    @property
    def left_s(self) -> float:
        """Seconds that are left; the first look starts the clock."""
        if self._until_s is None:
            self._until_s = self._clock() + self._total_s
        return max(0.0, self._until_s - self._clock())


class Meter:
    """Counts the bytes of one response and the time spent waiting for them, not the time spent using them.

    Args:
        pace: Least rate.
        ceiling: Bytes there may be, headers and framing included.
        host: For messages.
        patience_s: Longest time to wait for all of it together.
    """

    def __init__(self, pace: Pace, ceiling: int, host: str, *, patience_s: float = float("inf")) -> None:
        self._pace, self._left, self._host = pace, ceiling, host
        self._window_bytes, self._window_s = 0, 0.0
        self._patience_s = patience_s

    def read(self, receive: Callable[[], int]) -> int:
        """Call `receive`, count the bytes it says it got, and return their number.

        Raises:
            TransportError: `too-large`, `too-slow`.
        """
        started = self._pace.clock()
        count = receive()
        waited_s = self._pace.clock() - started
        self._window_s += waited_s
        self._window_bytes += count
        self._patience_s -= waited_s
        self._left -= count
        if self._patience_s < 0:
            raise TransportError("too-slow", f"{self._host} takes longer than the answer is worth")
        if self._left < 0:
            raise TransportError("too-large", f"{self._host} sends more than the answer may have")
        if self._window_s >= self._pace.window_s:
            rate = self._window_bytes / self._window_s
            if rate < self._pace.min_rate_bytes_s:
                raise TransportError(
                    "too-slow",
                    f"{self._host} sends {rate:.0f} B/s; the least is {self._pace.min_rate_bytes_s:.0f}",
                )
            self._window_bytes, self._window_s = 0, 0.0
        return count


class _MeteredRaw(io.RawIOBase):
    def __init__(self, raw: socket.SocketIO, meter: Meter) -> None:
        self._raw, self._meter = raw, meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._meter.read(lambda: self._raw.readinto(buffer) or 0)

    def close(self) -> None:
        self._raw.close()
        super().close()


class MeteredSocket:
    """A connected socket whose `makefile`, the only way http.client reads, goes through a meter."""

    def __init__(self, connected: socket.socket) -> None:
        self._connected = connected
        self.meter: Meter | None = None

    def makefile(self, _mode: str) -> io.BufferedReader:
        assert self.meter is not None  # noqa: S101  set by Wire before every request
        return io.BufferedReader(_MeteredRaw(self._connected.makefile("rb", buffering=0), self.meter))

    def receive_at_most(self, count: int) -> None:
        """Have the kernel take no more than about `count` bytes ahead of whoever reads."""
        self._connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, count)

    def sendall(self, data: bytes) -> None:
        self._connected.sendall(data)

    def close(self) -> None:
        self._connected.close()
