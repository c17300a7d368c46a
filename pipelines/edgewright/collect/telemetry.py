"""A batch of telemetry as a device sent it: whose it is, by the signature in its header, and what is in it.

>>> batch = verify_batch(body, headers["Edgewright-Signature"], workspace.devices, fleet="acme")   # doctest: +SKIP
>>> if store.receive(batch):                                                                       # doctest: +SKIP
...     keep(batch.document)

The body is OTLP/HTTP JSON, compressed or not: what was signed is the JSON. A plain OpenTelemetry collector takes it
without looking at the header; with one that checks, no device can speak for another. A device repeats a batch whose
answer it did not get, byte for byte under the same id: it is answered again, and kept once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgewright.collect.report import MAX_SEQUENCE, Refused, parsed, unsealed
from edgewright.spec.device import Device
from edgewright_agent.contract import MAX_TELEMETRY_BYTES, TELEMETRY_PAYLOAD

MAX_HEADER_CHARS = 8192
MAX_DEPTH = 32  # a log record with a list has 13, a sample of a device up to 26
_GZIP = b"\x1f\x8b"
_PARTS = {"logs": "resourceLogs", "metrics": "resourceMetrics"}


@dataclass(frozen=True)
class Batch:
    """A batch that an enrolled device signed.

    Attributes:
        device: Id of the device.
        key: Fingerprint of the key it signed with.
        id: The batch's own, unique for the device.
        signal: `logs` or `metrics`.
        first: Number of its first record; numbers of one device only grow, over both signals.
        last: Number of its last record.
        sha256: Of the JSON, hex.
        document: The OTLP request.
    """

    device: str
    key: str
    id: str
    signal: str
    first: int
    last: int
    sha256: str
    document: Mapping[str, Any]


def verify_batch(body: bytes, header: str, enrolments: Mapping[str, Device], *, fleet: str) -> Batch:
    """Return what an enrolled device signed.

    Args:
        body: The request's body, compressed with gzip or not.
        header: Value of `Edgewright-Signature`.
        enrolments: Id → enrolled device.
        fleet: Name of this fleet; a batch that names another is refused.

    Raises:
        Refused: `too-large`, `malformed`, `wrong-type`, `unknown-device`, `revoked`, `bad-signature`,
            `wrong-device`, `wrong-fleet`.
    """
    if len(header) > MAX_HEADER_CHARS:
        raise Refused("too-large", f"its signature has more than {MAX_HEADER_CHARS} characters")
    try:
        envelope = base64.b64decode(header, validate=True)
    except (binascii.Error, ValueError):
        raise Refused("malformed", "its signature is not base64") from None
    name, key, statement = unsealed(envelope, TELEMETRY_PAYLOAD, enrolments, fleet=fleet)
    text = _text(body, name)
    digest = hashlib.sha256(text).hexdigest()
    if statement.get("sha256") != digest:
        raise Refused("bad-signature", f"{name} signed other bytes than these", name)
    signal, batch = statement.get("signal"), statement.get("batch")
    first, last = statement.get("first"), statement.get("last")
    if signal not in _PARTS or not isinstance(batch, str):
        raise Refused("malformed", "what it signed names no batch", name)
    if type(first) is not int or type(last) is not int or not 0 < first <= last <= MAX_SEQUENCE:
        raise Refused("malformed", "what it signed has no numbers", name)
    document = parsed(text, "its body", max_depth=MAX_DEPTH)
    if list(document) != [_PARTS[signal]]:
        raise Refused("malformed", f"its body is no request for {signal}", name)
    for told in _resources(document[_PARTS[signal]], name):
        if told.get("device.id") != name:
            raise Refused("wrong-device", f"{name} signed it, and it speaks of another device", name)
        if told.get("edgewright.batch.id") != batch:
            raise Refused("malformed", "body and signature name different batches", name)
    return Batch(name, key, batch, str(signal), first, last, digest, document)


def _text(body: bytes, name: str) -> bytes:
    """Return the JSON of a body, with a bound on what comes out of it."""
    text = body
    if body.startswith(_GZIP):
        inflater = zlib.decompressobj(wbits=31)
        try:
            text = inflater.decompress(body, MAX_TELEMETRY_BYTES + 1)
        except zlib.error:
            raise Refused("malformed", "its body is not gzip", name) from None
        if len(text) <= MAX_TELEMETRY_BYTES and (not inflater.eof or inflater.unused_data):
            raise Refused("malformed", "its body is not one gzip stream", name)
    if len(text) > MAX_TELEMETRY_BYTES:
        raise Refused("too-large", f"its body has more than {MAX_TELEMETRY_BYTES} bytes", name)
    return text


def _resources(parts: object, name: str) -> Iterator[dict[str, Any]]:
    """Yield the string attributes of every resource; there is at least one."""
    if not isinstance(parts, list) or not parts:
        raise Refused("malformed", "its body has no resource", name)
    for part in parts:
        try:
            attributes = part["resource"]["attributes"]
            yield {entry["key"]: entry["value"].get("stringValue") for entry in attributes}
        except (TypeError, KeyError, AttributeError):
            raise Refused("malformed", "a resource in its body has no attributes", name) from None
