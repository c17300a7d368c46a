"""The one update transaction: what is desired, verified, fetched, stored, tried, and only then active.

>>> report = Update(config, ledger, store, source, trust).run()   # doctest: +SKIP
>>> [outcome.code for outcome in report.outcomes]                 # doctest: +SKIP
['installed']

Every step either leaves the active model untouched or is the one durable record write that replaces it. A
crash anywhere is met by `recovery` at the next start.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from edgewright_agent import degrade, experiments, health, schedule
from edgewright_agent.acceptance import MAX_MODELS, accepted, named
from edgewright_agent.clock import Uptime, to_text, uptime, utc_now
from edgewright_agent.config import Config
from edgewright_agent.desired import Desired, Trust
from edgewright_agent.errors import AgentError, LinkClosedError, StorageError
from edgewright_agent.factory import damaged_factories, scrub, scrub_due
from edgewright_agent.installation import Installation, waiting, with_failure
from edgewright_agent.ladder import EXPIRED
from edgewright_agent.obtain import Obtaining
from edgewright_agent.permission import Permission
from edgewright_agent.poll import ask, conditional, failed, judged, nothing_new, with_mirrors
from edgewright_agent.record import Ledger, Poll, Record, Seen, some_of
from edgewright_agent.recovery import recover, take_up
from edgewright_agent.report import Report
from edgewright_agent.space import Space
from edgewright_agent.store import Store
from edgewright_agent.transport import Source
from edgewright_agent.transport.allowance import Allowance
from edgewright_agent.transport.mirrors import freshest, next_etag
from edgewright_agent.trial import Check, Outcome, Trials
from edgewright_agent.trust.assignment import Assigned, assigned


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
        self.permission = Permission(config, ledger, now, allowance or Allowance())
        self.trials = Trials(ledger, store, check, config.budget, now, uptime)
        self.space = Space(store, self._collect)
        self.obtaining = Obtaining(config, store, source, self.space)
        self._stuck: dict[str, str] | None = None  # what the last look for garbage could not remove

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
        self.permission.at_once = at_once
        self.permission.limit()
        time = self.ledger.record.lowest(self.uptime()).time(self.now()) or self.now()
        due = scrub_due(self.ledger.record, time)
        damaged = scrub(self.ledger.record, self.store, active=due) if due or force else frozenset()
        outcomes: tuple[Outcome, ...] = recover(self.trials, damaged=damaged)
        self._tell_applications()
        if due or self.ledger.record.scrubbed is None:
            self.ledger.commit(replace(self.ledger.record, scrubbed=to_text(time)))
        self._make_way()
        etag = None
        if not force and not outcomes and not self.permission.may_go_on():
            margin_s = schedule.polling(self.config, self.ledger.record).interval_s
            etag = conditional(self.ledger.record, fingerprint, now=self.now(), margin_s=margin_s)
        desired: Desired | None = None
        try:
            manifest = ask(self.source, etag)
            if manifest is None:
                return self._finish(nothing_new(self.now()), self._taken_up(outcomes))
            desired = freshest(self.source, self._accept)
            installation = self._installation(desired)
            outcomes = self._update_all(installation, outcomes, reread=force)
            left = self._restore(installation)
            # Before the ETag is kept: "not modified" would never come back for what is left lying here.
            unfinished = [
                o.digest for o in outcomes if o.digest and (o.exit_code or o.code in schedule.WAITS)
            ]
            self._collect([*unfinished, *self._compared(desired, outcomes), *left])
        except AgentError as error:
            if desired is None:  # else what is wanted now is known, and the rest of it is for the next poll
                outcomes = self._taken_up(outcomes, error)
            return self._finish(failed(error, self.now()), outcomes, error.exit_code)
        etag = next_etag(self.source, manifest)
        lost = damaged_factories(self.ledger.record, self.store)
        seen = Seen(etag, fingerprint, lost) if etag and not left else None
        poll = Poll(to_text(self.now()), "ok", "metadata verified")
        return self._finish(poll, outcomes, seen=seen)

    def _taken_up(
        self, outcomes: tuple[Outcome, ...], error: AgentError | None = None
    ) -> tuple[Outcome, ...]:
        """Try what waited for its window although this poll brought nothing; return its outcomes with the others.

        After the poll, not before it: what has been withdrawn meanwhile is not tried. And not once metadata has
        ended, or who keeps a device from the fleet has it install what the fleet has long taken back; only where
        damage has left nothing to run is what was signed then better than nothing.
        """
        seen = degrade.look(self.config, self.ledger.record, self.store.disk, self.now())
        ended = bool(seen.stale) or (error is not None and error.code == EXPIRED)
        may = not ended and self.permission.activation_wait() is None
        tried = take_up(self.trials, may=lambda state: may or state.dark)
        if tried:
            self._tell_applications()
        return (*outcomes, *tried)

    def _accept(self, place: Source) -> Desired:
        """Refresh the metadata from one mirror and make what it raises durable before anything acts on it.

        Raises:
            TrustError: as `Trust.refresh` and `acceptance.accepted`.
        """
        record, up = self.ledger.record, self.uptime()
        # The clock as it is: whether the clock floor still holds is known when the newest root is.
        desired = self.trust.refresh(place, floor=record.lowest(up), now=self.now())
        self.ledger.commit(accepted(record, desired, self.config.device, up))
        self.permission.limit()
        return desired

    def _installation(self, desired: Desired) -> Installation:
        return Installation(
            self.config,
            self.ledger,
            self.store,
            self.source,
            self.trust,
            desired,
            self.trials,
            self.obtaining,
            self.permission,
        )

    def _update_all(
        self, installation: Installation, recovered: Sequence[Outcome], *, reread: bool
    ) -> tuple[Outcome, ...]:
        device, desired = self.config.device, installation.desired
        targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
        self.space.turns = _turns(targets, self.ledger.record)
        self.space.clear()
        done = {outcome.model: outcome for outcome in recovered}
        for model, target in sorted(targets.items()):
            try:
                done[model] = installation.update(target, done.get(model))
                code = done[model].code
                if code == "damaged" or (code == "current" and reread):
                    done[model] = installation.reread(target, done[model])
            except LinkClosedError as error:
                done[model] = waiting(target, schedule.Wait(error.code, str(error)))
            except AgentError as error:
                done[model] = Outcome.of_error(
                    model, error, digest=target.digest, version=target.model_version
                )
            try:
                done[model] = installation.beside(target, done[model])
            except AgentError as error:
                done[model] = with_failure(done[model], error)
        for model in sorted({*self.ledger.record.models, *named(desired.assignment, device)} - {*targets}):
            if installation.withdraw(model) or model not in done:
                done[model] = self._left_alone(desired, model)
        return tuple(done[model] for model in sorted(done))

    def _restore(self, installation: Installation) -> list[str]:
        """Fetch again what is kept and damaged, but is not what is assigned; return what another poll may bring."""
        device, desired = self.config.device, installation.desired
        targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
        return [digest for target in targets.values() for digest in installation.restore(target)]

    def _compared(self, desired: Desired, outcomes: Sequence[Outcome]) -> list[str]:
        """Return digests of experiments that are not done yet: what has arrived of them stays."""
        device = self.config.device
        targets = assigned(desired.assignment, hardware_class=device.hardware_class, labels=device.labels)
        open_ = {o.model for o in outcomes if o.exit_code or o.code in schedule.WAITS}
        return [t.experiment.digest for model, t in targets.items() if t.experiment and model in open_]

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

    def _tell_applications(self) -> None:
        """Put right what a power cut has left of experiments; a full disk is told by what needs the room."""
        models, device = self.ledger.record.models, self.config.device.id
        with contextlib.suppress(StorageError):
            experiments.publish(self.config.state, self.store.disk, models, device=device)

    def _make_way(self) -> None:
        """On a full disk, free what only the agent has filled it with, before anything has to be written.

        What has arrived of a download stays for one poll, which knows what is still wanted and what of it fits.
        Where the reserve is not free after that either, it goes: the reserve is for others.
        """
        record = self.ledger.record
        if not self._short():
            if degrade.NO_SPACE not in record.rungs:
                self.ledger.keep_ballast()
            return
        self._collect(None)
        if degrade.NO_SPACE in record.rungs:
            lasts = [state.last for state in record.models.values() if state.last]
            unfit = {last.digest for last in lasts if last.digest and last.code == degrade.NO_SPACE}
            self.space.give_back(lambda: not self._short(), first=unfit)

    def _short(self) -> bool:
        return degrade.look(self.config, self.ledger.record, self.store.disk, self.now()).short

    def _collect(self, staged: Collection[str] | None) -> None:
        """Remove what neither a slot nor a download in progress needs (None: whatever has begun to arrive stays)."""
        stuck: dict[str, str] = {}
        for stray in self.config.metadata.glob("tmp*"):  # a kill in the middle of writing the cache left it
            try:
                self.store.disk.remove(stray)
            except StorageError as error:
                stuck[f"{stray.parent.name}/{stray.name}"] = f"{error.code}: {error}"
        slots = [slot for state in self.ledger.record.models.values() for slot in state.slots()]
        self._stuck = {**stuck, **self.store.collect([slot.digest for slot in slots], staged)}

    def _finish(
        self, poll: Poll, outcomes: tuple[Outcome, ...], exit_code: int = 0, *, seen: Seen | None = None
    ) -> Report:
        """Record the result. The ETag is kept only when there is nothing left to do or to complain about."""
        codes = {exit_code, *(outcome.exit_code for outcome in outcomes)}
        record = self.ledger.record.aged(self.uptime()).counted(polls=1)
        record = replace(record, poll=with_mirrors(poll, record.poll, judged(self.source)))
        if poll.code != "not-modified":
            record = replace(record, seen=seen if codes == {0} else None)
        if self._stuck is not None:
            record = replace(record, stuck=some_of(self._stuck))
        record = _with_verdicts(record, outcomes, self.now())
        full = next((outcome.message for outcome in outcomes if outcome.code == degrade.NO_SPACE), "")
        look = degrade.look(self.config, record, self.store.disk, self.now(), fault=full)
        record = replace(record, rungs=degrade.observe(record.rungs, look, to_text(self.now())))
        self.ledger.commit(record)
        code = next((code for code in (2, 3, 1) if code in codes), 0)
        return Report(record.poll or poll, outcomes, code, stuck=record.stuck)


def _turns(targets: Mapping[str, Assigned], record: Record) -> list[str]:
    """Return the digests of what may be downloaded, in the order in which it is: see `_update_all`, `_restore`."""
    turns = list[str]()
    for _, target in sorted(targets.items()):
        turns += [target.digest, *([target.experiment.digest] if target.experiment else [])]
    states = record.models.values()
    return [*turns, *(slot.digest for state in states for slot in (state.factory, state.active) if slot)]


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
