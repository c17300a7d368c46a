"""The one update transaction: what is desired, verified, fetched, stored, tried, and only then active.

>>> report = Update(config, ledger, store, source, trust).run()   # doctest: +SKIP
>>> [outcome.code for outcome in report.outcomes]                 # doctest: +SKIP
['installed']

Every step either leaves the active model untouched or is the one durable record write that replaces it. A
crash anywhere is met by `recovery` at the next start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from edgewright_agent import health
from edgewright_agent.acceptance import accepted, approval_of, named
from edgewright_agent.clock import Uptime, to_text, uptime, utc_now
from edgewright_agent.config import Config
from edgewright_agent.errors import AgentError, StorageError, TrustError
from edgewright_agent.floor import Floor
from edgewright_agent.model_state import Trial
from edgewright_agent.obtain import Obtaining
from edgewright_agent.poll import ask, conditional, failed, nothing_new
from edgewright_agent.record import Ledger, Poll, Record, Seen
from edgewright_agent.recovery import recover, retire
from edgewright_agent.report import Report
from edgewright_agent.scrub import COUNTER, scrub
from edgewright_agent.store import Store
from edgewright_agent.transport import Source
from edgewright_agent.transport.mirrors import freshest, in_turn, next_etag
from edgewright_agent.trial import Check, Outcome, Trials
from edgewright_agent.trust.approval import Approval
from edgewright_agent.trust.assignment import Assigned, assigned


class Desired(Protocol):
    """What `trust.tuf.refresh` returns: the verified assignment and what may be installed."""

    @property
    def versions(self) -> Mapping[str, int]: ...
    @property
    def floor(self) -> Floor: ...
    @property
    def assignment(self) -> Mapping[str, Any]: ...
    @property
    def expires(self) -> Mapping[str, str]: ...
    @property
    def policy(self) -> bytes | None: ...
    @property
    def trusted_root(self) -> bytes | None: ...
    def require_artifact(self, model: str, hardware_class: str, digest: str) -> Approval: ...
    def highest_sequence(self, model: str) -> int | None: ...


class Trust(Protocol):
    """Who decides what may be used; the real one is `trusted.DeviceTrust`."""

    def refresh(self, source: Source, *, floor: Floor, now: datetime) -> Desired:
        """Return the verified desired state; raises `TrustError` or `TransportError`."""

    def verify(self, source: Source, repository: str, digest: str, *, model: str, desired: Desired) -> None:
        """Accept an artifact's origin and gate verdict; raises `TrustError` or `TransportError`."""


class Update:
    """One device's transaction. Everything outside the process comes in through the constructor."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        store: Store,
        source: Source,
        trust: Trust,
        *,
        check: Check = health.check,
        now: Callable[[], datetime] = utc_now,
        uptime: Callable[[], Uptime] = uptime,
    ) -> None:
        self.config, self.ledger, self.store = config, ledger, store
        self.source, self.trust, self.now, self.uptime = source, trust, now, uptime
        self.trials = Trials(ledger, store, check, config.budget, now, uptime)
        self.obtaining = Obtaining(config, store, source, self._collect)
        self._scrubbed = 0

    def run(self, *, force: bool = False) -> Report:
        """Poll, and update what has changed.

        `force` asks for the whole update even if nothing has, and reads what is active back from the disk.

        Raises:
            StorageError: the record cannot be written or is missing or damaged (`state-missing`, `state-damaged`).
            ConfigError: a trust anchor cannot be read.
        """
        fingerprint = self.config.fingerprint()
        self.ledger.require_whole()
        outcomes: tuple[Outcome, ...] = recover(self.trials)
        etag = None
        if not force and not outcomes:
            margin_s = self.config.poll.interval_s
            etag = conditional(self.ledger.record, fingerprint, now=self.now(), margin_s=margin_s)
        try:
            manifest = ask(self.source, etag)
            if manifest is None:
                return self._finish(nothing_new(self.now()), outcomes)
            desired = freshest(self.source, self._accept)
            outcomes = self._update_all(desired, outcomes, reread=force)
            # Before the ETag is kept: "not modified" would never come back for what is left lying here.
            self._collect([outcome.digest for outcome in outcomes if outcome.digest and outcome.exit_code])
        except AgentError as error:
            return self._finish(failed(error, self.now()), outcomes, error.exit_code)
        etag = next_etag(self.source, manifest)
        seen = Seen(etag, fingerprint) if etag else None
        poll = Poll(to_text(self.now()), "ok", "metadata verified")
        return self._finish(poll, outcomes, seen=seen)

    def _accept(self, place: Source) -> Desired:
        """Refresh the metadata from one mirror and make what it raises durable before anything acts on it.

        Raises:
            TrustError: as `Trust.refresh` and `acceptance.accepted`.
        """
        record, up = self.ledger.record, self.uptime()
        # The clock as it is: whether the clock floor still holds is known when the newest root is.
        desired = self.trust.refresh(place, floor=record.lowest(up), now=self.now())
        self.ledger.commit(accepted(record, desired, self.config.device, up))
        return desired

    def _approval(self, desired: Desired, target: Assigned) -> Approval:
        return approval_of(desired, target, self.ledger.record, self.config.device)

    def _update_all(
        self, desired: Desired, recovered: Sequence[Outcome], *, reread: bool
    ) -> tuple[Outcome, ...]:
        device = self.config.device
        targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
        self._collect([target.digest for target in targets.values()])
        doubted = set[str]() if reread else self._scrub()
        done = {outcome.model: outcome for outcome in recovered}
        for model, target in sorted(targets.items()):
            try:
                done[model] = self._update_one(desired, target, done.get(model))
                code = done[model].code
                if code == "damaged" or (code == "current" and (reread or model in doubted)):
                    done[model] = self._reread(desired, target, done[model])
            except AgentError as error:
                done[model] = Outcome.of_error(
                    model, error, digest=target.digest, version=target.model_version
                )
        for model in sorted(doubted):
            if model not in done or done[model].code not in ("installed", "repaired"):
                done[model] = retire(self.trials, model) or done[model]
        for model in sorted({*self.ledger.record.models, *named(desired.assignment, device)} - {*targets}):
            if self._withdraw_trial(model) or model not in done:
                done[model] = self._left_alone(desired, model)
        return tuple(done[model] for model in sorted(done))

    def _withdraw_trial(self, model: str) -> bool:
        """End a trial that waits for its engine, or it would commit when that arrives; whether there was one."""
        state = self.ledger.record.model(model)
        if state.trial is None:
            return False
        self.ledger.commit(self.ledger.record.with_model(model, replace(state, trial=None)))
        return True

    def _left_alone(self, desired: Desired, model: str) -> Outcome:
        """Return the outcome of a model that has nothing to run here; what is active keeps running."""
        active = self.ledger.record.model(model).active
        code, message = "unassigned", "no group assigns it to this device any more"
        if model in named(desired.assignment, self.config.device):
            code = "not-offered"
            message = f"the assigned version is not made for {self.config.device.hardware_class}"
        if active is None:
            return Outcome(model, code, message)
        return Outcome(
            model, code, f"{message}; {active.version} keeps running", 0, active.digest, active.version
        )

    def _update_one(self, desired: Desired, target: Assigned, recovered: Outcome | None) -> Outcome:
        state = self.ledger.record.model(target.model)
        try:
            self._approval(desired, target)
        except TrustError:
            self._withdraw_trial(target.model)  # of what was assigned before, and is not any more
            raise
        digest, version = target.digest, target.model_version
        if state.trial and state.trial.digest == digest and recovered:
            return recovered  # it was tried a moment ago and waits for its engine
        self._withdraw_trial(target.model)  # latest wins
        told = recovered if recovered and recovered.digest in (None, digest) else None
        if state.active and state.active.digest == digest:
            if told:
                return told
            return Outcome(target.model, "current", f"{version} is active", 0, digest, version)
        if pin := state.pinned:
            message = f"stays with {pin.version}, pinned by hand; {version} waits for `unpin`"
            return Outcome(target.model, "pinned", message, 0, digest, version)
        if stone := state.tombstone_of(digest):
            if told:
                return told
            message = f"{version} failed here ({stone.code}: {stone.reason}); `retry` clears this"
            return Outcome(target.model, "tombstoned", message, 0, digest, version)
        artifact = self.obtaining.manifest(self._approval(desired, target), target)
        self._verify(target, desired)
        self.obtaining.obtain(artifact, target)
        trial = Trial(
            digest,
            artifact.version,
            target.attempts,
            to_text(self.now()),
            target.health_timeout_s,
            target.terms,
        )
        self.trials.begin(target.model, trial)
        return self.trials.run(target.model, fresh=True)

    def _verify(self, target: Assigned, desired: Desired) -> None:
        """Accept the artifact's signatures as one of the mirrors shows them."""
        in_turn(
            self.source,
            lambda place: self.trust.verify(
                place, target.repository, target.digest, model=target.model, desired=desired
            ),
        )

    def _scrub(self) -> set[str]:
        """Read some of what is active back; return the models that are not what was signed."""
        record = self.ledger.record
        active = {model: state.active.digest for model, state in record.models.items() if state.active}
        done = scrub(self.store, active, start=record.counters.get(COUNTER, 0))
        self._scrubbed = done.files
        return set(done.damaged)

    def _reread(self, desired: Desired, target: Assigned, current: Outcome) -> Outcome:
        """Hash the active artifact as the disk has it; fetch again what is not what was signed."""
        try:
            self.store.verify(target.digest)
        except StorageError as error:
            artifact = self.obtaining.manifest(self._approval(desired, target), target)
            self._verify(target, desired)
            self.obtaining.repair(artifact, target)
            message = f"{error}; it has been fetched again"
            return replace(current, code="repaired", message=message, exit_code=0)
        return current

    def _collect(self, staged: Sequence[str]) -> None:
        """Remove what neither a slot nor a download in progress needs."""
        slots = [slot for state in self.ledger.record.models.values() for slot in state.slots()]
        self.store.collect([slot.digest for slot in slots], staged)

    def _finish(
        self, poll: Poll, outcomes: tuple[Outcome, ...], exit_code: int = 0, *, seen: Seen | None = None
    ) -> Report:
        """Record the result. The ETag is kept only when there is nothing left to do or to complain about."""
        codes = {exit_code, *(outcome.exit_code for outcome in outcomes)}
        record = self.ledger.record.aged(self.uptime()).counted(polls=1, **{COUNTER: self._scrubbed})
        record = replace(record, poll=poll)
        if poll.code != "not-modified":
            record = replace(record, seen=seen if codes == {0} else None)
        record = _with_verdicts(record, outcomes, self.now())
        self.ledger.commit(record)
        return Report(poll, outcomes, next((code for code in (2, 3, 1) if code in codes), 0))


def _with_verdicts(record: Record, outcomes: Sequence[Outcome], now: datetime) -> Record:
    for outcome in outcomes:
        state = record.model(outcome.model)
        if outcome.code == "unassigned" and state.active is None:
            others = {name: kept for name, kept in record.models.items() if name != outcome.model}
            record = replace(record, models=others)  # nothing of it is left here, so nothing to remember
            continue
        last = state.last
        # Keep when a state of affairs began, not when it was last seen.
        if last is None or (last.code, last.digest) != (outcome.code, outcome.digest):
            record = record.with_model(outcome.model, replace(state, last=outcome.verdict(now)))
    return record
