"""One enrolled device: `devices/<id>.yaml`, written by `edgewright devices enroll` and reviewed like any change."""

from __future__ import annotations

import base64
import hashlib
from typing import Annotated, Literal, get_args

from pydantic import Field

from edgewright.spec.base import Document, Line, Name, Spec, Text
from edgewright.spec.fleet import Label

DEVICES = "devices"
"""Folder of the enrolled devices."""

Reason = Literal[
    "unspecified", "key-compromise", "superseded", "cessation-of-operation", "privilege-withdrawn"
]
"""Why a device's certificates end before their time: the words of RFC 5280, 5.3.1, that fit a device."""

REASONS: tuple[str, ...] = get_args(Reason)

# The SubjectPublicKeyInfo of every P-256 key begins alike and has 91 bytes, so its PEM has one form (RFC 5480, 2).
PublicKey = Annotated[
    str,
    Text(
        "an ECDSA P-256 public key (PEM), as `edgewright devices enroll` writes it",
        r"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE[A-Za-z0-9+/]{28}\n"
        r"[A-Za-z0-9+/]{58}==\n-----END PUBLIC KEY-----\n?",
    ),
]

Moment = Annotated[
    str,
    Text(
        "a time in UTC",
        r"20\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ",
        ("2030-01-31T12:00:00Z",),
    ),
]


class Revoked(Spec):
    """Since when, and why, this device is not believed any more."""

    at: Moment
    """When it was revoked."""
    reason: Reason
    """Why, in the words of certificate revocation lists."""
    note: Line | None = None
    """What happened, for people."""


class Device(Document):
    """One enrolled device: `devices/<id>.yaml`."""

    hardware_class: Name
    """Name of its hardware class: a file under `hardware/`."""
    labels: dict[Label, Label] = Field(default_factory=dict)
    """Labels it was enrolled with."""
    public_key: PublicKey
    """Public half of the key that was born on it and never leaves it."""
    revoked: Revoked | None = None
    """Set by `edgewright devices revoke`: its certificates are on the revocation list, its reports are refused."""

    @property
    def key_fingerprint(self) -> str:
        """How people compare keys, and how reports name them: sha256 of the SubjectPublicKeyInfo, hex."""
        body = "".join(self.public_key.strip().splitlines()[1:-1])
        return hashlib.sha256(base64.b64decode(body)).hexdigest()


def text_of(device_id: str, hardware_class: str, labels: dict[str, str], public_key: str) -> str:
    """Return the text of a fresh device file.

    Args:
        device_id: Its name, which becomes the file's stem.
        hardware_class: Name of its class.
        labels: Its labels.
        public_key: PEM.
    """
    lines = [
        f"# Device {device_id}, enrolled by `edgewright devices enroll`; what is merged here is trusted.",
        "version: 1",
        f"hardwareClass: {quoted(hardware_class)}",
    ]
    if labels:
        lines.append("labels:")
        lines += [f"  {quoted(name)}: {quoted(value)}" for name, value in sorted(labels.items())]
    lines += ["publicKey: |", *(f"  {line}" for line in public_key.strip().splitlines())]
    return "\n".join(lines) + "\n"


def quoted(text: str) -> str:
    """Return text as YAML that nothing reads as a number, a word of YAML or a comment."""
    from json import dumps

    return dumps(text, ensure_ascii=False)
