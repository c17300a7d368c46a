"""Stories of what a device keeps: garbage, the record, room for it, repairs, experiments, what it has to tell.

>>> [story.name for story in KEEPING][:2]
['garbage', 'record']
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from crash.device import Device
from crash.recording import Fact
from crash.story import Story
from edgewright_agent import experiments
from edgewright_agent.files import Calls
from edgewright_agent.slots import BALLAST, BALLAST_BYTES
from edgewright_agent.spool import FOLDER, UPDATE_STATUS, Spool
from unit.agent.core import spool_story
from unit.agent.core.workbench import MODEL, PI


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
            told = {name: at for name, at in ledger.record.expires.items() if "-" not in name}
            expires = told | {f"a-role-{n}": f"20{40 + number}-01-01T00:00:00Z" for n in range(words)}
            sequences = {**ledger.record.sequences, "x": number}
            ledger.commit(replace(ledger.record, expires=expires, sequences=sequences))
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


class Ballast(Story):
    """A copy of the record is lost and the disk is full: ballast makes room, and comes back when others have."""

    name = "ballast"
    before = ("1.0.0",)
    may_run = frozenset({"1.0.0"})
    ends = "1.0.0"

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        super().prepare(folder, calls)
        device = self.device(folder, calls)
        name = f"state.{(device.ledger.generation + 1) % 2}"  # the older copy, which the next write takes
        device.disk.remove(device.state / name)
        device.disk.sync_dir(device.state)

    def act(self, device: Device) -> None:
        calls, ballast = device.disk.calls, device.state / BALLAST
        write = calls.write

        def full(path: Path, fd: int, data: bytes, offset: int) -> None:
            if ballast.exists():
                raise OSError(errno.ENOSPC, "no space left on device")
            write(path, fd, data, offset)

        calls.write = full  # type: ignore[method-assign]
        ledger = device.ledger
        ledger.commit(ledger.record.counted(kept=1))
        assert not ballast.exists(), "or it was not needed"
        calls.write = write  # type: ignore[method-assign]
        device.once()

    def restart(self, device: Device) -> None:
        device.once()

    def check(self, device: Device) -> Sequence[str]:
        ballast = device.state / BALLAST
        held = ballast.stat().st_size if ballast.exists() else 0
        return () if held == BALLAST_BYTES else [f"the ballast has {held} bytes"]


class Experiment(Story):
    """A version beside the active one: fetched, tried, told to applications; its share changes, it ends, and begins."""

    name = "experiment"
    before = ("1.0.0",)
    may_run = frozenset({"1.0.0"})
    ends = "1.0.0"

    def act(self, device: Device) -> None:
        for number, share in enumerate((0.5, 0.25, None, 1.0)):
            self._assign(device, share, 10 + number)
            device.once()

    def restart(self, device: Device) -> None:
        self._assign(device, 1.0, 100)
        device.once()

    def look(self, device: Device) -> str | None:
        """Return what an application would find wrong with what it is told to take part in."""
        found = experiments.read(device.state, MODEL)
        if found is None or found.digest == self.artifact("2.0.0").digest:
            return None
        return f"an experiment with {found.digest}, which nobody assigned"

    def missing(self, found: str | None, told: Sequence[Fact]) -> Sequence[str]:
        return [found] if found else []

    def check(self, device: Device) -> Sequence[str]:
        found = experiments.read(device.state, MODEL)
        names = [path.name for path in device.state.glob(f"{experiments.FOLDER}/*")]
        if found is None or names != [f"{MODEL}.json"]:
            return [f"experiments holds {sorted(names)}"]
        version = device.store.verify(found.digest).version
        return () if (found.share, version) == (1.0, "2.0.0") else [f"{version} takes {found.share}"]

    def _assign(self, device: Device, share: float | None, epoch: int) -> None:
        main, beside = self.artifact("1.0.0"), self.artifact("2.0.0")
        device.publish(main)
        lane, other = (MODEL, PI, main.digest), (MODEL, PI, beside.digest)
        device.shelf.put(beside)
        device.trust.targets[other] = len(beside.body)
        device.trust.sequences |= {lane: epoch, other: epoch}  # both are assigned, in one epoch
        device.trust.versions = {role: epoch for role in device.trust.versions}
        groups = device.trust.assignment["groups"]
        if share is not None:
            groups[0]["models"][MODEL]["artifacts"][PI]["experiment"] = {
                "name": "wider",
                "kind": "ab",
                "share": share,
                "digest": beside.digest,
                "size": len(beside.body),
                "modelVersion": beside.version,
            }
        device.assign(groups)


class Telemetry(Story):
    """What a device has to tell: kept, sent, thinned, dropped, and moved into a file of another size."""

    name = "spool"
    before = ("1.0.0",)
    may_run = frozenset({"1.0.0"})
    ends = "1.0.0"
    weight = 0.7  # each is a file of a quarter of a MiB

    def act(self, device: Device) -> None:
        spool_story.write_story(device.disk, device.state / FOLDER, device.tell)

    def restart(self, device: Device) -> None:
        device.once()
        spool = Spool(device.state / FOLDER, device.disk, size=spool_story.SIZES[0], merge=spool_story.join)
        spool.append(UPDATE_STATUS, spool_story.event(0, 1), now=spool_story.NOW)

    def look(self, device: Device) -> spool_story.Found:
        """Return what is left, and that it goes on."""
        return spool_story.look(device.state / FOLDER)

    def missing(self, found: spool_story.Found, told: Sequence[Fact]) -> Sequence[str]:
        return list(spool_story.wrong(found, [(kind, int(str(number))) for kind, number in told]))


KEEPING: tuple[Story, ...] = (
    Shortage(),
    RecordWrites(),
    Ballast(),
    Repair(),
    Experiment(),
    Telemetry(),
)
