"""What a person may do by hand on a device: go back, try again, begin a new record.

>>> rollback(ledger, store, "digit-reader", now=utc_now())   # doctest: +SKIP
Slot(digest='sha256:…', version='1.0.0', since='2030-01-01T00:00:00Z')
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from edgewright_agent.clock import to_text
from edgewright_agent.errors import ConfigError, StorageError
from edgewright_agent.record import Ledger, Record, Slot, Tombstone, Verdict
from edgewright_agent.store import Store


def rollback(ledger: Ledger, store: Store, model: str, *, now: datetime) -> Slot:
    """Make the previous model (else the factory one) active and tombstone the one that was.

    Raises:
        ConfigError: `no-model`, or `no-previous` when there is nothing to go back to.
        StorageError: the target is `damaged`; the record is (`state-damaged`) or cannot be written: nothing
            has changed.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    bad = state.active
    if bad is None:
        raise ConfigError("no-model", f"no {model} is active here")
    target = next(
        (slot for slot in (state.previous, state.factory) if slot and slot.digest != bad.digest), None
    )
    if target is None:
        raise ConfigError(
            "no-previous", f"{model} {bad.version} is the only one here: there is nothing to go back to"
        )
    store.verify(target.digest)
    at = to_text(now)
    active = replace(target, since=at)
    stone = Tombstone(bad.digest, bad.version, "manual-rollback", "rolled back by hand", at)
    verdict = Verdict(stone.code, f"{bad.version} was rolled back by hand", at, bad.digest, bad.version)
    state = replace(state.entomb(stone), active=active, previous=None, trial=None, last=verdict)
    # Without the ETag the next poll is a whole one, which also collects what is not needed any more.
    ledger.commit(replace(ledger.record.with_model(model, state).counted(rollbacks=1), seen=None))
    store.link(model, active.digest)
    return active


def retry(ledger: Ledger, model: str) -> int:
    """Forget what failed here, so that the next poll tries it again; return how many tombstones went.

    Raises:
        ConfigError: `nothing-to-retry`.
        StorageError: the record is damaged (`state-damaged`) or cannot be written.
    """
    ledger.require_whole()
    state = ledger.record.model(model)
    if not state.tombstones:
        raise ConfigError("nothing-to-retry", f"{model} has no tombstones here")
    record = ledger.record.with_model(model, replace(state, tombstones=()))
    ledger.commit(replace(record, seen=None))
    return len(state.tombstones)


def reanchor(ledger: Ledger, store: Store, *, now: datetime) -> dict[str, str]:
    """Begin a new record from what `current` points at, after both slots were damaged.

    What is lost: previous and factory slots, tombstones, and the version floor, which starts again at what
    the next verified metadata says. Run it only when the source is known to be honest and current.

    Returns:
        Per model that was linked: the version that stays active, or why it could not stay.

    Raises:
        ConfigError: `not-damaged`: the record is fine.
        StorageError: the disk refused.
    """
    if not ledger.record.quarantined:
        raise ConfigError("not-damaged", "the record is whole: there is nothing to re-anchor")
    record, told = Record(), {}
    for model, digest in store.links().items():
        try:
            artifact = store.verify(digest)
        except StorageError as error:
            told[model] = str(error)
            continue
        slot = Slot(digest, artifact.version, to_text(now))
        record = record.with_model(model, replace(record.model(model), active=slot))
        told[model] = artifact.version
    ledger.reanchor(record.counted(reanchors=1))
    return told
