"""Which model answers now: the one seat of a session, and how models come to it and go from it.

>>> seat = Seat("digit-reader", Path("/var/lib/edgewright"), OnnxRuntime())     # doctest: +SKIP
>>> seat.open()                                                                 # doctest: +SKIP
>>> resident, ticket = seat.take()                                              # doctest: +SKIP

`settle` is all there is to an update, a rollback, a way down and a way up: walk the steps from the best, stay at
the first that is not down and can be loaded. It runs in a background thread; requests go on with what sits there, and
a change is one assignment. While both are loaded both are in memory; `after-release` lets go of the old one first,
and requests wait meanwhile.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.engine import InferenceError, InputError, check_inputs
from edgewright_agent.errors import AgentError, ConfigError, HealthError
from edgewright_agent.ladder import step as rung_of
from edgewright_agent.runtime import ladder
from edgewright_agent.runtime.ladder import Step, Way, kind_of
from edgewright_agent.runtime.resident import (
    AFTER_RELEASE,
    Loader,
    Resident,
    bring_up,
    fits_beside,
    judge,
    warm_up,
)
from edgewright_agent.runtime.safe import Signature, read_safe_output
from edgewright_agent.runtime.standings import Standings
from edgewright_agent.runtime.steps import active_digest, folder_of, steps_of, version_of

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays
    from edgewright_agent.safe_output import SafeOutput

log = logging.getLogger("edgewright")

AUTO, BESIDE = "auto", "beside"
SWAPS = (AUTO, BESIDE, AFTER_RELEASE)
DRAIN_S = 60.0  # to wait for inferences in flight before memory is needed twice after all
CLOSE_S = 1.0  # that closing waits for a load in progress
FUTILE_S = 10.0  # after a request that every model failed at: others are not loaded for the next one like it
STANDBY_S = 60.0  # that a model is kept which has answered for one that failed
NORMAL, SAFE = "normal", "safe-output"


@dataclass(frozen=True)
class Change:
    """What answers from now on, and why.

    Attributes:
        model: Its name.
        digest, version, rung: What answers; for the rung see `degrade.RUNGS`.
        before: Digest of what answered until now; empty at first.
        code: Why it is not the normal rung; empty when it is.
        reason: The same in words.
    """

    model: str
    digest: str
    version: str
    rung: str
    before: str
    code: str = ""
    reason: str = ""


class Seat:
    """The seat of one session; safe to share between threads.

    Attributes:
        current: What answers; None when nothing can, or while a model is let go of to make room.
        digest, version, rung, code: Of what answers, also when that is the safe output.
        safe: What the active model declares for when nothing can answer.
    """

    def __init__(
        self,
        model: str,
        state: Path,
        loader: Loader,
        *,
        swap: str = AUTO,
        on_change: Callable[[Change], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.current: Resident | None = None
        self.digest = self.version = self.code = ""
        self.rung = NORMAL
        self.safe: SafeOutput | None = None
        self.signature = Signature()
        self._model, self._state, self._loader = model, state, loader
        self._swap, self._on_change, self._clock = swap, on_change, clock
        self._link = state / "current" / model
        self._target = ""
        self._steps: tuple[Step, ...] = ()
        self._standings = Standings(clock)
        self._next_try = float("inf")
        self._standby: Resident | None = None
        self._standby_until = float("-inf")
        self._leaving: list[Resident] = []
        self._doubts = 0
        self._futile_until = float("-inf")
        self._changes: deque[Change] = deque()
        self._available: tuple[str, ...] = ()
        self._opened = self._closed = False
        self._open_to_requests = threading.Event()
        self._open_to_requests.set()
        self._loading = threading.RLock()
        self._starting = threading.Lock()
        self._wanted = False
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Load what the device runs, or what is next on the ladder.

        Raises:
            ConfigError: `no-model`: nothing is installed under this name.
            HealthError: nothing here can be loaded, and no safe output is declared; it is about the active model.
        """
        self._available = self._loader.available()
        self.settle()
        self._opened = True
        if self.current is None and not self._steps:
            raise ConfigError(
                "no-model", f"{self._link} does not exist: no {self._model} has been installed here yet"
            )
        if self.current is None and self.safe is None:
            raise self.why()

    def take(self) -> tuple[Resident, int] | None:
        """Return what answers, held, and the ticket to give it back; None when nothing can.

        Raises:
            AgentError: `closed`.
        """
        while True:
            resident = self.current
            if resident is not None:
                ticket = resident.enter()
                if ticket is not None:
                    return resident, ticket
            elif self._closed:
                raise AgentError("closed", f"the session with {self._model} is closed: open another one")
            elif self._open_to_requests.is_set():
                return None
            else:
                self._open_to_requests.wait()

    def why(self) -> AgentError:
        """Return why the best step is not taken."""
        return self._standings.why(self._steps) or HealthError(
            "health-crash", f"no {self._model} can be loaded"
        )

    def look(self) -> None:
        """Notice an update, or that something may be tried again; what there is to do is done in the background."""
        try:
            changed = os.readlink(self._link) != self._target  # noqa: PTH115  no objects for it at every call
        except OSError:
            changed = False
        if changed or self._clock() >= self._next_try:
            self._next_try = float("inf")
            self.start()
        elif self._standby is not None and self._clock() >= self._standby_until:
            self.start()

    def start(self) -> None:
        """Settle in the background."""
        with self._starting:
            self._wanted = True
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=self._background, name="edgewright-loader", daemon=True
                )
                self._thread.start()

    def settle(self) -> None:
        """Bring the seat as high on the ladder as it goes now. Blocks; requests go on."""
        with self._loading:
            if not self._closed:
                self._settle()
        self._announce()

    def fall(self, failed: Resident, error: InferenceError, inputs: Arrays) -> tuple[Arrays, Resident] | None:
        """Answer a request that `failed` could not, by the next step that can; None when none can.

        Whether the failed one keeps its place is decided here as well: one that another has just shown to be wrong
        goes after too many failures; where all fail alike, the golden inputs decide later.
        """
        tried = {failed.step.way}
        while (found := self._next(failed, error, tried)) is not None:
            resident, ticket = found
            tried.add(resident.step.way)
            try:
                outputs = resident.infer(check_inputs(resident.inputs, inputs))
            except (InferenceError, InputError):  # an older version may take other inputs
                continue
            finally:
                resident.leave(ticket)
            self._blame(failed, error)
            self._announce()
            return outputs, resident
        self._doubt(failed, error)
        return None

    def proved(self, resident: Resident) -> None:
        """Clear a model's failures after a success; while something is being loaded, the next success does."""
        if not self._loading.acquire(blocking=False):
            return
        try:
            resident.failed = False
            self._doubts = 0
            self._standings.succeeded(resident.step)
        finally:
            self._loading.release()

    def oldest_s(self) -> float:
        """Return the age of the oldest inference in flight, of models that are leaving too."""
        self._leaving = [resident for resident in self._leaving if not resident.released]
        sitting = [self.current, self._standby, *self._leaving]
        return max((resident.oldest_s() for resident in sitting if resident), default=0.0)

    def close(self) -> None:
        """Let go of everything once it is not used any more."""
        with self._starting:
            self._closed = True
        # A load in progress must not hold up the end of a process; what it brings finds the door closed.
        waited = self._loading.acquire(timeout=CLOSE_S)
        try:
            self._drop_standby()
            resident, self.current = self.current, None
            if resident is not None:
                resident.retire()
            self._open_to_requests.set()
        finally:
            if waited:
                self._loading.release()

    # --- under `_loading` ---------------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._look_at_device()
        current = self.current
        if self._doubts and current is not None:
            self._examine(current)
        try:
            self._walk(current)
        finally:
            self._open_to_requests.set()
        if self._clock() >= self._standby_until:
            self._drop_standby()
        better = ladder.above(self._steps, self.current.step if self.current else None)
        self._next_try = self._standings.next_try(better)

    def _look_at_device(self) -> None:
        try:
            self._target = os.readlink(self._link)  # noqa: PTH115
        except OSError:
            self._target = ""
        self._steps = steps_of(self._state, self._model, self._available, self.digest or None)
        self._standings.keep(self._steps)
        active = active_digest(self._state, self._model) or (self._steps[0].digest if self._steps else None)
        if active:
            try:
                self.safe, self.signature = read_safe_output(folder_of(self._state, active))
            except HealthError as error:
                log.warning("%s: %s", self._model, error)
                self.safe = None

    def _walk(self, current: Resident | None) -> None:
        for step in self._steps:
            if self._standings.is_down(step):
                continue
            if current is not None and step.way == current.step.way and current is self.current:
                self._sit(current, step)
                return
            if resident := self._load(step):
                self._sit(resident, step)
                return
        if self.safe is not None and self._steps:
            self._sit(None, Step(SAFE, self._steps[0].digest))
        elif self.current is not None:
            self._sit(self.current, self.current.step)  # nothing is better than it, whatever it did

    def _load(self, step: Step) -> Resident | None:
        """Return a step's model, loaded and warm; None when it is none, which is remembered."""
        if self._standby is not None and self._standby.step.way == step.way:
            resident, self._standby = self._standby, None
            return resident
        folder = folder_of(self._state, step.digest)
        if self.current is not None and self._releases_first(folder):
            self._drain()
        try:
            resident = bring_up(self._loader, step, folder)
            # A model beside another has to show that it is right: its trial may have found that it is not.
            if self._standings.was_down(step) or step.variant:
                judge(resident, folder)
            elif self._opened:
                warm_up(resident, folder)
        except (AgentError, OSError, MemoryError) as error:
            told = error if isinstance(error, AgentError) else HealthError("health-crash", str(error))
            log.warning("%s: %s on %s: %s", self._model, step.digest[:19], step.providers or "cpu", told)
            self._standings.unloadable(step, told)
            return None
        resident.version = version_of(self._state, self._model, step.digest)
        return resident

    def _sit(self, resident: Resident | None, step: Step) -> None:
        """Let a model (None: the safe output) answer from now on, under the name of a step."""
        if self._closed:
            if resident is not None:
                resident.retire()
            return
        before, old, was = self.digest, self.current, (self.digest, self.rung, self.code)
        if resident is not None:
            resident.step = step
            if resident is not old:
                self._standings.rose(step)
            self._standings.excuse(step)
        top = not ladder.above(self._steps, step if resident is not None else None)
        why = None if top else self.why()
        below = rung_of(step.rung)  # the best step of all may stand below normal: it has not got the provider
        code, reason = (why.code, str(why)) if why else (below.code, below.meanwhile if below.code else "")
        self.digest, self.rung, self.code = step.digest, step.rung, code
        self.version = resident.version if resident else version_of(self._state, self._model, step.digest)
        self.current = resident
        self._open_to_requests.set()
        if old is not None and old is not resident:
            self._leave(old)
        if (self.digest, self.rung, self.code) != was:
            self._tell(before, reason)

    def _tell(self, before: str, reason: str) -> None:
        change = Change(self._model, self.digest, self.version, self.rung, before, self.code, reason)
        if self._opened:
            log.log(
                logging.WARNING if change.code else logging.INFO,
                "%s: %s answers (%s)%s",
                change.model,
                change.digest[:19],
                change.rung,
                f", because {change.code}: {reason}" if change.code else "",
            )
        self._changes.append(change)

    def _releases_first(self, folder: Path) -> bool:
        return self._swap == AFTER_RELEASE or (self._swap == AUTO and not fits_beside(folder))

    def _drain(self) -> None:
        """Let go of what sits here, and wait until its memory is free; requests wait at the door."""
        self._drop_standby()
        old = self.current
        if old is None:
            return
        self._open_to_requests.clear()
        self.current = None
        self._leave(old)
        if not old.wait_released(DRAIN_S):
            log.warning("%s: an inference has been running for %.0f s", self._model, old.oldest_s())

    def _leave(self, resident: Resident) -> None:
        self._leaving.append(resident)
        resident.retire()

    def _drop_standby(self) -> None:
        if self._standby is not None:
            self._leave(self._standby)
            self._standby = None

    def _examine(self, current: Resident) -> None:
        """Let the golden inputs decide whether a model is wrong or the requests are that nothing could answer."""
        self._doubts = 0
        ticket = current.enter()
        if ticket is None:
            return
        try:
            judge(current, folder_of(self._state, current.step.digest))
        except AgentError as error:
            self._standings.fell(current.step, error)
        finally:
            current.leave(ticket)

    # --- called by requests ------------------------------------------------------------------------------------

    def _next(self, failed: Resident, error: InferenceError, tried: set[Way]) -> tuple[Resident, int] | None:
        """Return the next model to ask, held: what sits here by now, or one step further down, on standby."""
        with self._loading:
            if self._closed:
                return None
            current = self.current
            lower = [step for step in ladder.below(self._steps, failed.step) if step.way not in tried]
            if current is failed and lower and self._releases_first(folder_of(self._state, lower[0].digest)):
                # No room for two: the failed one goes at once.
                self._bring_down(failed, error)
                current = self.current
            if (
                current is not None
                and current.step.way not in tried
                and (ticket := current.enter()) is not None
            ):
                return current, ticket
            for step in lower:
                if self._standings.is_down(step):
                    continue
                ready = self._standby is not None and self._standby.step.way == step.way
                if not ready and self._clock() < self._futile_until:
                    continue
                resident = self._load_beside(step)
                ticket = resident.enter() if resident else None
                if resident is not None and ticket is not None:
                    return resident, ticket
            return None

    def _load_beside(self, step: Step) -> Resident | None:
        resident = self._load(step)
        if resident is not None:
            self._drop_standby()
            self._standby = resident
            self._standby_until = self._clock() + STANDBY_S
        return resident

    def _blame(self, failed: Resident, error: InferenceError) -> None:
        with self._loading:
            failed.failed = True
            # One event fails many requests at once: those that come late are about an engine that has gone already.
            if self.current is failed and self._standings.failed(failed.step, error):
                self._bring_down(failed, error)

    def _bring_down(self, failed: Resident, error: InferenceError) -> None:
        self._standings.fell(failed.step, error)
        if self._standby is None:
            self._settle()
            return
        # It has just shown that it works.
        resident, self._standby = self._standby, None
        self._sit(resident, resident.step)
        self.start()

    def _doubt(self, failed: Resident, error: InferenceError) -> None:
        with self._loading:
            failed.failed = True
            self._doubts += 1
            self._futile_until = self._clock() + FUTILE_S
            gone = ladder.is_gone(kind_of(error.code, error.__cause__), str(error))
            if not gone and self._doubts < ladder.TOLERATED:
                return
        self.start()

    def _announce(self) -> None:
        """Tell of changes, in order, outside every lock: whoever listens may use the session."""
        while self._changes:
            with contextlib.suppress(IndexError):  # another thread was faster
                change = self._changes.popleft()
                if self._on_change is not None:
                    self._on_change(change)

    def _background(self) -> None:
        while True:
            with self._starting:
                if not self._wanted or self._closed:
                    self._thread = None
                    return
                self._wanted = False
            try:
                self.settle()
            except Exception:  # whatever it was, what sits here goes on, and the next look tries again
                log.exception("%s: the session cannot settle", self._model)
                self._next_try = self._clock() + ladder.FIRST_BACKOFF_S
