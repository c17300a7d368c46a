"""What every start does first, without network: mend what a crash or a bad disk left behind.

>>> outcomes = recover(trials)   # doctest: +SKIP

The record is right, everything else is derived: links are repaired, a damaged active model is replaced by the
previous or factory one, a trial that was cut off goes on, a live soak counts the time and the starts of the device.
Where there is no other, and what a model runs from is whole, it goes on running until it is fetched again.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from edgewright_agent.clock import Uptime
from edgewright_agent.errors import HealthError, StorageError
from edgewright_agent.model_state import ModelState, Slot
from edgewright_agent.record import Record
from edgewright_agent.soak import Failure, Observation, fall_back, observe
from edgewright_agent.store import Store
from edgewright_agent.trial import Outcome, Trials


def recover(trials: Trials) -> tuple[Outcome, ...]:
    """Bring store and links in line with the record and finish trials; return what is worth telling.

    Raises:
        StorageError: the record cannot be written.
    """
    ledger, store = trials.ledger, trials.store
    up = trials.up()
    record = _booted(ledger.record, up)
    booted = record.boots - ledger.record.boots if ledger.record.boots else 0
    outcomes: list[Outcome] = []
    failed: dict[str, Failure] = {}
    for model, state in record.models.items():
        mended, outcome = _mend(store, model, state)
        judged = observe(mended, _start(mended, booted), up)
        if isinstance(judged, Failure):
            # With this start counted, so that it is not forgotten should the disk refuse what follows.
            failed[model] = judged
            mended = _counted(mended, booted)
        else:
            mended = judged
        record = record.with_model(model, mended)
        if outcome:
            outcomes.append(outcome)
            # What is missing must be fetched again: "not modified" is no answer to that.
            record = replace(record, seen=None).counted(damaged=1)
    ledger.commit(record)
    with contextlib.suppress(StorageError):  # they are in nobody's way
        ledger.sweep()
        store.sweep()
    for model, state in record.models.items():
        try:
            store.link(model, state.active.digest if state.active else None)
            if model in failed:
                outcomes.append(_fallen(trials, model, failed[model], up))
            if state.trial:
                outcomes.append(trials.run(model))
        except StorageError as error:  # a full disk must not keep the agent from polling
            outcomes.append(Outcome.of_error(model, error))
    for outcome in outcomes:
        if outcome.code == "damaged" and outcome.digest and outcome.digest not in _kept(ledger.record):
            store.discard(outcome.digest)
    return tuple(outcomes)


def retire(trials: Trials, model: str) -> Outcome | None:
    """Do what a start does about a damaged active model, for one of which it was found out later.

    Raises:
        StorageError: the record cannot be written.
    """
    ledger, store = trials.ledger, trials.store
    state, outcome = _mend(store, model, ledger.record.model(model), doubted=True)
    if outcome:
        ledger.commit(replace(ledger.record.with_model(model, state), seen=None).counted(damaged=1))
        store.link(model, state.active.digest if state.active else None)
    return outcome


def _mend(
    store: Store, model: str, state: ModelState, *, doubted: bool = False
) -> tuple[ModelState, Outcome | None]:
    previous = state.previous if state.previous and store.intact(state.previous.digest) else None
    if state.active is None or (not doubted and store.intact(state.active.digest)):
        return replace(state, previous=previous), None
    broken = state.active
    spare = _first_whole(store, (previous, state.factory))
    mended = replace(state, active=spare, previous=None if spare == previous else previous)
    what = f"{spare.version} runs instead" if spare else "nothing runs"
    if spare is None and store.runs(broken.digest):
        mended = replace(state, previous=previous)
        what = "what it runs from is whole, so it goes on, and the next poll fetches the rest again"
    return mended, Outcome(
        model,
        "damaged",
        f"{broken.version} is damaged on disk; {what}",
        StorageError.exit_code,
        broken.digest,
        broken.version,
    )


def _first_whole(store: Store, slots: tuple[Slot | None, ...]) -> Slot | None:
    for slot in slots:
        with contextlib.suppress(StorageError):
            if slot:
                store.verify(slot.digest)
                return slot
    return None


def _booted(record: Record, up: Uptime) -> Record:
    if record.boot_id == up.boot and record.boots:
        return record
    return replace(record, boots=record.boots + 1, boot_id=up.boot)


def _start(state: ModelState, booted: int) -> Observation:
    """Return what a start alone shows: whether the device has been started again."""
    return Observation(state.active.digest if state.active else "", boots=booted)


def _counted(state: ModelState, booted: int) -> ModelState:
    soak = state.soak
    return replace(state, soak=replace(soak, boots_left=soak.boots_left - booted) if soak else None)


def _fallen(trials: Trials, model: str, failure: Failure, up: Uptime) -> Outcome:
    seen = _start(trials.ledger.record.model(model), 0)
    fallen = fall_back(trials.ledger, trials.store, model, failure, seen, now=trials.now(), up=up)
    return Outcome(model, fallen.code, fallen.message, HealthError.exit_code, fallen.digest, fallen.version)


def _kept(record: Record) -> set[str]:
    return {slot.digest for state in record.models.values() for slot in state.slots()}
