"""An experiment's candidate in an application: loaded beside the active model, and never in its way.

>>> candidate = Candidate(experiment, "digit-reader", state, OnnxRuntime())     # doctest: +SKIP
>>> candidate.sees("conveyor-3")                                                # doctest: +SKIP
True
>>> candidate.offer(inputs, outputs, active_ms=0.3, key="conveyor-3", labels=labels)   # doctest: +SKIP

A shadow runs in a thread of its own, at a lower priority, behind a short queue: what does not fit is counted and
dropped. Its answers are compared and logged, never returned; its failures are counted and never seen by the caller.
An A/B candidate answers in the caller's thread, and the active model answers when it cannot.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent import settings
from edgewright_agent.engine import InferenceError, InputError, check_inputs
from edgewright_agent.errors import AgentError
from edgewright_agent.experiments import Experiment
from edgewright_agent.runtime.account import ExperimentFigures
from edgewright_agent.runtime.errand import begin
from edgewright_agent.runtime.experiment import (
    SHADOW,
    Comparison,
    Journal,
    agree,
    takes,
    winning,
)
from edgewright_agent.runtime.ladder import (
    FIRST_BACKOFF_S,
    MAX_BACKOFF_S,
    Standing,
    failed,
    kind_of,
    succeeded,
)
from edgewright_agent.runtime.resident import (
    NOT_FINITE,
    Loader,
    Resident,
    Served,
    bring_up,
    is_finite,
    lacking_bytes,
    warm_up,
)
from edgewright_agent.runtime.sketch import LatencySketch
from edgewright_agent.runtime.steps import beside_works, folder_of, state_of, version_of, ways

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays

log = logging.getLogger("edgewright.experiment")

QUEUED = 8
QUEUED_BYTES = 32 * 1024 * 1024
NICENESS = 10  # of a shadow's threads, those of the engine included: they inherit it


@dataclass(frozen=True)
class _Seen:
    """A request a shadow is to see: copies, because the caller may use its arrays again."""

    inputs: Arrays
    outputs: Arrays
    active_ms: float
    key: str | None
    labels: tuple[str, ...]
    size: int


class Candidate:
    """One experiment's candidate; safe to share between threads."""

    def __init__(
        self,
        experiment: Experiment,
        model: str,
        state: Path,
        loader: Loader,
        on_comparison: Callable[[Comparison], None] | None = None,
    ) -> None:
        self.experiment = experiment
        self.version = version_of(state, model, experiment.digest)
        self.resident: Resident | None = None
        self._leaving: Resident | None = None
        self._model, self._state = model, state
        self._folder = folder_of(state, experiment.digest)
        self._loader = loader
        self._on_comparison = on_comparison
        self._journal = Journal()
        self._lock = threading.Lock()
        self._standing = Standing()
        self._requests = self._agree = self._errors = self._dropped = 0
        self._latency = LatencySketch()
        self._queue: queue.SimpleQueue[_Seen | None] = queue.SimpleQueue()
        self._queued = self._queued_bytes = 0
        self._ended = threading.Event()
        begin(self._run, "edgewright-candidate")

    def sees(self, key: str) -> bool:
        """Whether this request is one for the candidate, and it is there."""
        return (
            self.resident is not None
            and takes(self.experiment, key)
            and not self._standing.is_down(time.monotonic())
        )

    def serve(self, inputs: Arrays, rung: str) -> Served | None:
        """Answer a request in the active model's place; None when it could not."""
        resident = self.resident
        outputs = self.answer(inputs)
        if outputs is None or resident is None:
            return None
        return Served(outputs, self.experiment.digest, self.version, rung, resident.labels)

    def answer(self, inputs: Arrays) -> Arrays | None:
        """Answer a request; None when it could not, which is counted, unless its inputs are no numbers either.

        Args:
            inputs: As the active model takes them.
        """
        resident = self.resident
        ticket = resident.enter() if resident else None
        if resident is None or ticket is None:
            return None
        started = time.perf_counter()
        try:
            outputs = resident.infer(check_inputs(resident.inputs, inputs))
        except (InferenceError, InputError) as error:
            if not self._is_excused(error, inputs):
                self._failed(error)
            return None
        finally:
            resident.leave(ticket)
        self._answered((time.perf_counter() - started) * 1e6)
        return outputs

    def offer(
        self, inputs: Arrays, outputs: Arrays, *, active_ms: float, key: str | None, labels: tuple[str, ...]
    ) -> None:
        """Let a shadow see a request that the active model has answered; returns at once."""
        size = sum(array.nbytes for array in (*inputs.values(), *outputs.values()))
        with self._lock:
            if self._queued >= QUEUED or self._queued_bytes + size > QUEUED_BYTES:
                self._dropped += 1
                return
            self._queued += 1
            self._queued_bytes += size
        copies = [{name: array.copy() for name, array in arrays.items()} for arrays in (inputs, outputs)]
        self._queue.put(_Seen(copies[0], copies[1], active_ms, key, labels, size))

    def figures(self) -> ExperimentFigures:
        """Return what was counted so far."""
        with self._lock:
            told = self.experiment
            latency = tuple((bucket, count) for bucket, count in self._latency.pairs())
            counts = (self._requests, self._agree, self._errors, self._dropped)
            return ExperimentFigures(told.name, told.kind, told.digest, *counts, latency)

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until it is loaded and nothing is queued; return whether that is so."""
        ends = time.monotonic() + timeout_s
        while time.monotonic() < ends:
            with self._lock:
                if self.resident is not None and not self._queued:
                    return True
            self._ended.wait(0.002)
        return False

    def end(self) -> None:
        """Let go of the model once nobody uses it; what is queued is dropped."""
        self._ended.set()
        self._queue.put(None)
        with self._lock:
            resident, self.resident = self.resident, None
            if resident is not None:
                self._leaving = resident
        if resident is not None:
            resident.retire()

    def wait_over(self, timeout_s: float) -> bool:
        """Wait until its engine is released, which `end` brings about; return whether there is none any more."""
        with self._lock:
            resident = self.resident or self._leaving
        return resident is None or resident.wait_released(timeout_s)

    def _run(self) -> None:
        shadow = self.experiment.kind == SHADOW
        if shadow:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        backoff_s = FIRST_BACKOFF_S
        while not self._load():
            if self._ended.wait(backoff_s):
                return
            backoff_s = min(MAX_BACKOFF_S, 2 * backoff_s)
        while shadow and (seen := self._queue.get()) is not None and not self._ended.is_set():
            try:
                self._compare(seen)
            except BaseException:  # a listener that would end its thread, too: the next one goes on
                log.exception("%s: a comparison failed", self._model)
            finally:
                with self._lock:
                    self._queued -= 1
                    self._queued_bytes -= seen.size

    def _load(self) -> bool:
        digest = self.experiment.digest
        reason: Exception = AgentError("not-found", f"{self._folder} is not there")
        beside = beside_works(state_of(self._state, self._model), digest)
        steps = (
            ways(self._folder, digest, "normal", self._available(), beside=beside)
            if self._folder.is_dir()
            else ()
        )
        for step in steps:
            try:
                # The device goes on without a candidate, and not without memory.
                if lacking := lacking_bytes(settings.read(self._folder)):
                    raise AgentError("low-memory", f"{lacking / 2**20:.0f} MiB are missing for it")
                resident = bring_up(self._loader, step, self._folder)
                warm_up(resident, self._folder)
            except (AgentError, OSError) as error:
                reason = error
                continue
            with self._lock:
                if not self._ended.is_set():
                    self.resident = resident
            return True
        log.warning("%s: the candidate %s cannot be loaded: %s", self._model, digest, reason)
        return False

    def _available(self) -> tuple[str, ...]:
        try:
            return self._loader.available()
        except AgentError:
            return ()

    def _compare(self, seen: _Seen) -> None:
        started, failures = time.perf_counter(), self._errors
        outputs = self.answer(seen.inputs)
        if outputs is None and self._errors == failures:
            return  # it is on its way out
        candidate_ms = (time.perf_counter() - started) * 1000
        winners = bool(winning(seen.outputs, seen.labels))
        same = outputs is not None and agree(seen.outputs, outputs, winners=winners)
        with self._lock:
            self._agree += same
        told = self.experiment
        comparison = Comparison(
            told.name,
            self._model,
            told.active,
            told.digest,
            seen.key,
            same,
            seen.active_ms,
            candidate_ms,
            seen.outputs,
            outputs,
            "" if outputs is not None else self._standing.kind,
        )
        self._journal.note(comparison, seen.labels)
        if self._on_comparison is not None:
            try:
                self._on_comparison(comparison)
            except Exception:  # the application's own code; its failure must not end the comparison
                log.exception("%s: on_comparison failed", self._model)

    def _is_excused(self, error: AgentError, inputs: Arrays) -> bool:
        """Whether a failure says nothing of the model, as for the active one: a sensor gave no numbers.

        A shadow is not excused: it sees only what the active model has answered.
        """
        return (
            self.experiment.kind != SHADOW
            and error.code == NOT_FINITE
            and not all(is_finite(array) for array in inputs.values())
        )

    def _answered(self, microseconds: float) -> None:
        with self._lock:
            self._requests += 1
            self._latency.add(microseconds)
            self._standing = succeeded(self._standing, time.monotonic())

    def _failed(self, error: AgentError) -> None:
        with self._lock:
            self._requests += 1
            self._errors += 1
            kind = kind_of(error.code, error.__cause__)
            self._standing = failed(self._standing, kind, time.monotonic(), str(error))
