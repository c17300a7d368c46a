"""A small proxy as sites have one: CONNECT and absolute-form GET, with a log-in if it is told so.

>>> with ConnectProxy(login="Basic dTpw") as proxy:           # doctest: +SKIP
...     proxy.url, proxy.tunnels
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from servers import Listening

_CHUNK = 64 * 1024


@dataclass
class ConnectProxy(Listening):
    """A proxy on a port of its own.

    Attributes:
        login: The `Proxy-Authorization` it wants; None lets everybody through.
        says: What it answers to CONNECT instead of connecting; it may also misbehave on the connection.
        tunnels: `host:port` of every tunnel.
        urls: Absolute URLs of plain requests.
        carried: The first bytes that clients sent through tunnels.
    """

    login: str | None = None
    says: Callable[[socket.socket], None] | None = None
    tunnels: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    carried: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def serve(self, client: socket.socket) -> None:
        """Take requests until one opens a tunnel."""
        with contextlib.suppress(IndexError, ValueError):
            while head := _head(client):
                self.heads.append(head)
                method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
                if self.login is not None and f"Proxy-Authorization: {self.login}".encode() not in head:
                    client.sendall(
                        b"HTTP/1.1 407 Log in\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"
                    )
                    return
                if method == "CONNECT":
                    self._tunnel(client, target)
                    return
                self._pass_on(client, target, head)

    def _tunnel(self, client: socket.socket, target: str) -> None:
        self.tunnels.append(target)
        if self.says is not None:
            self.says(client)
            return
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            self._open.append(server)
            client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n")
            threading.Thread(target=_pump, args=(server, client), daemon=True).start()
            self.carried.append(client.recv(3, socket.MSG_PEEK))
            _pump(client, server)

    def _pass_on(self, client: socket.socket, url: str, head: bytes) -> None:
        self.urls.append(url)
        parts = urlsplit(url)
        lines = [line for line in head.split(b"\r\n")[1:] if line and not line.lower().startswith(b"proxy-")]
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as server:
            server.sendall(
                b"\r\n".join([f"GET {path} HTTP/1.1".encode(), *lines, b"Connection: close", b"", b""])
            )
            while data := server.recv(_CHUNK):
                client.sendall(data)
        client.shutdown(socket.SHUT_RDWR)


def _head(client: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        if not byte:
            return b""
        head += byte
    return head


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
