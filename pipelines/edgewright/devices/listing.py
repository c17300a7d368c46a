"""Every enrolled device on one line: what it is, until when its certificate is valid, and what is next.

>>> [line.state for line in listing(workspace, issued, now=now)]     # doctest: +SKIP
['certified', 'revoked: key-compromise']
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from edgewright.devices.certify import DUE_SHARE, public_key_of
from edgewright.devices.issued import Entry
from edgewright.spec.device import Device
from edgewright.spec.workspace import Workspace
from edgewright.trust.signing_key import fingerprint, spki_der


@dataclass(frozen=True)
class Line:
    """One device.

    Attributes:
        until: End of its newest certificate; None without one.
        state: `certified`, `due`, `expired`, `no certificate` or `revoked: REASON`.
    """

    device_id: str
    hardware_class: str
    labels: dict[str, str]
    fingerprint: str
    until: datetime | None
    state: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "id": self.device_id,
            "class": self.hardware_class,
            "labels": self.labels,
            "fingerprint": self.fingerprint,
            "until": self.until.isoformat() if self.until else None,
            "state": self.state,
        }


def listing(workspace: Workspace, known: Iterable[Entry], *, now: datetime) -> list[Line]:
    """Return a line per enrolled device, by id.

    Raises:
        TrustError: a device's key is no key.
    """
    by_device: dict[str, list[Entry]] = {}
    for entry in known:
        by_device.setdefault(entry.device_id, []).append(entry)
    return [_line(name, device, by_device.get(name, []), now) for name, device in workspace.devices.items()]


def _line(name: str, device: Device, entries: list[Entry], now: datetime) -> Line:
    key = spki_der(public_key_of(name, device))
    own = [entry for entry in entries if entry.public_der == key]
    newest = max(own, key=lambda entry: entry.until, default=None)
    until = newest.until if newest else None
    state = "certified"
    if device.revoked is not None:
        state = f"revoked: {device.revoked.reason}"
    elif newest is None:
        state = "no certificate"
    elif newest.until <= now:
        state = "expired"
    elif newest.left(now) <= DUE_SHARE:
        state = "due"
    return Line(name, device.hardware_class, dict(device.labels), fingerprint(key), until, state)
