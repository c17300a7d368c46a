"""What is kept of one model: its slots, what is being tried, what failed here, and where it stands.

>>> ModelState(active=Slot("sha256:" + "a" * 64, "1.0.0", "2030-01-01T00:00:00Z")).slots()[0].version
'1.0.0'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright_agent.clock import Uptime
from edgewright_agent.config import Budget

MAX_TOMBSTONES = 8  # per model, the oldest goes first: the record must fit its slot
MAX_REASON_CHARS = 300
DEFAULT_INFERENCE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Slot:
    """One installed model: digest, version, since when it has this place, what its trial measured."""

    digest: str
    version: str
    since: str
    health: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Terms:
    """What the class's signed `rollbackPolicy` asks of a new model beyond one golden replay; here: nothing.

    Attributes:
        budget: What it may cost; the device's own `budget` counts as well, the stricter figure wins.
        trial_soak_s: How long its golden inputs are replayed before it is committed, in seconds.
        soak_s: How long live inference is watched after that.
        inference_timeout_s: Longest that one inference may take in either.
    """

    budget: Budget = field(default_factory=Budget)
    trial_soak_s: float = 0
    soak_s: float = 0
    inference_timeout_s: float = DEFAULT_INFERENCE_TIMEOUT_S


@dataclass(frozen=True)
class Beside:
    """That a model on trial is to run beside the active one; see `Candidate` for what is in it."""

    kind: str
    share: float
    experiment: str


@dataclass(frozen=True)
class Trial:
    """A model that is stored but has not proved itself: everything needed to go on without network.

    Attributes:
        attempts_left: Loads that it may still fail.
        started: When it began.
        timeout_s: Longest that loading and replaying may take.
        terms: What else it must go through.
        boots: Boots that the device had seen when it began.
        beside: When it is not to become active.
    """

    digest: str
    version: str
    attempts_left: int
    started: str
    timeout_s: float
    terms: Terms = field(default_factory=Terms)
    boots: int | None = None
    beside: Beside | None = None


@dataclass(frozen=True)
class Soak:
    """What an active model still has to go through before it counts as proved: live inference, watched.

    Attributes:
        digest: The model it is about; the slot `active` holds it.
        left_s: Seconds of watched operation left.
        boots_left: Boots that it may still see meanwhile: a model that takes the whole device down uses them up.
        failures: Crashes and hangs of applications seen meanwhile, and sessions that had to leave the model.
        since: How long the device had been up when `left_s` was last counted down.
        hangs: Those of `failures` that were hangs.
        inference_timeout_s: An inference under way for longer hangs.
        failed: Why it did not pass, where there was nothing to go back to and it runs on.
        errors: Inferences that failed of the model, seen meanwhile.
        inferences: All of them, those that failed included.
    """

    digest: str
    left_s: float
    boots_left: int
    failures: int = 0
    since: Uptime | None = None
    hangs: int = 0
    inference_timeout_s: float = DEFAULT_INFERENCE_TIMEOUT_S
    failed: str | None = None
    errors: int = 0
    inferences: int = 0


@dataclass(frozen=True)
class Candidate:
    """A second model beside the active one, as the signed assignment says: in its shadow, or on a share of requests.

    Attributes:
        digest: The artifact; it has passed its own trial.
        version: For people.
        kind: `shadow` (its answers are logged, never returned) or `ab`.
        share: Of requests, from 0 to 1: those it sees as a shadow, or answers.
        experiment: Name of the experiment; with the device's id it decides which requests.
        since: Since when it runs here.
        health: What its trial measured.
    """

    digest: str
    version: str
    kind: str
    share: float
    experiment: str
    since: str
    health: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Pin:
    """A person's word that this device stays with a version, whatever is assigned."""

    digest: str
    version: str
    at: str


@dataclass(frozen=True)
class Rung:
    """Where on the degraded-mode ladder something stands (see `degrade`): since when, and what was seen."""

    name: str
    code: str
    since: str
    reason: str = ""
    streak: int = 0


@dataclass(frozen=True)
class Tombstone:
    """A model that failed here and is not tried again until a person says `retry`.

    `evidence` names the file that tells the whole of it (see `evidence`); None when there was no room for one.
    """

    digest: str
    version: str
    code: str
    reason: str
    at: str
    evidence: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What the last update made of a model: `code` is part of the contract with fleet status."""

    code: str
    message: str
    at: str
    digest: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class ModelState:
    """The slots of one model. `active` is what applications run.

    Attributes:
        trial: Stored, and being tried.
        waiting: Stored, and to be tried when its time comes: an activation window opens.
        soak: What `active` still has to go through.
        candidate: Runs beside `active`.
        pin: Set by hand: nothing is installed over it.
        rung: Where the model stands on the degraded-mode ladder; None is normal.
    """

    active: Slot | None = None
    previous: Slot | None = None
    factory: Slot | None = None
    trial: Trial | None = None
    waiting: Trial | None = None
    soak: Soak | None = None
    candidate: Candidate | None = None
    pin: Pin | None = None
    rung: Rung | None = None
    tombstones: tuple[Tombstone, ...] = ()
    last: Verdict | None = None

    @property
    def proving(self) -> Soak | None:
        """The live soak of what is active, if it is not over; what it is about may have been replaced since."""
        return self.soak if self.soak and self.active and self.soak.digest == self.active.digest else None

    @property
    def pinned(self) -> Pin | None:
        """The pin, as long as what it holds is what runs: a damaged model is not waited for."""
        return self.pin if self.pin and self.active and self.pin.digest == self.active.digest else None

    @property
    def dark(self) -> bool:
        """Whether damage has left nothing to run: then what is stored is tried at once, and waits for no window."""
        return self.active is None and self.rung is not None

    @property
    def left(self) -> bool:
        """Whether it is nobody's any more: unassigned, and nothing of it is here but what is remembered."""
        return bool(self.last and self.last.code == "unassigned") and not self.slots()

    def running(self, slot: Slot, previous: Slot | None) -> ModelState:
        """Return this state with another proved model active, which needs no trial of its own any more."""
        return replace(
            self,
            active=slot,
            previous=previous,
            trial=None if self.trial and self.trial.digest == slot.digest else self.trial,
            waiting=None if self.waiting and self.waiting.digest == slot.digest else self.waiting,
        )

    def spare_for(self, digest: str) -> Slot | None:
        """Return what to go back to should `digest` fail once it is active: the last *proved* model here.

        A model in its live soak is not one, so a newer release does not push out the one before it. It is better
        than nothing, though.
        """
        order = (self.previous, self.active) if self.proving else (self.active, self.previous)
        return next((slot for slot in order if slot and slot.digest != digest), None)

    def tombstone_of(self, digest: str) -> Tombstone | None:
        """Return why `digest` was given up, if it was."""
        return next((stone for stone in self.tombstones if stone.digest == digest), None)

    def entomb(self, stone: Tombstone) -> ModelState:
        """Return this state with one more tombstone; the newest is last."""
        others = tuple(old for old in self.tombstones if old.digest != stone.digest)
        return replace(
            self, tombstones=(*others, replace(stone, reason=shorten(stone.reason)))[-MAX_TOMBSTONES:]
        )

    def slots(self) -> tuple[Slot | Trial | Candidate, ...]:
        """Return every slot in use: what garbage collection must keep."""
        found = (self.active, self.previous, self.factory, self.trial, self.waiting, self.candidate)
        return tuple(slot for slot in found if slot)


def shorten(text: str, limit: int = MAX_REASON_CHARS) -> str:
    """Return one line of at most `limit` characters, fit for a record and a terminal, whoever is quoted in it."""
    line = "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def terser(state: ModelState, chars: int, figures: bool, stones: int) -> ModelState:
    """Return a state with shorter words, maybe without figures, and with the newest tombstones only."""

    def plain(slot: Slot | None) -> Slot | None:
        return slot if slot is None or figures else replace(slot, health=None)

    candidate = state.candidate
    # Of a rung the beginning stays, which says who has put the model there (see `degrade`).
    return replace(
        state,
        candidate=candidate if candidate is None or figures else replace(candidate, health=None),
        rung=replace(state.rung, reason=shorten(state.rung.reason, chars)) if state.rung else None,
        active=plain(state.active),
        previous=plain(state.previous),
        factory=plain(state.factory),
        tombstones=tuple(
            replace(stone, reason=shorten(stone.reason, chars)) for stone in state.tombstones[-stones:]
        ),
        last=replace(state.last, message=shorten(state.last.message, chars)) if state.last else None,
    )


def parse_model(value: dict[str, Any]) -> ModelState:
    """Return a state from what JSON makes of `asdict`."""

    def slot(name: str) -> Slot | None:
        return Slot(**value[name]) if name in value else None

    def trial(name: str) -> Trial | None:
        return _trial(value[name]) if name in value else None

    return ModelState(
        active=slot("active"),
        previous=slot("previous"),
        factory=slot("factory"),
        trial=trial("trial"),
        waiting=trial("waiting"),
        soak=_soak(value["soak"]) if "soak" in value else None,
        candidate=Candidate(**value["candidate"]) if "candidate" in value else None,
        pin=Pin(**value["pin"]) if "pin" in value else None,
        rung=Rung(**value["rung"]) if "rung" in value else None,
        tombstones=tuple(Tombstone(**stone) for stone in value.get("tombstones", ())),
        last=Verdict(**value["last"]) if "last" in value else None,
    )


def _trial(value: dict[str, Any]) -> Trial:
    terms = value.get("terms", {})
    beside = Beside(**value["beside"]) if "beside" in value else None
    return Trial(
        **{
            **value,
            "terms": Terms(**{**terms, "budget": Budget(**terms.get("budget", {}))}),
            "beside": beside,
        }
    )


def _soak(value: dict[str, Any]) -> Soak:
    return Soak(**{**value, "since": Uptime(**value["since"]) if "since" in value else None})
