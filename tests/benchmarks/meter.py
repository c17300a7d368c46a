"""What crosses a connection, counted: a relay that stands before a server of this machine."""

from __future__ import annotations

import contextlib
import socket
import threading

from servers import Listening


class Meter(Listening):
    """Counts what crosses on the way to a port, in bytes above TCP: TLS with its handshakes included."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port, self.sent, self.received = port, 0, 0

    @property
    def crossed(self) -> int:
        """Bytes in both directions."""
        return self.sent + self.received

    def serve(self, connection: socket.socket) -> None:
        """Relay both ways."""
        with socket.create_connection(("127.0.0.1", self.port)) as server:
            back = threading.Thread(target=self._carry, args=(server, connection, "received"))
            back.start()
            self._carry(connection, server, "sent")
            back.join()

    def _carry(self, source: socket.socket, target: socket.socket, counter: str) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                setattr(self, counter, getattr(self, counter) + len(data))
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
