"""The last model a device can fall back on, and whether what it would fall back on is still whole.

>>> mark(ledger, store, "digit-reader", now=utc_now())   # doctest: +SKIP
Slot(digest='sha256:…', version='1.0.0', since='2030-01-01T00:00:00Z')

An image is provisioned by installing a release as any device does, and then marking what has proved itself there. The
mark is in the record; `factory/<model>` in the state directory says the same, so that `reanchor` finds it again.
Nobody runs a spare: what rots in it shows only when it is needed, unless it is read back now and then.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from edgewright_agent.clock import from_text, to_text
from edgewright_agent.errors import ConfigError, StorageError
from edgewright_agent.model_state import Slot
from edgewright_agent.record import Record

if TYPE_CHECKING:
    from edgewright_agent.record import Ledger
    from edgewright_agent.store import Store

SCRUB_EVERY = timedelta(days=7)


def mark(ledger: Ledger, store: Store, model: str, *, now: datetime) -> Slot:
    """Make the active model the factory one; return its slot.

    Raises:
        ConfigError: `no-model`; `not-proved` while its soak lasts.
        StorageError: it is `damaged`; the record is missing, damaged or cannot be written: nothing has changed.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    active = state.active
    if active is None:
        raise ConfigError("no-model", f"no {model} is active here")
    if state.proving and state.proving.failed:
        raise ConfigError(
            "not-proved",
            f"{model} {active.version} has failed its live soak ({state.proving.failed}): no model to fall back on",
        )
    if state.proving:
        raise ConfigError(
            "not-proved",
            f"{model} {active.version} is still being watched, for {state.proving.left_s:.0f} s more: "
            "run this again then",
        )
    store.verify(active.digest)
    factory = replace(active, since=to_text(now))
    ledger.commit(ledger.record.with_model(model, replace(state, factory=factory)))
    store.mark_factory(model, factory.digest)
    return factory


def clear(ledger: Ledger, store: Store, model: str) -> Slot:
    """Have no factory model any more; return the slot that was. Its files go with the next poll unless they are used.

    Raises:
        ConfigError: `no-factory`.
        StorageError: the record is missing, damaged or cannot be written: nothing has changed.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    if state.factory is None:
        raise ConfigError("no-factory", f"{model} has no factory model here")
    # Without the ETag the next poll is a whole one, which collects what is not needed any more.
    ledger.commit(replace(ledger.record.with_model(model, replace(state, factory=None)), seen=None))
    store.mark_factory(model, None)
    return state.factory


def scrub_due(record: Record, now: datetime) -> bool:
    """Whether it is time to read everything back; also after a clock that has been ahead."""
    if record.scrubbed is None or not any(state.slots() for state in record.models.values()):
        return False
    return not timedelta(0) <= now - from_text(record.scrubbed) < SCRUB_EVERY


def scrub(record: Record, store: Store, *, active: bool) -> frozenset[str]:
    """Read back what a device may have to fall back on; return the digests of what is not what was signed.

    Args:
        record: The record.
        store: The models.
        active: Whether to read what runs, too.
    """
    damaged = set()
    for state in record.models.values():
        slots = (state.previous, state.factory, state.active if active else None)
        for digest in sorted({slot.digest for slot in slots if slot}):
            try:
                store.verify(digest)
            except StorageError as error:
                if error.code == "damaged":
                    damaged.add(digest)
    return frozenset(damaged)


def damaged_factories(record: Record, store: Store) -> tuple[str, ...]:
    """Return the digests of factory models that do not look whole. Cheap: nothing is read back."""
    digests = {state.factory.digest for state in record.models.values() if state.factory}
    return tuple(digest for digest in sorted(digests) if not store.intact(digest))
