"""How slowly and how long a server may answer: a meter under requests that also sees what requests never shows.

>>> session = requests.Session()                            # doctest: +SKIP
>>> session.mount("https://", PacedAdapter(Pace()))         # doctest: +SKIP

requests' read time-out starts anew with every byte, and http.client takes interim answers (100 Continue) without
end. The meter sits between http.client and the socket.
"""

from __future__ import annotations

import http.client
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

MAX_HEAD_BYTES = 256 * 1024


class Unbearable(Exception):
    """A server is too slow, or its headers have no end; says which."""


@dataclass(frozen=True)
class Pace:
    """How slow an answer may be once it has begun (slow retrieval, TUF 1.5.2).

    Attributes:
        min_rate_bytes_s: Least average rate.
        window_s: Time over which the average is taken.
        clock: Seconds, never going back.
    """

    min_rate_bytes_s: float = 1024.0
    window_s: float = 30.0
    clock: Callable[[], float] = time.monotonic


class _Metered(io.RawIOBase):
    """The bytes of one answer. Waiting for the first is the read time-out's business: a registry may be hashing."""

    def __init__(self, raw: io.RawIOBase, pace: Pace) -> None:
        self._raw, self._pace = raw, pace
        self._begun = False
        self._window_bytes, self._window_s = 0, 0.0
        self.head_left: int | None = MAX_HEAD_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        started = self._pace.clock()
        count = self._raw.readinto(buffer) or 0
        if self._begun:
            self._window_s += self._pace.clock() - started
            self._window_bytes += count
        self._begun = True
        if self.head_left is not None:
            self.head_left -= count
            if self.head_left < 0:
                raise Unbearable(f"sends more than {MAX_HEAD_BYTES} bytes of headers")
        if self._window_s >= self._pace.window_s:
            rate = self._window_bytes / self._window_s
            if rate < self._pace.min_rate_bytes_s:
                raise Unbearable(f"sends {rate:.0f} B/s; the least is {self._pace.min_rate_bytes_s:.0f}")
            self._window_bytes, self._window_s = 0, 0.0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _response_class(pace: Pace) -> type[http.client.HTTPResponse]:
    class Response(http.client.HTTPResponse):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # `fp` is a BufferedReader over the socket that nothing has been read from yet.
            self._metered = _Metered(self.fp.detach(), pace)
            self.fp = io.BufferedReader(self._metered)

        def begin(self) -> None:
            super().begin()
            self._metered.head_left = None

    return Response


class PacedAdapter(requests.adapters.HTTPAdapter):
    """requests' own adapter with a meter under every answer."""

    def __init__(self, pace: Pace) -> None:
        response_class_ = _response_class(pace)

        class Plain(HTTPConnection):
            response_class = response_class_

        class Tls(HTTPSConnection):
            response_class = response_class_

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class TlsPool(HTTPSConnectionPool):
            ConnectionCls = Tls

        self._pools = {"http": PlainPool, "https": TlsPool}
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """See requests."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pools

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> urllib3.ProxyManager:
        """See requests."""
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = self._pools
        return manager
