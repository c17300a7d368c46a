"""The fleet at a glance: what every enrolled device said last.

>>> [line.state for line in fleet_table(workspace.devices, store)]     # doctest: +SKIP
['ok', 'never reported']
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgewright.collect.store import Store
from edgewright.spec.device import Device

_WORD_CHARS = 60


@dataclass(frozen=True)
class Line:
    """One enrolled device.

    Attributes:
        time: When it reported last, by its own clock.
        clock: `synchronized`, `unsynchronized`, `behind` (earlier than signed metadata) or `unknown`.
        state: What it says of itself (`ok`, `degraded`, …), `never reported` or `revoked`.
        models: Model → version that runs, or its state where none does.
        until: When the certificate it holds ends; None without one.
        differs: What it says of itself against what was reviewed: `class`, `labels`.
    """

    device: str
    hardware_class: str
    time: str | None
    clock: str
    state: str
    models: Mapping[str, str]
    until: str | None
    differs: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "id": self.device,
            "class": self.hardware_class,
            "time": self.time,
            "clock": self.clock,
            "state": self.state,
            "models": dict(self.models),
            "certificateUntil": self.until,
            "differs": list(self.differs),
        }


def fleet_table(devices: Mapping[str, Device], store: Store) -> list[Line]:
    """Return a line per enrolled device, by id.

    Raises:
        EnvironmentFault: the reports cannot be read.
    """
    return [_line(name, device, store) for name, device in devices.items()]


def _line(name: str, device: Device, store: Store) -> Line:
    if device.revoked is not None:
        return Line(name, device.hardware_class, None, "unknown", "revoked", {}, None, ())
    report = store.latest(name, device.key_fingerprint)
    if report is None:
        return Line(name, device.hardware_class, None, "unknown", "never reported", {}, None, ())
    document = report.document
    status = _mapping(document.get("status"))
    said = _mapping(status.get("device"))
    differs = []
    if document.get("class") != device.hardware_class:
        differs.append("class")
    if said.get("labels", {}) != device.labels:
        differs.append("labels")
    return Line(
        device=name,
        hardware_class=device.hardware_class,
        time=_word(document.get("time")),
        clock=_clock(_mapping(document.get("clock"))),
        state=_word(status.get("state")),
        models={
            _word(model): _running(_mapping(entry)) for model, entry in _mapping(status.get("models")).items()
        },
        until=_word(until) if (until := _mapping(document.get("certificate")).get("until")) else None,
        differs=tuple(differs),
    )


def _clock(clock: Mapping[str, Any]) -> str:
    if clock.get("behindSignedTime") is True:
        return "behind"
    return {True: "synchronized", False: "unsynchronized"}.get(clock.get("synchronized") or False, "unknown")


def _running(entry: Mapping[str, Any]) -> str:
    version, state = entry.get("version"), _word(entry.get("state"))
    # Where it stands on the ladder (the agent's README), for what runs, but not as it should.
    rung = _mapping(entry.get("rung")).get("rung")
    told = [*([] if state == "running" else [state]), *([_word(rung)] if rung is not None else [])]
    if version is None:
        return state
    return f"{_word(version)} ({', '.join(told)})" if told else _word(version)


def _mapping(value: object) -> Mapping[str, Any]:
    """An enrolled device signed it, and may still be broken or taken over: nothing about its inside is certain."""
    return value if isinstance(value, dict) else {}


def _word(value: object) -> str:
    """Return foreign text fit for a terminal."""
    text = value if isinstance(value, str) else "?"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:_WORD_CHARS])
