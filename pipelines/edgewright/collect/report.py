"""A device's report: from foreign bytes to something to believe, or one word why not.

>>> accept(b"{}", {}, seen, fleet="acme")                              # doctest: +SKIP
Traceback (most recent call last):
edgewright.collect.report.Refused: malformed: …

The order is: size, envelope, payload type, whose key, revoked, signature; only then is the payload parsed. DSSE signs
the payload type together with the payload, so neither a signature over an artifact nor one made in a TLS handshake or
a certificate request is a report, and no report is any of those.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright.spec.device import Device
from edgewright_agent.contract import DEVICE_REPORT_PAYLOAD, MAX_REPORT_BYTES, dsse_pae

MAX_DEPTH = 16  # a status has 7
MAX_SEQUENCE = 2**53 - 1  # what JSON numbers carry everywhere
_MAX_SIGNATURE_CHARS = 512


class Refused(Exception):
    """A report that is not believed.

    Attributes:
        reason: `too-large`, `malformed`, `wrong-type`, `unknown-device`, `revoked`, `bad-signature`, `wrong-device`,
            `wrong-fleet` or `replayed`.
        device: The device whose key the envelope names, if it is enrolled.
    """

    def __init__(self, reason: str, message: str, device: str | None = None) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason, self.message, self.device = reason, message, device


class Seen(Protocol):
    """What was accepted before, durably."""

    def advance(self, report: Report) -> int | None:
        """Keep a report if its sequence is above the last one of this device and key.

        Returns:
            None when it was kept, else the last sequence.
        """


@dataclass(frozen=True)
class Report:
    """A report that an enrolled device signed.

    Attributes:
        device: Id of the device.
        key: Fingerprint of the key it signed with.
        sequence: Number of the report; sequences of one key only grow.
        document: The whole report.
    """

    device: str
    key: str
    sequence: int
    document: Mapping[str, Any]


def accept(envelope: bytes, devices: Mapping[str, Device], seen: Seen, *, fleet: str) -> Report:
    """Return a report that was signed by an enrolled device and never accepted before; it is then.

    Args:
        envelope: DSSE envelope, JSON.
        devices: Id → enrolled device.
        fleet: Name of this fleet; a report that names another is refused.

    Raises:
        Refused: see `Refused.reason`.
    """
    report = verify(envelope, devices, fleet=fleet)
    last = seen.advance(report)
    if last is not None:
        raise Refused(
            "replayed",
            f"its sequence {report.sequence} is not above {last}, the last one accepted",
            report.device,
        )
    return report


def verify(envelope: bytes, devices: Mapping[str, Device], *, fleet: str) -> Report:
    """Return what an enrolled device signed, whether it is new or not.

    Raises:
        Refused: see `Refused.reason`; never `replayed`.
    """
    if len(envelope) > MAX_REPORT_BYTES:
        raise Refused("too-large", f"it has more than {MAX_REPORT_BYTES} bytes")
    name, key_id, document = unsealed(envelope, DEVICE_REPORT_PAYLOAD, devices, fleet=fleet)
    sequence = document.get("sequence")
    if type(sequence) is not int or not 0 < sequence <= MAX_SEQUENCE:
        raise Refused("malformed", "its sequence is not a positive number", name)
    if not isinstance(document.get("status"), dict) or not isinstance(document.get("time"), str):
        raise Refused("malformed", "it has no status or no time", name)
    return Report(name, key_id, sequence, document)


def unsealed(
    envelope: bytes, payload_type: str, devices: Mapping[str, Device], *, fleet: str
) -> tuple[str, str, dict[str, Any]]:
    """Return device, fingerprint of its key, and the document that it signed under a payload type.

    Raises:
        Refused: see `Refused.reason`; the document speaks of its signer and of this fleet or none.
    """
    payload, key_id, signature = _opened(envelope, payload_type)
    name, public = _device_of(key_id, devices)
    if devices[name].revoked is not None:
        raise Refused("revoked", f"{name} is revoked", name)
    try:
        public.verify(signature, dsse_pae(payload_type, payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Refused("bad-signature", f"the key of {name} did not sign it", name) from None
    document = parsed(payload, "its payload")
    if document.get("version") != 1:
        raise Refused("malformed", "its version is not 1", name)
    if document.get("device") != name:
        raise Refused("wrong-device", f"{name} signed it, and it speaks of another device", name)
    if document.get("fleet") not in (None, fleet):
        raise Refused("wrong-fleet", f"it is for another fleet than {fleet}", name)
    return name, key_id, document


def _opened(envelope: bytes, payload_type: str) -> tuple[bytes, str, bytes]:
    """Return payload, key id and signature of an envelope that has the right type and one signature."""
    document = parsed(envelope, "the envelope")
    if document.get("payloadType") != payload_type:
        raise Refused("wrong-type", f"its payload type is not {payload_type}")
    signatures = document.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise Refused("malformed", "it has not exactly one signature")
    key_id, signature = signatures[0].get("keyid"), signatures[0].get("sig")
    if not isinstance(key_id, str) or not isinstance(signature, str) or len(signature) > _MAX_SIGNATURE_CHARS:
        raise Refused("malformed", "its signature has no key id or no value")
    return _decoded(document.get("payload")), key_id, _decoded(signature)


def _decoded(text: object) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if isinstance(text, str) else _no_base64()
    except (binascii.Error, ValueError):
        _no_base64()


def _no_base64() -> NoReturn:
    raise Refused("malformed", "payload or signature is not base64")


def _device_of(key_id: str, devices: Mapping[str, Device]) -> tuple[str, ec.EllipticCurvePublicKey]:
    name = next((name for name, device in devices.items() if device.key_fingerprint == key_id), None)
    if name is None:
        raise Refused("unknown-device", "no enrolled device has the key it names")
    try:
        public = serialization.load_pem_public_key(devices[name].public_key.encode())
    except ValueError:  # no point of the curve: nobody can have signed with it
        raise Refused("bad-signature", f"devices/{name}.yaml holds no usable key", name) from None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Refused("bad-signature", f"devices/{name}.yaml holds no ECDSA key", name)
    return name, public


def parsed(data: bytes, what: str, *, max_depth: int = MAX_DEPTH) -> dict[str, Any]:
    """Parse a JSON object strictly: UTF-8, no duplicate keys, no NaN, no absurd nesting.

    Raises:
        Refused: `malformed`.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key appears twice")
        return found

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a JSON number")

    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError):
        raise Refused("malformed", f"{what} is not strict JSON") from None
    if not isinstance(document, dict) or _depth(document, max_depth) > max_depth:
        raise Refused("malformed", f"{what} is not a JSON object, or nested too deeply")
    return document


def _depth(document: Any, at_most: int) -> int:
    level, depth = [document], 0
    while level and depth <= at_most:
        depth += 1
        level = [
            child
            for node in level
            if isinstance(node, (dict, list))
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return depth
