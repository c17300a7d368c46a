"""A download that is killed again and again: every life goes on where the last one ended, to the byte."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from attacks.device import Device
from attacks.fleet import AUDITOR, MODEL, PI, PREFIX, SIGNING
from edgewright.trust.assignment import PublishedLane
from edgewright_agent.download import SYNC_BYTES
from faults.fault import Fault
from faults.journey import running
from faults.proxy import Asked, FaultProxy
from real import Registry, require
from unit.agent.core.onnx_artifact import files
from unit.publish.lane import LaneFiles, write_key
from unit.trust.fleet import SmallFleet

BALLAST_BYTES = 24 * 2**20
CHUNK_BYTES = 256 * 1024
KILLED_AFTER = (0.2, 0.5, 0.8)
"""Shares of the model that have been sent when the agent is killed."""


@dataclass
class Heavy:
    """A fleet whose one model weighs something."""

    made: SmallFleet
    digest: str
    weights: str
    registry: Registry

    @property
    def url(self) -> str:
        return self.made.url

    @property
    def keys(self) -> Path:
        return self.made.keys


@pytest.fixture(scope="module")
def heavy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heavy]:
    folder = tmp_path_factory.mktemp("heavy")
    registry = Registry(require("docker-registry"), folder / "registry", quiet=True)
    registry.start()
    fleet = SmallFleet(folder / "fleet", url=f"{registry.url}/{PREFIX}", classes=(PI,), now=datetime.now(UTC))
    write_key((fleet.root / AUDITOR).parent)
    content = files()
    model = onnx.load_from_string(content["model.onnx"])
    ballast = np.random.default_rng(6).integers(0, 255, BALLAST_BYTES, dtype=np.uint8)
    model.graph.initializer.append(numpy_helper.from_array(ballast, "ballast"))
    lane = LaneFiles(
        fleet.root,
        registry={"url": fleet.url},
        model=MODEL,
        hardware_class=PI,
        weights=model.SerializeToString(),
        signing=SIGNING,
    )
    lane.give("optimized", "runtime.json", content["runtime.json"])
    for name in ("golden.json", "labels.json"):
        lane.give("evaluated", name, content[name])
    facts = lane.all().facts
    digest = str(facts["digest"])
    fleet.lanes = {MODEL: {PI: PublishedLane(digest, int(str(facts["size"])), lane.model_version, MODEL)}}
    fleet.release()
    yield Heavy(fleet, digest, f"sha256:{hashlib.sha256(lane.weights).hexdigest()}", registry)
    registry.stop()


def start(device: Device) -> subprocess.Popen[bytes]:
    """Poll once, as a process that can be killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgewright_agent", "once", "--config", str(device.config)],
        cwd=device.folder,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )


def part_bytes(device: Device) -> int:
    """Return how much of the model is on the disk."""
    return sum(path.stat().st_size for path in device.state.rglob("model.onnx.part"))


def test_an_agent_killed_in_the_middle_of_a_download_resumes_from_what_it_has(
    heavy: Heavy, tmp_path: Path
) -> None:
    lives: list[subprocess.Popen[bytes]] = []
    doomed = {"after": 0.0}
    sent: dict[int, int] = {}  # life → bytes of the model that left the registry for it

    def kill(asked: Asked, count: int) -> None:
        if asked.path.endswith(heavy.weights):
            sent[len(lives)] = count
        if (
            asked.path.endswith(heavy.weights)
            and doomed["after"]
            and already + count > doomed["after"] * BALLAST_BYTES
        ):
            doomed["after"] = 0.0
            os.kill(lives[-1].pid, signal.SIGKILL)

    with FaultProxy(heavy.registry.port, on_bytes=kill) as proxy:
        device = Device.enroll(tmp_path / "device", heavy)  # type: ignore[arg-type]  # all it needs of a fleet
        device.look_at(f"{proxy.url}/{PREFIX}")
        kept = []
        for share in KILLED_AFTER:
            already, doomed["after"] = part_bytes(device), share
            lives.append(start(device))
            assert lives[-1].wait(60) == -signal.SIGKILL
            kept.append(part_bytes(device))
        assert 0 < kept[0] < kept[1] < kept[2]
        assert running(device) is None
        assert start(device).wait(60) == 0
    assert running(device) == heavy.digest
    asked = [one.range for one, _ in proxy.asked if one.path.endswith(heavy.weights)]
    starts = [int(each.partition("=")[2].partition("-")[0]) if each else 0 for each in asked]
    assert starts == [0, *kept], "each life asks for exactly what is not on the disk"
    again = sum(sent.values()) - BALLAST_BYTES
    assert again <= len(KILLED_AFTER) * (SYNC_BYTES + CHUNK_BYTES), (
        "what was under way when it died, and no more"
    )


@pytest.mark.parametrize("kind", ["reset", "truncate"])
def test_a_download_that_is_cut_goes_on_in_the_same_poll_from_there(
    heavy: Heavy, tmp_path: Path, kind: str
) -> None:
    met: list[Fault] = []

    def weather(asked: Asked) -> Fault | None:
        if asked.path.endswith(heavy.weights) and len(met) < 3:
            met.append(Fault(kind, "mid-body"))
            return met[-1]
        return None

    with FaultProxy(heavy.registry.port, weather=weather) as proxy:
        device = Device.enroll(tmp_path / "device", heavy)  # type: ignore[arg-type]
        device.look_at(f"{proxy.url}/{PREFIX}")
        told = device.once()
    assert told.exit_code == 0, told.text
    assert running(device) == heavy.digest
    asked = [one.range for one, _ in proxy.asked if one.path.endswith(heavy.weights)]
    starts = [int(each.partition("=")[2].partition("-")[0]) if each else 0 for each in asked]
    assert len(met) == 3
    assert starts == sorted(starts)
    assert starts[0] == 0 < starts[1]


def test_a_part_that_a_power_cut_spoilt_is_thrown_away_and_fetched_anew(heavy: Heavy, tmp_path: Path) -> None:
    def weather(asked: Asked) -> Fault | None:
        return Fault("reset", "mid-body") if asked.path.endswith(heavy.weights) and not asked.range else None

    with FaultProxy(heavy.registry.port, weather=weather) as proxy:
        device = Device.enroll(tmp_path / "device", heavy)  # type: ignore[arg-type]
        device.look_at(f"{proxy.url}/{PREFIX}")
        proxy.weather = lambda asked: Fault("status", "500") if asked.range else weather(asked)
        assert device.once().exit_code == 3
        (part,) = device.state.rglob("model.onnx.part")
        with part.open("r+b") as file:
            file.seek(part.stat().st_size - 4096)
            file.write(bytes(4096))  # the last page never reached the disk
        proxy.weather = lambda _asked: None
        assert device.once().exit_code == 0
    assert running(device) == heavy.digest
