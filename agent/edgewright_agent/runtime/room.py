"""Who is in memory: the model that answers, one on standby, those that are leaving; and the door for requests.

>>> room = Room("digit-reader")                                      # doctest: +SKIP
>>> room.seat(resident)                                              # doctest: +SKIP
>>> resident, ticket = room.take()                                   # doctest: +SKIP

Requests take what answers without a lock. Everything that changes who is here is called by one thread at a time, under
the lock of `seat`.
"""

from __future__ import annotations

import logging
import threading
import time
from enum import Enum

from edgewright_agent.engine import InferenceError
from edgewright_agent.errors import AgentError
from edgewright_agent.runtime.ladder import Step
from edgewright_agent.runtime.resident import Resident

log = logging.getLogger("edgewright")

WAIT_S = 120.0  # that a request waits while no model is in memory, because another is being loaded
DRAIN_S = 60.0  # to wait for inferences in flight before memory is needed twice after all


class Empty(Enum):
    """Why nobody answers."""

    NOBODY = "nothing can"
    COMING = "one was let go of to make room for another, which is being loaded"


class Room:
    """The models of one session in memory.

    Attributes:
        standby: What has answered for one that failed, and may have to again.
    """

    def __init__(self, model: str) -> None:
        # One value, so that a request sees at one glance who is there, or whether to wait for one.
        self._seated: Resident | Empty = Empty.NOBODY
        self.standby: Resident | None = None
        self._model = model
        self._leaving: tuple[Resident, ...] = ()
        self._closed = False
        self._door = threading.Event()
        self._door.set()

    @property
    def current(self) -> Resident | None:
        """What answers; None when nothing can, or while a model is let go of to make room for another."""
        seated = self._seated
        return None if isinstance(seated, Empty) else seated

    def take(self) -> tuple[Resident, int] | None:
        """Return what answers, held, and the ticket to give it back; None when nothing can.

        Raises:
            AgentError: `closed`.
            InferenceError: `inference-failed`: the one that is being loaded in place of another takes too long.
        """
        while True:
            seated = self._seated
            if not isinstance(seated, Empty):
                ticket = seated.enter()
                if ticket is not None:
                    return seated, ticket
            elif self._closed:
                raise AgentError("closed", f"the session with {self._model} is closed: open another one")
            elif seated is Empty.NOBODY:
                return None
            elif not self._door.wait(WAIT_S):
                told = f"no {self._model} is in memory: another has been loading for {WAIT_S:.0f} s"
                raise InferenceError("inference-failed", told)

    def seat(self, resident: Resident | None) -> None:
        """Let a model (None: none) answer from now on; the one before it leaves after its last request."""
        old, self._seated = self.current, resident or Empty.NOBODY
        self._door.set()
        if old is not None and old is not resident:
            self._leave(old)
        if self._closed:  # meanwhile, by somebody who did not wait
            self._vacate()

    def drain(self) -> None:
        """Let go of every model, and wait until the memory is free; requests wait at the door until `open`."""
        self.drop_standby()
        old = self.current
        if old is None:
            return
        self._door.clear()
        self._vacate(Empty.COMING)
        if not old.wait_released(DRAIN_S):
            log.warning("%s: an inference has been running for %.0f s", self._model, old.oldest_s())

    def open(self) -> None:
        """Let requests in, whatever they meet: nothing more will come."""
        if self._seated is Empty.COMING:
            self._seated = Empty.NOBODY
        self._door.set()

    def keep(self, resident: Resident) -> None:
        """Hold a model on standby, in the place of another."""
        self.drop_standby()
        self.standby = resident
        if self._closed:
            self.drop_standby()

    def claim(self, step: Step) -> Resident | None:
        """Return what is on standby, if it is that step's; it is on standby no more."""
        if self.standby is None or self.standby.step.way != step.way:
            return None
        resident, self.standby = self.standby, None
        return resident

    def drop_standby(self) -> None:
        """Let go of what is on standby."""
        resident, self.standby = self.standby, None
        if resident is not None:
            self._leave(resident)

    def close(self) -> None:
        """Let go of everything, and let nothing in again."""
        self._closed = True
        self.drop_standby()
        self._vacate()
        self._door.set()

    def oldest_s(self, digest: str) -> float:
        """Return the age of the oldest inference in flight on one artifact, by whatever provider."""
        held = [self.current, self.standby, *self._leaving]
        return max((one.oldest_s() for one in held if one and one.step.digest == digest), default=0.0)

    def wait_over(self, timeout_s: float) -> bool:
        """After `close`: wait until no request is in the engine any more; return whether that is so."""
        ends = time.monotonic() + timeout_s
        return all(one.wait_released(max(0.0, ends - time.monotonic())) for one in self._leaving)

    def _vacate(self, why: Empty = Empty.NOBODY) -> None:
        resident, self._seated = self.current, why
        if resident is not None:
            self._leave(resident)

    def _leave(self, resident: Resident) -> None:
        # A new tuple each time: others read it without a lock.
        self._leaving = (*(one for one in self._leaving if not one.released), resident)
        resident.retire()
