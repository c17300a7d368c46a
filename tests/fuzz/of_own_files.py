"""This device's own files: its configuration and its record, which a failing disk can turn into foreign bytes."""

from __future__ import annotations

import functools
import json
from typing import Any

from edgewright_agent import config, model_state, record, slots
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
