"""A TLS terminator as sites put one before a registry: asks for a client certificate and reads a revocation list.

>>> with Terminator(authority, clients=ca_file, revoked=crl_file, port=registry.port) as terminator:  # doctest: +SKIP
...     terminator.url
'https://127.0.0.1:40123'

It is OpenSSL's own verification, as nginx (`ssl_crl`), HAProxy (`crl-file`) and Apache (`SSLCARevocationFile`) use it.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from types import TracebackType

from authority import Authority

_CHUNK = 64 * 1024


class Terminator:
    """Forwards what accepted clients send to a port of this machine.

    Args:
        authority: Vouches for the terminator itself.
        clients: Who must vouch for clients (PEM file); None: nobody is asked for a certificate.
        revoked: Revocation list of that authority (PEM file); it is read at every connection.
        port: Where the registry listens, in plain HTTP.
    """

    def __init__(
        self, authority: Authority, *, clients: Path | None = None, revoked: Path | None = None, port: int
    ) -> None:
        self._authority, self._clients, self._revoked, self._port = authority, clients, revoked, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Where clients go."""
        return f"https://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Terminator:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # ends accept()
        self._listener.close()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, self._authority.server))
        if self._clients is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(str(self._clients))
        if self._revoked is not None:
            context.load_verify_locations(str(self._revoked))
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        return context

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(raw)
            self._start(self._serve, raw)

    def _serve(self, raw: socket.socket) -> None:
        with contextlib.suppress(OSError), self._context().wrap_socket(raw, server_side=True) as client:
            self._open.append(client)
            with socket.create_connection(("127.0.0.1", self._port)) as registry:
                self._open.append(registry)
                self._start(_pump, registry, client)
                _pump(client, registry)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR) if not isinstance(sink, ssl.SSLSocket) else sink.close()
