"""A web server that answers with whatever bytes a test wants, to every connection in turn.

>>> with Liar() as liar:                                     # doctest: +SKIP
...     liar.says("/v2/a/manifests/1", answer(200, b"{}"))
...     open_source(liar.url).manifest("a", "1")
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator

from servers import Listening

Script = Callable[[dict[str, str]], Iterable[bytes]]


def answer(status: int, body: bytes = b"", *, length: int | None = None, **headers: str) -> bytes:
    """Return one HTTP response; `length` overrides Content-Length, -1 leaves it out."""
    lines = [f"HTTP/1.1 {status} X"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if length != -1:
        lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


class Liar(Listening):
    """Answers requests by path with scripted bytes; remembers every request's headers, and bodies if there are."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self._scripts: dict[str, tuple[Script, bool]] = {}
        super().__init__()

    @property
    def connections(self) -> int:
        return len(self._open)

    def says(self, path: str, script: bytes | Script, *, keep: bool = False) -> None:
        """Answer requests for `path` (query included) with these bytes; end the connection unless `keep`."""
        self._scripts[path] = (script if callable(script) else lambda _headers: [script], keep)

    def serve(self, connection: socket.socket) -> None:
        """Answer as scripted."""
        with connection.makefile("rb") as reader:
            for path, headers in _requests(reader.readline):
                self.requests.append((path, headers))
                if length := int(headers.get("Content-Length", "0")):
                    self.bodies.append(reader.read(length))
                script, keep = self._scripts.get(path, (lambda _headers: [answer(404)], True))
                for piece in script(headers):
                    connection.sendall(piece)
                if not keep:
                    connection.shutdown(socket.SHUT_WR)
                    return


def _requests(readline: Callable[[], bytes]) -> Iterator[tuple[str, dict[str, str]]]:
    while request := readline().decode():
        headers = {}
        while (line := readline().decode().strip()) != "":
            name, _, value = line.partition(":")
            headers[name.strip()] = value.strip()
        yield request.split(" ")[1], headers
