"""This device's own files: its configuration, its record, its telemetry spool; a failing disk makes them foreign."""

from __future__ import annotations

import functools
import json
from dataclasses import asdict
from typing import Any

from edgewright_agent import config, events, model_state, otlp, record, slots, spool_head, spool_layout
from edgewright_agent.clock import Uptime
from edgewright_agent.errors import ConfigError, StorageError
from fuzz.mutation import document_of, seeds_of
from fuzz.target import DIGEST, scratch, target


@functools.cache
def _configs() -> list[Any]:
    return [
        {
            "version": 1,
            "device": {"id": "pump-7", "class": "raspberry-pi-4", "labels": {"ring": "canary"}},
            "source": {
                "url": "https://registry.example/acme",
                "caFile": "ca.pem",
                "username": "env:USER",
                "password": "credential:registry",
                "mirrors": [
                    "oci:/media/stick",
                    {"url": "https://near.example/acme", "credentialHelper": "pass"},
                    {"url": "https://far.example", "username": "file:user", "password": "file:secret"},
                ],
            },
            "state": "state",
            "trust": {
                "root": "1.root.json",
                "keys": ["signing.pub"],
                "identities": [
                    {"issuer": "https://ci.example", "identity": "https://ci.example/fleet@main"},
                    {"issuer": "https://id.example", "identityPattern": "[a-z]+@example"},
                ],
            },
            "identity": {"key": "device.key", "certificate": "device.crt", "ca": "ca.pem"},
            "decryption": {"keys": ["device.key"]},
            "poll": {"intervalS": 900, "jitter": 0.2, "maxBackoffS": 21600},
            "reserveBytes": 1,
            "budget": {"loadMs": 5, "latencyMs": 1.5, "peakMemoryBytes": 4096},
            "telemetry": {
                "endpoint": "https://otel.example/base",
                "headers": {"Authorization": "credential:otel"},
                "intervalS": 3600,
                "spoolBytes": 262144,
                "caFile": "ca.pem",
                "samples": True,
            },
        }
    ]


@target(
    "config",
    "the agent's configuration: mirrors, pins, secrets by reference",
    ConfigError,
    seeds=lambda: seeds_of(_configs(), rounds=96),
)
def _config(data: bytes) -> object:
    path = scratch() / "agent.json"
    path.write_bytes(document_of(data, _configs()))
    return config.load(path)


@functools.cache
def records() -> list[Any]:
    slot = model_state.Slot(DIGEST, "1.0.0", "2030-01-01T00:00:00Z", {"loadMs": 9.0})
    state = model_state.ModelState(
        active=slot,
        previous=slot,
        trial=model_state.Trial(DIGEST, "1.0.1", 3, "2030-01-01T00:00:00Z", 60.0),
        tombstones=(model_state.Tombstone(DIGEST, "0.9.0", "health-crash", "died", "2030-01-01T00:00:00Z"),),
        last=model_state.Verdict("installed", "1.0.0", "2030-01-01T00:00:00Z", DIGEST, "1.0.0"),
    )
    made = record.Record(
        models={"digit-reader": state},
        floor={"root": 1, "timestamp": 7},
        expires={"timestamp": "2030-01-01T00:00:00Z"},
        seen=record.Seen('"x"', "ab"),
        poll=record.Poll("2030-01-01T00:00:00Z", "ok", "verified"),
        counters={"polls": 3},
        clock_floor="2030-01-01T00:00:00Z",
        clock_since=Uptime("this boot", 60),
        boots=2,
        boot_id="this boot",
        floor_keys={"timestamp": "1:00ff"},
        sequences={"raspberry-pi-4/digit-reader": 7},
        fleet="acme",
    )
    return [json.loads(record.to_bytes(made))]


def _record_seeds() -> list[bytes]:
    whole = slots.encode(7, record.to_bytes(record.Record()))
    return [*seeds_of(records(), rounds=64), b"\2" + whole, b"\2" + whole[:60]]


@target("record", "the agent's record, and a slot of it", StorageError, seeds=_record_seeds)
def _record(data: bytes) -> object:
    if data[:1] == b"\2":
        return slots.decode(data[1:])
    return record.to_bytes(record.from_bytes(document_of(data, records())))


@functools.cache
def _told() -> list[Any]:
    moment = {"at": "2030-01-01T00:00:00Z", "boot": "this boot", "upS": 60, "version": events.VERSION}
    model = {
        "model": "digit-reader",
        "digest": DIGEST,
        "rung": "previous",
        "providers": ["CPUExecutionProvider"],
        "inferences": 10,
        "errors": 1,
        "latency": [[80, 7], [83, 3]],
        "confidence": [1] * events.CONFIDENCE_BINS,
        "drift": {"confidence": 0.5, "inputs": {"image": 0.25}},
        "experiment": {"name": "e", "digest": DIGEST, "requests": 3, "agree": 2, "latency": [[81, 3]]},
    }
    vitals = {"temperatureC": 48.5, "memory": {"totalBytes": 2, "availableBytes": 1}, "load": 0.5}
    span = {"from": "2029-12-31T23:45:00Z", "to": "2030-01-01T00:00:00Z", "parts": 1, "models": [model]}
    running = {"model": "digit-reader", "state": "running", "digest": DIGEST}
    return [
        {**moment, "kind": events.AGGREGATE, **span, "vitals": vitals, "metadata": {"expiresInS": 9}},
        {**moment, "kind": events.UPDATE, "state": "ok", "code": "ok", "models": [running], "rungs": {}},
        {**moment, "kind": events.ERROR, "code": "no-space", "message": "full", "model": "digit-reader"},
    ]


@target(
    "event",
    "a record of the telemetry spool: merged with another, and as OTLP",
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    seeds=lambda: seeds_of(_told(), rounds=64),
)
def _event(data: bytes) -> object:
    payload = document_of(data, _told())
    good = events.encode({key: value for key, value in _told()[0].items() if key != "version"})
    for older, newer in ((payload, good), (good, payload)):
        events.merged(older, newer)  # raises nothing, whatever it is given
    event = events.parse(payload)
    made = otlp.metrics if event.get("kind") == events.AGGREGATE else None
    return made({}, [(1, event)], {}) if made else otlp.logs({}, [(1, event)])


def _spool_seeds() -> list[bytes]:
    header = spool_layout.SegmentHeader(7, b"8 bytes.", spool_layout.Priority.ERROR)
    records = b"".join(spool_layout.encode_record(header, n, b"record %d " % n * n) for n in (1, 40, 90))
    sealed = spool_layout.SegmentHeader(8, b"8 bytes.", spool_layout.Priority.ERROR, 1, len(records), (5, 6))
    outbox = spool_layout.encode_outbox(b'{"id":"x"}', b"body") or b""
    head = spool_head.to_slot(3, spool_head.Head(sequence=7, acked=(((0, 4),), (), (), ())))
    return [
        b"\0" + header.encode() + records,
        b"\0" + sealed.encode() + records,
        b"\1" + outbox,
        b"\2" + head,
        *(b"\3" + seed for seed in seeds_of(_heads(), rounds=64)),
    ]


@functools.cache
def _heads() -> list[Any]:
    head = spool_head.Head(
        sequence=9,
        acked=(((0, 4), (6, 8)), (), (), ()),
        dropping=(3,),
        tried=1_900_000_000,
        outcome="network",
    )
    return [{"version": spool_head.VERSION, **asdict(head)}]


@target("spool", "segments, heads and the outbox of the telemetry spool", ValueError, seeds=_spool_seeds)
def _spool(data: bytes) -> object:
    kind, region = data[:1], data[1:]
    if kind == b"\0":
        header = spool_layout.SegmentHeader.decode(region)
        segment = region[: 256 * 1024]
        if header is not None:
            header.is_whole(segment)
        # Whatever has become of the header: what the records say must not matter without their checksum.
        loose = header or spool_layout.SegmentHeader(7, b"8 bytes.", spool_layout.Priority.ERROR)
        found = list(spool_layout.scan(segment, loose))
        assert all(record.end <= len(segment) + spool_layout.SECTOR_BYTES for record in found)
        return found
    if kind == b"\1":
        return spool_layout.decode_outbox(region)
    if kind == b"\2":
        return spool_head.from_slots(region)
    return spool_head.from_bytes(document_of(region, _heads()))
