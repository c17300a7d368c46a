"""One thing that happens to a device while the power fails: what a story is made of.

>>> named("update").ends                          # doctest: +SKIP
'3.0.0'
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from crash.device import Device
from crash.recording import Fact
from edgewright_agent.files import Calls
from edgewright_agent.record import Record
from unit.agent.core.workbench import Made, make_artifact


class Story:
    """One thing that happens to a device.

    Attributes:
        name: As a command line takes it.
        before: Versions that the device has installed one after another when the story begins.
        then: Versions released in the story; the last is assigned.
        may_run: Versions that an application may find after a cut, without the agent; None is no model.
        ends: The version that must run once the agent has been started again.
        foreign: Folders that others write to past `files.Calls`.
        began_damaged: Whether what runs has damaged files from the beginning, beside those it runs from.
        anchored: Whether the device has a record when the story begins.
        sees_evidence: Whether somebody takes note of evidence: it may be lost then, until it is acknowledged.
        at_home: What may lie in the state directory here, beside what belongs there in every story.
        weight: Its part of the states, where others have 1.
    """

    name: ClassVar[str]
    before: ClassVar[Sequence[str]] = ()
    then: ClassVar[Sequence[str]] = ()
    may_run: ClassVar[frozenset[str | None]]
    ends: ClassVar[str]
    foreign: ClassVar[Sequence[str]] = ()
    began_damaged: ClassVar[bool] = False
    anchored: ClassVar[bool] = True
    sees_evidence: ClassVar[bool] = False
    at_home: ClassVar[frozenset[str]] = frozenset()
    weight: ClassVar[float] = 1

    def artifact(self, version: str) -> Made:
        """Return the artifact of a version; another one in each story, so that no two share a state."""
        return artifact_of(self.name, version)

    def device(self, folder: Path, calls: Calls | None = None, *, released: int | None = None) -> Device:
        """Open the device as a new process finds it, with all that is released in the story, or its first part."""
        device = Device(folder, calls, anchored=self.anchored)
        self.release(device, [*self.before, *self.then][:released])
        return device

    def release(self, device: Device, versions: Sequence[str]) -> None:
        """Put versions on the shelf, each assigned after the one before."""
        for version in versions:
            device.publish(self.artifact(version))

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        """Live up to the moment when the story begins."""
        for count in range(1, len(self.before) + 1):
            self.device(folder, calls, released=count).once()
        if not self.before:
            self.device(folder, calls, released=0)

    def act(self, device: Device) -> None:
        """What is cut."""
        device.once()

    def restart(self, device: Device) -> None:
        """What the start script of a device does when the power is back."""
        device.once()

    def check(self, device: Device) -> Sequence[str]:
        """Return what else is wrong after the restart."""
        return ()

    def look(self, device: Device) -> Any:
        """Return what is on the disk after a cut that is in no record, and that `missing` wants to know."""

    def missing(self, found: Any, told: Sequence[Fact]) -> Sequence[str]:
        """Return what was lost after it had been told.

        Args:
            found: What `look` has seen.
            told: What the device had said to be durable when the power went.
        """
        return ()

    def forgotten(self, before: Record, after: Record) -> Sequence[str]:
        """Return what a later record may not have forgotten of an earlier one, here."""
        return ()


@cache
def artifact_of(story: str, version: str) -> Made:
    text = f"{story} {version} ".encode()
    return make_artifact(
        version,
        files={
            "model.onnx": (text * 800)[:9_000],
            "runtime.json": b'{"version":1,"for":"%s"}' % text,
            "golden.json": json.dumps({"version": 1, "for": version, "story": story}).encode(),
        },
    )


def possible(told: Sequence[Fact], first: object) -> list[object]:
    """Return what a disk may hold of one value: what was last said to be durable, and what has been begun since.

    >>> possible([("is saying", 1), ("has said", 1), ("is saying", 2)], None)
    [1, 2]
    """
    values = [first]
    for kind, value in told:
        values = [value] if kind == "has said" else [*values, value]
    return values
