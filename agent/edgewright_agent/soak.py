"""The live soak: a model that has passed its trial still has to prove itself in applications.

>>> judged = judge(ledger, store, {"digit-reader": Observation(digest, crashes=1)}, now=now, up=up)   # doctest: +SKIP
>>> [fallen.code for fallen in judged.fallen]                                                          # doctest: +SKIP
[]

While it lasts, `previous` is the last proved model, and what was seen decides: applications that crash or hang,
inferences that fail, a device that restarts too often. Single faults are forgiven; what comes again sends the model
back and keeps the evidence. Nobody using the model is no fault: time alone ends the soak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgewright_agent.clock import Uptime, elapsed_s, to_text
from edgewright_agent.errors import HealthError, StorageError
from edgewright_agent.evidence import Archive, document_of
from edgewright_agent.model_state import ModelState, Rung, Slot, Soak, Terms, Tombstone, Verdict, shorten

if TYPE_CHECKING:
    from edgewright_agent.record import Ledger
    from edgewright_agent.store import Store

# One crash may be the application's own, one hang a disk that slept; what comes again under a new model is the model.
MAX_FAILURES, MAX_HANGS = 3, 2
MAX_ERROR_SHARE, MIN_INFERENCES = 0.10, 20
# A device that is switched off every evening passes; one that a model takes down with it does not.
BOOTS, BOOTS_EVERY_S = 5, 6 * 3600
COUNT_EVERY_S = 300  # how often passing time is made durable: a power cut gives back as much of it at most


@dataclass(frozen=True)
class Observation:
    """What was seen of an active model since it was last judged.

    Attributes:
        digest: Of the model that ran meanwhile.
        crashes: Applications that ended without closing their session.
        hangs: Inferences under way for longer than the soak's `inference_timeout_s`.
        errors: Inferences that failed of the model, not of their inputs.
        inferences: All of them, failed ones included.
        boots: Starts of the device.
    """

    digest: str
    crashes: int = 0
    hangs: int = 0
    errors: int = 0
    inferences: int = 0
    boots: int = 0

    def less(self, before: Observation | None) -> Observation:
        """Return what has come since `before`, of totals that only grow; all of it after another model's."""
        if before is None or before.digest != self.digest:
            return self
        return Observation(
            self.digest,
            max(0, self.crashes - before.crashes),
            max(0, self.hangs - before.hangs),
            max(0, self.errors - before.errors),
            max(0, self.inferences - before.inferences),
            max(0, self.boots - before.boots),
        )


@dataclass(frozen=True)
class Failure:
    """Why a soak has failed: `soak-crash`, `soak-hang`, `soak-errors` or `soak-boots`, and a sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class Fallen:
    """A model that has failed its soak: `message` says what runs instead."""

    model: str
    digest: str
    version: str
    code: str
    message: str


@dataclass(frozen=True)
class Judged:
    """What came of the observations.

    Attributes:
        fallen: Models that failed.
        proved: Models whose soak is over.
        taken: Models whose observation counts from now on, durably or for good; those of others must be given again,
            with what is seen meanwhile.
    """

    fallen: tuple[Fallen, ...] = ()
    proved: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()


class Tally:
    """Makes observations of totals that only grow, as long as one process watches.

    >>> tally, totals = Tally(), {"m": Observation("sha256:…", crashes=2)}
    >>> tally.fresh(totals)["m"].crashes, tally.take(totals, {"m"}), tally.fresh(totals)["m"].crashes
    (2, None, 0)
    """

    def __init__(self) -> None:
        self._taken: dict[str, Observation] = {}

    def fresh(self, totals: Mapping[str, Observation]) -> dict[str, Observation]:
        """Return what has come since it was last taken, by model."""
        return {model: total.less(self._taken.get(model)) for model, total in totals.items()}

    def take(self, totals: Mapping[str, Observation], models: frozenset[str] | set[str]) -> None:
        """Count these totals as judged."""
        self._taken |= {model: total for model, total in totals.items() if model in models}


def begin(state: ModelState, digest: str, terms: Terms, up: Uptime) -> ModelState:
    """Return the state of a model whose soak begins, if its terms ask for one."""
    if terms.soak_s <= 0:
        return replace(state, soak=None)
    boots = BOOTS + int(terms.soak_s // BOOTS_EVERY_S)
    soak = Soak(digest, terms.soak_s, boots, since=up, inference_timeout_s=terms.inference_timeout_s)
    return replace(state, soak=soak)


def left_s(soak: Soak, up: Uptime) -> float:
    """Return the seconds that a soak still has to go."""
    return max(0.0, soak.left_s - elapsed_s(soak.since, up))


def observe(state: ModelState, seen: Observation, up: Uptime) -> ModelState | Failure:
    """Return what an observation and the time that went by make of a model, or why it has failed.

    A soak that is over is gone from the state.
    """
    soak = state.proving
    if soak is None or soak.failed:
        return state
    if seen.digest != soak.digest:
        seen = Observation(soak.digest)
    counted = replace(
        soak,
        left_s=left_s(soak, up),
        boots_left=soak.boots_left - seen.boots,
        failures=soak.failures + seen.crashes + seen.hangs,
        hangs=soak.hangs + seen.hangs,
        since=up,
    )
    if failure := _failure(counted, seen):
        return failure
    return replace(state, soak=counted if counted.left_s > 0 else None)


def _failure(soak: Soak, seen: Observation) -> Failure | None:
    if soak.hangs >= MAX_HANGS:
        limit_s = soak.inference_timeout_s
        return Failure(
            "soak-hang", f"{soak.hangs} inferences of applications hung for more than {limit_s:g} s"
        )
    if soak.failures >= MAX_FAILURES:
        return Failure(
            "soak-crash", f"applications that ran it crashed or hung {soak.failures} times during its soak"
        )
    if seen.inferences >= MIN_INFERENCES and seen.errors > MAX_ERROR_SHARE * seen.inferences:
        return Failure("soak-errors", f"{seen.errors} of {seen.inferences} inferences of applications failed")
    if soak.boots_left < 0:
        return Failure("soak-boots", "the device restarted too often during its soak")
    return None


def judge(
    ledger: Ledger, store: Store, observations: Mapping[str, Observation], *, now: datetime, up: Uptime
) -> Judged:
    """Count observations and time, and send models back that have failed; the caller holds the lock.

    Args:
        ledger: The record.
        store: The models.
        observations: By model, since they were last taken; a model nobody has used may be missing.
        now: The clock, for people.
        up: How long the device has been up.

    Raises:
        StorageError: the disk refused; the record is right, and the next start repairs what it says.
    """
    ledger.require_whole()
    fallen, proved, taken = list[Fallen](), list[str](), set[str]()
    for model, state in ledger.record.models.items():
        soak = state.proving
        seen = observations.get(model) or Observation(soak.digest if soak else "")
        found = observe(state, seen, up)
        if isinstance(found, Failure):
            fallen.append(fall_back(ledger, store, model, found, seen, now=now, up=up))
        elif soak is None or soak.failed:
            pass  # nothing to judge: what was seen is no news any more
        elif not _worth_a_write(soak, found.soak):
            continue
        else:
            ledger.commit(ledger.record.with_model(model, found))
            proved += [] if found.soak else [model]
        taken.add(model)
    return Judged(tuple(fallen), tuple(proved), frozenset(taken))


def _worth_a_write(before: Soak, after: Soak | None) -> bool:
    return (
        after is None
        or after.failures != before.failures
        or after.boots_left != before.boots_left
        or before.left_s - after.left_s >= COUNT_EVERY_S
    )


def fall_back(
    ledger: Ledger,
    store: Store,
    model: str,
    failure: Failure,
    seen: Observation,
    *,
    now: datetime,
    up: Uptime,
) -> Fallen:
    """Make the last proved model active again, read back from the disk first; keep the evidence, give the other up.

    Where there is none, the model runs on: a doubtful answer is told as such, no answer would be worse.

    Raises:
        StorageError: the record cannot be written, and nothing has changed; or the link cannot: the next start does.
    """
    state = ledger.record.model(model)
    bad, soak = state.active, state.proving
    if bad is None or soak is None:
        raise ValueError(f"{model} is in no soak")
    spare, rung = _spare(store, state, bad)
    message = f"{failure.message}; " + (
        f"{spare.version} runs again" if spare else "there is nothing to go back to, so it runs on"
    )
    figures: dict[str, Any] = {
        "stage": "live",
        "crashes": soak.failures - soak.hangs + seen.crashes,
        "hangs": soak.hangs + seen.hangs,
        "errors": seen.errors,
        "inferences": seen.inferences,
        "bootsLeft": soak.boots_left - seen.boots,
        "leftS": left_s(soak, up),
    }
    error = HealthError(failure.code, message)
    document = document_of(
        model, bad.digest, bad.version, error, record=ledger.record, now=now, up=up, soak=figures
    )
    name = Archive.beside(store).keep(model, bad.digest, document)
    at = to_text(now)
    verdict = Verdict(failure.code, shorten(message), at, bad.digest, bad.version)
    if spare is None:
        state = replace(state, soak=replace(soak, failed=failure.code, left_s=0), last=verdict)
        ledger.commit(ledger.record.with_model(model, state).counted(soaks_failed=1))
        return Fallen(model, bad.digest, bad.version, failure.code, message)
    stone = Tombstone(bad.digest, bad.version, failure.code, failure.message, at, name)
    state = replace(
        state.entomb(stone).running(replace(spare, since=at), None),
        soak=None,
        last=verdict,
    )
    from edgewright_agent.degrade import as_tried
    from edgewright_agent.settings import wanted_providers

    if rung == "previous":  # the last proved model, as before the update: that is no emergency
        state = as_tried(state, wanted_providers(store.path(spare.digest)), at)
    else:
        state = replace(state, rung=Rung(rung, failure.code, at, shorten(failure.message)))
    # Without the ETag the next poll is a whole one, which also collects what is not needed any more.
    record = ledger.record.with_model(model, state).counted(rollbacks=1, soaks_failed=1)
    ledger.commit(replace(record, seen=None))
    store.link(model, spare.digest)
    return Fallen(model, bad.digest, bad.version, failure.code, message)


def _spare(store: Store, state: ModelState, bad: Slot) -> tuple[Slot | None, str]:
    """Return the first whole model to go back to, and its rung of the ladder."""
    for slot, rung in ((state.previous, "previous"), (state.factory, "factory")):
        if slot and slot.digest != bad.digest and not state.tombstone_of(slot.digest):
            try:
                store.verify(slot.digest)
            except StorageError:
                continue
            return slot, rung
    return None, ""
