"""The record and the models: what runs, whether it is whole, and whether the engine takes it."""

from __future__ import annotations

from collections.abc import Iterator

from edgewright_agent.clock import from_text, utc_now
from edgewright_agent.config import Config
from edgewright_agent.doctor import FAIL, OK, WARN, Finding
from edgewright_agent.errors import AgentError, StorageError
from edgewright_agent.files import Disk
from edgewright_agent.ladder import step
from edgewright_agent.record import Ledger, Record
from edgewright_agent.schedule import polling
from edgewright_agent.status import AS_ASSIGNED, ModelStatus, gather
from edgewright_agent.store import Store

_SPARE_INTERVALS = 3  # a poll takes its time, comes late by its jitter, and a timer by its own


def record(config: Config) -> Iterator[Finding]:
    """What the device must not forget is there."""
    ledger = Ledger(config.state, Disk())
    known = ledger.record
    try:
        ledger.require_whole()
    except StorageError as error:
        yield Finding("record", FAIL, str(error))
        return
    yield Finding("record", OK, f"generation {ledger.generation}, fleet {known.fleet or 'not known yet'}")
    now = utc_now()
    status = gather(config, ledger, Store(config.state, Disk()), now)
    if status.stale:
        yield Finding(
            "metadata", WARN, f"{', '.join(status.stale)} ended: nothing new is installed, what runs keeps running",
            "a poll that reaches the source; and the fleet's operator: edgewright release",
        )  # fmt: skip
    elif known.poll is None:
        yield Finding("metadata", WARN, "there has been no poll yet", "edgewright-agent once")
    elif (silent_s := (now - from_text(known.poll.at)).total_seconds()) > _longest_s(config, known):
        yield Finding(
            "metadata", WARN, f"the last poll was {silent_s / 86400:.1f} days ago, {known.poll.at}: nobody polls",
            "see `service` above; edgewright-agent once",
        )  # fmt: skip
    elif known.poll.code not in ("ok", "not-modified"):
        yield Finding(
            "metadata",
            WARN,
            f"the last poll, {known.poll.at}, failed: {known.poll.code}: {known.poll.message}",
            "edgewright-agent once",
        )
    else:
        yield Finding("metadata", OK, f"last poll {known.poll.at}: {known.poll.message}")


def _longest_s(config: Config, known: Record) -> float:
    """Return after how many seconds without a poll somebody should look: more than any pause of an agent that runs."""
    usual = polling(config, known)
    asked_s = (known.poll.retry_after_s if known.poll else None) or 0.0
    return max(usual.max_backoff_s, usual.interval_s, asked_s) + _SPARE_INTERVALS * usual.interval_s


def installed(config: Config) -> Iterator[Finding]:
    """Every model that is assigned runs."""
    ledger, store = Ledger(config.state, Disk()), Store(config.state, Disk())
    status = gather(config, ledger, store, utc_now())
    if not status.models and status.poll is not None:
        yield Finding(
            "models", WARN, f"none: no group assigns one to {config.device.id}",
            "check device.class and device.labels, then edgewright-agent once",
        )  # fmt: skip
    for model in status.models:
        what = f"{model.version or 'nothing'} runs" + (f"; {model.reason}" if model.reason else "")
        if model.active is None or model.state == "damaged":
            yield Finding(model.name, FAIL, f"{model.state}: {what}", "edgewright-agent once --force")
        elif model.state in AS_ASSIGNED:
            soak = "; its live soak is not over" if model.soak else ""
            yield Finding(model.name, OK, what + soak)
        elif model.state == "waiting":
            yield Finding(model.name, OK, what)
        else:
            yield Finding(model.name, WARN, f"{model.state}: {what}", _remedy(model))


def _remedy(model: ModelStatus) -> str:
    if model.state == "pinned":
        return f"edgewright-agent unpin {model.name}"
    if model.unseen:
        return f"edgewright-agent evidence {model.name}"
    return f"edgewright-agent retry {model.name}" if model.tombstones else ""


def standing(config: Config) -> Iterator[Finding]:
    """Nothing stands on a step of the degraded-mode ladder."""
    status = gather(config, Ledger(config.state, Disk()), Store(config.state, Disk()), utc_now())
    for model, rung in status.standing():
        told = f"{rung.name} since {rung.since}, {rung.code}: {rung.reason}"
        yield Finding("ladder", WARN, f"{model} {told}".lstrip(), step(rung.name).command)
    for one in status.models:
        if not one.factory_whole:
            remedy = f"edgewright-agent factory {one.name}"
            yield Finding("ladder", WARN, f"{one.name}: its factory model {one.factory} is damaged", remedy)


def intact(config: Config) -> Iterator[Finding]:
    """Every byte in the store is what was signed."""
    known, store = Ledger(config.state, Disk()).record, Store(config.state, Disk())
    for name, kept in known.models.items():
        for slot in kept.slots():
            try:
                store.verify(slot.digest)
            except StorageError as error:
                yield Finding(name, FAIL, str(error), "edgewright-agent once --force")
            else:
                yield Finding(name, OK, f"{slot.version} is whole")


def loads(config: Config) -> Iterator[Finding]:
    """The engine takes every active model, as an application would open it."""
    from edgewright_agent.config import Budget
    from edgewright_agent.health import check

    known, store = Ledger(config.state, Disk()).record, Store(config.state, Disk())
    for name, kept in known.models.items():
        if kept.active is None:
            continue
        try:
            evidence = check(store.path(kept.active.digest), timeout_s=300, budget=Budget())
        except AgentError as error:
            yield Finding(name, FAIL, f"{kept.active.version}: {error.code}: {error}")
        else:
            yield Finding(
                name, OK,
                f"{kept.active.version} loads in {evidence.load_ms:.0f} ms on {evidence.providers[0]} "
                "and gives its golden outputs",
            )  # fmt: skip
