"""Renewal: the device fetches its own next certificate from the registry that it polls.

>>> renew(config, source, Disk(), now=utc_now())          # doctest: +SKIP
Renewal(code='renewed', message='valid until 2030-06-30T00:00:00Z')

The fleet publishes it in repository `devices` under the device's id. It is no secret, and a registry that answers with
anything else changes nothing: only a certificate of the pinned authority, for this key and this device, that ends later
than the present one is put in place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edgewright_agent.clock import to_text
from edgewright_agent.config import Config, Identity
from edgewright_agent.contract import DEVICE_CERTIFICATES, MAX_CERTIFICATE_BYTES, is_name
from edgewright_agent.errors import AgentError, ConfigError, StorageError
from edgewright_agent.files import Disk
from edgewright_agent.identity import certificate
from edgewright_agent.identity.key import load
from edgewright_agent.identity.validity import TRIED
from edgewright_agent.transport import Source
from edgewright_agent.transport.document import read_document
from edgewright_agent.transport.mirrors import in_turn


@dataclass(frozen=True)
class Renewal:
    """What a try to renew came to: `renewed`, or why not. The present certificate stays in every other case."""

    code: str
    message: str


def renew(config: Config, identity: Identity, source: Source, disk: Disk, *, now: datetime) -> Renewal:
    """Fetch, check and install this device's next certificate; never raises for what a source says or lacks."""
    try:
        # Noted before the try: whatever it does, it is not made again at once.
        disk.make_dir(config.state)
        disk.replace_file(config.state / TRIED, to_text(now).encode())
        # Mirror by mirror: one that holds an old certificate, or another's, hides none.
        return in_turn(source, lambda place: _renew(config.device.id, identity, place, disk))
    except AgentError as error:
        return Renewal(error.code, str(error))


def _renew(device_id: str, identity: Identity, source: Source, disk: Disk) -> Renewal:
    if identity.ca is None or not is_name(device_id):
        raise ConfigError("bad-identity", "renewal needs identity.ca and a device.id that can be a file name")
    key = load(identity.key)
    pem = read_document(source, DEVICE_CERTIFICATES, device_id, limit=MAX_CERTIFICATE_BYTES)
    found = certificate.check(
        pem,
        key=key,
        device_id=device_id,
        authorities=_read(identity.ca),
        current=_read(identity.certificate) if identity.certificate.exists() else None,
    )
    certificate.install(identity.certificate, found, disk)
    return Renewal("renewed", f"valid until {to_text(found.end)}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_CERTIFICATE_BYTES)
    except OSError as error:
        raise StorageError("io-error", f"cannot read {path}: {error.strerror}") from error
