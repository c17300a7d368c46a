"""How a model comes to the seat of a session: the steps of the ladder, from the best down, as far as one can be loaded.

>>> walk = Walk("digit-reader", Path("/var/lib/edgewright"), OnnxRuntime())     # doctest: +SKIP
>>> walk.why()                                                                  # doctest: +SKIP

What is here may take minutes, and is done under one lock; what requests do meanwhile is `seat`'s.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.errors import AgentError, HealthError
from edgewright_agent.ladder import step as rung_of
from edgewright_agent.runtime import ladder
from edgewright_agent.runtime.change import Change, Changes
from edgewright_agent.runtime.ladder import Step, Way
from edgewright_agent.runtime.resident import Loader, Resident, bring_up, fits_beside, judge, warm_up
from edgewright_agent.runtime.room import Room
from edgewright_agent.runtime.safe import Signature, read_safe_output
from edgewright_agent.runtime.standings import Standings
from edgewright_agent.runtime.steps import active_digest, folder_of, steps_of, version_of
from edgewright_agent.settings import AFTER_RELEASE, BESIDE

if TYPE_CHECKING:
    from edgewright_agent.safe_output import SafeOutput

log = logging.getLogger("edgewright")

AUTO = "auto"
SWAPS = (AUTO, BESIDE, AFTER_RELEASE)
FUTILE_S = 10.0  # after a request that every model failed at: others are not loaded for the next one like it
NORMAL, SAFE = "normal", "safe-output"


class Walk:
    """The steps of one model, what sits at which, and since when it may be tried again.

    Attributes:
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
        self.digest = self.version = self.code = ""
        self.rung = NORMAL
        self.safe: SafeOutput | None = None
        self.signature = Signature()
        self._said_by = ""
        self._model, self._state, self._loader = model, state, loader
        self._swap, self._clock = swap, clock
        self._room = Room(model)
        self._link = state / "current" / model
        self._target = self._incumbent = ""
        self._steps: tuple[Step, ...] = ()
        self._standings = Standings(clock)
        self._next_try = float("inf")
        self._standby_until = self._examined_until = float("-inf")
        self._doubts = 0
        self._changes = Changes(on_change)
        self._available: tuple[str, ...] = ()
        self._opened = self._closed = False
        self._loading = threading.RLock()

    def why(self) -> AgentError:
        """Return why the best step is not taken."""
        return self._standings.why(self._steps) or HealthError(
            "health-crash", f"no {self._model} can be loaded"
        )

    @property
    def current(self) -> Resident | None:
        """What answers; None when nothing can, or while a model is let go of to make room."""
        return self._room.current

    # --- under `_loading` ---------------------------------------------------------------------------------------

    def _settle(self) -> None:
        self._look_at_device()
        current = self.current
        # One that is known to be wrong is examined again once it answers: until then only loading it anew may help.
        if current is not None and (not current.failed if current.wrong else self._doubts):
            self._examine(current)
        try:
            self._walk(current)
        finally:
            self._room.open()
        if self._clock() >= self._standby_until:
            self._room.drop_standby()
        sits = self.current
        better = ladder.above(self._steps, None if sits is None or sits.wrong else sits.step)
        self._next_try = self._standings.next_try(better)

    def _look_at_device(self) -> None:
        try:
            self._target = os.readlink(self._link)  # noqa: PTH115
        except OSError:
            self._target = ""
        self._steps = steps_of(self._state, self._model, self._available, self._incumbent or None)
        self._standings.keep(self._steps)
        active = active_digest(self._state, self._model) or (self._steps[0].digest if self._steps else None)
        if active:
            try:
                found = read_safe_output(folder_of(self._state, active))
            except HealthError as error:
                log.warning("%s: %s", self._model, error)
                found = None, self.signature
            # Of a model whose files can no longer be read, what they said is still true.
            if found is not None:
                (self.safe, self.signature), self._said_by = found, active
            elif self._said_by != active:
                self.safe, self.signature = None, Signature()

    def _walk(self, current: Resident | None) -> None:
        tried: set[Way] = set()
        for step in self._steps:
            if self._standings.is_down(step):
                continue
            if (
                current is not None
                and current is self.current
                and step.way == current.step.way
                and not current.wrong
            ):
                self._sit(current, step)
                return
            tried.add(step.way)
            if resident := self._load(step):
                self._sit(resident, step)
                return
        if self.safe is not None and self._steps:
            self._sit(None, Step(SAFE, self._steps[0].digest))
        elif self.current is not None:
            self._sit(self.current, self.current.step)  # nothing is better than it, whatever it did
        elif (
            current is not None
            and current.step.way not in tried
            and (resident := self._load(current.step)) is not None
        ):
            self._sit(resident, current.step)  # the same, let go of in vain
        elif self._steps:
            self._sit(None, Step(SAFE, self._steps[0].digest))  # nothing is declared: requests get the reason

    def _load(self, step: Step, *, beside: bool = False) -> Resident | None:
        """Return a step's model, loaded and warm; None when it is none, which is remembered.

        Args:
            step: What to load.
            beside: Whether what sits here stays, however little memory there is.
        """
        if claimed := self._room.claim(step):
            return claimed
        folder = folder_of(self._state, step.digest)
        if self.current is not None and not beside and self._releases_first(folder):
            self._room.drain()
        try:
            resident = bring_up(self._loader, step, folder)
            # A model beside another has to show that it is right: its trial may have found that it is not.
            if self._standings.was_down(step) or step.variant:
                judge(resident, folder)
            elif self._opened:
                warm_up(resident, folder)
        except Exception as error:  # noqa: BLE001  whatever it is about, the next step may do
            # No name and no log record may hold it: its traceback holds this frame and the model, soon to be gone.
            log.warning(
                "%s: %s on %s: %s", self._model, step.digest[:19], step.providers or "cpu", str(told(error))
            )
            self._standings.unloadable(step, told(error))
            return None
        resident.version = version_of(self._state, self._model, step.digest)
        return resident

    def _sit(self, resident: Resident | None, step: Step) -> None:
        """Let a model (None: the safe output) answer from now on, under the name of a step."""
        if self._closed:
            if resident is not None:
                resident.retire()
            return
        before, was = self.digest, (self.digest, self.rung, self.code)
        if resident is not None:
            resident.step = step
            self._incumbent = step.digest
            if resident is not self.current:
                self._standings.rose(step)
            if not resident.wrong:
                self._standings.excuse(step)
        # One that is wrong sits here because nothing else can be had: no step of the ladder is up.
        stands = resident is not None and not resident.wrong
        top = not ladder.above(self._steps, step if stands else None)
        why = None if top else self.why()
        rung = step.rung if stands else SAFE
        below = rung_of(rung)  # the best step of all may stand below normal: it has not got the provider
        code, reason = (why.code, str(why)) if why else (below.code, below.meanwhile if below.code else "")
        self.digest, self.rung, self.code = step.digest, rung, code
        self.version = resident.version if resident else version_of(self._state, self._model, step.digest)
        self._room.seat(resident)
        if not self._closed and (self.digest, self.rung, self.code) != was:
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
        self._changes.note(change)

    def _releases_first(self, folder: Path) -> bool:
        return self._swap == AFTER_RELEASE or (self._swap == AUTO and not fits_beside(folder))

    def _examine(self, current: Resident) -> None:
        """Let the golden inputs decide whether a model is wrong or the requests are that nothing could answer."""
        self._doubts = 0
        self._examined_until = self._clock() + FUTILE_S
        ticket = current.enter()
        if ticket is None:
            return
        try:
            judge(current, folder_of(self._state, current.step.digest))
        except Exception as error:  # noqa: BLE001  as in `_load`
            if not current.wrong:  # else its time down has begun already, and must end
                self._standings.fell(current.step, told(error))
            current.wrong = True
        else:
            if current.wrong:
                current.wrong = False
                self._standings.acquit(current.step)
        finally:
            current.leave(ticket)


def told(error: Exception) -> AgentError:
    """Return an error as one of ours."""
    return error if isinstance(error, AgentError) else HealthError("health-crash", f"{error!r}")
