"""What crosses a connection, counted: a relay that stands before a server of this machine."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any


class Meter(socketserver.ThreadingTCPServer):
    """Stands before a registry and counts what crosses, in bytes above TCP: TLS with its handshakes included."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.port, self.sent, self.received = port, 0, 0

    @classmethod
    @contextlib.contextmanager
    def before(cls, port: int) -> Iterator[Meter]:
        """Stand before a port of this machine."""
        with cls(port) as meter:
            threading.Thread(target=meter.serve_forever, args=(0.02,), daemon=True).start()
            yield meter
            meter.shutdown()

    @property
    def host(self) -> str:
        """Where it is reached."""
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def crossed(self) -> int:
        """Bytes in both directions."""
        return self.sent + self.received

    def finish_request(self, request: Any, client_address: Any) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as registry:
            back = threading.Thread(target=self.carry, args=(registry, request, "received"))
            back.start()
            self.carry(request, registry, "sent")
            back.join()

    def carry(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                setattr(self, counter, getattr(self, counter) + len(data))
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
