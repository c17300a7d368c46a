"""What must hold on a device after a power cut, whatever the moment.

>>> [fault.kind for fault in check(story, folder, acknowledged)]     # doctest: +SKIP
[]

- **broken**: what `current` points at is not, byte for byte, a version the story allows.
- **lost**: a record that was acknowledged, or a floor, sequence or tombstone in one, is gone.
- **stuck**: two starts later the wanted version does not run, or something lies around that nobody needs, or a person
  is asked for help.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crash.device import Device
from crash.recording import Acknowledged
from crash.story import Story
from edgewright_agent.errors import AgentError
from edgewright_agent.record import Record
from unit.agent.core.workbench import MODEL

BROKEN, LOST, STUCK = "broken", "lost", "stuck"
AFTER_CUT = "after the cut"
STARTS = 2  # how often an agent may have to be started until all is well
_AT_HOME = {
    *("store", "current", "factory", "engines", "evidence", "experiments", "tuf", "spool"),
    *("lock", "state.0", "state.1", "ballast", "link.json"),
}


@dataclass(frozen=True)
class Fault:
    """One thing that does not hold."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


@dataclass(frozen=True)
class Started:
    """What a start after a cut found and left.

    Attributes:
        generation: Of the newest whole record, before anything was changed; 0 is none.
        record: That record.
        faults: What was wrong, whatever had been acknowledged.
        story: What was cut.
        looked: Whether it came so far that `Story.look` was asked.
        found: What that saw.
    """

    story: Story
    generation: int
    record: Record
    faults: tuple[Fault, ...]
    looked: bool = False
    found: Any = None

    def lost(self, acknowledged: Acknowledged | None) -> Iterator[Fault]:
        """Yield what is gone of a record that had been acknowledged when the power went."""
        if acknowledged is None:
            return
        if self.looked:
            for text in self.story.missing(self.found, acknowledged.told):
                yield Fault(LOST, text)
        if not acknowledged.generation:
            return
        if self.record.quarantined:
            yield Fault(LOST, f"{self.record.quarantined}: generation {acknowledged.generation} was durable")
            return
        if self.generation < acknowledged.generation:
            yield Fault(LOST, f"generation {acknowledged.generation}, {self.generation} is the newest")
        yield from _sunk(self.story, acknowledged.record, self.record)


def check(story: Story, folder: Path, acknowledged: Acknowledged | None) -> list[Fault]:
    """Start the agent again on what is left in a device's folder and return what is wrong with it."""
    started = start(story, folder)
    return [*started.faults, *started.lost(acknowledged)]


def start(story: Story, folder: Path) -> Started:
    """Start the agent again on what is left in a device's folder."""
    try:
        device = story.device(folder)
        device.reboot()
        faults = _running(story, device, AFTER_CUT, story.may_run)
        ledger, found = device.ledger, story.look(device)
    except AgentError as error:
        return Started(story, 0, Record(), (Fault(STUCK, f"it does not start: {error}"),))
    faults += _restarted(story, device, ledger.record)
    return Started(story, ledger.generation, ledger.record, tuple(faults), True, found)


def _restarted(story: Story, device: Device, kept: Record) -> Iterator[Fault]:
    faults: list[Fault] = []
    for _ in range(STARTS):
        try:
            story.restart(device)
        except AgentError as error:
            faults = [Fault(STUCK, f"the start ends with {error.code}: {error}")]
            continue
        record = device.ledger.record
        yield from _sunk(story, kept, record)
        kept = record
        faults = [*_running(story, device, "after the start", {story.ends}), *_litter(story, device)]
        faults += [Fault(STUCK, text) for text in story.check(device)]
        if not faults:
            return
    yield from faults


def _running(
    story: Story, device: Device, when: str, allowed: set[str | None] | frozenset[str | None]
) -> list[Fault]:
    try:
        version = device.running()
    except AgentError as error:
        linked = device.store.linked(MODEL)
        if story.began_damaged and when == AFTER_CUT and linked and device.store.runs(linked):
            return []
        return [Fault(BROKEN, f"{when} `current` shows a broken model: {error}")]
    return (
        []
        if version in allowed
        else [Fault(BROKEN, f"{when} {version} runs, not one of {sorted(map(str, allowed))}")]
    )


def _sunk(story: Story, before: Record, after: Record) -> Iterator[Fault]:
    """Yield what a later record has forgotten of an earlier one."""
    for what, old, new in (
        ("floor", before.floor, after.floor),
        ("sequence", before.sequences, after.sequences),
        ("counter", before.counters, after.counters),
    ):
        for name, version in old.items():
            if new.get(name, 0) < version:
                yield Fault(LOST, f"the {what} of {name} fell from {version} to {new.get(name, 0)}")
    for name, state in before.models.items():
        now = {stone.digest for stone in after.model(name).tombstones}
        for stone in state.tombstones:
            if stone.digest not in now:
                yield Fault(LOST, f"the tombstone of {name} {stone.version} is gone")
    for text in story.forgotten(before, after):
        yield Fault(LOST, text)
    if before.fleet and after.fleet != before.fleet:
        yield Fault(LOST, f"the fleet {before.fleet} is {after.fleet}")
    if before.clock_floor and (after.clock_floor or "") < before.clock_floor:
        yield Fault(LOST, f"the clock floor fell from {before.clock_floor} to {after.clock_floor}")


def _litter(story: Story, device: Device) -> Iterator[Fault]:
    record = device.ledger.record
    slots = {
        slot.digest.removeprefix("sha256:") for state in record.models.values() for slot in state.slots()
    }
    for folder, wanted in (
        ("store", slots),
        ("current", {MODEL}),
        ("factory", {name for name, state in record.models.items() if state.factory}),
        ("engines", set[str]()),
        ("spool", {"ring", "lock"}),
        (".", _AT_HOME | story.at_home),
    ):
        place = device.state / folder
        found = {path.name for path in place.iterdir()} if place.is_dir() else set[str]()
        if litter := found - wanted:
            yield Fault(STUCK, f"{folder} holds {sorted(litter)[0]}, which nobody needs")
        if folder == "store" and (gone := wanted - found):
            yield Fault(LOST, f"store has no {sorted(gone)[0]}, which the record names")
    for model, state in record.models.items():
        if state.factory and device.store.factories().get(model) != state.factory.digest:
            yield Fault(STUCK, f"factory/{model} is not {state.factory.version}, as the record says")
        for stone in () if story.sees_evidence else state.tombstones:
            if stone.evidence and not _is_kept(device.state / "evidence" / model / stone.evidence):
                yield Fault(
                    LOST, f"the evidence of {model} {stone.version} is gone or torn: {stone.evidence}"
                )
    for folder in device.state.glob("tuf"):
        if strays := [path.name for path in folder.rglob("tmp*")]:
            yield Fault(STUCK, f"tuf holds {strays[0]}, which nobody needs")


def _is_kept(evidence: Path) -> bool:
    for path in (evidence, evidence.with_name(evidence.name + ".acknowledged")):
        try:
            json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        return True
    return False
