"""What is done about one assigned model: refused, left, fetched, stored, tried, or put off until its window.

>>> installation.update(target, None).code     # doctest: +SKIP
'installed'
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace

from edgewright_agent import degrade, experiments, schedule
from edgewright_agent.acceptance import approval_of
from edgewright_agent.artifact import Artifact
from edgewright_agent.clock import to_text
from edgewright_agent.config import Config
from edgewright_agent.delta_route import TRANSIENT
from edgewright_agent.desired import Desired, Trust
from edgewright_agent.errors import AgentError, LinkClosedError, StorageError, TrustError
from edgewright_agent.model_state import Beside, ModelState, Trial, shorten
from edgewright_agent.obtain import Obtaining
from edgewright_agent.permission import Permission
from edgewright_agent.record import Ledger
from edgewright_agent.recovery import retire, stand_in
from edgewright_agent.store import Store
from edgewright_agent.transfer import Transfer
from edgewright_agent.transport import Source
from edgewright_agent.transport.mirrors import in_turn
from edgewright_agent.trial import Outcome, Trials
from edgewright_agent.trust.approval import Approval
from edgewright_agent.trust.assignment import Assigned


@dataclass(frozen=True)
class Installation:
    """One desired state on its way into one device."""

    config: Config
    ledger: Ledger
    store: Store
    source: Source
    trust: Trust
    desired: Desired
    trials: Trials
    obtaining: Obtaining
    permission: Permission

    def _approval(self, target: Assigned) -> Approval:
        return approval_of(self.desired, target, self.ledger.record, self.config.device)

    def update(self, target: Assigned, recovered: Outcome | None) -> Outcome:
        """Have what is assigned run here, or say why it does not; `recovered` is what this start has done already.

        Raises:
            LinkClosedError: `waits-for-window`, `waits-for-link`: nothing may be loaded now.
            AgentError: it is refused, or cannot be fetched or stored; what was active stays.
        """
        state = self.ledger.record.model(target.model)
        try:
            self._approval(target)
        except TrustError:
            self.obtaining.space.give_up(target.digest)
            self.withdraw(target.model)  # of what was assigned before, and is not any more
            raise
        digest, version = target.digest, target.model_version
        if state.trial and state.trial.digest == digest and recovered:
            return recovered  # it was tried a moment ago and waits for its engine
        stored = state.waiting is not None and state.waiting.digest == digest and self.store.intact(digest)
        wait = None if state.dark else self.permission.activation_wait()
        if stored and wait:
            return waiting(target, wait)
        stone = state.tombstone_of(digest)
        if stored and not (state.active and state.active.digest == digest) and not state.pinned and not stone:
            return self._take_up(target)
        self.withdraw(target.model)  # latest wins
        told = recovered if recovered and recovered.digest in (None, digest) else None
        if state.active and state.active.digest == digest:
            if told:
                return told
            self._settled(target.model, state)
            return Outcome(target.model, "current", f"{version} is active", 0, digest, version)
        if pin := state.pinned:
            message = f"stays with {pin.version}, pinned by hand; {version} waits for `unpin`"
            return Outcome(target.model, "pinned", message, 0, digest, version)
        if stone:
            if told:
                return told
            message = f"{version} failed here ({stone.code}: {stone.reason}); `retry` clears this"
            return Outcome(target.model, "tombstoned", message, 0, digest, version)
        artifact, transfer = self._obtain(target)
        trial = self._trial(target, artifact)
        if wait := None if state.dark else self.permission.activation_wait():
            self.trials.put_off(target.model, trial)
            return waiting(target, wait)
        self.trials.begin(target.model, trial)
        return self.trials.run(target.model, fresh=True).brought_by(transfer)

    def _take_up(self, target: Assigned) -> Outcome:
        """Try what waited, under the terms of now; nothing is asked for that a line could drop in between."""
        waited = self.ledger.record.model(target.model).waiting
        started = waited.started if waited else to_text(self.trials.now())
        self.trials.put_off(
            target.model,
            replace(self._trial(target, self.store.artifact(target.digest)), started=started),
        )
        return self.trials.take_up(target.model)

    def _trial(self, target: Assigned, artifact: Artifact) -> Trial:
        started = to_text(self.trials.now())
        return Trial(
            target.digest, artifact.version, target.attempts, started, target.health_timeout_s, target.terms
        )

    def _obtain(self, target: Assigned) -> tuple[Artifact, Transfer | None]:
        """Have the assigned artifact in the store, verified; nothing is asked for while the link is closed.

        Raises:
            LinkClosedError: `waits-for-window`, `waits-for-link`.
            AgentError: as `Obtaining` and `Trust.verify`.
        """
        if self.config.origin.remote and not self.store.intact(target.digest):
            self.permission.require_link()
        try:
            approval = self._approval(target)
            artifact = self.obtaining.manifest(approval, target)
            self._verify(target)
            transfer = self.obtaining.obtain(artifact, target, approval)
        except AgentError as error:
            # What does not fit is noted where that is found; a line that dropped may be back with the next poll.
            if error.code not in (*TRANSIENT, *schedule.WAITS, degrade.NO_SPACE):
                self.obtaining.space.give_up(target.digest)
            raise
        # Before the trial, which builds what applications then find there.
        with contextlib.suppress(StorageError):
            self.store.keep_cache(target.digest)
        return artifact, transfer

    def restore(self, target: Assigned) -> list[str]:
        """Fetch again what is kept and damaged, but is not what is assigned: a factory model, what runs in its place.

        Only where the fleet still signs for it; else `status` tells of it.

        Returns:
            The digests of those that another poll may bring.
        """
        state, left = self.ledger.record.model(target.model), list[str]()
        in_place = state.active if state.active and state.active.digest != target.digest else None
        for slot in (state.factory, in_place):
            if slot is None or self.store.intact(slot.digest):
                continue
            wanted = replace(target, digest=slot.digest, model_version=slot.version)
            hardware_class = self.config.device.hardware_class
            try:
                approval = self.desired.require_artifact(target.model, hardware_class, slot.digest)
                if self.config.origin.remote:
                    self.permission.require_link()
                artifact = self.obtaining.manifest(approval, wanted)
                self._verify(wanted)
                self.obtaining.repair(artifact, wanted, approval)
            except AgentError as error:
                if not isinstance(error, TrustError) and error.code != "not-found":
                    left.append(slot.digest)
        stand_in(self.trials, target.model)
        return left

    def _settled(self, model: str, state: ModelState) -> None:
        """Leave what the agent had put in place of a damaged model, now that it is what is assigned."""
        if (better := degrade.settled(state)) != state:
            self.ledger.commit(self.ledger.record.with_model(model, better))

    def _verify(self, target: Assigned) -> None:
        """Accept the artifact's signatures as one of the mirrors shows them."""
        in_turn(
            self.source,
            lambda place: self.trust.verify(
                place, target.repository, target.digest, model=target.model, desired=self.desired
            ),
        )

    def reread(self, target: Assigned, current: Outcome) -> Outcome:
        """Hash the active artifact as the disk has it; fetch again what is not what was signed."""
        try:
            self.store.verify(target.digest)
        except StorageError as error:
            try:
                approval = self._approval(target)
                artifact = self.obtaining.manifest(approval, target)
                self._verify(target)
                self.obtaining.repair(artifact, target, approval)
            except AgentError:
                if told := retire(self.trials, target.model):
                    return told
                raise
            message = f"{error}; it has been fetched again"
            return replace(current, code="repaired", message=message, exit_code=0)
        return current

    def withdraw(self, model: str) -> bool:
        """End a trial that waits for its engine or window, or it would commit when that comes; whether one did."""
        state = self.ledger.record.model(model)
        if state.trial is None and state.waiting is None:
            return False
        self.ledger.commit(self.ledger.record.with_model(model, replace(state, trial=None, waiting=None)))
        return True

    def beside(self, target: Assigned, main: Outcome) -> Outcome:
        """Have what the experiment compares with the active model beside it, or nothing; tell it with the main outcome.

        It runs only beside exactly what is assigned: what a person has pinned, or what a device fell back to, is
        compared with nothing.

        Args:
            target: What is assigned.
            main: What became of that.
        """
        state, wanted = self.ledger.record.model(target.model), target.candidate()
        runs = state.active is not None and state.active.digest == target.digest
        if wanted is None or target.experiment is None or not runs or wanted.digest == target.digest:
            self._end_experiment(target.model)
            return main
        told, terms = (
            target.experiment,
            Beside(target.experiment.kind, target.experiment.share, target.experiment.name),
        )
        if state.candidate and state.candidate.digest == wanted.digest and self.store.intact(wanted.digest):
            candidate = replace(
                state.candidate, kind=terms.kind, share=terms.share, experiment=terms.experiment
            )
            self._keep(target.model, replace(state, candidate=candidate))
            return main
        self._end_experiment(target.model)
        if stone := state.tombstone_of(wanted.digest):
            return _with(
                main, f"no experiment {told.name}: {wanted.model_version} failed here ({stone.code})"
            )
        if state.trial or state.waiting:
            return main  # one at a time
        try:
            tried = self._try(wanted, terms)
            self.tell_applications()
        except LinkClosedError as error:
            tried = waiting(wanted, schedule.Wait(error.code, str(error)))
        except AgentError as error:
            tried = Outcome.of_error(target.model, error)
        # A failure of the experiment is one of the poll: it is tried again, and told.
        code = tried.code if tried.code in schedule.WAITS else main.code
        return replace(
            _with(main, f"experiment {told.name}: {tried.code} ({tried.message})"),
            code=code,
            exit_code=main.exit_code or tried.exit_code,
        )

    def _try(self, wanted: Assigned, terms: Beside) -> Outcome:
        artifact, transfer = self._obtain(wanted)
        trial = replace(self._trial(wanted, artifact), beside=terms)
        if wait := self.permission.activation_wait():
            self.trials.put_off(wanted.model, trial)
            return waiting(wanted, wait)
        self.trials.begin(wanted.model, trial)
        return self.trials.run(wanted.model, fresh=True).brought_by(transfer)

    def _end_experiment(self, model: str) -> None:
        state = self.ledger.record.model(model)
        over = replace(
            state,
            candidate=None,
            trial=None if state.trial and state.trial.beside else state.trial,
            waiting=None if state.waiting and state.waiting.beside else state.waiting,
        )
        self._keep(model, over)

    def _keep(self, model: str, state: ModelState) -> None:
        if state != self.ledger.record.model(model):
            self.ledger.commit(self.ledger.record.with_model(model, state))
        # Before garbage is collected: an application must not find an experiment with what is not there any more.
        self.tell_applications()

    def tell_applications(self) -> None:
        """Make what applications read of experiments say what the record says.

        Raises:
            StorageError: the disk refused.
        """
        record = self.ledger.record
        experiments.publish(self.config.state, self.store.disk, record.models, device=self.config.device.id)


def waiting(target: Assigned, wait: schedule.Wait) -> Outcome:
    """Return the outcome of a model that waits for a window or another link."""
    version = target.model_version
    return Outcome(target.model, wait.code, f"{version} {wait.message}", 0, target.digest, version)


def _with(outcome: Outcome, more: str) -> Outcome:
    return replace(outcome, message=shorten(f"{outcome.message}; {more}"))


def with_failure(outcome: Outcome, error: AgentError) -> Outcome:
    """Return a model's outcome with what went wrong beside it: tried again with the next poll, and told."""
    return replace(
        _with(outcome, f"experiment: {error.code} ({error})"), exit_code=outcome.exit_code or error.exit_code
    )
