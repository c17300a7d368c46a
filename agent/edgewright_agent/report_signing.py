"""What a device says about itself, signed with its own key: DSSE over canonical JSON, numbered without repetition.

>>> document = compose(status, certificate=None, boot=boot_id(), sequence=7, now=now, clock={})   # doctest: +SKIP
>>> envelope = sign(key, document)                                                               # doctest: +SKIP

Nothing else is ever signed under this payload type, and nothing signed under another one is a report: the type is
part of what DSSE signs. (`report` is what one poll brought; this is what the device is.)
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from edgewright_agent.clock import from_text, to_text
from edgewright_agent.contract import DEVICE_REPORT_PAYLOAD, MAX_REPORT_BYTES, canonical_json, dsse_pae
from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk
from edgewright_agent.identity.certificate import Certificate
from edgewright_agent.identity.key import DeviceKey
from edgewright_agent.status import Status

SEQUENCE = "report-sequence"  # in the state directory
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronized
_TIMEX_BYTES = 512  # more than struct timex has on any architecture; all zero asks and changes nothing


def next_sequence(state: Path, disk: Disk, now: datetime) -> int:
    """Return a number above every one this returned before on this device; it is durable before it is used.

    It follows the clock where that is ahead, so that a device which has lost its state is not mistaken for a replay
    of its own past once its clock is right.

    Raises:
        StorageError: it cannot be written.
    """
    last = 0
    with contextlib.suppress(OSError, ValueError):
        last = int((state / SEQUENCE).read_text(encoding="ascii"))
    number = max(last + 1, int(now.timestamp()))
    disk.make_dir(state)
    disk.replace_file(state / SEQUENCE, str(number).encode())
    return number


def boot_id() -> str:
    """Return the kernel's name of this boot; empty where it has none."""
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return ""


def clock_quality(floor: str | None, now: datetime) -> dict[str, Any]:
    """Return how far this device's clock can be believed.

    Args:
        floor: A time at which signed metadata was already valid here, if any was.
    """
    return {"synchronized": _synchronized(), "behindSignedTime": floor is not None and now < from_text(floor)}


def compose(
    status: Status,
    *,
    certificate: Certificate | None,
    boot: str,
    sequence: int,
    now: datetime,
    clock: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the report as JSON values; the fleet is the one that issued the certificate."""
    return {
        "version": 1,
        "device": status.device,
        "class": status.hardware_class,
        "fleet": certificate.fleet if certificate else None,
        "certificate": (
            {"serial": certificate.serial, "until": to_text(certificate.end)} if certificate else None
        ),
        "boot": boot,
        "sequence": sequence,
        "time": to_text(now),
        "clock": dict(clock),
        "status": status.document(),
    }


def sign(key: DeviceKey, document: Mapping[str, Any]) -> bytes:
    """Return the DSSE envelope (JSON) of a report; its key id is the fingerprint of the device's public key.

    Raises:
        StorageError: `too-large`, or the key cannot be used.
    """
    envelope = seal(key, DEVICE_REPORT_PAYLOAD, document)
    if len(envelope) > MAX_REPORT_BYTES:
        raise StorageError("too-large", f"the report has {len(envelope)} bytes; {MAX_REPORT_BYTES} are taken")
    return envelope


def seal(key: DeviceKey, payload_type: str, document: Mapping[str, Any]) -> bytes:
    """Return a DSSE envelope (JSON) around a document, signed by a device.

    Raises:
        StorageError: the key cannot be used.
    """
    payload = canonical_json(document)
    return canonical_json(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [
                {
                    "keyid": hashlib.sha256(key.public_der).hexdigest(),
                    "sig": base64.b64encode(key.sign(dsse_pae(payload_type, payload))).decode(),
                }
            ],
        }
    )


def _synchronized() -> bool | None:
    """Whether the kernel's clock follows a time source; None where that cannot be asked."""
    try:
        import ctypes

        answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (ImportError, OSError, AttributeError):
        return None
    return None if answer < 0 else bool(answer != _TIME_ERROR)
