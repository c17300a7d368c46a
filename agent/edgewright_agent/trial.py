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
from typing import Protocol

from edgewright_agent.clock import to_text
from edgewright_agent.config import Budget
from edgewright_agent.engine import EngineError
from edgewright_agent.errors import AgentError, HealthError, StorageError
from edgewright_agent.health import Evidence
from edgewright_agent.model_state import ModelState, Slot, Tombstone, Trial, Verdict, shorten
from edgewright_agent.record import Ledger
from edgewright_agent.store import Store

# The same bytes give the same wrong answer; crashes, hangs and slowness may be the device's bad moment.
FINAL = ("health-wrong-output",)


@dataclass(frozen=True)
class Outcome:
    """What became of one model in one update.

    Attributes:
        code: `installed`, `current`, `tombstoned`, `unassigned`, `not-offered`, `waits-for-window`, `waits-for-link`,
            or an `AgentError`'s code.
        exit_code: 0, or the error's: 2 refused, 3 environment.
    """

    model: str
    code: str
    message: str
    exit_code: int = 0
    digest: str | None = None
    version: str | None = None

    @classmethod
    def of_error(
        cls, model: str, error: AgentError, *, digest: str | None = None, version: str | None = None
    ) -> Outcome:
        """Return the outcome of a refusal or fault."""
        return cls(model, error.code, shorten(str(error)), error.exit_code, digest, version)

    def verdict(self, at: datetime) -> Verdict:
        """Return what the record keeps of this."""
        return Verdict(self.code, self.message, to_text(at), self.digest, self.version)


class Check(Protocol):
    """The health check (`health.check`, or a test's)."""

    def __call__(self, folder: Path, *, timeout_s: float, budget: Budget) -> Evidence: ...


@dataclass(frozen=True)
class Trials:
    """Runs trials against one record and one store."""

    ledger: Ledger
    store: Store
    check: Check
    budget: Budget
    now: Callable[[], datetime]

    def begin(self, model: str, trial: Trial) -> None:
        """Record that a stored model is on trial; durable before it is loaded for the first time.

        Raises:
            StorageError: nothing has changed.
        """
        record = self.ledger.record
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
        self._save(model, replace(state, trial=state.waiting, waiting=None))
        return self.run(model)

    def run(self, model: str, *, fresh: bool = False) -> Outcome:
        """Finish the trial of a model: commit it, give it up, or leave it pending when the engine is missing.

        Args:
            model: Its name; the record must hold a trial for it.
            fresh: Whether the entry was read back and hashed just now.

        Raises:
            StorageError: the record cannot be written; the trial goes on at the next start.
        """
        trial = self._state(model).trial
        if trial is None:
            raise ValueError(f"{model} is not on trial")
        failure: AgentError = HealthError("health-crash", "no load of it was ever survived")
        try:
            if not fresh:
                self.store.verify(trial.digest)
            while trial.attempts_left > 0:
                # Before the load: a model that takes the whole device down must not get it for ever.
                trial = self._attempts(model, trial, trial.attempts_left - 1)
                try:
                    evidence = self.check(
                        self.store.path(trial.digest), timeout_s=trial.timeout_s, budget=self.budget
                    )
                except EngineError:
                    self._attempts(model, trial, trial.attempts_left + 1)
                    raise
                except HealthError as error:
                    failure = error
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
        return self._give_up(model, trial, failure)

    def _commit(self, model: str, trial: Trial, evidence: Evidence) -> Outcome:
        state = self._state(model)
        slot = Slot(trial.digest, trial.version, to_text(self.now()), evidence.document())
        message = (
            f"{trial.version}: loads in {evidence.load_ms:.0f} ms, infers in {evidence.inference_ms:.2f} ms, "
            f"{evidence.peak_memory_bytes / 2**20:.1f} MiB"
            + "".join(f"; {surprise}" for surprise in evidence.surprises)
        )
        outcome = Outcome(model, "installed", message, 0, trial.digest, trial.version)
        previous = state.active or state.previous
        self._save(
            model,
            replace(state, active=slot, previous=previous, trial=None, last=outcome.verdict(self.now())),
            event="installs",
        )
        self.store.link(model, trial.digest)
        return outcome

    def _give_up(self, model: str, trial: Trial, failure: AgentError) -> Outcome:
        state = self._state(model)
        outcome = Outcome.of_error(model, failure, digest=trial.digest, version=trial.version)
        stone = Tombstone(trial.digest, trial.version, failure.code, str(failure), to_text(self.now()))
        self._save(
            model,
            replace(state.entomb(stone), trial=None, last=outcome.verdict(self.now())),
            event="rollbacks",
        )
        self.store.link(model, state.active.digest if state.active else None)
        return outcome

    def _attempts(self, model: str, trial: Trial, left: int) -> Trial:
        counted = replace(trial, attempts_left=left)
        self._save(model, replace(self._state(model), trial=counted))
        return counted

    def _state(self, model: str) -> ModelState:
        return self.ledger.record.model(model)

    def _save(self, model: str, state: ModelState, *, event: str | None = None) -> None:
        record = self.ledger.record.with_model(model, state)
        self.ledger.commit(record.counted(**{event: 1}) if event else record)
