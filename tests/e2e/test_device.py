"""A device as a whole, with real parts: registry, agent, applications, engine, receiver of telemetry."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from e2e.device import Agent, Device, Fleet
from real import Registry
from unit.agent.core.collector import Collector
from unit.agent.core.test_full_disk import SmallDisk, mounted
from unit.publish.lane import MODEL

UPDATES = int(os.environ.get("EDGEWRIGHT_TEST_UPDATES", "10"))
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


@pytest.fixture
def fleet(registry: Registry, tmp_path: Path) -> Fleet:
    """A fleet with one release."""
    made = Fleet(tmp_path / "fleet", registry)
    made.publish("1.0.0")
    return made


def test_applications_are_answered_through_many_updates_and_a_rollback_and_nothing_grows(
    fleet: Fleet, tmp_path: Path
) -> None:
    device = Device(fleet, tmp_path / "pump-1", telemetry={})
    with device.agent() as agent, device.application(threads=3) as application:
        sizes = []
        for number in range(1, UPDATES + 1):
            digest = fleet.publish(f"1.{number}.0")
            assert agent.polled()["exit_code"] == 0
            application.wait_for(event="answered", digest=digest, rung="normal")
            sizes.append(size(device, agent))
        since = len(application.said)
        back = device.do("rollback", MODEL)
        before = f"1.{UPDATES - 1}.0"
        assert (back.returncode, before in back.stdout) == (0, True)
        application.wait_for(since=since, event="answered", version=before)
        top = device.told("top", "--once")["models"][MODEL]
        health = device.ask("/v1/health")
        seen = application.over()
    assert seen["failures"] == []
    released = {(version, digest, number) for version, (digest, number) in fleet.released.items()}
    assert {(one["version"], one["digest"], one["value"]) for one in seen["seen"]} == released
    assert {one["rung"] for one in seen["seen"]} == {"normal"}
    assert (top["live"]["sessions"], top["version"], top["rung"]) == (1, before, "normal")
    assert top["live"]["errors"] == 0
    assert sum(other["inferences"] for other in top["live"]["others"]) > 0
    assert (health["status"], health["models"][MODEL]["sessions"]) == ("ok", 1)
    assert sizes[2:] == [sizes[1]] * (UPDATES - 2), "once two versions are kept, nothing grows"


def size(device: Device, agent: Agent) -> Mapping[str, int]:
    """Count what a device could lose for good with every update."""
    state = device.state
    return {
        "descriptors": agent.descriptors,
        "artifacts": len(list((state / "store").iterdir())),
        "entries": len(list(state.iterdir())),
        "spool": (state / "spool/ring").stat().st_size,
        "sockets": len(list(state.glob("*.sock"))),
    }


def test_a_version_under_which_applications_crash_is_rolled_back_and_the_fleet_hears_why(
    fleet: Fleet, tmp_path: Path
) -> None:
    with Collector() as collector:
        device = Device(fleet, tmp_path / "pump-1", telemetry={"endpoint": collector.url})
        with device.agent() as agent:
            fleet.signed.sheet["rollbackPolicy"] = {"soak": "1h"}
            bad = fleet.publish("2.0.0")
            assert agent.polled()["exit_code"] == 0, "it passes its trial"
            assert device.model()["state"] == "soaking"
            for crash in range(3):
                with device.application(abort_on=bad) as application:
                    assert application.ended() == -signal.SIGABRT
                    agent.wait_for(event="session", code="crashed", pid=application.pid)
                assert crash < 2 or agent.wait_for(event="soak-failed", code="soak-crash")
            with device.application(abort_on=bad) as application:
                application.wait_for(event="answered", version="1.0.0", value=1.0)
                assert application.over()["failures"] == []
            (stone,) = device.model()["tombstones"]
            (entry,) = evidence(device)
            sent = device.do("telemetry", "--send")
        assert sent.returncode == 0, sent.stderr
        assert (stone["code"], stone["digest"], stone["evidence"]) == ("soak-crash", bad, entry["name"])
        assert (entry["soak"]["crashes"], entry["acknowledged"]) == (3, False)
        assert [one["acknowledged"] for one in evidence(device)] == [False], "all of it is on the device only"
        told = logs(collector)
    assert {one["edgewright.state"] for one in told["edgewright.update"]} == {"ok", "degraded"}
    states = [one["edgewright.model.state"] for one in told["edgewright.model"]]
    assert {"running", "soaking", "rolled-back"} <= set(states)
    (failure,) = (one for one in told["edgewright.error"] if one["error.type"] == "soak-crash")
    assert failure["edgewright.evidence"]["name"] == f"{MODEL}/{entry['name']}"
    assert failure["edgewright.evidence"]["soak"]["crashes"] == 3


def evidence(device: Device) -> list[dict[str, Any]]:
    """Return what `evidence --json` prints."""
    return [json.loads(line) for line in device.do("evidence", "--json").stdout.splitlines()]


def logs(collector: Collector) -> dict[str, list[dict[str, Any]]]:
    """Return the attributes of all log records that a collector has taken, by the event's name."""
    found: dict[str, list[dict[str, Any]]] = {}
    for request in collector.taken:
        for resource in request.document.get("resourceLogs", ()):
            for record in resource["scopeLogs"][0]["logRecords"]:
                values = {one["key"]: plain(one["value"]) for one in record["attributes"]}
                found.setdefault(record["eventName"], []).append(values)
    return found


def plain(value: Mapping[str, Any]) -> Any:
    """Return an OTLP value as JSON has it."""
    ((kind, inner),) = value.items()
    if kind == "kvlistValue":
        return {one["key"]: plain(one["value"]) for one in inner["values"]}
    if kind == "arrayValue":
        return [plain(one) for one in inner["values"]]
    return int(inner) if kind == "intValue" else inner


def test_a_device_outlives_a_full_disk_while_its_registry_is_away_and_comes_back_by_itself(
    fleet: Fleet, registry: Registry, tmp_path: Path
) -> None:
    with mounted("tmpfs", tmp_path) as folder:
        disk = SmallDisk(folder)
        device = Device(
            fleet, tmp_path / "pump-1", state=folder / "state", poll={"intervalS": 1, "maxBackoffS": 1}
        )
        with device.agent() as agent, device.application() as application:
            registry.stop()
            agent.wait_for(event="failed", code="network")
            disk.fill_bytes()
            assert application.goes_on()["version"] == "1.0.0"
            registry.start()
            digest = fleet.publish("2.0.0", ballast=1 << 20)
            since = len(agent.said)
            agent.wait_for(since=since, event="update", exit_code=3)
            status = device.told("status")
            assert (status["rung"], status["models"][MODEL]["version"]) == ("no-space", "1.0.0")
            assert "no-space" in {one["code"] for one in device.ask("/v1/health")["warnings"]}
            assert application.goes_on()["version"] == "1.0.0"
            registry.stop()
            disk.relent()
            assert application.goes_on()["version"] == "1.0.0"
            registry.start()
            application.wait_for(event="answered", digest=digest, value=2.0)
            since = len(agent.said)
            agent.wait_for(since=since, event="not-modified")
            assert device.told("status")["state"] == "ok"
            assert application.over()["failures"] == []


def test_without_the_accelerator_a_model_runs_on_the_next_provider_and_everybody_says_so(
    fleet: Fleet, tmp_path: Path
) -> None:
    digest = fleet.publish("2.0.0", providers=(CUDA, CPU))
    device = Device(fleet, tmp_path / "pump-1")
    with device.agent() as agent, device.application() as application:
        application.wait_for(event="answered", digest=digest, rung="next-provider")
        model, health, top = device.model(), device.ask("/v1/health"), device.told("top", "--once")
        text = device.do("status").stdout
        seen = application.over()
        agent.wait_for(event="sleep")
    assert seen["failures"] == []
    assert (model["rung"]["rung"], model["rung"]["code"]) == ("next-provider", "provider-down")
    assert health["models"][MODEL]["rung"] == top["models"][MODEL]["rung"] == "next-provider"
    assert top["models"][MODEL]["live"]["codes"] == ["provider-down"]
    assert [reason["code"] for reason in health["reasons"]] == ["next-provider"]
    assert f"{MODEL} next-provider since" in text


def test_a_model_waits_for_its_windows_and_is_activated_without_a_network(
    fleet: Fleet, registry: Registry, tmp_path: Path
) -> None:
    closed, opened = window(hours=3), window(hours=-1)
    device = Device(fleet, tmp_path / "pump-1")
    with device.agent() as agent, device.application() as application:
        digest = fleet.publish("2.0.0")
        device.configure(network={"windows": {"download": [closed], "timeZone": "utc"}})
        assert agent.polled()["exit_code"] == 0
        waiting = device.model()
        assert (waiting["state"], waiting["version"]) == ("waiting", "1.0.0")
        assert (waiting["waiting"]["code"], waiting["waiting"]["stored"]) == ("waits-for-window", False)
        assert waiting["waiting"]["until"] in device.do("status").stdout
        windows = {"download": [opened], "activation": [closed], "timeZone": "utc"}
        device.configure(network={"windows": windows})
        assert agent.polled()["exit_code"] == 0
        waiting = device.model()
        assert (waiting["state"], waiting["waiting"]["stored"]) == ("waiting", True)
        registry.stop()
        device.configure(network={"windows": windows | {"activation": [opened]}})
        assert agent.polled()["exit_code"] == 3, "the registry is away"
        application.wait_for(event="answered", digest=digest, value=2.0)
        assert device.model()["version"] == "2.0.0"
        assert application.over()["failures"] == []


def test_what_a_person_installs_from_a_stick_waits_for_no_window_and_is_told_to_the_fleet(
    registry: Registry, tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    fleet = Fleet(tmp_path / "fleet", stick)
    digest = fleet.publish("1.0.0")
    never = {"download": [window(hours=3)], "activation": [window(hours=3)], "timeZone": "utc"}
    device = Device(
        fleet,
        tmp_path / "pump-1",
        source={"url": f"{registry.url}/acme"},
        network={"windows": never},
        telemetry={},
    )
    assert device.do("install", str(tmp_path / "no-stick")).returncode == 1
    done = device.do("install", str(stick))
    assert (done.returncode, f"{MODEL}  installed  1.0.0" in done.stdout) == (0, True), done.stderr
    assert device.model()["active"] == digest
    waiting = device.told("telemetry")["classes"]["update-status"]["waiting"]
    assert waiting == 1
    (stick / "tuf/index.json").unlink()
    assert device.do("install", str(stick)).returncode == 3, "the stick is broken"


def window(*, hours: int) -> str:
    """Return a window of two hours that begins so many hours from now, UTC."""
    begin = datetime.now(timezone.utc) + timedelta(hours=hours)
    return f"{begin:%H:%M}-{begin + timedelta(hours=2):%H:%M}"
