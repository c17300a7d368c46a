"""Attacks of a collector of telemetry: on the device's secrets, its memory, and what it still has to tell."""

from __future__ import annotations

import functools
import http.server
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from attacks.mirror import answered, endless, head
from attacks.on_transport import MOST_BYTES
from attacks.scene import Scene
from attacks.table import attack
from edgewright_agent import telemetry
from edgewright_agent.config import load
from edgewright_agent.spool import ERROR
from servers import Serving

WHO = "telemetry"
COLLECTOR = "the collector, or the way to it"


class Collector(Serving):
    """Says the same to every batch; `headers` is what came."""

    def __init__(self, says: Callable[[], Iterable[bytes]]) -> None:
        self.headers: list[dict[str, str]] = []
        self.sent_bytes = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.headers.append(dict(self.headers))
                self.rfile.read(int(self.headers["Content-Length"]))
                try:
                    for piece in says():
                        outer.sent_bytes += len(piece)
                        self.wfile.write(piece)
                except OSError:
                    pass  # it has hung up

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(Handler)


def _tells(scene: Scene, collector: Collector) -> None:
    """Let the device have something to tell, and send it now."""
    device = scene.device
    secret = device.folder / "otel"
    secret.write_text("Bearer s3cret\n")
    secret.chmod(0o600)
    told: dict[str, Any] = {"endpoint": collector.url, "headers": {"Authorization": "file:otel"}}
    device.configure(telemetry=told)
    telemetry.note_error(load(device.config), "no-space", "the disk is full", model="digit-reader")
    scene.instead = lambda: device.agent("telemetry", "--config", str(device.config), "--send")


def _still_waits(scene: Scene) -> bool:
    return len(telemetry.spool_of(load(scene.device.config)).waiting(ERROR)) == 1


def _told_wrongly(scene: Scene, *, says: Callable[[], Iterable[bytes]]) -> Iterator[None]:
    collector = scene.start(Collector(says))
    _tells(scene, collector)
    yield
    assert collector.sent_bytes < MOST_BYTES
    assert _still_waits(scene), "nobody has taken it"


def _portal() -> Iterable[bytes]:
    return answered(b"<html>Welcome</html>", "text/html")


for _name, _says, _code in (
    ("an answer that never ends", lambda: endless(head("application/json")), "too-large"),
    ("headers that never end", lambda: endless(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n" * 50), "bad-response"),
    ("a login page that takes everything", _portal, "bad-response"),
    ("a compressed answer", lambda: [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"],
     "bad-response"),
):  # fmt: skip
    attack(f"telemetry: {_name}", has=COLLECTOR, failed=_code, who=WHO)(
        functools.partial(_told_wrongly, says=_says)
    )


@attack("telemetry: the device is sent elsewhere", has=COLLECTOR, failed="bad-response", who=WHO)
def elsewhere(scene: Scene) -> Iterator[None]:
    """Or who stands there would get the headers, and the password in them."""
    thief = scene.start(Collector(lambda: answered(b"{}", "application/json")))
    answer = f"HTTP/1.1 307 Over there\r\nLocation: {thief.url}/v1/logs\r\nContent-Length: 0\r\n\r\n"
    collector = scene.start(Collector(lambda: [answer.encode()]))
    _tells(scene, collector)
    yield
    assert collector.headers[0]["Authorization"] == "Bearer s3cret"
    assert not thief.headers
    assert _still_waits(scene)
