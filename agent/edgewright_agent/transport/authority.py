"""Which of the authorities a device trusts vouched for a server the last time: the next request reads only that one.

>>> authorities = Authorities()
>>> authorities.known("https://registry.example:443", "/etc/ssl/certs/ca-certificates.crt") is None
True
>>> authorities.learn("https://registry.example:443", ca_file, connection.sock)     # doctest: +SKIP

To read the 140 authorities of a distribution takes 20 ms of CPU, at every poll of every device. This makes nobody
trusted: a certificate is remembered only if it stands in the very file that counts, and only until that file changes in
any way (another inode, size, time of modification or of change). What is verified, and how, stays as it is; where the
remembered one does not do, all are read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WORTH_BYTES = 16 * 1024  # a smaller file is read as fast as one certificate
_MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_CERTIFICATE_BYTES = 8 * 1024
_MAX_PLACES = 8


@dataclass(frozen=True)
class Known:
    """One authority (DER), and the state of the file it stands in: as long as that is the same."""

    mark: str
    der: bytes


class Authorities:
    """What was learnt, by server (as `host.origin` spells it).

    Args:
        known: From before.
    """

    def __init__(self, known: Mapping[str, Known] | None = None) -> None:
        self._known = dict(known or {})

    @classmethod
    def parse(cls, document: Any, before: Authorities) -> Authorities:
        """Read what `document` wrote; anything else leaves what was known before."""
        if not isinstance(document, dict):
            return before
        known = {place: Known(mark, base64.b64decode(der)) for place, (mark, der) in document.items()}
        return cls(known)

    def document(self) -> dict[str, list[str]]:
        """Return all of it as JSON."""
        return {place: [one.mark, base64.b64encode(one.der).decode()] for place, one in self._known.items()}

    def known(self, place: str, ca_file: str | None) -> bytes | None:
        """Return the authority that vouched for a server, while the file it stands in is what it was."""
        one = self._known.get(place)
        return one.der if one and one.mark == _mark(_path(ca_file)) else None

    def has_read(self, ca_file: str) -> bool:
        """Whether the file as it is now was read before, and held certificates."""
        mark = _mark(ca_file)
        return mark is not None and any(one.mark == mark for one in self._known.values())

    def learn(self, place: str, ca_file: str | None, connected: Any) -> None:
        """Remember who vouched for the server of a TLS connection (an `ssl.SSLSocket` after its handshake)."""
        path = _path(ca_file)
        mark = _mark(path)
        if path is None or mark is None or self.known(place, ca_file) is not None:
            return
        self._known.pop(place, None)
        der = _last_verified(connected)
        if (
            der is not None
            and len(der) <= _MAX_CERTIFICATE_BYTES
            and _stands_in(path, der)
            and _mark(path) == mark
        ):
            while len(self._known) >= _MAX_PLACES:
                del self._known[next(iter(self._known))]
            self._known[place] = Known(mark, der)

    def forget(self, place: str) -> bool:
        """Forget who vouched for a server; returns whether that was known."""
        return self._known.pop(place, None) is not None


def _path(ca_file: str | None) -> str | None:
    """Return the file that counts; None where there is none, only a directory, of which OpenSSL reads what it needs."""
    if ca_file is not None:
        return ca_file
    import ssl

    return ssl.get_default_verify_paths().cafile


def _mark(path: str | None) -> str | None:
    """Return the state of a file that is worth it; None of any other."""
    if path is None:
        return None
    try:
        found = Path(path).stat()
    except OSError:
        return None
    if not _WORTH_BYTES < found.st_size <= _MAX_FILE_BYTES:
        return None
    state = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return f"{path} {state}"


def _last_verified(connected: Any) -> bytes | None:
    """Return the last certificate (DER) of the chain that was verified; None where Python does not tell.

    It is public from 3.13 on; before, only the object below has it.
    """
    try:
        if hasattr(connected, "get_verified_chain"):
            last = connected.get_verified_chain()[-1]
            return last if isinstance(last, bytes) else None
        import _ssl

        last = connected._sslobj.get_verified_chain()[-1].public_bytes(_ssl.ENCODING_DER)
    except (AttributeError, TypeError, IndexError, ValueError):
        return None
    return last if isinstance(last, bytes) else None


def _stands_in(path: str, der: bytes) -> bool:
    import ssl

    try:
        with Path(path).open("rb") as file:
            held = file.read(_MAX_FILE_BYTES + 1).replace(b"\r", b"")
    except OSError:
        return False
    # With its first and last line: one that OpenSSL restricts to a purpose stands between others.
    return ssl.DER_cert_to_PEM_cert(der).encode().strip() in held
