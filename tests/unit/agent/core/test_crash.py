"""Power cuts and kills: at whatever operation a process ends, the next start finds a whole model and goes on."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from real import ROOT
from unit.agent.core import victim
from unit.agent.core.workbench import MODEL, Bench, Doctor, DyingCalls, PowerCut

ENDS = {"first boot": "1.0.0", "update": "3.0.0", "rollback": "2.0.0"}
MAY_RUN = {
    "first boot": {None, "1.0.0"},
    "update": {"2.0.0", "3.0.0"},
    "rollback": {"2.0.0"},
}


@pytest.fixture(params=victim.STORIES)
def story(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def prepared(story: str, tmp_path: Path) -> Path:
    """A device just before the update of the story."""
    return victim.begin(story, tmp_path / "prepared").folder


def operations(story: str, prepared: Path, folder: Path) -> int:
    """How many operations the whole update takes."""
    shutil.copytree(prepared, folder, symlinks=True)
    calls = DyingCalls()
    victim.go_on(story, folder, calls).once()
    return calls.count


def check_recovery(story: str, device: Bench, before: Bench) -> None:
    """What must hold right after the cut, without any help, and after the next start."""
    floor = before.ledger.record.floor
    assert device.running() in MAY_RUN[story], "what applications read is always whole"
    record = device.ledger.record
    assert all(record.floor.get(role, 0) >= version for role, version in floor.items())
    acknowledged = record.model(MODEL).active
    device.once()
    assert device.running() == ENDS[story]
    settled = device.ledger.record
    if story == "rollback":
        assert [stone.version for stone in settled.model(MODEL).tombstones] == ["3.0.0"]
    elif acknowledged:
        now_active = settled.model(MODEL).active
        assert now_active and now_active.version >= acknowledged.version, "no acknowledged install is lost"
    slots = {slot.digest.removeprefix("sha256:") for slot in settled.model(MODEL).slots()}
    device.once()
    assert {entry.name for entry in (device.state / "store").iterdir()} == slots, "no garbage stays"
    assert {entry.name for entry in (device.state / "current").iterdir()} == {MODEL}


def test_a_cut_at_every_single_operation_is_recovered_from(
    story: str, prepared: Path, tmp_path: Path
) -> None:
    count = operations(story, prepared, tmp_path / "whole")
    assert count > 20
    for dies_at in range(1, count + 1):
        folder = tmp_path / "cut"
        shutil.copytree(prepared, folder, symlinks=True)
        with pytest.raises(PowerCut):
            victim.go_on(story, folder, DyingCalls(dies_at)).once()
        check_recovery(story, victim.go_on(story, folder, None), Bench(prepared))
        shutil.rmtree(folder)


def test_a_killed_agent_process_is_recovered_from(story: str, prepared: Path, tmp_path: Path) -> None:
    count = operations(story, prepared, tmp_path / "whole")
    for dies_at in random.Random(story).sample(range(1, count + 1), 4):
        folder = tmp_path / "killed"
        shutil.copytree(prepared, folder, symlinks=True)
        died = subprocess.run(
            [sys.executable, "-m", "unit.agent.core.victim", story, str(folder), str(dies_at)],
            cwd=ROOT / "tests",
            env={**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/agent"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert died.returncode == -signal.SIGKILL, died.stderr.decode()
        check_recovery(story, victim.go_on(story, folder, None), Bench(prepared))
        shutil.rmtree(folder)


def test_a_device_that_dies_in_every_load_gives_the_model_up(tmp_path: Path) -> None:
    device = victim.go_on("update", victim.begin("update", tmp_path).folder, None)

    def takes_everything_down(*_: object, **__: object) -> None:
        raise PowerCut

    device.doctor.__class__ = type("Deadly", (Doctor,), {"__call__": takes_everything_down})
    for _ in range(3):
        with pytest.raises(PowerCut):
            device.once()
        assert device.running() == "2.0.0"
    assert device.codes() == ["health-crash"]
    assert device.running() == "2.0.0"
    assert [stone.version for stone in device.ledger.record.model(MODEL).tombstones] == ["3.0.0"]
