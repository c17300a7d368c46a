"""Any order of events: releases, failures, power cuts, clocks, windows, people, bad disks; what must hold after each.

A seed makes up the life of a device. After every event the record parses and the rules of the device hold
(`Life.check_slots`, `Life.check_poll`); at the end everything is mended, and the device must come to rest with what is
assigned. A life that ends badly is told without the events that do not matter. `EDGEWRIGHT_LIVES=1000 pytest …` goes on
for longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from edgewright_agent.clock import Uptime
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.factory import clear, mark
from edgewright_agent.files import Disk
from edgewright_agent.manual import pin, retry, rollback, unpin
from edgewright_agent.model_state import ModelState, Slot
from edgewright_agent.record import Ledger, from_bytes, to_bytes
from edgewright_agent.report import Report
from edgewright_agent.soak import Observation, judge
from edgewright_agent.store import Store
from unit.agent.core.workbench import PI, Bench, DyingCalls, Made, PowerCut, make_artifact

LIVES = int(os.environ.get("EDGEWRIGHT_LIVES", "24"))
EVENTS = 60
NOON = datetime(2030, 1, 7, 12, tzinfo=timezone.utc)
MORNINGS = {"windows": {"timeZone": "utc", "activation": ["05:00-06:00"]}}
MODELS = ("digit-reader", "gauge-reader")
MADE = {
    (model, number): make_artifact(f"{number}.{minor}.0", model=model, size=40)
    for minor, model in enumerate(MODELS)
    for number in range(1, 5)
}
FILES = ("model.onnx", "runtime.json", "golden.json", "manifest.json")
ILLS: dict[str, Callable[[], AgentError]] = {
    "crashes": lambda: HealthError("health-crash", "died"),
    "answers wrongly": lambda: HealthError("health-wrong-output", "says 7"),
    "has no engine": lambda: EngineError("runtime-missing", "no engine"),
}

Event = tuple[str, dict[str, Any]]


class _Unsynced(DyingCalls):
    """A disk that loses nothing it was given, but may end the process: what a torn disk does is tests/crash's part."""

    def sync(self, path: Path, fd: int) -> None:
        self._step()

    def sync_data(self, path: Path, fd: int) -> None:
        self._step()

    def sync_dir(self, path: Path) -> None:
        self._step()


class Life:
    """One device's life."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.bench = Bench(self.folder, calls=_Unsynced())
        self.bench.now = NOON
        self.bench.trust.expires = {"root": "2090-01-01T00:00:00Z", "timestamp": "2090-01-01T00:00:00Z"}
        self.assigned: dict[str, Made] = {}
        self.windows: dict[str, bool] = {}
        self.boots = 1
        self.unseen: set[str] = set()  # damage that only reading everything back can show, or that came since
        self.by_hand = False
        self.before = self.states()

    # --- events -------------------------------------------------------------------------------------------------

    def release(self, model: str, number: int, soak_s: int, attempts: int, window: bool) -> None:
        made = MADE[model, number]
        self.bench.publish(made, model=model, attempts=attempts, policy={"soakS": soak_s} if soak_s else None)
        # The class's policy is one, whichever model carries it.
        self.windows = dict.fromkeys([*self.assigned, model], window)
        self.assigned[model] = made
        for name in self.assigned:
            entry = self.bench.trust.assignment["groups"][0]["models"][name]["artifacts"][PI]
            entry["updatePolicy"] = MORNINGS if window else {}
        self.settle()

    def withdraw(self, model: str) -> None:
        groups = self.bench.trust.assignment["groups"]
        if groups and self.assigned.pop(model, None):
            groups[0]["models"].pop(model)
            self.bench.assign(groups)
        self.settle()

    def poll(self, force: bool, at_once: bool) -> None:
        self.check_poll(self.bench.update().run(force=force, at_once=at_once), at_once=at_once)

    def poll_until_the_power_is_cut(self, dies_at: int) -> None:
        self.bench.calls = _Unsynced(dies_at)
        try:
            with contextlib.suppress(PowerCut):
                self.bench.once()
        finally:
            self.bench.calls = _Unsynced()
        self.reboot()

    def sicken(self, model: str, ill: str) -> None:
        if model in self.assigned:
            self.bench.doctor.verdicts[self.assigned[model].version] = ILLS[ill]()

    def heal(self) -> None:
        self.bench.doctor.verdicts.clear()

    def reboot(self) -> None:
        self.boots += 1
        self.bench.up = Uptime(f"boot {self.boots}", 30)

    def time_passes(self, hours: int) -> None:
        self.bench.now += timedelta(hours=hours)
        self.bench.up = Uptime(self.bench.up.boot, self.bench.up.seconds + hours * 3600)

    def clock_is_set(self, hours: int) -> None:
        self.bench.now += timedelta(hours=hours)

    def line(self, down: bool) -> None:
        self.bench.shelf.down = down

    def line_drops_once(self, after: int) -> None:
        self.bench.shelf.cut_after = after

    def disk(self, full: bool) -> None:
        self.bench.document["reserveBytes"] = 2**60 if full else 0

    def damage(self, model: str, slot: str, file: str, how: str) -> None:
        found = getattr(self.states()[model], slot)
        path = self.store.path(found.digest) / file if found else self.folder / "nothing"
        if not path.is_file():
            return
        data = path.read_bytes()
        path.unlink()  # a copy may share it
        if how != "gone":
            path.write_bytes(data[:-1] if how == "short" else bytes([data[0] ^ 1]) + data[1:])
        self.unseen.add(found.digest)

    def applications_tell(self, model: str, crashes: int, errors: int) -> None:
        active = self.states()[model].active
        if active:
            seen = Observation(active.digest, crashes=crashes, errors=errors, inferences=40)
            judge(self.ledger, self.store, {model: seen}, now=self.bench.now, up=self.bench.up)
        self.settle()

    def person(self, model: str, verb: str) -> None:
        ledger, store, now = self.ledger, self.store, self.bench.now
        previous = self.states()[model].previous
        verbs: dict[str, Callable[[], Any]] = {
            "pin": lambda: pin(ledger, store, model, now=now),
            "pin previous": lambda: previous and pin(ledger, store, model, now=now, version=previous.digest),
            "unpin": lambda: unpin(ledger, model),
            "retry": lambda: retry(ledger, model),
            "factory": lambda: mark(ledger, store, model, now=now),
            "no factory": lambda: clear(ledger, store, model),
        }
        self.by_hand = True
        with contextlib.suppress(AgentError):
            verbs[verb]()
        self.settle()

    def person_goes_back(self, model: str, to: str | None) -> None:
        self.by_hand = True
        with contextlib.suppress(AgentError):
            rollback(self.ledger, self.store, model, now=self.bench.now, to=to)
        self.settle()

    # --- what must hold -----------------------------------------------------------------------------------------

    def settle(self) -> None:
        """After any event: the record parses, and no rule of the slots was broken on the way."""
        ledger = self.ledger
        assert ledger.record.quarantined is None
        assert from_bytes(to_bytes(ledger.record)) == ledger.record
        for model in MODELS:
            self.check_slots(model, self.before[model], ledger.record.model(model))
        self.before, self.by_hand = self.states(), False

    def check_slots(self, model: str, old: ModelState, new: ModelState) -> None:
        if not self.by_hand:
            gone = {stone.digest for stone in old.tombstones} - {stone.digest for stone in new.tombstones}
            assert not gone, f"{model}: what failed here is forgotten without `retry`"
            assert _digest(new.factory) == _digest(old.factory), f"{model}: the factory model is another one"
            assert new.pin == old.pin or not new.pinned, f"{model}: a pin has come by itself"
        changed = new.active and _digest(new.active) != _digest(old.active)
        if changed and not self.by_hand and old.tombstone_of(new.active.digest):
            raise AssertionError(f"{model}: {new.active.version} failed here and is active again")
        if new.active and new.tombstone_of(new.active.digest) and not old.tombstone_of(new.active.digest):
            raise AssertionError(f"{model}: {new.active.version} is active and was given up")
        if old.pinned and not self.by_hand and self.whole(old.active):
            assert _digest(new.active) == _digest(old.active), f"{model}: it was pinned"
        for name in ("trial", "waiting"):
            found = getattr(new, name)
            assert not (found and new.tombstone_of(found.digest)), f"{model}: {name} was given up already"

    def check_poll(self, report: Report, *, at_once: bool = False) -> None:
        """After a poll: what runs is whole, links and store are what the record says, and it is truly at rest."""
        had, unseen = self.before, set(self.unseen)
        self.settle()
        for model, state in self.states().items():
            assert self.store.linked(model) == _digest(state.active), f"{model}: the link is another one"
            old = had[model]
            spares = [
                slot for slot in (old.previous, old.factory) if slot and not old.tombstone_of(slot.digest)
            ]
            if any(slot and slot.digest not in unseen for slot in (old.active, *spares)):
                assert state.active, f"{model}: something whole was here, and nothing runs"
                assert state.active.digest in unseen or self.store.runs(state.active.digest)
        assert report.poll
        if report.poll.code == "not-modified":
            self.check_at_rest(at_once=at_once)
        elif report.exit_code == 0 and report.poll.code == "ok":
            self.unseen &= self.rotten()
            self.check_store()
            self.check_at_rest(at_once=at_once)
            again = self.bench.once()
            assert again.poll and again.poll.code == "not-modified" and not again.outcomes, (
                "nothing has changed, and everything is asked for again",
                again,
            )
            self.settle()

    def check_at_rest(self, *, at_once: bool) -> None:
        """Nothing is left to do for what is assigned: "not modified" may be the answer from now on."""
        for model, made in self.assigned.items():
            state = self.states()[model]
            if state.pinned or state.tombstone_of(made.digest) or (state.waiting and self.shut(at_once)):
                continue
            assert _digest(state.active) == made.digest, f"{model}: {made.version} was left out: {state}"
            for slot in (state.active, state.factory):
                if slot and slot.digest not in self.unseen:
                    assert self.store.intact(slot.digest), f"{model}: {slot.version} was left damaged"
            assert not state.trial, f"{model}: left on trial"

    def check_store(self) -> None:
        needed = {slot.digest for state in self.states().values() for slot in state.slots()}
        root = self.store.root
        there = {f"sha256:{entry.name}" for entry in root.iterdir()} if root.is_dir() else set[str]()
        assert there <= needed, "garbage is kept"
        fetched = {slot.digest for model in self.assigned for slot in self.states()[model].slots()}
        assert fetched <= there | self.unseen, "something kept is not there, and was not fetched again"

    def comes_to_rest(self) -> None:
        """Whatever has happened: mended, and given something new, the device runs it and then only asks."""
        self.bench.shelf.down, self.bench.shelf.cut_after = False, None
        self.bench.document["reserveBytes"] = 0
        self.bench.doctor.verdicts.clear()
        for model in MODELS:
            for verb in ("unpin", "retry"):
                self.person(model, verb)
        for model in MODELS:
            self.release(model, 4, 0, 3, False)
        for _ in range(3):
            self.poll(force=True, at_once=True)
        for model in MODELS:
            assert self.bench.running(model) == MADE[model, 4].version
        last = self.bench.once()
        assert last.poll and last.poll.code == "not-modified"

    # --- what there is --------------------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.bench.state, Disk(_Unsynced()))

    @property
    def store(self) -> Store:
        return Store(self.bench.state, Disk(_Unsynced()))

    def states(self) -> dict[str, ModelState]:
        record = self.ledger.record
        return {model: record.model(model) for model in MODELS}

    def whole(self, slot: Slot | None) -> bool:
        return slot is not None and slot.digest not in self.unseen and self.store.intact(slot.digest)

    def shut(self, at_once: bool) -> bool:
        return not at_once and any(self.windows.values())

    def rotten(self) -> set[str]:
        """Return what looks whole and is not, found when everything is read back; and what nobody assigns any more."""
        found = set()
        names = {made.digest: model for (model, _), made in MADE.items()}
        for digest in self.unseen:
            try:
                self.store.verify(digest)
            except AgentError:
                if self.store.intact(digest) or names[digest] not in self.assigned:
                    found.add(digest)
        return found


def _digest(slot: Slot | None) -> str | None:
    return slot.digest if slot else None


def _story(seed: int) -> list[Event]:
    """Return a life: mostly polls and releases, and everything else that comes between."""
    draw = random.Random(seed)  # noqa: S311  no secret: the same seed is the same life

    def one(**choices: Sequence[Any]) -> dict[str, Any]:
        return {name: draw.choice(values) for name, values in choices.items()}

    hours = (1, 4, 9, 14, 30, 24 * 8)
    events: dict[str, tuple[int, Callable[[], dict[str, Any]]]] = {
        "poll": (30, lambda: one(force=(False, False, True), at_once=(False, False, True))),
        "release": (
            14,
            lambda: one(
                model=MODELS,
                number=range(1, 5),
                soak_s=(0, 0, 3600),
                attempts=(1, 2, 3),
                window=(False, False, True),
            ),
        ),
        "withdraw": (3, lambda: one(model=MODELS)),
        "poll_until_the_power_is_cut": (8, lambda: one(dies_at=range(1, 90))),
        "sicken": (6, lambda: one(model=MODELS, ill=sorted(ILLS))),
        "heal": (3, dict),
        "reboot": (4, dict),
        "time_passes": (6, lambda: one(hours=hours)),
        "clock_is_set": (2, lambda: one(hours=(-9000, -30, -3, 3, 30, 9000))),
        "line": (4, lambda: one(down=(True, False, False))),
        "line_drops_once": (4, lambda: one(after=range(0, 200, 7))),
        "disk": (3, lambda: one(full=(True, False, False))),
        "damage": (
            7,
            lambda: one(
                model=MODELS,
                slot=("active", "active", "previous", "factory", "waiting", "trial"),
                file=FILES,
                how=("gone", "short", "other"),
            ),
        ),
        "applications_tell": (6, lambda: one(model=MODELS, crashes=range(4), errors=(0, 0, 30))),
        "person": (
            9,
            lambda: one(
                model=MODELS, verb=("pin", "pin previous", "unpin", "unpin", "retry", "factory", "no factory")
            ),
        ),
        "person_goes_back": (3, lambda: one(model=MODELS, to=(None, "factory"))),
    }
    names = draw.choices(list(events), [weight for weight, _ in events.values()], k=EVENTS)
    return [(name, events[name][1]()) for name in names]


def _fate(story: Sequence[Event]) -> Exception | AssertionError | None:
    """Live a life; return what it ended of, if it did not end well."""
    life = Life()
    try:
        for name, choices in story:
            getattr(life, name)(**choices)
        life.comes_to_rest()
    except Exception as error:  # noqa: BLE001  whatever it is, the life is told
        return error
    finally:
        shutil.rmtree(life.folder)
    return None


def _shortest(story: list[Event]) -> list[Event]:
    """Leave out whatever is not needed for a bad end."""
    size = len(story) // 2
    while size:
        at = 0
        while at < len(story):
            shorter = story[:at] + story[at + size :]
            if _fate(shorter):
                story = shorter
            else:
                at += size
        size //= 2
    return story


@pytest.mark.parametrize("seed", range(LIVES))
def test_whatever_happens_to_a_device_its_rules_hold_and_it_comes_to_rest(seed: int) -> None:
    story = _story(seed)
    if _fate(story):
        story = _shortest(story)
        told = "\n".join(f"  {name} {choices}" for name, choices in story)
        raise AssertionError(f"a life has ended badly:\n{told}") from _fate(story)
