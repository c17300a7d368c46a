"""Stories of a new version on its way: first boot, install, update, deltas, archives, secrets, a line that drops.

>>> [story.name for story in UPDATES][:2]
['first boot', 'install']
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from crash.device import Device
from crash.fleet import RotatingFleet
from crash.layers import archive, with_layer
from crash.story import Story
from edgewright_agent import manual
from edgewright_agent.files import Calls
from unit.agent.core.delta_shelf import delta_bytes, offer
from unit.agent.core.sealing import make_key, seal, write_private
from unit.agent.core.workbench import Made, make_artifact


class FirstBoot(Story):
    """`init --no-state` has left its mark; the device anchors itself and installs its first model."""

    name = "first boot"
    then = ("1.0.0",)
    may_run = frozenset({None, "1.0.0"})
    ends = "1.0.0"
    anchored = False

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        device = self.device(folder, calls, released=0)
        manual.leave_mark(config_of(device), {"timestamp": "1"}, fleet="f", disk=device.disk)

    def act(self, device: Device) -> None:
        manual.anchor(device.ledger, config_of(device), disk=device.disk)
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


class Delta(Story):
    """A version that differs in a few bytes: its delta comes in two pieces, the runtime is copied, the rest fetched."""

    name = "delta"
    before = ("1.0.0",)
    then = ("2.0.0",)
    may_run = frozenset({"1.0.0", "2.0.0"})
    ends = "2.0.0"

    def artifact(self, version: str) -> Made:
        first = super().artifact("1.0.0")
        return first if version == "1.0.0" else self.changed

    @cached_property
    def changed(self) -> Made:
        first = super().artifact("1.0.0")
        weights = bytearray(first.files["model.onnx"])
        weights[100:104], weights[6000:6004] = b"1234", b"5678"
        golden = first.files["golden.json"].replace(b"1.0.0", b"2.0.0")
        files = {**first.files, "model.onnx": bytes(weights), "golden.json": golden}
        return make_artifact("2.0.0", files=files)

    @cached_property
    def offered(self) -> bytes:
        return delta_bytes(*(self.artifact(v).files["model.onnx"] for v in ("1.0.0", "2.0.0")))

    def release(self, device: Device, versions: Sequence[str]) -> None:
        super().release(device, versions)
        if "2.0.0" in versions:
            offer(device, self.artifact("1.0.0"), self.artifact("2.0.0"), data=self.offered)

    def act(self, device: Device) -> None:
        device.line.chunk, device.line.left = 60, 100
        device.once()
        device.line.chunk, device.line.left = 3_000, None
        (outcome,) = device.once().outcomes
        assert outcome.transfer, outcome.message
        came = (outcome.transfer.delta_base, outcome.transfer.copied_files)
        assert came == self.comes, f"it came by another way: {came}"

    comes: tuple[str | None, int] = ("1.0.0", 1)


class FailedDelta(Delta):
    """A delta that was signed and is wrong: given up once and for all, and the model is fetched whole."""

    name = "failed delta"
    comes = (None, 1)

    @cached_property
    def offered(self) -> bytes:
        return super().offered[:-1] + b"!"


def config_of(device: Device) -> Path:
    """Return where a device's configuration would be."""
    return device.folder / "agent.json"


UPDATES: tuple[Story, ...] = (
    FirstBoot(),
    Install(),
    Upgrade(),
    RootRotation(),
    Compressed(),
    Encrypted(),
    ResumedDownload(),
    Delta(),
    FailedDelta(),
)
