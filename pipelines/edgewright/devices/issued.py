"""Every certificate that was issued and has not ended: what a revocation list is made of.

>>> issued = Issued(root / ".edgewright/devices", authority.certificate)     # doctest: +SKIP
>>> [entry.device_id for entry in issued.all()]                              # doctest: +SKIP
['pi-7']

One file per certificate, `<device>/<serial>.pem`; `<serial>.pending.pem` until it lies in the registry, so that a run
which was cut off goes on with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from edgewright.devices.authority import issued_by
from edgewright.publish.durable import storage, write_file
from edgewright.spec.base import NAME
from edgewright.trust.signing_key import spki_der

REVOCATIONS = "ca.crl"
_PENDING = ".pending.pem"


@dataclass(frozen=True)
class Entry:
    """One issued certificate.

    Attributes:
        pending: Whether it may not have reached the registry.
    """

    device_id: str
    certificate: x509.Certificate
    pending: bool = False

    @property
    def pem(self) -> bytes:
        """The certificate, PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def public_der(self) -> bytes:
        """SubjectPublicKeyInfo of the device, DER."""
        return spki_der(self.certificate.public_key())

    @property
    def until(self) -> datetime:
        """When it ends."""
        return self.certificate.not_valid_after_utc

    def left(self, now: datetime) -> float:
        """Return the share of its life that is left, 0 at its end."""
        life: timedelta = self.until - self.certificate.not_valid_before_utc
        return max((self.until - now) / life, 0.0)


class Issued:
    """The folder of issued certificates. What this authority did not sign is passed over."""

    def __init__(self, folder: Path, authority: x509.Certificate) -> None:
        self.folder, self._authority = folder, authority

    def all(self) -> list[Entry]:
        """Return every certificate, by device and then by end.

        Raises:
            EnvironmentFault: the folder cannot be read.
        """
        with storage("read", self.folder):
            return sorted(self._read(), key=lambda entry: (entry.device_id, entry.until))

    def keep(self, entry: Entry) -> None:
        """Write a certificate down, durably, before anybody can get it.

        Raises:
            EnvironmentFault: the folder cannot be written.
        """
        write_file(self._file(entry), entry.pem)

    def settle(self, entry: Entry) -> None:
        """Note that a pending certificate has reached the registry."""
        with storage("write", self.folder):
            self._file(entry).rename(self._file(Entry(entry.device_id, entry.certificate)))

    def prune(self, now: datetime) -> set[int]:
        """Forget certificates that have ended: nobody believes them, so nobody needs to be warned of them.

        Returns:
            Their serial numbers.
        """
        ended = [entry for entry in self.all() if entry.until < now]
        for entry in ended:
            with storage("remove from", self.folder):
                self._file(entry).unlink()
        return {entry.certificate.serial_number for entry in ended}

    def _file(self, entry: Entry) -> Path:
        suffix = _PENDING if entry.pending else ".pem"
        return self.folder / entry.device_id / f"{entry.certificate.serial_number:x}{suffix}"

    def _read(self) -> Iterator[Entry]:
        for folder in self.folder.iterdir() if self.folder.is_dir() else ():
            if not folder.is_dir() or not NAME.accepts(folder.name):
                continue
            for file in folder.glob("*.pem"):
                try:
                    certificate = x509.load_pem_x509_certificate(file.read_bytes())
                except ValueError:
                    continue
                if issued_by(certificate, self._authority):
                    yield Entry(folder.name, certificate, file.name.endswith(_PENDING))
