"""SIGKILL at every operation of a real agent process: the next start finds a whole model and goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from crash.counted import Counted
from crash.stories import STORIES, named
from crash.summary import PROPERTY
from real import ROOT
from unit.agent.core.workbench import MODEL, Doctor, PowerCut

GROUPS = 3  # each in a process of its own, small enough to be forked at every operation


@pytest.mark.parametrize("group", range(GROUPS))
def test_an_agent_killed_at_any_operation_goes_on(group: int, record_property: pytest.RecordProperty) -> None:
    names = [story.name for story in STORIES[group::GROUPS]]
    done = subprocess.run(
        [sys.executable, "-m", "crash.kills", "--json", *names],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}/agent:{ROOT}/pipelines"},
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["story"] for row in rows] == names, done.stderr
    faults = [fault for row in rows for fault in row["faults"]]
    kills = sum(row["points"] for row in rows)
    wrong = {kind: sum(row.get(kind, 0) for row in rows) for kind in ("broken", "lost", "stuck")}
    record_property(PROPERTY, json.dumps({"what": "kills", "points": kills, **wrong}))
    assert not faults, "\n".join(faults)
    assert kills > 20 * len(names)


def test_a_device_that_dies_in_every_load_gives_the_model_up(tmp_path: Path) -> None:
    story = named("update")
    story.prepare(tmp_path)

    class Deadly(Doctor):
        def __call__(self, *_: object, **__: object) -> None:  # type: ignore[override]
            raise PowerCut

    def start() -> list[str]:
        device = story.device(tmp_path, Counted())
        device.doctor = Deadly()
        return device.codes()

    for _ in range(3):
        with pytest.raises(PowerCut):
            start()
        assert story.device(tmp_path).running() == "2.0.0"
    assert start() == ["health-crash"]
    device = story.device(tmp_path)
    assert device.running() == "2.0.0"
    assert [stone.version for stone in device.ledger.record.model(MODEL).tombstones] == ["3.0.0"]
