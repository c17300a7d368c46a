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

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.contract import FILE_RUNTIME
from edgewright_agent.engine import InferenceError, InputError, check_inputs
from edgewright_agent.errors import ConfigError
from edgewright_agent.runtime import ladder
from edgewright_agent.runtime.change import Change
from edgewright_agent.runtime.errand import Errand
from edgewright_agent.runtime.ladder import Step, Way, kind_of
from edgewright_agent.runtime.resident import Loader, Resident, let_go
from edgewright_agent.runtime.steps import denied, folder_of
from edgewright_agent.runtime.walk import AUTO, FUTILE_S, Walk

if TYPE_CHECKING:
    from edgewright_agent.engine import Arrays

PATIENCE_S = 10.0  # that a request which failed waits for a load in progress before it is answered without
BLAME_S = 0.5  # the same, once it has its answer
CLOSE_S = 1.0  # that closing waits for a load in progress
STANDBY_S = 60.0  # that a model is kept which has answered for one that failed


class Seat(Walk):
    """The seat of one session; safe to share between threads."""

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
        super().__init__(model, state, loader, swap=swap, on_change=on_change, clock=clock)
        # What gave way for failing three requests, though it is right by the golden inputs.
        self._suspect: Resident | None = None
        self._futile_until = float("-inf")
        self._errand = Errand(self.settle, "edgewright-loader", self._put_off)

    def open(self) -> None:
        """Load what the device runs, or what is next on the ladder.

        Raises:
            ConfigError: `no-model`: nothing is installed under this name.
            HealthError: nothing here can be loaded, and no safe output is declared; it is about the active model.
        """
        self._available = self._loader.available()
        self.settle()
        self._opened = True
        if self.current is not None or self.safe is not None:
            return
        active = self._steps[0].digest if self._steps else ""
        if error := denied(folder_of(self._state, active) / FILE_RUNTIME if active else self._link):
            raise error
        if not self._steps:
            raise ConfigError(
                "no-model", f"{self._link} does not exist: no {self._model} has been installed here yet"
            )
        raise self.why()

    def take(self) -> tuple[Resident, int] | None:
        """Return what answers, held, and the ticket to give it back; see `Room.take`."""
        return self._room.take()

    def look(self) -> None:
        """Notice an update, or that something may be tried again; what there is to do is done in the background."""
        try:
            changed = os.readlink(self._link) != self._target  # noqa: PTH115  no objects for it at every call
        except OSError:
            changed = False
        if changed or self._clock() >= self._next_try:
            self._next_try = float("inf")
            self.start()
        elif self._room.standby is not None and self._clock() >= self._standby_until:
            self.start()

    def start(self) -> None:
        """Settle in the background."""
        self._errand.want()

    def settle(self) -> None:
        """Bring the seat as high on the ladder as it goes now. Blocks; requests go on."""
        with self._loading:
            if not self._closed:
                self._settle()
        self._changes.announce()

    def fall(
        self, failed: Resident, error: InferenceError, inputs: Arrays
    ) -> tuple[Arrays, Resident, float] | None:
        """Answer a request that `failed` could not, by the next step that can; None when none can.

        Whether the failed one keeps its place is decided here as well: one that another has just shown to be wrong
        goes after too many failures; where all fail alike, the golden inputs decide later.

        Returns:
            Outputs, the model they are from, and how many microseconds it took.
        """
        tried = {failed.step.way}
        while (found := self._next(failed, error, tried)) is not None:
            resident, ticket = found
            tried.add(resident.step.way)
            try:
                checked = check_inputs(resident.inputs, inputs)
                started = time.perf_counter()
                outputs = resident.infer(checked)
                microseconds = (time.perf_counter() - started) * 1e6
            except (InferenceError, InputError):  # an older version may take other inputs
                continue
            finally:
                resident.leave(ticket)
            self._blame(failed, error)
            self._changes.announce()
            return outputs, resident, microseconds
        self._doubt(failed, error, asked=len(tried) > 1)
        self._changes.announce()
        return None

    def proved(self, resident: Resident) -> None:
        """Clear a model's failures after a success; while something is being loaded, the next success does."""
        if not self._loading.acquire(blocking=False):
            return
        try:
            resident.failed = False
            self._doubts = 0
            self._standings.succeeded(resident.step)
            examined = self._clock() < self._examined_until
        finally:
            self._loading.release()
        if resident.wrong and not examined:
            self.start()  # it has come back by itself, perhaps

    @property
    def providers(self) -> tuple[str, ...]:
        """Execution providers in use."""
        current = self.current
        return current.providers if current else ()

    def oldest_s(self) -> float:
        """Return the age of the oldest inference in flight on the model that answers, by whatever provider.

        One that another model still works at says nothing about this one, which may have just come to prove itself.
        """
        return self._room.oldest_s(self.digest)

    def close(self) -> None:
        """Let go of everything once it is not used any more."""
        self._closed = True
        self._errand.end()
        # A load in progress must not hold up whoever closes; what it brings finds the door closed.
        waited = self._loading.acquire(timeout=CLOSE_S)
        try:
            self._room.close()
        finally:
            if waited:
                self._loading.release()

    def wait_over(self, timeout_s: float) -> bool:
        """After `close`: wait until no request is in the engine any more; return whether that is so."""
        return self._room.wait_over(timeout_s)

    # --- called by requests ------------------------------------------------------------------------------------

    def _next(self, failed: Resident, error: InferenceError, tried: set[Way]) -> tuple[Resident, int] | None:
        """Return the next model to ask, held: what sits here by now, or one step further down, on standby."""
        # Without the lock: who holds it may be loading something for minutes, or for ever.
        for ready in (self._room.current, self._room.standby):
            if ready is not None and ready.step.way not in tried and (ticket := ready.enter()) is not None:
                return ready, ticket
        if not self._loading.acquire(timeout=PATIENCE_S):
            return None
        try:
            return None if self._closed else self._further_down(failed, error, tried)
        finally:
            self._loading.release()

    def _further_down(
        self, failed: Resident, error: InferenceError, tried: set[Way]
    ) -> tuple[Resident, int] | None:
        lower = [
            step
            for step in ladder.below(self._steps, failed.step)
            if step.way not in tried and not self._standings.is_down(step)
        ]
        if (
            self.current is failed
            and lower
            and self._releases_first(folder_of(self._state, lower[0].digest))
            and self._must_go(failed, error)
        ):
            self._bring_down(failed, error)
        current = self.current
        if current is not None and current.step.way not in tried and (ticket := current.enter()) is not None:
            return current, ticket
        for step in lower:
            if self._standings.is_down(step):
                continue
            standby = self._room.standby
            ready = standby is not None and standby.step.way == step.way
            if not ready and self._clock() < self._futile_until:
                continue
            if (
                not ready
                and current is not None
                and self._releases_first(folder_of(self._state, step.digest))
            ):
                continue  # what sits here may be fine: another request is no reason to let go of it
            resident = self._load_beside(step)
            ticket = resident.enter() if resident else None
            if resident is not None and ticket is not None:
                return resident, ticket
        return None

    def _must_go(self, failed: Resident, error: InferenceError) -> bool:
        """Whether a model is to go before any other is asked, because there is no room for two.

        The golden inputs are asked instead of the next step. Where they are right, it takes as many failures in a row
        as everywhere.
        """
        gone = ladder.is_gone(kind_of(error.code, error.__cause__), str(error))
        if not gone and not failed.wrong and self._clock() >= self._examined_until:
            self._examine(failed)
        if gone or failed.wrong:
            return True
        if self._clock() < self._futile_until or not self._standings.failed(failed.step, error):
            return False
        self._suspect = failed
        return True

    def _load_beside(self, step: Step) -> Resident | None:
        resident = self._load(step, beside=True)
        if resident is not None:
            self._room.keep(resident)
            self._standby_until = self._clock() + STANDBY_S
        return resident

    def _blame(self, failed: Resident, error: InferenceError) -> None:
        failed.failed = True
        if not self._loading.acquire(timeout=BLAME_S):
            return  # the request has its answer; the next failure is as good a reason
        try:
            if self._suspect is failed:
                self._suspect = None  # another could
            # One event fails many requests at once: those that come late are about an engine that has gone already.
            if self.current is failed and self._standings.failed(failed.step, error):
                self._bring_down(failed, error)
        finally:
            self._loading.release()

    def _bring_down(self, failed: Resident, error: InferenceError) -> None:
        let_go(error)  # the caller may get it, and the memory of the engine is needed
        failed.failed, failed.wrong = True, failed is not self._suspect
        self._standings.fell(failed.step, error)
        standby = self._room.standby
        if standby is None:
            self._settle()
            return
        # It has just shown that it works.
        self._room.claim(standby.step)
        self._sit(standby, standby.step)
        self.start()

    def _doubt(self, failed: Resident, error: InferenceError, *, asked: bool) -> None:
        failed.failed = True
        if asked:
            self._futile_until = self._clock() + FUTILE_S
        if failed is self._suspect:
            self._acquit(failed)
        if failed.wrong:
            return
        self._doubts += 1
        gone = ladder.is_gone(kind_of(error.code, error.__cause__), str(error))
        # The golden inputs are not replayed for every request of a caller that goes on sending what nothing can run.
        if (gone or self._doubts >= ladder.TOLERATED) and self._clock() >= self._examined_until:
            self.start()

    def _acquit(self, failed: Resident) -> None:
        """Let a model back that gave way to one which could not answer the request either: it was the request."""
        if not self._loading.acquire(timeout=BLAME_S):
            return  # it climbs like any other then
        try:
            if self._suspect is not failed:
                return  # another request had an answer from the one below, or has done this
            self._suspect = None
            self._standings.acquit(failed.step)
        finally:
            self._loading.release()
        self.start()

    def _put_off(self) -> None:
        """After a failure to settle: what sits here goes on, and a look later tries again."""
        self._next_try = self._clock() + ladder.FIRST_BACKOFF_S
