"""Power cuts on real file systems: what is on the disk after an operation is mounted, and an agent started on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from crash.invariants import BROKEN, LOST, STUCK
from crash.real_disks import FILE_SYSTEMS, in_a_namespace
from crash.summary import PROPERTY
from real import NOTHING_MAY_BE_SKIPPED, require

POINTS = 88  # on each file system: over 300 in all; `python -m crash.real_disks --points N` looks at more


def require_disk(name: str) -> None:
    """Skip the test, or fail it where nothing may be skipped, when this machine cannot mount such a disk."""
    kind = next(kind for kind in FILE_SYSTEMS if kind.name == name)
    require("unshare")
    require(kind.make[0])
    driver = "overlay" if kind.overlay else kind.make[0].removeprefix("mkfs.")
    known = Path("/proc/filesystems").read_text().split()
    reason = ""
    if os.geteuid() != 0:
        reason = "mounting a disk needs root"
    elif not Path("/dev/loop-control").exists():
        reason = "this machine has no loop devices"
    elif driver not in known:
        reason = f"this machine's kernel does not know {driver}"
    if reason:
        pytest.fail(reason, pytrace=False) if NOTHING_MAY_BE_SKIPPED else pytest.skip(reason)


@pytest.mark.parametrize("name", [kind.name for kind in FILE_SYSTEMS])
def test_a_power_cut_on_a_real_disk_breaks_nothing_and_loses_nothing(
    name: str, record_property: pytest.RecordProperty
) -> None:
    require_disk(name)
    seen = in_a_namespace(name, POINTS)
    told = {key: value for key, value in seen.items() if key in (BROKEN, LOST, STUCK, "points")}
    record_property(PROPERTY, json.dumps({"what": "disks", **told}))
    assert not seen["faults"], "\n".join(seen["faults"])
    assert seen["points"] >= POINTS


def test_an_agent_that_did_not_sync_would_be_found_out_on_a_real_disk() -> None:
    require_disk("ext4")
    seen = in_a_namespace("ext4", 60, ["update", "install"], careless=["sync", "sync_data", "sync_dir"])
    assert seen.get(BROKEN, 0) + seen.get(LOST, 0) > 0
