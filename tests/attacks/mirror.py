"""A man in the middle: passes requests on to the real registry, and lies about what it was told to lie about.

>>> with Mirror(registry) as mirror:                                                # doctest: +SKIP
...     mirror.lies("/v2/acme/tuf/manifests/timestamp.json", lambda: endless(head))
...     device.look_at(f"{mirror.url}/acme")

A lie is the raw bytes of an answer, in pieces. What is not lied about comes from the registry as it is.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import time
from collections.abc import Callable, Iterable, Iterator

from real import Registry
from servers import Serving

Lie = Callable[[], Iterable[bytes]]


class Mirror(Serving):
    """A server on a port of its own; `sent_bytes` counts what its lies sent, `asked` what was asked of it."""

    def __init__(self, registry: Registry) -> None:
        self.lies_about: dict[str, Lie] = {}
        self.asked: list[str] = []
        self.sent_bytes = 0
        mirror = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                lie = mirror.lies_about.get(self.path)
                if lie is None:
                    self._pass_on()
                else:
                    self.close_connection = True
                    with contextlib.suppress(OSError):
                        for piece in lie():
                            mirror.sent_bytes += len(piece)
                            self.wfile.write(piece)

            def _pass_on(self) -> None:
                upstream = http.client.HTTPConnection("127.0.0.1", registry.port)
                kept = ("Accept", "Range", "If-None-Match")
                headers = {name: self.headers[name] for name in kept if self.headers[name]}
                with contextlib.closing(upstream):
                    upstream.request("GET", self.path, headers=headers)
                    answer = upstream.getresponse()
                    body = answer.read()
                self.send_response(answer.status)
                for name in ("Content-Type", "ETag", "Content-Range"):
                    if answer.headers[name]:
                        self.send_header(name, answer.headers[name])
                if answer.status != 304:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)

    def lies(self, path: str, lie: Lie) -> None:
        """Answer requests for a path with these bytes instead."""
        self.lies_about[path] = lie


def head(content_type: str, *, length: int | None = None) -> bytes:
    """Return status line and headers of a good answer; without a length the body is chunked."""
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n".encode()


def endless(start: bytes, piece: bytes = b"ffff\r\n" + b" " * 0xFFFF + b"\r\n") -> Iterator[bytes]:
    """Yield a start and then the same piece for ever, until whoever listens hangs up."""
    yield start
    while True:
        yield piece


def answered(body: bytes, content_type: str) -> Iterator[bytes]:
    """Yield a whole, good answer."""
    yield head(content_type, length=len(body)) + body


def drip(start: bytes, length: int) -> Iterator[bytes]:
    """Yield a start and then a byte at a time."""
    yield start
    for _ in range(length):
        time.sleep(0.02)  # this is the attack
        yield b" "
