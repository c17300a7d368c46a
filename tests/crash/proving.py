"""Stories of versions that have to prove themselves: wait for their window, fail their trial, fail in applications.

>>> [story.name for story in PROVING][:2]
['rollback', 'waiting']
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from crash.device import Device
from crash.story import Story
from edgewright_agent.clock import Uptime
from edgewright_agent.errors import HealthError
from edgewright_agent.files import Calls
from edgewright_agent.record import Record
from edgewright_agent.soak import BOOTS, MAX_FAILURES, Observation, judge
from unit.agent.core.workbench import MODEL, PI


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


class Waiting(Story):
    """A version that is loaded at night and activated in the morning, when there is no network."""

    name = "waiting"
    before = ("1.0.0",)
    then = ("2.0.0",)
    may_run = frozenset({"1.0.0", "2.0.0"})
    ends = "2.0.0"

    def release(self, device: Device, versions: Sequence[str]) -> None:
        super().release(device, versions)
        groups = device.trust.assignment["groups"]
        if "2.0.0" in versions:
            windows = {"timeZone": "utc", "activation": ["05:00-06:00"]}
            groups[0]["models"][MODEL]["artifacts"][PI]["updatePolicy"] = {"windows": windows}
        device.assign(groups)

    def act(self, device: Device) -> None:
        device.once()
        waiting = device.ledger.record.model(MODEL).waiting
        assert waiting and waiting.version == "2.0.0", "or this says nothing about waiting"
        self.restart(device)

    def restart(self, device: Device) -> None:
        state = device.ledger.record.model(MODEL)
        device.now += timedelta(hours=5, minutes=30)
        device.line.down = bool(state.waiting or state.trial)
        device.once()
        device.now -= timedelta(hours=5, minutes=30)
        device.line.down = False

    def forgotten(self, before: Record, after: Record) -> Sequence[str]:
        waiting, state = before.model(MODEL).waiting, after.model(MODEL)
        if waiting and all(slot is None or slot.digest != waiting.digest for slot in state.slots()):
            return [f"{waiting.version} was stored and waited, and is forgotten"]
        return ()


class FailedSoak(Story):
    """A version that applications crash with: the last proved one runs again, with a tombstone and evidence."""

    name = "soak"
    before = ("1.0.0", "2.0.0")
    may_run = frozenset({"1.0.0", "2.0.0"})
    ends = "1.0.0"
    code = "soak-crash"

    def release(self, device: Device, versions: Sequence[str]) -> None:
        for version in versions:
            device.publish(self.artifact(version), policy={"soakS": 3600} if version == "2.0.0" else None)

    def act(self, device: Device) -> None:
        state = device.ledger.record.model(MODEL)
        if state.proving:
            seen = {MODEL: Observation(state.proving.digest, crashes=MAX_FAILURES)}
            judge(device.ledger, device.store, seen, now=device.now, up=device.up)
        device.once()

    restart = act

    def check(self, device: Device) -> Sequence[str]:
        stones = device.ledger.record.model(MODEL).tombstones
        told = [(stone.version, stone.code, stone.evidence is not None) for stone in stones]
        return () if told == [("2.0.0", self.code, True)] else [f"tombstones are {told}"]


class DeadlySoak(FailedSoak):
    """A version that takes the device down again and again while it is watched: the start that is too many is cut."""

    name = "soak boots"
    code = "soak-boots"

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        super().prepare(folder, calls)
        for boot in range(BOOTS):
            device = self.device(folder, calls)
            device.up = Uptime(f"boot {boot}", 60)
            device.once()

    def act(self, device: Device) -> None:
        device.up = Uptime("one too many", 60)
        device.once()

    def restart(self, device: Device) -> None:
        device.once()


PROVING: tuple[Story, ...] = (FailedHealth(), Waiting(), FailedSoak(), DeadlySoak())
