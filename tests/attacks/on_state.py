"""Attacks on what a device remembers and what time it believes it is."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from attacks.scene import Scene
from attacks.table import attack
from edgewright.trust.publication import refresh
from edgewright_agent.slots import NAMES, SLOT_BYTES

REPLAY = "the power switch, and a copy of what the registry held at release 1"


@attack(
    "state emptied by power loss, then replay: the cache", has=REPLAY, refused="metadata-rollback", seen=2
)
def emptied_cache(scene: Scene) -> Iterator[None]:
    for path in (scene.device.state / "tuf").rglob("*.json"):
        path.write_bytes(b"")
    scene.serve(1)
    yield


def _without_a_record(scene: Scene, *, lose: Callable[[Path], object]) -> Iterator[None]:
    for name in NAMES:
        lose(scene.device.state / name)
    shutil.rmtree(scene.device.state / "tuf")
    scene.serve(1)
    yield
    # It stays so until a person has looked at it, who does that with an honest registry.
    scene.serve(2)
    told = scene.device.agent("reanchor", "--config", str(scene.device.config))
    assert told.exit_code == 0, told.text


for _what, _code, _lose in (
    ("the record, which is full of zeros", "state-damaged", lambda path: path.write_bytes(bytes(SLOT_BYTES))),
    ("the record, which is cut off", "state-damaged", lambda path: os.truncate(path, 100)),
    ("the record, which is gone", "state-missing", lambda path: path.unlink()),
):
    attack(f"state emptied by power loss, then replay: {_what}", has=REPLAY, failed=_code, seen=2)(
        functools.partial(_without_a_record, lose=_lose)
    )


@attack(
    "state emptied by power loss, then replay: one slot of the record",
    has=REPLAY,
    refused="metadata-rollback",
    seen=2,
)
def one_slot(scene: Scene) -> Iterator[None]:
    newest = max(NAMES, key=lambda name: (scene.device.state / name).stat().st_mtime_ns)
    (scene.device.state / newest).write_bytes(bytes(SLOT_BYTES))
    shutil.rmtree(scene.device.state / "tuf")
    scene.serve(1)
    yield


@attack(
    "clock set back: metadata that ended before this device's last poll",
    has="the device's clock, and a release that the device missed and that has expired since",
    refused="expired-metadata",
)
def clock_set_back(scene: Scene) -> Iterator[None]:
    owner = scene.owner()
    refresh(owner.workspace, now=owner.now - timedelta(days=7, hours=3))
    scene.keep()
    scene.clock = timedelta(days=-1)
    yield
    scene.clock = timedelta()


@attack("clock set forward", has="the device's clock (or its time server)", refused="expired-metadata")
def clock_set_forward(scene: Scene) -> Iterator[None]:
    scene.serve(2)
    scene.clock = timedelta(days=3650)
    yield
    scene.clock = timedelta()
