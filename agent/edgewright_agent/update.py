"""The one update transaction: what is desired, verified, fetched, stored, tried, and only then active.

>>> report = Update(config, ledger, store, source, trust).run()   # doctest: +SKIP
>>> [outcome.code for outcome in report.outcomes]                 # doctest: +SKIP
['installed']

Every step either leaves the active model untouched or is the one durable record write that replaces it. A
crash anywhere is met by `recovery` at the next start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Protocol

from edgewright_agent import degrade, health, schedule
from edgewright_agent.acceptance import MAX_MODELS, accepted, approval_of, named
from edgewright_agent.artifact import Artifact
from edgewright_agent.clock import Uptime, to_text, uptime, utc_now
from edgewright_agent.config import Config
from edgewright_agent.errors import AgentError, LinkClosedError, StorageError, TrustError
from edgewright_agent.factory import scrub, scrub_due
from edgewright_agent.floor import Floor
from edgewright_agent.model_state import ModelState, Trial
from edgewright_agent.obtain import Obtaining
from edgewright_agent.poll import ask, conditional, failed, nothing_new, with_mirrors
from edgewright_agent.record import Ledger, Poll, Record, Seen
from edgewright_agent.recovery import recover, retire, stand_in
from edgewright_agent.report import Report
from edgewright_agent.store import Store
from edgewright_agent.transfer import Transfer
from edgewright_agent.transport import Source
from edgewright_agent.transport.allowance import Allowance
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
        allowance: Allowance | None = None,
    ) -> None:
        self.config, self.ledger, self.store = config, ledger, store
        self.source, self.trust, self.now, self.uptime = source, trust, now, uptime
        self.allowance = allowance or Allowance()
        self.allowance.permit = self._require_link
        self.at_once = False
        self.trials = Trials(ledger, store, check, config.budget, now, uptime)
        self.obtaining = Obtaining(config, store, source, self._collect)

    def run(self, *, force: bool = False, at_once: bool = False) -> Report:
        """Poll, and update what has changed.

        Args:
            force: Ask for the whole update even if nothing has, and read what is active back from the disk.
            at_once: Wait for no window and take any link: a person who stands by asks.

        Raises:
            StorageError: the record cannot be written or is missing or damaged (`state-missing`, `state-damaged`).
            ConfigError: a trust anchor cannot be read.
        """
        fingerprint = self.config.fingerprint()
        self.ledger.require_whole()
        self.at_once = at_once
        self._limit()
        time = self.ledger.record.lowest(self.uptime()).time(self.now()) or self.now()
        due = scrub_due(self.ledger.record, time)
        damaged = scrub(self.ledger.record, self.store, active=due) if due or force else frozenset()
        outcomes: tuple[Outcome, ...] = recover(
            self.trials, damaged=damaged, may_activate=self._activation_wait() is None
        )
        if due or self.ledger.record.scrubbed is None:
            self.ledger.commit(replace(self.ledger.record, scrubbed=to_text(time)))
        self._make_way()
        etag = None
        if not force and not outcomes and not self._may_go_on():
            margin_s = schedule.polling(self.config, self.ledger.record).interval_s
            etag = conditional(self.ledger.record, fingerprint, now=self.now(), margin_s=margin_s)
        try:
            manifest = ask(self.source, etag)
            if manifest is None:
                return self._finish(nothing_new(self.now()), outcomes)
            desired = freshest(self.source, self._accept)
            outcomes = self._update_all(desired, outcomes, reread=force)
            left = self._restore(desired)
            # Before the ETag is kept: "not modified" would never come back for what is left lying here.
            unfinished = [
                o.digest for o in outcomes if o.digest and (o.exit_code or o.code in schedule.WAITS)
            ]
            self._collect([*unfinished, *left])
        except AgentError as error:
            return self._finish(failed(error, self.now()), outcomes, error.exit_code)
        etag = next_etag(self.source, manifest)
        seen = Seen(etag, fingerprint) if etag and not left else None
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
        self._limit()
        return desired

    def _limit(self) -> None:
        self.allowance.limit(schedule.bandwidth_bits_per_s(self.config, self.ledger.record))

    def _may_go_on(self) -> bool:
        record = self.ledger.record
        return schedule.waits(record) if self.at_once else schedule.due(self.config, record, self.now())

    def _link_wait(self) -> schedule.Wait | None:
        return None if self.at_once else schedule.link_wait(self.config, self.ledger.record, self.now())

    def _activation_wait(self) -> schedule.Wait | None:
        return None if self.at_once else schedule.activation_wait(self.config, self.ledger.record, self.now())

    def _require_link(self) -> None:
        """End a download when its window closes or the link begins to cost money; the part stays.

        Raises:
            LinkClosedError: `waits-for-window`, `waits-for-link`.
        """
        if wait := self._link_wait():
            raise LinkClosedError(wait.code, wait.message)

    def _approval(self, desired: Desired, target: Assigned) -> Approval:
        return approval_of(desired, target, self.ledger.record, self.config.device)

    def _update_all(
        self, desired: Desired, recovered: Sequence[Outcome], *, reread: bool
    ) -> tuple[Outcome, ...]:
        device = self.config.device
        targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
        factories = [state.factory.digest for state in self.ledger.record.models.values() if state.factory]
        self._collect([*(target.digest for target in targets.values()), *factories])
        done = {outcome.model: outcome for outcome in recovered}
        for model, target in sorted(targets.items()):
            try:
                done[model] = self._update_one(desired, target, done.get(model))
                code = done[model].code
                if code == "damaged" or (code == "current" and reread):
                    done[model] = self._reread(desired, target, done[model])
            except LinkClosedError as error:
                done[model] = _waiting(target, schedule.Wait(error.code, str(error)))
            except AgentError as error:
                done[model] = Outcome.of_error(
                    model, error, digest=target.digest, version=target.model_version
                )
        for model in sorted({*self.ledger.record.models, *named(desired.assignment, device)} - {*targets}):
            if self._withdraw_trial(model) or model not in done:
                done[model] = self._left_alone(desired, model)
        return tuple(done[model] for model in sorted(done))

    def _withdraw_trial(self, model: str) -> bool:
        """End a trial that waits for its engine or window, or it would commit when that comes; whether one did."""
        state = self.ledger.record.model(model)
        if state.trial is None and state.waiting is None:
            return False
        self.ledger.commit(self.ledger.record.with_model(model, replace(state, trial=None, waiting=None)))
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
        stored = state.waiting is not None and state.waiting.digest == digest and self.store.intact(digest)
        wait = None if state.dark else self._activation_wait()
        if stored and wait:
            return _waiting(target, wait)
        self._withdraw_trial(target.model)  # latest wins
        told = recovered if recovered and recovered.digest in (None, digest) else None
        if state.active and state.active.digest == digest:
            if told:
                return told
            self._settled(target.model, state)
            return Outcome(target.model, "current", f"{version} is active", 0, digest, version)
        if pin := state.pinned:
            message = f"stays with {pin.version}, pinned by hand; {version} waits for `unpin`"
            return Outcome(target.model, "pinned", message, 0, digest, version)
        if stone := state.tombstone_of(digest):
            if told:
                return told
            message = f"{version} failed here ({stone.code}: {stone.reason}); `retry` clears this"
            return Outcome(target.model, "tombstoned", message, 0, digest, version)
        artifact, transfer = self._obtain(desired, target)
        trial = Trial(
            digest,
            artifact.version,
            target.attempts,
            to_text(self.now()),
            target.health_timeout_s,
            target.terms,
        )
        if wait := None if state.dark else self._activation_wait():
            self.trials.put_off(target.model, trial)
            return _waiting(target, wait)
        self.trials.begin(target.model, trial)
        return self.trials.run(target.model, fresh=True).brought_by(transfer)

    def _obtain(self, desired: Desired, target: Assigned) -> tuple[Artifact, Transfer | None]:
        """Have the assigned artifact in the store, verified; nothing is asked for while the link is closed.

        Raises:
            LinkClosedError: `waits-for-window`, `waits-for-link`.
            AgentError: as `Obtaining` and `Trust.verify`.
        """
        if self.config.origin.remote and not self.store.intact(target.digest):
            self._require_link()
        approval = self._approval(desired, target)
        artifact = self.obtaining.manifest(approval, target)
        self._verify(target, desired)
        return artifact, self.obtaining.obtain(artifact, target, approval)

    def _restore(self, desired: Desired) -> list[str]:
        """Fetch again what is kept and damaged, but is not what is assigned: factory models, what runs in its place.

        Only where the fleet still signs for it; else `status` tells of it.

        Returns:
            The digests of those that another poll may bring.
        """
        device, left = self.config.device, list[str]()
        targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
        for model, target in targets.items():
            state = self.ledger.record.model(model)
            in_place = state.active if state.active and state.active.digest != target.digest else None
            for slot in (state.factory, in_place):
                if slot is None or self.store.intact(slot.digest):
                    continue
                wanted = replace(target, digest=slot.digest, model_version=slot.version)
                try:
                    approval = desired.require_artifact(model, device.hardware_class, slot.digest)
                    if self.config.origin.remote:
                        self._require_link()
                    artifact = self.obtaining.manifest(approval, wanted)
                    self._verify(wanted, desired)
                    self.obtaining.repair(artifact, wanted, approval)
                except AgentError as error:
                    if not isinstance(error, TrustError) and error.code != "not-found":
                        left.append(slot.digest)
            stand_in(self.trials, model)
        return left

    def _settled(self, model: str, state: ModelState) -> None:
        """Leave what the agent had put in place of a damaged model, now that it is what is assigned."""
        if (better := degrade.settled(state)) != state:
            self.ledger.commit(self.ledger.record.with_model(model, better))

    def _make_way(self) -> None:
        """On a full disk, free what only the agent has filled it with, before anything has to be written."""
        seen = degrade.look(self.config, self.ledger.record, self.store.disk, self.now())
        if seen.short:
            with contextlib.suppress(StorageError):  # what cannot be removed is told by what needs the room
                self._collect(())
        elif degrade.NO_SPACE not in self.ledger.record.rungs:
            self.ledger.keep_ballast()

    def _verify(self, target: Assigned, desired: Desired) -> None:
        """Accept the artifact's signatures as one of the mirrors shows them."""
        in_turn(
            self.source,
            lambda place: self.trust.verify(
                place, target.repository, target.digest, model=target.model, desired=desired
            ),
        )

    def _reread(self, desired: Desired, target: Assigned, current: Outcome) -> Outcome:
        """Hash the active artifact as the disk has it; fetch again what is not what was signed."""
        try:
            self.store.verify(target.digest)
        except StorageError as error:
            try:
                approval = self._approval(desired, target)
                artifact = self.obtaining.manifest(approval, target)
                self._verify(target, desired)
                self.obtaining.repair(artifact, target, approval)
            except AgentError:
                if told := retire(self.trials, target.model):
                    return told
                raise
            message = f"{error}; it has been fetched again"
            return replace(current, code="repaired", message=message, exit_code=0)
        return current

    def _collect(self, staged: Sequence[str]) -> None:
        """Remove what neither a slot nor a download in progress needs."""
        for stray in self.config.metadata.glob("tmp*"):  # a kill in the middle of writing the cache left it
            self.store.disk.remove(stray)
        slots = [slot for state in self.ledger.record.models.values() for slot in state.slots()]
        self.store.collect([slot.digest for slot in slots], staged)

    def _finish(
        self, poll: Poll, outcomes: tuple[Outcome, ...], exit_code: int = 0, *, seen: Seen | None = None
    ) -> Report:
        """Record the result. The ETag is kept only when there is nothing left to do or to complain about."""
        codes = {exit_code, *(outcome.exit_code for outcome in outcomes)}
        record = self.ledger.record.aged(self.uptime()).counted(polls=1)
        record = replace(record, poll=with_mirrors(poll, record.poll, self.source))
        if poll.code != "not-modified":
            record = replace(record, seen=seen if codes == {0} else None)
        record = _with_verdicts(record, outcomes, self.now())
        full = next((outcome.message for outcome in outcomes if outcome.code == degrade.NO_SPACE), "")
        look = degrade.look(self.config, record, self.store.disk, self.now(), fault=full)
        record = replace(record, rungs=degrade.observe(record.rungs, look, to_text(self.now())))
        self.ledger.commit(record)
        return Report(record.poll or poll, outcomes, next((code for code in (2, 3, 1) if code in codes), 0))


def _waiting(target: Assigned, wait: schedule.Wait) -> Outcome:
    version = target.model_version
    return Outcome(target.model, wait.code, f"{version} {wait.message}", 0, target.digest, version)


def _with_verdicts(record: Record, outcomes: Sequence[Outcome], now: datetime) -> Record:
    for outcome in outcomes:
        state = record.model(outcome.model)
        last = state.last
        # Keep when a state of affairs began, not when it was last seen.
        if last is None or (last.code, last.digest) != (outcome.code, outcome.digest):
            record = record.with_model(outcome.model, replace(state, last=outcome.verdict(now)))
        elif outcome.code in schedule.WAITS:  # until when is another answer every day
            record = record.with_model(
                outcome.model, replace(state, last=replace(last, message=outcome.message))
            )
    return _forgotten(record)


def _forgotten(record: Record) -> Record:
    """Return a record without models that nobody assigns and that are not here; what failed here stays in mind.

    Whoever signs assignments could name ever new models, though: more than a device may have are not remembered.
    """
    left = {name: state for name, state in record.models.items() if state.left}
    failed = sorted(
        (name for name in left if left[name].tombstones), key=lambda name: left[name].tombstones[-1].at
    )
    room = max(0, MAX_MODELS - (len(record.models) - len(left)))
    gone = {*left} - {*failed[max(0, len(failed) - room) :]}
    return (
        replace(record, models={n: s for n, s in record.models.items() if n not in gone}) if gone else record
    )
