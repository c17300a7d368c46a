"""A device as a whole, with real parts: registry, agent, applications, engine, receiver of telemetry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.device import Device, Fleet
from real import Registry
from unit.publish.lane import MODEL


@pytest.fixture
def fleet(registry: Registry, tmp_path: Path) -> Fleet:
    """A fleet with one release."""
    made = Fleet(tmp_path / "fleet", registry)
    made.publish("1.0.0")
    return made


def test_an_application_is_answered_through_ten_updates_and_a_rollback(fleet: Fleet, tmp_path: Path) -> None:
    device = Device(fleet, tmp_path / "pump-1")
    with device.agent() as agent, device.application(threads=3) as application:
        for number in range(1, 11):
            digest = fleet.publish(f"1.{number}.0")
            assert agent.polled()["exit_code"] == 0
            application.wait_for(event="answered", digest=digest, rung="normal")
        since = len(application.said)
        assert device.do("rollback", MODEL).returncode == 0
        application.wait_for(since=since, event="answered", version="1.9.0")
        top = json.loads(device.do("top", "--once", "--json").stdout)["models"][MODEL]
        health = device.ask("/v1/health")
        seen = application.over()
    print(json.dumps(top, indent=1), health)
    assert seen["failures"] == []
    released = {(version, digest, number) for version, (digest, number) in fleet.released.items()}
    assert {(one["version"], one["digest"], one["value"]) for one in seen["seen"]} == released
    assert {one["rung"] for one in seen["seen"]} == {"normal"}
