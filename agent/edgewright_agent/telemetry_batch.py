"""Batches: records of the spool as one signed, compressed OTLP request that is the same however often it is sent.

>>> make(records, Speaker("pi-7", "raspberry-pi-4"), dropped={}).batch.id     # doctest: +SKIP
'pi-7/logs/1893456000000-1893456000041'

The signature is a DSSE envelope over a small statement that names the batch and the sha256 of its JSON, before
compression, so that proxies may compress it otherwise. A plain OpenTelemetry collector never looks at the header.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewright_agent import events, otlp
from edgewright_agent.contract import (
    MAX_TELEMETRY_BYTES,
    TELEMETRY_BATCH,
    TELEMETRY_PAYLOAD,
    TELEMETRY_SIGNATURE,
    canonical_json,
)
from edgewright_agent.report_signing import seal
from edgewright_agent.spool import AGGREGATE, ERROR, Batch
from edgewright_agent.spool_layout import BESIDE_AT, OUTBOX_BYTES, Record

if TYPE_CHECKING:
    from edgewright_agent.identity.key import DeviceKey

MAX_RECORDS = 500
_DESCRIBED_BYTES = 4096  # of the outbox, for headers and what describes a batch
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError)


@dataclass(frozen=True)
class Speaker:
    """Who sends: `key` is None where the device has no identity, and its batches no signature."""

    device: str
    hardware_class: str
    fleet: str | None = None
    key: DeviceKey | None = None


@dataclass(frozen=True)
class Made:
    """A batch, or with `batch` None nothing that could be sent.

    Attributes:
        batch: It.
        used: Which of the records that were offered are done with, with it.
    """

    batch: Batch | None
    used: Sequence[Record]


def make(
    records: Sequence[Record],
    speaker: Speaker,
    *,
    dropped: Mapping[str, int],
    newest: bool = False,
    limit: int = MAX_RECORDS,
    beside: bool = False,
) -> Made:
    """Make a batch of as many records as fit.

    Args:
        records: Of one priority, the oldest first; at least one.
        speaker: Who sends.
        dropped: Records given up so far, by priority.
        newest: Whether to begin with the newest instead of the oldest.
        limit: The most records.
        beside: Whether another batch is in the outbox, beside which it has to fit.

    Raises:
        StorageError: the key cannot be used.
    """
    # Aggregates and samples leave room for one of what is worth more beside them; a single record has to go anyway.
    half = beside or records[0].priority > ERROR
    count = min(len(records), limit)
    tried = [(one, _event(one)) for one in (records[-count:] if newest else records[:count])]
    while True:
        chosen = tried[-count:] if newest else tried[:count]
        room = BESIDE_AT if half and count > 1 else OUTBOX_BYTES
        found = _attempt(chosen, speaker, dropped, room - _DESCRIBED_BYTES)
        if found is not None or count == 1:
            return found or Made(None, [one for one, _event in chosen])
        count = (count + 1) // 2


def _attempt(
    chosen: Sequence[tuple[Record, dict[str, Any] | None]],
    speaker: Speaker,
    dropped: Mapping[str, int],
    room: int,
) -> Made | None:
    """Return a batch of exactly these records, or None when its body has more than `room` bytes."""
    used = [record for record, _event in chosen]
    priority = used[0].priority
    signal = "metrics" if priority == AGGREGATE else "logs"
    first, last = used[0].sequence, used[-1].sequence
    name = f"{speaker.device}/{signal}/{first}-{last}"
    source = otlp.resource(device=speaker.device, hardware_class=speaker.hardware_class, batch=name)
    numbered = [(record.sequence, event) for record, event in chosen if event is not None]
    if not numbered:
        return Made(None, used)
    document = otlp.metrics(source, numbered, dropped) if signal == "metrics" else otlp.logs(source, numbered)
    text = canonical_json(document)
    body = gzip.compress(text, mtime=0)
    if len(text) > MAX_TELEMETRY_BYTES or len(body) > room:
        return None
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip", TELEMETRY_BATCH: name}
    if speaker.key is not None:
        headers[TELEMETRY_SIGNATURE] = _signature(
            speaker.key,
            {
                "version": 1,
                "device": speaker.device,
                "fleet": speaker.fleet,
                "batch": name,
                "signal": signal,
                "first": first,
                "last": last,
                "sha256": hashlib.sha256(text).hexdigest(),
            },
        )
    count = len(numbered)
    unreadable, points = len(used) - count, otlp.points(document)
    batch = Batch(name, signal, priority, first, last, count, headers, body, unreadable, points)
    return Made(batch, used)


def _event(record: Record) -> dict[str, Any] | None:
    """Return a record's event if it can be told in OTLP: one that cannot must not stop the others.

    It is none of ours after the disk has failed, or when another version of the agent wrote it.
    """
    try:
        event = events.parse(record.payload)
        if record.priority == AGGREGATE:
            otlp.metrics({}, [(record.sequence, event)], {})
        else:
            otlp.logs({}, [(record.sequence, event)])
    except _UNREADABLE:
        return None
    return event


def _signature(key: DeviceKey, statement: Mapping[str, Any]) -> str:
    return base64.b64encode(seal(key, TELEMETRY_PAYLOAD, statement)).decode()
