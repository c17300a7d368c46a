"""When a certificate ends and whether its renewal is due, with the standard library alone: every poll asks.

>>> validity(Path("device.crt").read_bytes())             # doctest: +SKIP
Validity(start=datetime.datetime(2030, 1, 1, …), end=datetime.datetime(2030, 4, 1, …))

What is read here decides only *when* to ask for a newer certificate, never whether to believe one.
"""

from __future__ import annotations

import binascii
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgewright_agent.clock import from_text
from edgewright_agent.config import Identity
from edgewright_agent.contract import MAX_CERTIFICATE_BYTES

TRIED = "identity.tried"  # in the state directory: when renewal was last tried
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0
_LEFT = 3  # a third of the lifetime left: renewal begins
_TRIES = 90  # per lifetime: once a day for 90 days
_FIRST_RETRY = timedelta(hours=1)  # as long as there is no certificate to tell a lifetime


@dataclass(frozen=True)
class Validity:
    """From when until when a certificate is valid."""

    start: datetime
    end: datetime

    @property
    def renews(self) -> datetime:
        """When a third of the lifetime is left."""
        return self.end - (self.end - self.start) / _LEFT

    @property
    def retry(self) -> timedelta:
        """Time between two tries to renew it."""
        return (self.end - self.start) / _TRIES


def validity(pem: bytes) -> Validity:
    """Return the validity of the first certificate in `pem` (RFC 5280 4.1).

    Raises:
        ValueError: there is none that can be read.
    """
    _, begin, rest = pem.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not begin or not end:
        raise ValueError("there is no certificate")
    der = binascii.a2b_base64(body)
    certificate = _contents(der)
    fields = list(_elements(_contents(certificate)))
    # Certificate ::= SEQUENCE { TBSCertificate { [0] version, serial, signature, issuer, validity, … }, … }
    place = 4 if fields and fields[0][0] == _VERSION else 3
    if len(fields) <= place:
        raise ValueError("the certificate is cut off")
    times = list(_elements(fields[place][1]))
    if len(times) != 2:
        raise ValueError("the certificate has no validity")
    start, end_at = (_time(tag, value) for tag, value in times)
    if end_at <= start:
        raise ValueError("the certificate ends before it begins")
    return Validity(start, end_at)


def renewal_due(identity: Identity, state: Path, now: datetime, *, again: bool = False) -> bool:
    """Whether the device should ask for a certificate: it has none, or a third of its life is left.

    Not more often than ninety times per lifetime, nor once an hour without any: the fleet may take its time to issue
    one. `again` asks all the same, for somebody who knows that it is there now.
    """
    if identity.ca is None or not identity.key.exists():
        return False
    current = _current(identity.certificate)
    if current is not None and now < current.renews:
        return False
    if again:
        return True
    tried = _tried(state)
    # A try in the future was noted under another clock.
    return tried is None or not tried <= now < tried + (current.retry if current else _FIRST_RETRY)


def _current(path: Path) -> Validity | None:
    with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
        return validity(file.read(MAX_CERTIFICATE_BYTES))
    return None


def _tried(state: Path) -> datetime | None:
    with contextlib.suppress(OSError, ValueError):
        return from_text((state / TRIED).read_text(encoding="ascii").strip())
    return None


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each DER element in a row (X.690 8.1)."""
    at = 0
    while at < len(data):
        if len(data) - at < 2:
            raise ValueError("the certificate is cut off")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or len(data) - at < count:
                raise ValueError("the certificate has an element of no sensible length")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if len(data) - at < length:
            raise ValueError("the certificate is cut off")
        yield tag, data[at : at + length]
        at += length


def _contents(data: bytes) -> bytes:
    for _tag, value in _elements(data):
        return value
    raise ValueError("the certificate is empty")


def _time(tag: int, value: bytes) -> datetime:
    text = value.decode("ascii")
    if tag == _UTC_TIME:  # two digits of the year: 50 to 99 are 19xx (RFC 5280 4.1.2.5.1)
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != _GENERALIZED_TIME:
        raise ValueError("the certificate has a time of an unknown kind")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)
