"""What every start does first, without network: mend what a crash or a bad disk left behind.

>>> outcomes = recover(trials)   # doctest: +SKIP

The record is right, everything else is derived: links are repaired, a damaged active model is replaced by the
previous or factory one, a trial that was cut off goes on, a live soak counts the time and the starts of the device.
Where there is no other, and what a model runs from is whole, it goes on running until it is fetched again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from edgewright_agent.clock import Uptime, to_text
from edgewright_agent.degrade import stand
from edgewright_agent.errors import HealthError, StorageError
from edgewright_agent.factory import damaged_factories
from edgewright_agent.model_state import ModelState, Slot
from edgewright_agent.record import Record
from edgewright_agent.soak import Failure, Observation, fall_back, observe
from edgewright_agent.store import Store
from edgewright_agent.trial import Outcome, Trials


def recover(trials: Trials, *, damaged: frozenset[str] = frozenset()) -> tuple[Outcome, ...]:
    """Bring store and links in line with the record and finish trials; return what is worth telling.

    What waits for its activation window goes on waiting: whether it is still wanted is known after the poll.

    Args:
        trials: What to finish them with.
        damaged: Digests of what has just been read back and is not what was signed.

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
        mended, outcome = _mend(store, model, state, damaged, to_text(trials.now()))
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
            record = record.counted(damaged=1)
        if outcome or (state.previous and not mended.previous) or (state.waiting and not mended.waiting):
            # What is missing must be fetched again, what is useless collected: "not modified" is no answer to that.
            record = replace(record, seen=None)
    if record.seen:
        factories = {state.factory.digest for state in record.models.values() if state.factory}
        if factories & damaged or {*damaged_factories(record, store)} - {*record.seen.lost}:
            record = replace(record, seen=None)
    ledger.commit(record)
    for outcome in outcomes:
        _mark_damage(store, record.model(outcome.model), outcome)
    with contextlib.suppress(StorageError):  # they are in nobody's way
        ledger.sweep()
        store.sweep()
    for digest in sorted(_kept(record)):
        with contextlib.suppress(StorageError):  # they build it every time then
            store.keep_cache(digest)
    for model, state in record.models.items():
        try:
            store.link(model, state.active.digest if state.active else None)
            store.mark_factory(model, state.factory.digest if state.factory else None)
            if model in failed:
                outcomes.append(_fallen(trials, model, failed[model], up))
            if state.trial:
                outcomes.append(trials.run(model))
        except StorageError as error:  # a full disk must not keep the agent from polling
            outcomes.append(Outcome.of_error(model, error))
    useless = damaged - _running(
        ledger.record
    )  # now that no link leads there: the next update may fetch it again
    told = {outcome.digest for outcome in outcomes if outcome.code == "damaged" and outcome.digest}
    for digest in sorted(useless | (told - _kept(ledger.record))):
        with contextlib.suppress(
            StorageError
        ):  # what a failing disk does not even let go is no reason not to poll
            store.discard(digest)
    return tuple(outcomes)


def take_up(trials: Trials, *, may: Callable[[ModelState], bool]) -> tuple[Outcome, ...]:
    """Try models that waited for their activation window, as far as they may; return what became of them."""
    outcomes = []
    for model, state in trials.ledger.record.models.items():
        if state.waiting and may(state):
            try:
                outcomes.append(trials.take_up(model))
            except StorageError as error:
                outcomes.append(Outcome.of_error(model, error))
    return tuple(outcomes)


def retire(trials: Trials, model: str) -> Outcome | None:
    """Do what a start does about a damaged active model, for one that could not be mended.

    Raises:
        StorageError: the record cannot be written.
    """
    ledger, store = trials.ledger, trials.store
    before = ledger.record.model(model)
    damaged = frozenset({before.active.digest} if before.active else ())
    state, outcome = _mend(store, model, before, damaged, to_text(trials.now()))
    if outcome:
        ledger.commit(replace(ledger.record.with_model(model, state), seen=None).counted(damaged=1))
        store.link(model, state.active.digest if state.active else None)
        _mark_damage(store, state, outcome)
    return outcome


def stand_in(trials: Trials, model: str) -> None:
    """Have a whole model run where damage has left none: a factory model that is there again.

    Raises:
        StorageError: the record cannot be written.
    """
    ledger, before = trials.ledger, trials.ledger.record.model(model)
    if before.active is None:
        state, _ = _mend(trials.store, model, before, frozenset(), to_text(trials.now()))
        ledger.commit(ledger.record.with_model(model, state))
        trials.store.link(model, state.active.digest if state.active else None)


def _mark_damage(store: Store, state: ModelState, outcome: Outcome) -> None:
    """Have the disk itself remember what is damaged of a model that goes on, should this poll not mend it."""
    if outcome.code == "damaged" and state.active and state.active.digest == outcome.digest:
        with contextlib.suppress(StorageError):  # a disk that refuses even that is told by what comes next
            store.drop_damaged(state.active.digest)


def _mend(
    store: Store, model: str, state: ModelState, damaged: frozenset[str], at: str
) -> tuple[ModelState, Outcome | None]:
    def whole(slot: Slot) -> bool:
        return slot.digest not in damaged and store.intact(slot.digest)

    previous = state.previous if state.previous and whole(state.previous) else None
    waiting = state.waiting if state.waiting and store.intact(state.waiting.digest) else None
    state = replace(state, previous=previous, waiting=waiting)
    broken = state.active
    if broken and whole(broken):
        return state, None
    # What was given up here does not come back by itself: a safe output is better than a model known to be bad.
    spares = [slot for slot in (previous, state.factory) if slot and not state.tombstone_of(slot.digest)]
    spare = _first_whole(store, spares)
    mended = replace(state, active=None)
    if spare:
        mended = state.running(spare, None if spare == previous else previous)
    if broken is None:
        rung = "previous" if spare == previous else "factory"
        return (stand(mended, rung, "nothing else was whole", at) if spare else state), None
    if spare is None and store.runs(broken.digest):
        mended = state
        what = "what it runs from is whole, so it goes on, and the next poll fetches the rest again"
    else:
        what = f"{spare.version} runs instead" if spare else "nothing runs"
        rung = "safe-output" if spare is None else "previous" if spare == previous else "factory"
        mended = stand(mended, rung, f"{broken.version} is damaged on disk", at)
    return mended, Outcome(
        model,
        "damaged",
        f"{broken.version} is damaged on disk; {what}",
        StorageError.exit_code,
        broken.digest,
        broken.version,
    )


def _first_whole(store: Store, slots: Sequence[Slot]) -> Slot | None:
    for slot in slots:
        with contextlib.suppress(StorageError):
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


def _running(record: Record) -> set[str]:
    return {state.active.digest for state in record.models.values() if state.active}


def _kept(record: Record) -> set[str]:
    return {slot.digest for state in record.models.values() for slot in state.slots()}
