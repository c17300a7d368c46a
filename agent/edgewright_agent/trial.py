"""The trial of a stored model: loads counted before they happen, then commit, or tombstone and stay.

>>> Trials(ledger, store, check, budget, now).run("digit-reader")   # doctest: +SKIP
Outcome(model='digit-reader', code='installed', ...)

It needs no network, so a device that lost power in the middle finishes the trial at its next start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from edgewright_agent import stopping
from edgewright_agent.clock import Uptime, to_text, uptime
from edgewright_agent.config import Budget
from edgewright_agent.degrade import proved
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import AgentError, HealthError, StorageError
from edgewright_agent.evidence import Archive, attempt_of, document_of
from edgewright_agent.health import Evidence
from edgewright_agent.model_state import (
    DEFAULT_INFERENCE_TIMEOUT_S,
    Candidate,
    ModelState,
    Slot,
    Tombstone,
    Trial,
    Verdict,
    shorten,
)
from edgewright_agent.record import Ledger
from edgewright_agent.settings import wanted_providers
from edgewright_agent.soak import begin
from edgewright_agent.store import Store
from edgewright_agent.transfer import Transfer

# The same bytes give the same wrong answer; crashes, hangs and slowness may be the device's bad moment.
FINAL = ("health-wrong-output",)


@dataclass(frozen=True)
class Outcome:
    """What became of one model in one update.

    Attributes:
        code: `installed`, `current`, `tombstoned`, `pinned`, `unassigned`, `not-offered`, `waits-for-window`,
            `waits-for-link`, or an `AgentError`'s code.
        exit_code: 0, or the error's: 2 refused, 3 environment.
        transfer: How the artifact came here, if it did just now.
    """

    model: str
    code: str
    message: str
    exit_code: int = 0
    digest: str | None = None
    version: str | None = None
    transfer: Transfer | None = None

    @classmethod
    def of_error(
        cls, model: str, error: AgentError, *, digest: str | None = None, version: str | None = None
    ) -> Outcome:
        """Return the outcome of a refusal or fault."""
        return cls(model, error.code, shorten(str(error)), error.exit_code, digest, version)

    def brought_by(self, transfer: Transfer | None) -> Outcome:
        """Return the outcome with what travelled for it."""
        if transfer is None:
            return self
        return replace(self, message=f"{self.message}; {transfer}", transfer=transfer)

    def verdict(self, at: datetime) -> Verdict:
        """Return what the record keeps of this."""
        return Verdict(self.code, self.message, to_text(at), self.digest, self.version)


class Check(Protocol):
    """The health check (`health.check`, or a test's)."""

    def __call__(
        self,
        folder: Path,
        *,
        timeout_s: float,
        budget: Budget,
        soak_s: float = 0,
        inference_timeout_s: float = DEFAULT_INFERENCE_TIMEOUT_S,
    ) -> Evidence: ...


@dataclass(frozen=True)
class Trials:
    """Runs trials against one record and one store."""

    ledger: Ledger
    store: Store
    check: Check
    budget: Budget
    now: Callable[[], datetime]
    up: Callable[[], Uptime] = uptime

    def begin(self, model: str, trial: Trial) -> None:
        """Record that a stored model is on trial; durable before it is loaded for the first time.

        Raises:
            StorageError: nothing has changed.
        """
        record = self.ledger.record
        trial = replace(trial, boots=record.boots)
        self.ledger.commit(record.with_model(model, replace(record.model(model), trial=trial)))

    def put_off(self, model: str, trial: Trial) -> None:
        """Record that a stored model waits for its activation window; durable, and it is not removed meanwhile.

        Raises:
            StorageError: nothing has changed.
        """
        self._save(model, replace(self._state(model), waiting=trial))

    def take_up(self, model: str) -> Outcome:
        """Try a model that waited; its entry is read back first, as it may have lain there for days.

        Args:
            model: Its name; the record must hold one that waits.

        Raises:
            StorageError: as `run`.
        """
        state = self._state(model)
        waited = state.waiting
        trial = replace(waited, boots=self.ledger.record.boots) if waited else None
        self._save(model, replace(state, trial=trial, waiting=None))
        return self.run(model)

    def run(self, model: str, *, fresh: bool = False) -> Outcome:
        """Finish the trial of a model: commit it, give it up, or leave it pending when the engine is missing.

        Args:
            model: Its name; the record must hold a trial for it.
            fresh: Whether the entry was read back and hashed just now.

        Raises:
            StorageError: the record cannot be written; the trial goes on at the next start.
            KeyboardInterrupt: told to end; the attempt is given back, and the trial goes on at the next start.
        """
        trial = self._state(model).trial
        if trial is None:
            raise ValueError(f"{model} is not on trial")
        failure: AgentError = self._unexplained(model, trial)
        tries: list[dict[str, Any]] = []
        try:
            if not fresh:
                self.store.verify(trial.digest)
            with stopping.put_off():
                while trial.attempts_left > 0:
                    # Before the load: a model that takes the whole device down must not get it for ever.
                    trial = self._attempts(model, trial, trial.attempts_left - 1)
                    try:
                        evidence = self.check(
                            self.store.path(trial.digest),
                            timeout_s=trial.timeout_s,
                            budget=self.budget.stricter(trial.terms.budget),
                            soak_s=trial.terms.trial_soak_s,
                            inference_timeout_s=trial.terms.inference_timeout_s,
                        )
                    except (EngineError, KeyboardInterrupt):
                        self._attempts(model, trial, trial.attempts_left + 1)
                        raise
                    except HealthError as error:
                        failure = error
                        tries.append(attempt_of(error, self.now()))
                        if error.code in FINAL:
                            break
                    else:
                        return self._commit(model, trial, evidence)
        except EngineError as error:
            message = f"waits for a fitting engine: {error}"
            return Outcome(model, error.code, message, error.exit_code, trial.digest, trial.version)
        except StorageError as error:
            if error.code != "damaged":
                raise
            # The disk's fault, not the model's: forget the entry, the next update fetches it again.
            self._save(model, replace(self._state(model), trial=None))
            self.store.discard(trial.digest)
            return Outcome.of_error(model, error, digest=trial.digest, version=trial.version)
        return self._give_up(model, trial, failure, tries)

    def _unexplained(self, model: str, trial: Trial) -> HealthError:
        """Return what a trial has failed of that has used up its attempts and left no verdict in the record."""
        found = Archive.beside(self.store).last(model, trial.digest)
        told = found.document() if found else {}
        if told.get("trialStarted") == trial.started:  # the power went between evidence and tombstone
            return HealthError(str(told.get("code", "health-crash")), str(told.get("reason", "")))
        boots = 0 if trial.boots is None else self.ledger.record.boots - trial.boots
        how = f": the device restarted {boots} time(s) meanwhile" if boots > 0 else ""
        return HealthError("health-crash", f"no load of it was ever survived{how}")

    def _commit(self, model: str, trial: Trial, evidence: Evidence) -> Outcome:
        state = self._state(model)
        slot = Slot(trial.digest, trial.version, to_text(self.now()), evidence.document())
        message = (
            f"{trial.version}: loads in {evidence.load_ms:.0f} ms, infers in {evidence.inference_ms:.2f} ms, "
            f"{evidence.peak_memory_bytes / 2**20:.1f} MiB"
            + "".join(f"; {surprise}" for surprise in evidence.surprises)
        )
        outcome = Outcome(model, "installed", message, 0, trial.digest, trial.version)
        if trial.beside:
            told = trial.beside
            candidate = Candidate(
                slot.digest, slot.version, told.kind, told.share, told.experiment, slot.since, slot.health
            )
            self._save(model, replace(state, candidate=candidate, trial=None), event="experiments")
            return outcome
        spare = state.spare_for(trial.digest)
        state = replace(
            state,
            active=slot,
            previous=spare if spare and self.store.intact(spare.digest) else None,
            trial=None,
            pin=None if state.pin and state.pin.digest != trial.digest else state.pin,
            last=outcome.verdict(self.now()),
        )
        wanted = wanted_providers(self.store.path(trial.digest))
        state = proved(state, wanted, evidence.providers, slot.since)
        self._save(model, begin(state, trial.digest, trial.terms, self.up()), event="installs")
        self.store.link(model, trial.digest)
        return outcome

    def _give_up(self, model: str, trial: Trial, failure: AgentError, tries: list[dict[str, Any]]) -> Outcome:
        outcome = Outcome.of_error(model, failure, digest=trial.digest, version=trial.version)
        evidence = self._keep(model, trial, failure, tries)
        state = self._state(model)
        stone = Tombstone(
            trial.digest, trial.version, failure.code, str(failure), to_text(self.now()), evidence
        )
        # What only was to run beside it says nothing about the model that runs.
        last = state.last if trial.beside else outcome.verdict(self.now())
        self._save(model, replace(state.entomb(stone), trial=None, last=last), event="rollbacks")
        self.store.link(model, state.active.digest if state.active else None)
        return outcome

    def _keep(self, model: str, trial: Trial, failure: AgentError, tries: list[dict[str, Any]]) -> str | None:
        """Write the evidence, before anything says that the model was given up; return its name."""
        archive = Archive.beside(self.store)
        last = archive.last(model, trial.digest)
        if not tries and last and last.document().get("trialStarted") == trial.started:
            return last.name
        document = document_of(
            model,
            trial.digest,
            trial.version,
            failure,
            record=self.ledger.record,
            now=self.now(),
            up=self.up(),
            tries=tries,
            attemptsLeft=trial.attempts_left,
            trialStarted=trial.started,
            bootsDuringTrial=None if trial.boots is None else self.ledger.record.boots - trial.boots,
        )
        return archive.keep(model, trial.digest, document)

    def _attempts(self, model: str, trial: Trial, left: int) -> Trial:
        counted = replace(trial, attempts_left=left)
        self._save(model, replace(self._state(model), trial=counted))
        return counted

    def _state(self, model: str) -> ModelState:
        return self.ledger.record.model(model)

    def _save(self, model: str, state: ModelState, *, event: str | None = None) -> None:
        record = self.ledger.record.with_model(model, state)
        self.ledger.commit(record.counted(**{event: 1}) if event else record)
