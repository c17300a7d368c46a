"""A small HTTP/1.1 server on a Unix socket, for probes and people on the device: GET, HEAD, one request per connection.

    $ curl --unix-socket /var/lib/edgewright/agent.sock http://localhost/v1/health
    {"status": "ok", "models": {"digit-reader": {"state": "running", "version": "1.0.0", …}}, …}

It never waits for a client: what cannot be read or written now is when the loop says so, and who is slower than
`PATIENCE_S` is cut off. `http.server` would cost an idle device 1 MiB.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

MAX_REQUEST_BYTES = 8 * 1024
MAX_CONNECTIONS = 16
PATIENCE_S = 10.0
PAUSE_S = 1.0  # before it is tried again, where no connection can be taken
JSON = "application/json"
_READ_BYTES = 4096
_REQUEST = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/(1\.[0-9])")  # RFC 9112 3
# RFC 9112 5. What surrounds a value is cut off afterwards: in the pattern it would be tried in every split of a row of
# spaces, and one request could hold the daemon up for minutes.
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
    505: "HTTP Version Not Supported",
}


@dataclass(frozen=True)
class Request:
    """What was asked for: a path without its query."""

    method: str
    path: str


@dataclass(frozen=True)
class Answer:
    """Status, content type and body; `headers` beside those that every answer has."""

    status: int
    body: bytes
    kind: str = JSON
    headers: Mapping[str, str] | None = None

    @classmethod
    def of(cls, status: int, document: Mapping[str, Any]) -> Answer:
        """Answer with JSON."""
        return cls(status, json.dumps(document).encode() + b"\n")

    def bytes(self, *, head: bool = False) -> bytes:
        """Return the whole message (RFC 9112 2.1); to HEAD, without the body."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}",
            f"Content-Type: {self.kind}",
            f"Content-Length: {len(self.body)}",
            "Cache-Control: no-store",
            "Connection: close",
            *(f"{name}: {value}" for name, value in (self.headers or {}).items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head else self.body)


class RefusedError(ValueError):
    """A request that is none; `status` says why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status

    def answer(self) -> Answer:
        """Return what the client gets."""
        headers = {"Allow": "GET, HEAD"} if self.status == 405 else None
        body = json.dumps({"error": str(self)}).encode() + b"\n"
        return Answer(self.status, body, headers=headers)


def parse(data: bytes) -> Request | None:
    """Read a request; None while its end has not come.

    Raises:
        RefusedError: it is none (RFC 9112), too large, or has a body.
    """
    head, end, _rest = data.partition(b"\r\n\r\n")
    if len(head) > MAX_REQUEST_BYTES or (not end and len(data) > MAX_REQUEST_BYTES):
        raise RefusedError(431, f"a request has at most {MAX_REQUEST_BYTES} bytes")
    if not end:
        return None
    line, *fields = head.split(b"\r\n")
    found = _REQUEST.fullmatch(line)
    if found is None:
        raise RefusedError(
            505 if b" HTTP/" in line and b" HTTP/1." not in line else 400, "no HTTP/1.1 request"
        )
    headers: dict[bytes, bytes] = {}
    for entry in fields:
        field = _FIELD.fullmatch(entry)
        if field is None:
            raise RefusedError(400, "a header is malformed")
        name = field[1].lower()
        if name in (b"host", b"content-length") and name in headers:
            raise RefusedError(400, f"{name.decode()} is there twice")
        headers[name] = field[2].strip(b" \t")
    if b"host" not in headers and found[3] != b"1.0":
        raise RefusedError(400, "there is no Host header")
    if headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers:
        raise RefusedError(400, "a request here has no body")
    if found[1] not in (b"GET", b"HEAD"):
        raise RefusedError(405, "only GET and HEAD are answered")
    target = _AUTHORITY.sub("", found[2].decode("ascii"), count=1) or "/"
    return Request(found[1].decode("ascii"), target.partition("?")[0])


class Loop(Protocol):
    """What is needed of `loop.Loop`."""

    def watch(
        self, what: Any, then: Callable[[], None], *, write: bool = False, read: bool = True
    ) -> None: ...

    def forget(self, what: Any) -> None: ...


class Endpoint:
    """The server: a listening socket's connections.

    Args:
        listener: Bound, non-blocking; the caller closes it.
        answer: What is said to a path; None: there is no such.
        loop: Says when there is something to read or to write.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        listener: socket.socket,
        answer: Callable[[str], Answer | None],
        loop: Loop,
        clock: Callable[[], float],
    ) -> None:
        self._listener, self._answer, self._loop, self._clock = listener, answer, loop, clock
        self._connections: dict[socket.socket, _Connection] = {}
        self._again_s: float | None = None
        listener.listen(MAX_CONNECTIONS)
        loop.watch(listener, self._accept)

    def __len__(self) -> int:
        return len(self._connections)

    def left_s(self) -> float | None:
        """Return when `expire` has something to do: the next client loses our patience, or others may come again.

        None without clients.
        """
        ends = [connection.until_s for connection in self._connections.values()]
        if self._again_s is not None:
            ends.append(self._again_s)
        return max(0.0, min(ends) - self._clock()) if ends else None

    def expire(self) -> None:
        """Cut off who is too slow, and listen again after a pause."""
        now = self._clock()
        if self._again_s is not None and self._again_s <= now:
            self._again_s = None
            self._loop.watch(self._listener, self._accept)
        for connection in list(self._connections.values()):
            if connection.until_s <= now:
                if not connection.out:
                    with contextlib.suppress(OSError):
                        connection.channel.send(
                            RefusedError(408, "the request took too long").answer().bytes()
                        )
                self._end(connection)

    def close(self) -> None:
        """End every connection and listen no more."""
        for connection in list(self._connections.values()):
            self._end(connection)
        self._loop.forget(self._listener)

    def _accept(self) -> None:
        while len(self._connections) < MAX_CONNECTIONS:
            try:
                channel, _ = self._listener.accept()
            except BlockingIOError:  # nobody left
                return
            except OSError:
                # No descriptor left, of ours or of the system's: they wait, and the listener stays readable.
                self._again_s = self._clock() + PAUSE_S
                break
            channel.setblocking(False)
            connection = _Connection(channel, self._clock() + PATIENCE_S)
            self._connections[channel] = connection
            self._loop.watch(channel, lambda one=connection: self._read(one))  # type: ignore[misc]
        self._loop.forget(self._listener)  # who else there is waits in the kernel's queue

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.channel.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(connection)
            return
        connection.received += data
        head = False
        try:
            request = parse(bytes(connection.received))
            if request is None:
                return
            head = request.method == "HEAD"
            answer = self._answer(request.path) or RefusedError(404, "there is no such page").answer()
        except RefusedError as refused:
            answer = refused.answer()
        connection.out = memoryview(answer.bytes(head=head))
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        try:
            sent = connection.channel.send(connection.out)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(connection)
            return
        connection.out = connection.out[sent:]
        if connection.out:
            self._loop.watch(connection.channel, lambda: self._write(connection), write=True, read=False)
            return
        self._end(connection)

    def _end(self, connection: _Connection) -> None:
        self._loop.forget(connection.channel)
        connection.channel.close()
        full = len(self._connections) >= MAX_CONNECTIONS
        self._connections.pop(connection.channel, None)
        if full:
            self._loop.watch(self._listener, self._accept)


@dataclass
class _Connection:
    """A client: what it has sent, what it has still to get, and until when."""

    channel: socket.socket
    until_s: float
    received: bytearray = field(default_factory=bytearray)
    out: memoryview = field(default_factory=lambda: memoryview(b""))
