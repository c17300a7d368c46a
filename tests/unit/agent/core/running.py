"""A real daemon process, whose children are scripts.

>>> running = Running(bench, "http://127.0.0.1:9/acme")     # doctest: +SKIP
>>> running.until("sleep")["failures"]                      # doctest: +SKIP
0
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from edgewright_agent import sockets
from edgewright_agent.contract import HEALTH_SOCKET, LIVE_SOCKET
from unit.agent.core.workbench import Bench


class Running:
    """A real `edgewright-agent run` whose child is a script that writes down that it ran.

    Args:
        bench: The device.
        url: Its registry.
        exit_code: Of the child.
        nap: What the child does.
        interpreter: What runs the child.
        setup: Statements before the daemon is made; `d` is its module, `s` the sender's, `w` the sockets'.
        arguments: Further arguments of `Daemon`.
        environment: Beside this process's.
    """

    def __init__(
        self,
        bench: Bench,
        url: str,
        exit_code: int = 0,
        nap: str = "pass",
        interpreter: str = sys.executable,
        *,
        setup: str = "",
        arguments: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.bench = bench
        bench.document["source"]["url"] = url
        self.config = bench.folder / "agent.json"
        self.config.write_text(json.dumps(bench.document))
        program = (
            "import os, sys, time; from pathlib import Path; from edgewright_agent.duties import Duties\n"
            "from edgewright_agent import daemon as d, sender as s, watch as w\n"
            f"{setup}\n"
            f"child = ({interpreter!r}, '-c', {f'import time; {nap}; raise SystemExit({exit_code})'!r})\n"
            f"raise SystemExit(d.Daemon(Path(sys.argv[1]), command=child, {arguments}).run())"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(self.config)],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def until(self, event: str) -> dict[str, Any]:
        """Read its log up to an event."""
        assert self.process.stderr
        for line in self.process.stderr:
            entry: dict[str, Any] = json.loads(line)
            if entry["event"] == event:
                return entry
        raise AssertionError(f"it ended without {event!r}")

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        self.process.kill()
        assert self.process.stderr
        self.process.stderr.close()
        return self.process.wait()

    def hears(self, *datagrams: bytes) -> None:
        """Send datagrams as this process."""
        with sockets.connect(self.bench.state / LIVE_SOCKET, socket.SOCK_DGRAM, timeout_s=10) as channel:
            for datagram in datagrams:
                channel.send(datagram)

    def get(self, path: str) -> tuple[int, bytes]:
        """Ask its endpoint; status and body."""
        with sockets.connect(self.bench.state / HEALTH_SOCKET, socket.SOCK_STREAM, timeout_s=30) as channel:
            channel.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = bytearray()
            while data := channel.recv(65536):
                received += data
        head, _, body = bytes(received).partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def status(self) -> dict[str, Any]:
        """What it says at `/v1/status`."""
        status, body = self.get("/v1/status")
        assert status == 200, body
        document: dict[str, Any] = json.loads(body)
        return document

    def eventually(self, path: str, wanted: Any) -> None:
        """Ask until a value of the status document, by dotted path, is what is wanted."""
        found: Any = None
        for _ in range(500):
            found = self.status()
            for key in path.split("."):
                found = found[key] if found is not None else None
            if found == wanted:
                return
            time.sleep(0.01)
        raise AssertionError(f"{path} is {found!r}, not {wanted!r}")
