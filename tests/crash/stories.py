"""What a device goes through while the power fails: the registry of stories, one class each.

>>> [story.name for story in STORIES][:2]
['first boot', 'install']

All that is in this package plays every story: the model of the disk, real file systems, SIGKILL. To add one, write a
class with a name, what may run after a cut and what must run in the end, and append it to `STORIES`. A story is
deterministic: the same operations in the same order each time it is played.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from crash.device import Device
from crash.fleet import RotatingFleet
from crash.layers import archive, with_layer
from edgewright_agent import manual
from edgewright_agent.errors import HealthError
from edgewright_agent.files import Calls
from unit.agent.core.sealing import make_key, seal, write_private
from unit.agent.core.workbench import MODEL, Made, make_artifact


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
    """

    name: ClassVar[str]
    before: ClassVar[Sequence[str]] = ()
    then: ClassVar[Sequence[str]] = ()
    may_run: ClassVar[frozenset[str | None]]
    ends: ClassVar[str]
    foreign: ClassVar[Sequence[str]] = ()
    began_damaged: ClassVar[bool] = False
    anchored: ClassVar[bool] = True

    def artifact(self, version: str) -> Made:
        """Return the artifact of a version; another one in each story, so that no two share a state."""
        return _artifact(self.name, version)

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


@cache
def _artifact(story: str, version: str) -> Made:
    text = f"{story} {version} ".encode()
    return make_artifact(
        version,
        files={
            "model.onnx": (text * 800)[:9_000],
            "runtime.json": b'{"version":1,"for":"%s"}' % text,
            "golden.json": json.dumps({"version": 1, "for": version, "story": story}).encode(),
        },
    )


class FirstBoot(Story):
    """`init --no-state` has left its mark; the device anchors itself and installs its first model."""

    name = "first boot"
    then = ("1.0.0",)
    may_run = frozenset({None, "1.0.0"})
    ends = "1.0.0"
    anchored = False

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        device = self.device(folder, calls, released=0)
        manual.leave_mark(_config(device), {"timestamp": "1"}, fleet="f", disk=device.disk)

    def act(self, device: Device) -> None:
        manual.anchor(device.ledger, _config(device), disk=device.disk)
        device.once()

    restart = act


class Install(Story):
    """The first model of a device that has a record."""

    name = "install"
    then = ("1.0.0",)
    may_run = frozenset({None, "1.0.0"})
    ends = "1.0.0"


class Upgrade(Story):
    """A third version: the first one is garbage in the end."""

    name = "update"
    before = ("1.0.0", "2.0.0")
    then = ("3.0.0",)
    may_run = frozenset({"2.0.0", "3.0.0"})
    ends = "3.0.0"


class FailedHealth(Story):
    """A version that crashes in its health check: three loads, a tombstone, and the version before goes on."""

    name = "rollback"
    before = ("1.0.0", "2.0.0")
    then = ("3.0.0",)
    may_run = frozenset({"2.0.0"})
    ends = "2.0.0"

    def device(self, folder: Path, calls: Calls | None = None, *, released: int | None = None) -> Device:
        device = super().device(folder, calls, released=released)
        device.doctor.verdicts["3.0.0"] = HealthError("health-crash", "died of SIGSEGV")
        return device

    def check(self, device: Device) -> Sequence[str]:
        stones = [stone.version for stone in device.ledger.record.model(MODEL).tombstones]
        return () if stones == ["3.0.0"] else [f"tombstones are {stones}"]


class ManualRollback(Story):
    """A person goes back; the next poll does not undo it, and removes what is not needed any more."""

    name = "manual rollback"
    before = ("1.0.0", "2.0.0")
    may_run = frozenset({"1.0.0", "2.0.0"})
    ends = "1.0.0"

    def act(self, device: Device) -> None:
        manual.rollback(device.ledger, device.store, MODEL, now=device.now)
        device.once()

    def restart(self, device: Device) -> None:
        device.once()
        state = device.ledger.record.model(MODEL)
        if not state.tombstones:  # the cut came before the person's word was recorded: it is said again
            manual.rollback(device.ledger, device.store, MODEL, now=device.now)


class Shortage(Story):
    """A disk that is too full for what is assigned: what nobody needs goes, and once there is space it is installed."""

    name = "garbage"
    before = ("1.0.0", "2.0.0", "3.0.0")
    then = ("4.0.0", "5.0.0")
    may_run = frozenset({"3.0.0", "5.0.0"})
    ends = "5.0.0"

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        super().prepare(folder, calls)
        device = self.device(folder, calls, released=4)
        device.line.left = 6_000
        device.once()
        device.disk.make_dir(device.store.engines / device.store.path(self.artifact("1.0.0").digest).name)

    def act(self, device: Device) -> None:
        for reserve_bytes in (1 << 50, 0):
            device.document["reserveBytes"] = reserve_bytes
            device.once()


class RecordWrites(Story):
    """Polls that find nothing, and records that grow over several pages and shrink again."""

    name = "record"
    before = ("1.0.0",)
    may_run = frozenset({"1.0.0"})
    ends = "1.0.0"

    def act(self, device: Device) -> None:
        for number, words in enumerate((1, 40, 300, 120, 2)):
            ledger = device.ledger
            counters = {f"event-{n}": number for n in range(words)}
            ledger.commit(
                replace(ledger.record, counters=counters, sequences={**ledger.record.sequences, "x": number})
            )
            device.once()


class RootRotation(Story):
    """Two roots at once, other keys for timestamp and snapshot, and an update: with the real python-tuf."""

    name = "root rotation"
    before = ("1.0.0", "2.0.0")
    then = ("3.0.0",)
    may_run = frozenset({"2.0.0", "3.0.0"})
    ends = "3.0.0"
    foreign = ("state/tuf",)

    @cached_property
    def fleet(self) -> RotatingFleet:
        return RotatingFleet([self.artifact(version) for version in (*self.before, *self.then)])

    def device(self, folder: Path, calls: Calls | None = None, *, released: int | None = None) -> Device:
        device = Device(folder, calls, anchored=self.anchored)
        count = len((*self.before, *self.then)) if released is None else released
        self.fleet.serve(device, count, rotated=released is None)
        return device

    def check(self, device: Device) -> Sequence[str]:
        versions = device.ledger.record.floor
        return () if versions.get("root") == self.fleet.root_version else [f"floors are {dict(versions)}"]


class Compressed(Story):
    """A model that travels as an archive: what is unpacked lies beside what was downloaded for a while."""

    name = "compressed"
    before = ("1.0.0",)
    then = ("2.0.0",)
    may_run = frozenset({"1.0.0", "2.0.0"})
    ends = "2.0.0"

    def artifact(self, version: str) -> Made:
        return super().artifact(version) if version == "1.0.0" else self.packed

    @cached_property
    def packed(self) -> Made:
        made = super().artifact("2.0.0")
        return with_layer(made, ".tar+gzip", archive(made.files["model.onnx"]), {})


class Encrypted(Story):
    """A model that only this device can open: nobody else may read it before it is whole."""

    name = "encrypted"
    before = ("1.0.0",)
    then = ("2.0.0",)
    may_run = frozenset({"1.0.0", "2.0.0"})
    ends = "2.0.0"

    def artifact(self, version: str) -> Made:
        return super().artifact(version) if version == "1.0.0" else self.sealed[0]

    @cached_property
    def sealed(self) -> tuple[Made, Any]:
        made, key = super().artifact("2.0.0"), make_key()
        layer, blob = seal(made.files["model.onnx"], [key])
        assert layer.sealed
        notes = {
            "org.opencontainers.image.enc.keys.jwe": layer.sealed.keys,
            "org.opencontainers.image.enc.pubopts": layer.sealed.options,
        }
        return with_layer(made, ".raw+encrypted", blob, notes), key

    def device(self, folder: Path, calls: Calls | None = None, *, released: int | None = None) -> Device:
        device = super().device(folder, calls, released=released)
        device.document["decryption"] = {"keys": ["device.key"]}
        write_private(folder / "device.key", self.sealed[1])
        return device

    def check(self, device: Device) -> Sequence[str]:
        entry = device.store.path(self.sealed[0].digest)
        modes = [oct(path.stat().st_mode & 0o777) for path in (entry, entry / "model.onnx")]
        return () if modes == ["0o750", "0o640"] else [f"modes of a secret model are {modes}"]


class ResumedDownload(Story):
    """The line drops twice in the middle of a model: each time the rest is fetched, and only the rest."""

    name = "resumed download"
    before = ("1.0.0",)
    then = ("2.0.0",)
    may_run = frozenset({"1.0.0", "2.0.0"})
    ends = "2.0.0"

    def act(self, device: Device) -> None:
        device.line.chunk = 1_500
        for left in (2_000, 3_100, None):
            device.line.left = left
            device.once()


class Repair(Story):
    """A file of the only version that nobody runs from has rotted: it is replaced while the model goes on."""

    name = "repair"
    before = ("1.0.0",)
    may_run = frozenset({"1.0.0"})
    ends = "1.0.0"
    began_damaged = True

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        super().prepare(folder, calls)
        device = self.device(folder, calls)
        for file, data in (("golden.json", b"rotten"), ("manifest.json.part", b"stray")):
            device.disk.write_file(device.store.path(self.artifact("1.0.0").digest) / file, data)

    def act(self, device: Device) -> None:
        device.once(force=True)

    restart = act


def _config(device: Device) -> Path:
    return device.folder / "agent.json"


STORIES: tuple[Story, ...] = (
    FirstBoot(),
    Install(),
    Upgrade(),
    FailedHealth(),
    ManualRollback(),
    Shortage(),
    RecordWrites(),
    RootRotation(),
    Compressed(),
    Encrypted(),
    ResumedDownload(),
    Repair(),
)


def named(name: str) -> Story:
    """Return the story of a name."""
    return next(story for story in STORIES if story.name == name)
