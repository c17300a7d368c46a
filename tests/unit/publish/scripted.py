"""An HTTP server that answers from a script: for what a healthy registry never does.

>>> with Scripted(lambda request: Reply(503)) as server:    # doctest: +SKIP
...     requests.get(server.url)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from servers import Serving


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What the server answers."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Scripted(Serving):
    """A server on a free port of 127.0.0.1; `requests` holds everything it was asked."""

    def __init__(self, answer: Callable[[Request], Reply | None]) -> None:
        self.requests: list[Request] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Request(self.command, self.path, dict(self.headers), body)
                outer.requests.append(request)
                reply = answer(request)
                self.close_connection = True
                if reply is None:  # hang up without a word
                    return
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                if request.method != "HEAD":
                    self.wfile.write(reply.body)

            def log_message(self, *_args: object) -> None:
                pass

        super().__init__(Handler)

    def asked(self, method: str) -> list[Request]:
        """Return the requests of one method."""
        return [request for request in self.requests if request.method == method]
