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
from edgewright_agent.runtime.beat import HANGS_S, Beats, ExperimentFigures, Keeper, Told
from edgewright_agent.runtime.candidate import Candidate
from edgewright_agent.runtime.experiment import AB, Comparison, winning
from edgewright_agent.runtime.resident import Loader, OnnxRuntime, Resident, Served
from edgewright_agent.runtime.safe import CONSTANT, HOLD_LAST, NoDecisionError, constant, held
from edgewright_agent.runtime.seat import AUTO, Change, Seat
from edgewright_agent.runtime.steps import folder_of
from edgewright_agent.runtime.tally import Figures, Reference, Tally, read_reference
from edgewright_agent.runtime.watch import Watch

if TYPE_CHECKING:
    from edgewright_agent.engine import Array, Arrays

log = logging.getLogger("edgewright")

LOOK_S = 0.05  # between two looks for an update, however many requests there are


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
        self._held: tuple[float, Arrays | None] = (0.0, None)
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
        """
        return self._serve(inputs, None).outputs

    def answer(self, inputs: Mapping[str, Array], *, key: str | None = None) -> Answer:
        """Infer one batch, and say who answered.

        Args:
            inputs: As for `run`.
            key: What the request is about, a camera or a patient: in an experiment the same key always meets the
                same model. Without it every request is a case of its own.

        Raises:
            InputError, InferenceError, NoDecisionError: as for `run`.
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
        """Class names of the last output; empty when the model has none."""
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
        current = self._seat_now().current
        return current.providers if current else ()

    @property
    def figures(self) -> Figures:
        """What was counted since the session opened on this digest."""
        return self._tally(self.digest).figures()

    @property
    def experiment(self) -> ExperimentFigures | None:
        """What was counted of the experiment on this model, if there is one."""
        candidate = self._watch.candidate
        return candidate.figures() if candidate else None

    def refresh(self) -> str:
        """Take up an update now, and return the digest in use; `run` does so by itself, in the background."""
        seat = self._seat_now()
        seat.settle()
        self._watch.look()
        return seat.digest

    def close(self) -> None:
        """Let go of the model once its last request in flight is answered. Again: no effect."""
        if self._closed:
            return
        self._closed = True
        seat, keeper = self._seat, self._keeper
        if seat is not None:
            self._beats.send("close", self._told(seat), anyway=True)
            seat.close()
        if keeper is not None:
            keeper.end()
        self._watch.end()
        self._beats.close()

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
        candidate = self._watch.candidate
        if candidate is not None and candidate.experiment.kind == AB:
            if (served := self._by_candidate(candidate, seat, inputs, key)) is not None:
                return served
            candidate = None  # not its request, or it could not: the active model answers
        taken = seat.take()
        if taken is None:
            return self._without_model(seat, inputs)
        resident, ticket = taken
        tally = self._tally(resident.step.digest)
        failure: InferenceError | None = None
        try:
            checked = check_inputs(resident.inputs, inputs)
            started = time.perf_counter()
            outputs = resident.infer(checked)
            microseconds = (time.perf_counter() - started) * 1e6
        except InputError:
            tally.input_error()
            raise
        except InferenceError as error:
            failure = error
        finally:
            resident.leave(ticket)
        if failure is not None:
            return self._after_failure(seat, resident, failure, checked)
        if resident.failed:
            seat.proved(resident)
        tally.success(microseconds, checked, outputs)
        if candidate is not None and self._concerns(candidate, resident, key):
            candidate.offer(checked, outputs, active_ms=microseconds / 1000, key=key, labels=resident.labels)
        if seat.safe is not None and seat.safe.kind == HOLD_LAST:
            self._held = (now, {name: array.copy() for name, array in outputs.items()})
        return Served(outputs, resident.step.digest, resident.version, resident.step.rung, resident.labels)

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
            self._tally(active.step.digest).input_error()
            raise
        return candidate.serve(checked, active.step.rung)

    def _concerns(self, candidate: Candidate, active: Resident, key: str | None) -> bool:
        """Whether a request is one for the candidate, which stands beside one active model and sees a share."""
        return candidate.experiment.active == active.step.digest and candidate.sees(
            key if key is not None else str(next(self._numbers))
        )

    def _after_failure(self, seat: Seat, failed: Resident, error: InferenceError, inputs: Arrays) -> Served:
        self._tally(failed.step.digest).error()
        log.warning("%s: %s: %s", self.name, error.code, error)
        found = seat.fall(failed, error, inputs)
        if found is None:
            return self._without_model(seat, inputs, error)
        outputs, resident = found
        step = resident.step
        return Served(outputs, step.digest, resident.version, step.rung, resident.labels)

    def _without_model(
        self, seat: Seat, inputs: Mapping[str, Array], error: InferenceError | None = None
    ) -> Served:
        """Answer by the declared safe output.

        Raises:
            InputError: `bad-input`, as a model would.
            NoDecisionError: `no-decision`.
            AgentError: what is wrong, when nothing is declared.
        """
        safe, signature, tally = seat.safe, seat.signature, self._tally(seat.digest)
        if safe is None:
            raise error or seat.why()
        if error is None and signature.inputs:
            try:
                inputs = check_inputs(signature.inputs, inputs)
            except InputError:
                tally.input_error()
                raise
        tally.safe_output()
        batch = _batch_of(inputs)
        cause = error or seat.why()
        outputs: Arrays | None = None
        if safe.kind == HOLD_LAST:
            when, last = self._held
            if last is not None and time.monotonic() - when <= (safe.max_age_s or 0.0):
                outputs = held(last, batch)
        elif safe.kind == CONSTANT:
            outputs = constant(safe, batch)
        if outputs is None:
            raise NoDecisionError("no-decision", f"no {self.name} can answer ({cause.code}): {cause}")
        return Served(outputs, seat.digest, seat.version, "safe-output", decided=False)

    def _tally(self, digest: str) -> Tally:
        tally = self._tallies.get(digest)
        if tally is None:
            reference = read_reference(folder_of(self._state, digest)) if digest else Reference()
            tally = self._tallies.setdefault(digest, Tally(reference))
        return tally

    # --- looking after itself ------------------------------------------------------------------------------------

    def _forget(self) -> None:
        """Hold nothing: at first, and in a forked child, where locks and threads of the parent mean nothing."""
        self._beginning = threading.Lock()
        self._seat: Seat | None = None
        self._keeper: Keeper | None = None
        self._watch = Watch(self.name, self._state, self._loader, self._on_comparison)
        self._tallies: dict[str, Tally] = {}
        self._beats = Beats(self._state, self.name)
        self._numbers = itertools.count(int.from_bytes(os.urandom(6), "big"))
        self._held = (0.0, None)
        self._look_at = float("-inf")
        self._beaten: tuple[object, ...] = ()

    def _begin(self) -> Seat:
        with self._beginning:
            if self._seat is None:
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
                self._tally(seat.digest)
                self._watch.look()
                self._beats.send("open", self._told(seat))
                self._keeper = Keeper(weakref.WeakMethod(self._tick))
            return self._seat

    def _seat_now(self) -> Seat:
        return self._seat or self._begin()

    def _changed(self, change: Change) -> None:
        seat = self._seat
        if seat is None:
            return  # the session is only just opening
        swapped = bool(change.before) and change.before != change.digest
        if swapped:
            self._tallies = {change.digest: self._tally(change.digest)}
        self._beats.send("swap" if swapped else "beat", self._told(seat))
        if self._on_swap is not None:
            try:
                self._on_swap(change)
            except Exception:  # the application's own code; its failure must not keep a model from its place
                log.exception("%s: on_swap failed", self.name)

    def _look(self, seat: Seat, now: float) -> None:
        seat.look()
        if now >= self._watch.due:
            self._watch.look()

    def _tick(self) -> None:
        """Do what is due, every few seconds: the keeper's thread calls it."""
        seat = self._seat
        if seat is None or self._closed:
            return
        self._look(seat, time.monotonic())
        told = self._told(seat)
        tried = told.experiment
        news = (told.digest, told.rung, told.code, self._tally(seat.digest).events, tried and tried.requests)
        if news != self._beaten or told.in_flight_s >= HANGS_S:
            self._beaten = news
            self._beats.send("beat", told)

    def _told(self, seat: Seat) -> Told:
        figures = self._tally(seat.digest).figures()
        return Told(
            seat.digest, seat.rung, seat.code, self.providers, figures, seat.oldest_s(), self.experiment
        )


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
        _INHERITED.append((session._seat, session._watch, session._keeper))
        session._forget()  # the next request loads the model anew


def _at_exit() -> None:
    for session in list(_SESSIONS):
        session.close()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_at_exit)
