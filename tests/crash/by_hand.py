"""Stories of what a person does on a device: go back, stay, mark the factory model, take note, begin a record again.

>>> [story.name for story in BY_HAND][:2]
['manual rollback', 'pin']
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crash.device import Device
from crash.recording import Fact, Witness
from crash.story import Story, possible
from edgewright_agent import factory, manual
from edgewright_agent.errors import HealthError
from edgewright_agent.evidence import Archive
from edgewright_agent.files import Calls
from edgewright_agent.network import tell_metered, told_metered
from edgewright_agent.record import Record
from unit.agent.core.workbench import MODEL


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


class Pin(Story):
    """Stay with the version before, let go again, and back to what came from the factory."""

    name = "pin"
    before = ("1.0.0", "2.0.0", "3.0.0")
    may_run = frozenset({"1.0.0", "2.0.0", "3.0.0"})
    ends = "1.0.0"

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        for count in range(1, len(self.before) + 1):
            device = self.device(folder, calls, released=count)
            device.once()
            if count == 1:
                factory.mark(device.ledger, device.store, MODEL, now=device.now)

    def act(self, device: Device) -> None:
        manual.pin(device.ledger, device.store, MODEL, now=device.now, version="2.0.0")
        device.once()
        assert device.running() == "2.0.0", "it was assigned 3.0.0"
        self.restart(device)

    def restart(self, device: Device) -> None:
        device.once()
        state = device.ledger.record.model(MODEL)
        if state.pin:
            manual.unpin(device.ledger, MODEL)
            device.once()
        if (active := device.ledger.record.model(MODEL).active) and active.version != "1.0.0":
            manual.rollback(device.ledger, device.store, MODEL, now=device.now, to="factory")
        device.once()

    def forgotten(self, before: Record, after: Record) -> Sequence[str]:
        let_go = after.counters.get("unpins", 0) + after.counters.get("rollbacks", 0)
        if before.model(MODEL).pin and not after.model(MODEL).pin and not let_go:
            return ["the pin is gone, and nobody has taken it away"]
        return ()


class Factory(Story):
    """Another model becomes the factory one, and then a newer one comes."""

    name = "factory"
    before = ("1.0.0", "2.0.0")
    then = ("3.0.0",)
    may_run = frozenset({"2.0.0", "3.0.0"})
    ends = "3.0.0"

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        for count in range(1, len(self.before) + 1):
            device = self.device(folder, calls, released=count)
            device.once()
            if count == 1:
                factory.mark(device.ledger, device.store, MODEL, now=device.now)

    def act(self, device: Device) -> None:
        factory.clear(device.ledger, device.store, MODEL)
        self.restart(device)

    def restart(self, device: Device) -> None:
        state = device.ledger.record.model(MODEL)
        if state.active and state.active.version == "2.0.0":
            factory.mark(device.ledger, device.store, MODEL, now=device.now)
        device.once()

    def check(self, device: Device) -> Sequence[str]:
        state = device.ledger.record.model(MODEL)
        return (
            () if state.factory and state.factory.version == "2.0.0" else ["2.0.0 is not the factory model"]
        )

    def forgotten(self, before: Record, after: Record) -> Sequence[str]:
        old, new = before.model(MODEL).factory, after.model(MODEL).factory
        lost = old and old.version == "2.0.0" and (new is None or new.digest != old.digest)
        return ["the factory model is forgotten"] if lost else ()


class Reanchor(Story):
    """Both copies of the record are damaged: a person begins another from what lies there, factory model and all."""

    name = "reanchor"
    before = ("1.0.0", "2.0.0")
    then = ("3.0.0",)
    may_run = frozenset({"2.0.0", "3.0.0"})
    ends = "3.0.0"
    at_home = frozenset({"state.0.damaged", "state.1.damaged"})

    def prepare(self, folder: Path, calls: Calls | None = None) -> None:
        Factory.prepare(self, folder, calls)  # type: ignore[arg-type]
        device = self.device(folder, calls)
        for name in ("state.0", "state.1"):
            device.disk.overwrite(device.state / name, b"rotten")
        if isinstance(calls, Witness):
            calls.forget()

    def act(self, device: Device) -> None:
        if device.ledger.record.quarantined:
            manual.reanchor(device.ledger, device.store, now=device.now)
        device.once()

    restart = act

    def check(self, device: Device) -> Sequence[str]:
        state = device.ledger.record.model(MODEL)
        return (
            () if state.factory and state.factory.version == "1.0.0" else ["the factory model is forgotten"]
        )


class Acknowledge(Story):
    """Somebody has seen why a version failed, and says so."""

    name = "acknowledge"
    before = ("1.0.0", "2.0.0")
    may_run = frozenset({"1.0.0"})
    ends = "1.0.0"
    sees_evidence = True

    def device(self, folder: Path, calls: Calls | None = None, *, released: int | None = None) -> Device:
        device = super().device(folder, calls, released=released)
        device.doctor.verdicts["2.0.0"] = HealthError("health-crash", "died of SIGSEGV")
        return device

    def act(self, device: Device) -> None:
        archive, ledger = Archive.beside(device.store), device.ledger
        entries = archive.entries(MODEL)
        count = archive.acknowledge(entries)
        for entry in entries:
            device.tell(("acknowledged", entry.name))
        if count:
            ledger.commit(ledger.record.counted(acknowledged=count))
        device.once()

    restart = act

    def look(self, device: Device) -> dict[str, bool]:
        """Return what is whole, and whether it is acknowledged; of two files with one name, not."""
        entries = Archive.beside(device.store).entries(MODEL)
        whole = [entry for entry in entries if entry.document()["code"] == "health-crash"]
        return {e.name: all(o.acknowledged for o in whole if o.name == e.name) for e in whole}

    def missing(self, found: dict[str, bool], told: Sequence[Fact]) -> Sequence[str]:
        return [f"that {name} was acknowledged is lost" for _, name in told if not found.get(str(name))]

    def check(self, device: Device) -> Sequence[str]:
        names = [path.name for path in device.state.glob(f"evidence/{MODEL}/*")]
        done = len(names) <= 1 and all(name.endswith(".json.acknowledged") for name in names)
        return () if done else [f"the evidence is {names}"]


class Metered(Story):
    """What is said about the link: it costs money, it does not, ask no more, it does."""

    name = "metered"
    before = ("1.0.0",)
    may_run = frozenset({"1.0.0"})
    ends = "1.0.0"
    weight = 0.2
    at_home = frozenset({"link.json.new"})  # a few bytes, which the next word takes

    def act(self, device: Device) -> None:
        for said in (True, False, None, True):
            device.tell(("is saying", said))
            tell_metered(device.state, device.disk, said)
            device.tell(("has said", said))

    def restart(self, device: Device) -> None:
        device.once()

    def look(self, device: Device) -> bool | None:
        """Return what counts."""
        return told_metered(device.state)

    def missing(self, found: bool | None, told: Sequence[Fact]) -> Sequence[str]:
        said = possible(told, None)
        return () if found in said else [f"{said[0]} was said of the link, {found} counts"]


BY_HAND: tuple[Story, ...] = (ManualRollback(), Pin(), Factory(), Reanchor(), Acknowledge(), Metered())
