"""What runs on this device, and why nothing newer does. Never what was merely downloaded.

>>> print(gather(config, ledger, store, utc_now()).text())   # doctest: +SKIP

Device states:
    ok       the last poll went well, and every model runs as assigned, or something runs until its window opens
    degraded a model does not run as assigned, or stands on a step of the ladder (`degrade`), or the disk is short
    stale    signed metadata has ended: running goes on, installing stops, until newer metadata is verified
    failing  the last poll went wrong
    damaged  both record slots are: nothing is installed until `reanchor`
    missing  there is no record: nothing is installed until `anchor` (a new device) or `reanchor`
    new      never polled

Model states:
    running      the assigned model is active
    soaking      the assigned model is active, and its live soak is not over
    unproved     it has failed its live soak, and there is nothing to go back to: until a newer one
    pinned       another version was pinned by hand; the assigned one waits for `unpin`
    trial        the assigned model is stored and not yet proved; what was active still is
    waiting      the assigned model waits for its window or another link; what was active still is
    rolled-back  the assigned model failed here, on trial or in its live soak: until a newer one, or `retry`
    held         the assigned model was refused or could not be fetched: see the reason
    unassigned   no group names it any more; it keeps running
    not-offered  the assigned version has no artifact for this class
    damaged      its files have changed on disk: until the next update
    absent       nothing is active
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from edgewright_agent.clock import Uptime, from_text, to_text, uptime
from edgewright_agent.config import Config
from edgewright_agent.degrade import entered, look
from edgewright_agent.ladder import step, worst
from edgewright_agent.model_state import Candidate, ModelState, Pin, Rung, Slot, Soak, Tombstone
from edgewright_agent.poll import trusted_now
from edgewright_agent.record import MISSING, Ledger, Poll, Record
from edgewright_agent.schedule import WAITS, model_wait
from edgewright_agent.soak import left_s
from edgewright_agent.store import Store

_SETTLED = ("installed", "current", "repaired")
_GIVEN_UP = ("tombstoned", "manual-rollback")
AS_ASSIGNED = ("running", "soaking")


@dataclass(frozen=True)
class ModelStatus:
    """One model: `active` is what applications get, if anything; `health` its trial's figures.

    Attributes:
        unseen: Whether it has failed here and nobody has taken note of the evidence.
    """

    name: str
    state: str
    active: str | None
    version: str | None
    since: str | None
    health: Mapping[str, Any] | None
    previous: str | None
    reason: str | None
    tombstones: tuple[Tombstone, ...]
    soak: Soak | None = None
    soak_left_s: int = 0
    pin: Pin | None = None
    factory: str | None = None
    factory_whole: bool = True
    rung: Rung | None = None
    waiting: Mapping[str, Any] | None = None
    candidate: Candidate | None = None
    unseen: bool = False

    def document(self) -> dict[str, Any]:
        """Return the model's entry as JSON values."""
        return {
            "state": self.state,
            "active": self.active,
            "version": self.version,
            "since": self.since,
            "health": self.health,
            "previous": self.previous,
            "factory": self.factory,
            "factoryWhole": self.factory_whole,
            "rung": _told(self.rung) if self.rung else None,
            "reason": self.reason,
            "tombstones": [asdict(stone) for stone in self.tombstones],
            "waiting": dict(self.waiting) if self.waiting else None,
            "experiment": self._experiment(),
            "soak": self._soak(),
            "pin": asdict(self.pin) if self.pin else None,
        }

    def _experiment(self) -> dict[str, Any] | None:
        told = self.candidate
        if told is None:
            return None
        return {
            "name": told.experiment,
            "kind": told.kind,
            "share": told.share,
            "digest": told.digest,
            "version": told.version,
            "since": told.since,
        }

    def _soak(self) -> dict[str, Any] | None:
        if self.soak is None:
            return None
        return {
            "leftS": self.soak_left_s,
            "failures": self.soak.failures,
            "hangs": self.soak.hangs,
            "errors": self.soak.errors,
            "inferences": self.soak.inferences,
            "bootsLeft": self.soak.boots_left,
            "failed": self.soak.failed,
        }


@dataclass(frozen=True)
class Status:
    """The whole device."""

    device: str
    hardware_class: str
    labels: Mapping[str, str]
    source: str
    state: str
    models: tuple[ModelStatus, ...]
    versions: Mapping[str, int]
    expires: Mapping[str, str]
    stale: tuple[str, ...]
    poll: Poll | None
    counters: Mapping[str, int]
    boots: int
    generation: int
    fleet: str | None = None
    clock_floor: str | None = None
    behind_s: int = 0
    quarantined: str | None = None
    may_anchor: bool = False
    rungs: Mapping[str, Rung] = field(default_factory=dict)
    stuck: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return the status as JSON values: the document fleets collect."""
        return {
            "version": 1,
            "device": {"id": self.device, "class": self.hardware_class, "labels": dict(self.labels)},
            "source": self.source,
            "state": self.state,
            "models": {model.name: model.document() for model in self.models},
            "metadata": {"versions": self.versions, "expires": self.expires, "stale": list(self.stale)},
            "poll": asdict(self.poll) if self.poll else None,
            "counters": self.counters,
            "boots": self.boots,
            "generation": self.generation,
            "fleet": self.fleet,
            "clock": {"floor": self.clock_floor, "behindS": self.behind_s},
            "quarantine": self.quarantined,
            "rung": worst((*self.rungs, *(model.rung.name for model in self.models if model.rung))),
            "rungs": {name: _told(rung) for name, rung in self.rungs.items()},
            "stuck": dict(self.stuck),
            "next": self.next_command(),
        }

    def next_command(self) -> str | None:
        """Return what a person has to run, if anything."""
        if self.quarantined is not None:
            return f"edgewright-agent {'anchor' if self.may_anchor else 'reanchor'}"
        standing = [rung.name for _model, rung in self.standing()]
        command = step(worst(standing)).command
        for model in self.models:
            if model.unseen:  # another poll does not help what has been given up
                return f"edgewright-agent evidence {model.name}"
        damaged = next((model.name for model in self.models if not model.factory_whole), None)
        return command or (f"edgewright-agent factory {damaged}" if damaged else None)

    def text(self, spool: Mapping[str, Any] | None = None) -> str:
        """Return the status for a terminal; `spool` is how full the telemetry spool is, where there is one."""
        from edgewright_agent.status_words import in_words

        return in_words(self, spool)

    def standing(self) -> list[tuple[str, Rung]]:
        """Return every step of the ladder that something stands on, by model, the device's first, without one."""
        models = [(model.name, model.rung) for model in self.models if model.rung]
        return [*(("", rung) for rung in self.rungs.values()), *models]


def gather(
    config: Config,
    ledger: Ledger,
    store: Store,
    now: datetime,
    *,
    may_anchor: bool = False,
    up: Uptime | None = None,
) -> Status:
    """Return the status of a device; reads, never writes, and needs no lock.

    Args:
        config: Its configuration.
        ledger: Its record.
        store: Its models.
        now: Its clock.
        may_anchor: Whether `init --no-state` has prepared it for its first `anchor`.
        up: How long it has been up, if that is not to be asked of the kernel.
    """
    up = up or uptime()
    record = ledger.record
    time = trusted_now(record, now)
    stale = tuple(sorted(role for role, end in record.expires.items() if from_text(end) <= time))
    names = sorted({name for name, state in record.models.items() if not state.left} | {*store.links()})
    models = tuple(
        _model_status(name, record.model(name), store, up, _waiting(config, record, name, now))
        for name in names
    )
    # What has begun since the last poll is told at once, what may have ended only when the agent has seen it.
    rungs = (
        {}
        if record.quarantined
        else entered(record.rungs, look(config, record, store.disk, now), to_text(now))
    )
    return Status(
        device=config.device.id,
        hardware_class=config.device.hardware_class,
        labels=dict(config.device.labels),
        source=config.origin.url,
        state=_device_state(record, rungs, models),
        models=models,
        versions=dict(record.floor),
        expires=dict(record.expires),
        stale=stale,
        poll=record.poll,
        counters=dict(record.counters),
        boots=record.boots,
        generation=ledger.generation,
        fleet=record.fleet,
        clock_floor=record.lowest(up).clock,
        behind_s=max(0, int((time - now).total_seconds())),
        quarantined=record.quarantined,
        may_anchor=may_anchor,
        rungs=rungs,
        stuck=record.stuck,
    )


def _device_state(record: Record, rungs: Mapping[str, Rung], models: tuple[ModelStatus, ...]) -> str:
    if record.quarantined:
        return "missing" if record.quarantined == MISSING else "damaged"
    if "stale" in rungs:
        return "stale"
    if record.poll is None:
        return "new"
    if record.poll.code not in ("ok", "not-modified"):
        return "failing"
    whole = all(_as_wanted(model) and model.rung is None and model.factory_whole for model in models)
    return "ok" if whole and not rungs else "degraded"


def _as_wanted(model: ModelStatus) -> bool:
    return model.state in AS_ASSIGNED or (model.state == "waiting" and model.active is not None)


def _waiting(config: Config, record: Record, model: str, now: datetime) -> Mapping[str, Any] | None:
    """Return what a model waits for: which version, whether it is stored, the reason, and until when it is known."""
    state = record.model(model)
    if state.waiting is None and not (state.last and state.last.code in WAITS):
        return None
    version = state.waiting.version if state.waiting else state.last.version if state.last else None
    wait = model_wait(config, record, model, now)
    return {
        "version": version,
        "stored": state.waiting is not None,
        "code": wait.code if wait else None,  # it is over, and the next poll goes on
        "until": to_text(wait.until) if wait and wait.until else None,
    }


def _model_status(
    name: str, state: ModelState, store: Store, up: Uptime, waiting: Mapping[str, Any] | None
) -> ModelStatus:
    linked = store.linked(name)
    whole = linked is not None and store.intact(linked)
    # Applications follow the link, so that is what runs, whatever the record intends.
    slot = next((s for s in (state.active, state.previous, state.factory) if s and s.digest == linked), None)
    if whole and slot is None and linked:
        slot = Slot(linked, store.artifact(linked).version, "unknown")
    return ModelStatus(
        name=name,
        state=_model_state(state, linked, whole),
        waiting=waiting,
        active=linked if whole else None,
        version=slot.version if slot and whole else None,
        since=slot.since if slot and whole else None,
        health=slot.health if slot and whole else None,
        previous=state.previous.version if state.previous else None,
        reason=_reason(state),
        tombstones=state.tombstones,
        soak=state.proving,
        soak_left_s=int(left_s(state.proving, up)) if state.proving else 0,
        pin=state.pin,
        factory=state.factory.version if state.factory else None,
        factory_whole=state.factory is None or store.intact(state.factory.digest),
        rung=state.rung,
        candidate=state.candidate,
        unseen=_unseen(store, name, state),
    )


def _unseen(store: Store, name: str, state: ModelState) -> bool:
    failed = state.last.digest if state.last else None
    stone = state.tombstone_of(failed) if failed else None
    if stone is None or stone.evidence is None:
        return False
    from edgewright_agent.evidence import Archive

    entry = Archive.beside(store).last(name, stone.digest)
    return entry is not None and not entry.acknowledged


def _told(rung: Rung) -> dict[str, str]:
    """Return a rung as reports carry it; how often it looked better since is the agent's own affair."""
    return {"rung": rung.name, "code": rung.code, "since": rung.since, "reason": rung.reason}


def _model_state(state: ModelState, linked: str | None, whole: bool) -> str:
    if linked and not whole:
        return "damaged"
    if state.trial:
        return "trial"
    if state.proving and state.proving.failed:
        return "unproved"
    code = state.last.code if state.last else ""
    if state.waiting or code in WAITS:
        return "waiting"
    if code in _GIVEN_UP or code.startswith(("health-", "soak-")):
        return "rolled-back"
    if code == "pinned":
        return "pinned"
    if code in ("unassigned", "not-offered"):
        return code
    if code and code not in _SETTLED:
        return "held"
    if not linked:
        return "absent"
    return "soaking" if state.proving else "running"


def _reason(state: ModelState) -> str | None:
    if state.last is None or state.last.code in _SETTLED:
        return None
    version = f" ({state.last.version})" if state.last.version else ""
    return f"{state.last.code}{version}: {state.last.message}"
