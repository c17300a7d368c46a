"""What a poll must cost over TLS: a new connection each time, one that resumes a session, one that stays open. Prints.

$ .venv/bin/pytest tests/benchmarks/test_poll_bytes.py -s
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authority import Authority
from benchmarks.test_costs import say

REQUEST, ANSWER = bytes(257), bytes(102)  # what test_idle.py finds without TLS
TLS = (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2)


class Client:
    """A TLS connection that counts what it sends and receives, above TCP."""

    def __init__(self, port: int, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> None:
        self.sent = self.received = 0
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1", session=session)
        self._until_done(self._tls.do_handshake)

    def ask(self) -> None:
        """Send a poll's request and take its answer."""
        self._until_done(lambda: self._tls.write(REQUEST))
        self._until_done(lambda: self._tls.read(len(ANSWER)))

    def close(self) -> tuple[ssl.SSLSession | None, bool]:
        """End; return the session, and whether it was an earlier one."""
        self._socket.close()
        return self._tls.session, bool(self._tls.session_reused)

    def _until_done(self, step: Callable[[], object]) -> None:
        while True:
            wants = False
            try:
                step()
            except ssl.SSLWantReadError:
                wants = True
            data = self._out.read()
            self.sent += len(data)
            self._socket.sendall(data)
            if not wants:
                return
            data = self._socket.recv(65536)
            self.received += len(data)
            self._in.write(data)


@contextlib.contextmanager
def server(authority: Authority, version: ssl.TLSVersion) -> Iterator[int]:
    """Answer every request of every connection, as OpenSSL does by default; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.server)
    context.maximum_version = version

    def answer(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as tls:
            while tls.recv(len(REQUEST)):
                tls.sendall(ANSWER)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("version", TLS, ids=lambda version: version.name)
def test_the_least_bytes_of_a_poll_over_tls(tmp_path: Path, version: ssl.TLSVersion) -> None:
    authority = Authority.create(tmp_path)
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    with server(authority, version) as port:
        new = Client(port, context)
        new.ask()
        first = (new.sent, new.received)
        new.ask()
        kept = (new.sent - first[0], new.received - first[1])
        session, _ = new.close()
        again = Client(port, context, session)
        again.ask()
        assert again.close()[1], "the session was not resumed"
    rows = [
        ("a new connection", first),
        ("a new connection, session resumed", (again.sent, again.received)),
        ("a connection that stays open", kept),
    ]
    bare = len(REQUEST) + len(ANSWER)
    say(
        f"A poll over {version.name}, bytes above TCP",
        [
            (name, f"{sum(both)} B", f"{sum(both) / bare:.2f} × plain: {both[0]} sent, {both[1]} received")
            for name, both in rows
        ],
    )
