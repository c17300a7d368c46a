"""A session with one model: what an application holds, whatever happens to the model underneath.

>>> with open_model("digit-reader") as model:                       # doctest: +SKIP
...     answer = model.answer({"image": pixels}, key="camera-2")
...     answer.labels, answer.rung, answer.latency_ms
(('seven',), 'normal', 0.31)

A request takes whatever model is the best by then, holds it while it runs, and is answered by the next one on the
ladder when that fails. Everything slow (loading an update, trying again what was down) happens in `seat`, in
the background.
"""

from __future__ import annotations

import atexit
import itertools
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.engine import InferenceError, InputError, Port, check_inputs
from edgewright_agent.errors import AgentError
from edgewright_agent.runtime import worker
from edgewright_agent.runtime.account import Account, ExperimentFigures
from edgewright_agent.runtime.candidate import Candidate
from edgewright_agent.runtime.change import Change
from edgewright_agent.runtime.complaints import Complaints
from edgewright_agent.runtime.errand import join_all
from edgewright_agent.runtime.experiment import AB, Comparison, winning
from edgewright_agent.runtime.keeper import Keeper
from edgewright_agent.runtime.lookout import Lookout
from edgewright_agent.runtime.resident import NOT_FINITE, Loader, OnnxRuntime, Resident, Served, is_finite
from edgewright_agent.runtime.safe import NoDecisionError, Stock
from edgewright_agent.runtime.seat import Seat
from edgewright_agent.runtime.tally import Figures
from edgewright_agent.runtime.walk import AUTO, SAFE

if TYPE_CHECKING:
    from edgewright_agent.engine import Array, Arrays

log = logging.getLogger("edgewright")

LOOK_S = 0.05  # between two looks for an update, however many requests there are
EXIT_S = 30.0  # that a process which ends waits for its threads to leave the engine


@dataclass(frozen=True)
class Answer:
    """What a request got.

    Attributes:
        outputs: Arrays by name.
        digest, version: Of the model that answered: the active one, its predecessor, or an experiment's candidate.
        rung: Where on the degraded-mode ladder that was: `normal`, or one of `degrade.RUNGS`.
        labels: The winning label of each sample, where the model has labels.
        decided: Whether a model answered; False for a declared safe output.
        latency_ms: How long the request took, what was tried in vain included.
    """

    outputs: Arrays
    digest: str
    version: str
    rung: str
    labels: tuple[str, ...]
    decided: bool
    latency_ms: float


class Session:
    """A session with the model of one name; safe to share between threads. Use `open_model`."""

    def __init__(
        self,
        name: str,
        state: Path,
        *,
        on_swap: Callable[[Change], None] | None = None,
        on_comparison: Callable[[Comparison], None] | None = None,
        swap: str = AUTO,
        loader: Loader | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._state = state
        self._on_swap, self._on_comparison = on_swap, on_comparison
        self._swap, self._loader, self._clock = swap, loader or OnnxRuntime(), clock
        self._closed = False
        self._complaints = Complaints(name)
        self._look_at = float("-inf")
        self._forget()
        self._begin()
        _SESSIONS.add(self)

    # --- what a request does -------------------------------------------------------------------------------------

    def run(self, inputs: Mapping[str, Array]) -> Arrays:
        """Infer one batch.

        Args:
            inputs: Arrays by input name, of exactly the dtypes and shapes in `self.inputs`.

        Raises:
            InputError: `bad-input`: the caller's mistake.
            InferenceError: `inference-failed`, `non-finite-output`: no model here can answer it.
            NoDecisionError: `no-decision`: the same, and the model declares that then nothing is decided.
            AgentError: what keeps every model from being loaded, while none is in memory.
        """
        return self._serve(inputs, None).outputs

    def answer(self, inputs: Mapping[str, Array], *, key: str | None = None) -> Answer:
        """Infer one batch, and say who answered.

        Args:
            inputs: As for `run`.
            key: What the request is about, a camera or a patient: in an experiment the same key always meets the
                same model. Without it every request is a case of its own.

        Raises:
            InputError, InferenceError, NoDecisionError, AgentError: as for `run`.
        """
        started = time.perf_counter()
        served = self._serve(inputs, key)
        return Answer(
            served.outputs,
            served.digest,
            served.version,
            served.rung,
            winning(served.outputs, served.labels),
            served.decided,
            (time.perf_counter() - started) * 1000,
        )

    # --- what an application may want to know --------------------------------------------------------------------

    @property
    def digest(self) -> str:
        """Digest of the artifact in use."""
        return self._seat_now().digest

    @property
    def version(self) -> str:
        """Its version, for people."""
        return self._seat_now().version

    @property
    def rung(self) -> str:
        """Where on the degraded-mode ladder the session stands; `normal` is the top."""
        return self._seat_now().rung

    @property
    def code(self) -> str:
        """Why it is not `normal`; empty when it is."""
        return self._seat_now().code

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names of the first output; empty when the model has none."""
        current = self._seat_now().current
        return current.labels if current else ()

    @property
    def inputs(self) -> tuple[Port, ...]:
        """Names, dtypes and shapes the model takes; None is a free dimension."""
        seat = self._seat_now()
        current = seat.current
        return current.inputs if current else seat.signature.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        """Names, dtypes and shapes of what it gives."""
        seat = self._seat_now()
        current = seat.current
        return current.outputs if current else seat.signature.outputs

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use."""
        return self._seat_now().providers

    @property
    def figures(self) -> Figures:
        """What was counted since the session opened on this digest."""
        return self._account.of(self.digest).figures()

    @property
    def experiment(self) -> ExperimentFigures | None:
        """What was counted of the experiment on this model, if there is one."""
        candidate = self._lookout.candidate
        return candidate.figures() if candidate else None

    def refresh(self) -> str:
        """Take up an update now, and return the digest in use; `run` does so by itself, in the background."""
        seat = self._seat_now()
        seat.settle()
        self._lookout.look()
        return seat.digest

    def close(self) -> None:
        """Let go of the model once its last request in flight is answered. Again: no effect."""
        if self._closed:
            return
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        seat, keeper = self._seat, self._keeper
        if seat is not None:
            self._account.tell("close", seat, self.experiment)
            seat.close()
        if keeper is not None:
            keeper.end()
        self._lookout.end()
        self._account.close()

    def __del__(self) -> None:
        # Whoever drops a session has not crashed, and a daemon would think so if nobody said it.
        if hasattr(self, "_seat"):
            self.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- serving -------------------------------------------------------------------------------------------------

    def _serve(self, inputs: Mapping[str, Array], key: str | None) -> Served:
        seat = self._seat or self._begin()
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(seat, now)
        candidate = self._lookout.candidate
        if candidate is not None and candidate.experiment.kind == AB:
            if (served := self._by_candidate(candidate, seat, inputs, key)) is not None:
                return served
            candidate = None  # not its request, or it could not: the active model answers
        try:
            taken = seat.take()
        except InferenceError as error:
            self._complaints.warn(error)
            return self._unserved(seat, inputs, error)
        if taken is None:
            return self._unserved(seat, inputs)
        resident, ticket = taken
        failure: InferenceError | None = None
        try:  # from here on: whatever interrupts, the model must not be thought of as in use for ever
            checked = check_inputs(resident.inputs, inputs)
            started = time.perf_counter()
            outputs = resident.infer(checked)
            microseconds = (time.perf_counter() - started) * 1e6
        except InputError:
            self._account.of(resident.step.digest).input_error()
            raise
        except InferenceError as error:
            failure = error
        finally:
            resident.leave(ticket)
        if failure is not None:
            try:
                return self._after_failure(seat, resident, failure, checked)
            finally:
                del failure  # its traceback holds this frame, and that the inputs: a circle
        if resident.failed:
            seat.proved(resident)
        served = self._answered(seat, resident, microseconds, checked, outputs)
        if candidate is not None and self._concerns(candidate, resident, key):
            candidate.offer(checked, outputs, active_ms=microseconds / 1000, key=key, labels=resident.labels)
        return served

    def _answered(
        self, seat: Seat, resident: Resident, microseconds: float, inputs: Arrays, outputs: Arrays
    ) -> Served:
        step = resident.step
        self._account.of(step.digest).success(microseconds, inputs, outputs)
        self._stock.note(seat.safe, outputs)
        rung = SAFE if resident.wrong else step.rung  # it answers because nothing else can
        return Served(outputs, step.digest, resident.version, rung, resident.labels)

    def _by_candidate(
        self, candidate: Candidate, seat: Seat, inputs: Mapping[str, Array], key: str | None
    ) -> Served | None:
        """Let an A/B candidate answer; None when it is not its request, or it could not."""
        active = seat.current
        if active is None or not self._concerns(candidate, active, key):
            return None
        try:
            checked = check_inputs(active.inputs, inputs)
        except InputError:
            self._account.of(active.step.digest).input_error()
            raise
        return candidate.serve(checked, active.step.rung)

    def _concerns(self, candidate: Candidate, active: Resident, key: str | None) -> bool:
        """Whether a request is one for the candidate, which stands beside one active model and sees a share."""
        return candidate.experiment.active == active.step.digest and candidate.sees(
            key if key is not None else str(next(self._numbers))
        )

    def _after_failure(self, seat: Seat, failed: Resident, error: InferenceError, inputs: Arrays) -> Served:
        self._complaints.warn(error)
        if error.code == NOT_FINITE and (
            odd := [name for name, array in inputs.items() if not is_finite(array)]
        ):
            # A sensor that gives no numbers says nothing about the model, and no other would do better.
            self._account.of(failed.step.digest).input_error()
            why = InferenceError(NOT_FINITE, f"{error}, nor is its input {odd[0]}")
            return self._without_model(seat, inputs, why)
        self._account.of(failed.step.digest).error()
        found = seat.fall(failed, error, inputs)
        if found is None:
            return self._without_model(seat, inputs, error)
        outputs, resident, microseconds = found
        return self._answered(seat, resident, microseconds, inputs, outputs)

    def _unserved(
        self, seat: Seat, inputs: Mapping[str, Array], error: InferenceError | None = None
    ) -> Served:
        """Answer a request that met no model: nothing has looked at its inputs, and nothing has counted it.

        Raises:
            InputError: `bad-input`, as a model would.
            NoDecisionError, AgentError: as `_without_model`.
        """
        signature, tally = seat.signature, self._account.of(seat.digest)
        if signature.inputs:
            try:
                inputs = check_inputs(signature.inputs, inputs)
            except InputError:
                tally.input_error()
                raise
        if seat.safe is None:
            tally.error()
        return self._without_model(seat, inputs, error)

    def _without_model(
        self, seat: Seat, inputs: Mapping[str, Array], error: InferenceError | None = None
    ) -> Served:
        """Answer by the declared safe output.

        Raises:
            NoDecisionError: `no-decision`.
            AgentError: what is wrong, when nothing is declared.
        """
        safe = seat.safe
        if safe is None:
            raise error or seat.why()
        self._account.of(seat.digest).safe_output()
        cause = error or seat.why()
        outputs = self._stock.outputs(safe, _batch_of(inputs))
        if outputs is None:
            raise NoDecisionError("no-decision", f"no {self.name} can answer ({cause.code}): {cause}")
        return Served(outputs, seat.digest, seat.version, SAFE, decided=False)

    # --- looking after itself ------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Hold nothing: at first, and in a forked child, where locks and threads of the parent mean nothing."""
        self._beginning = threading.Lock()
        self._seat: Seat | None = None
        self._keeper: Keeper | None = None
        self._lookout = Lookout(self.name, self._state, self._loader, self._on_comparison)
        self._account = Account(self._state, self.name)
        self._numbers = itertools.count(int.from_bytes(os.urandom(6), "big"))
        self._stock = Stock()
        self._look_at = float("-inf")

    def _begin(self) -> Seat:
        with self._beginning:
            if self._seat is None:
                if self._closed:
                    raise AgentError("closed", f"the session with {self.name} is closed: open another one")
                seat = Seat(
                    self.name,
                    self._state,
                    self._loader,
                    swap=self._swap,
                    on_change=self._changed,
                    clock=self._clock,
                )
                seat.open()
                self._seat = seat
                self._lookout.look()
                self._account.tell("open", seat, self.experiment)
                self._keeper = Keeper(weakref.WeakMethod(self._tick))
                worker.at_end(_at_exit)
                if self._closed:  # meanwhile, by another thread, which may have found only a part of it
                    self._let_go()
            return self._seat

    def _seat_now(self) -> Seat:
        return self._seat or self._begin()

    def _changed(self, change: Change) -> None:
        seat = self._seat
        if seat is None:
            return  # the session is only just opening
        self._account.tell("beat", seat, self.experiment)
        if self._on_swap is not None:
            try:
                self._on_swap(change)
            except Exception:  # the application's own code; its failure must not keep a model from its place
                log.exception("%s: on_swap failed", self.name)

    def _look(self, seat: Seat, now: float) -> None:
        seat.look()
        if now >= self._lookout.due:
            self._lookout.look()

    def _tick(self) -> None:
        """Do what is due, every few seconds: the keeper's thread calls it."""
        seat = self._seat
        if seat is None or self._closed:
            return
        self._look(seat, time.monotonic())
        self._account.tick(seat, self.experiment)


def _batch_of(inputs: Mapping[str, Array]) -> int:
    import numpy

    first = next(iter(inputs.values()), None)
    return numpy.asarray(first).shape[0] if first is not None and numpy.ndim(first) else 1


# --- processes: they end, and they fork ------------------------------------------------------------------------------

_SESSIONS: weakref.WeakSet[Session] = weakref.WeakSet()
# Engines of the parent: their threads do not exist in the child, and destroying them would wait for those threads.
_INHERITED: list[object] = []


def _after_fork_in_child() -> None:
    for session in list(_SESSIONS):
        _INHERITED.append((session._seat, session._lookout, session._keeper))
        session._forget()  # the next request loads the model anew


def _at_exit() -> None:
    sessions = list(_SESSIONS)
    held = [one for session in sessions for one in (session._seat, session._lookout) if one is not None]
    for session in sessions:
        session.close()
    ends = time.monotonic() + EXIT_S
    over = all(one.wait_over(max(0.0, ends - time.monotonic())) for one in held)
    if not (join_all(max(0.0, ends - time.monotonic())) and over):
        log.warning("after %.0f s a thread is still in the inference engine: the process may abort", EXIT_S)


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
