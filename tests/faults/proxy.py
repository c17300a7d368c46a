"""Bad weather on the way to a real registry: passes requests on, and spoils the answers it is told to spoil.

>>> with FaultProxy(registry.port, weather=lambda asked: Fault("reset", "mid-body")) as proxy:    # doctest: +SKIP
...     device.look_at(f"{proxy.url}/acme")

A reset is a real one (RST), a stall keeps the connection open for as long as the agent does, and what is not spoilt
arrives byte for byte as the registry sent it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from faults.fault import CUTS, Fault, altered, place_of
from servers import Listening

REQUESTS = ("timestamp", "metadata", "manifest", "blob", "referrers")
DRIP_S = 0.02
_FALLBACK = re.compile(r"/manifests/sha256-[0-9a-f]{64}$")


@dataclass(frozen=True)
class Asked:
    """One request: what it is for, its path, and its Range header."""

    what: str
    path: str
    range: str | None


Weather = Callable[[Asked], Fault | None]


def fine(_asked: Asked) -> None:
    """Let everything through."""


@dataclass
class FaultProxy(Listening):
    """A server on a port of its own, in front of a registry on this machine.

    Attributes:
        port: The registry's.
        weather: Decides what befalls an answer.
        asked: Every request, and the fault it met.
        body_bytes: Bytes of bodies sent, by path.
    """

    port: int
    weather: Weather = fine
    asked: list[tuple[Asked, Fault | None]] = field(default_factory=list)
    body_bytes: dict[str, int] = field(default_factory=dict)
    on_bytes: Callable[[Asked, int], None] = lambda _asked, _sent: None
    _closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        super().__exit__(kind, error, trace)

    def serve(self, connection: socket.socket) -> None:
        """Answer until a fault ends it."""
        # Bytes must leave as they are written, or a cut would lie somewhere else.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
        reader = connection.makefile("rb")
        while head := _head(reader.readline):
            if not self._answer(connection, head):
                return

    def _answer(self, connection: socket.socket, head: bytes) -> bool:
        """Answer one request; return whether the connection goes on."""
        asked = _asked(head)
        fault = self.weather(asked)
        self.asked.append((asked, fault))
        if fault is not None and fault.detail == "connect":
            return self._cut(connection, asked, fault, b"", 0)
        if asked.path.startswith("/login"):
            connection.sendall(altered(Fault("portal", "page"), b"\r\n\r\n", asked_range=False))
            return True
        answer = self._fetch(head)
        if fault is None:
            self._send(connection, asked, answer, answer.index(b"\r\n\r\n") + 4)
            return True
        body_at = answer.index(b"\r\n\r\n") + 4
        if fault.kind in CUTS:
            return self._cut(connection, asked, fault, answer, place_of(fault.detail, body_at, len(answer)))
        connection.sendall(altered(fault, answer, asked_range=asked.range is not None))
        # A wrong length is found out only when nothing more comes.
        return fault.kind not in ("length", "corrupt")

    def _send(self, connection: socket.socket, asked: Asked, answer: bytes, body_at: int) -> None:
        for start in range(0, len(answer), 64 * 1024):
            piece = answer[start : start + 64 * 1024]
            connection.sendall(piece)
            sent = max(0, min(start + len(piece), len(answer)) - body_at)
            self.on_bytes(asked, sent)
        self.body_bytes[asked.path] = self.body_bytes.get(asked.path, 0) + len(answer) - body_at

    def _cut(self, connection: socket.socket, asked: Asked, fault: Fault, answer: bytes, at: int) -> bool:
        connection.sendall(answer[:at])
        if fault.kind == "reset":
            # Zero linger: close() sends RST and throws away what was not sent yet, so let it go out first.
            time.sleep(0.005)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif fault.kind == "stall":
            self._until_they_leave(connection)
        elif fault.kind == "drip":
            for byte in answer[at:] or b"H" * 1000:
                if self._closing.is_set():
                    break
                connection.sendall(bytes([byte]))
                time.sleep(DRIP_S)  # this is the fault
        return False

    def _until_they_leave(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while connection.recv(4096):
                pass

    def _fetch(self, head: bytes) -> bytes:
        """Return the registry's answer, whole, without its word on the connection."""
        lines = [line for line in head.split(b"\r\n") if line and not line.lower().startswith(b"connection:")]
        with socket.create_connection(("127.0.0.1", self.port)) as upstream:
            upstream.sendall(b"\r\n".join([*lines, b"Connection: close", b"", b""]))
            answer = bytearray()
            while data := upstream.recv(256 * 1024):
                answer += data
        return bytes(answer).replace(b"Connection: close\r\n", b"", 1)


def _head(readline: Callable[[], bytes]) -> bytes:
    lines = []
    while (line := readline()) not in (b"", b"\r\n"):
        lines.append(line)
    return b"".join(lines) + b"\r\n" if lines else b""


def _asked(head: bytes) -> Asked:
    first, *lines = head.decode("latin-1").split("\r\n")
    path = first.split(" ")[1].partition("?")[0]
    ranges = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("range:")]
    return Asked(kind_of(path), path, ranges[0] if ranges else None)


def kind_of(path: str) -> str:
    """Return what a path of the distribution API is asked for."""
    if path.endswith("/tuf/manifests/timestamp.json"):
        return "timestamp"
    if "/tuf/" in path:
        return "metadata"
    if "/referrers/" in path or _FALLBACK.search(path):
        return "referrers"
    return "manifest" if "/manifests/" in path else "blob"
