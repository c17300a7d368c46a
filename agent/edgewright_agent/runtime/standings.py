"""How each way of running a model stands on this device, and why: a session's memory of what failed here.

>>> standings = Standings(time.monotonic)                        # doctest: +SKIP
>>> standings.fell(step, error)                                  # doctest: +SKIP
>>> standings.is_down(step), standings.why([step]).code          # doctest: +SKIP
(True, 'health-crash')

Of what failed it keeps words: an error holds its traceback, that the frames of the engine, and those the model and
the request's inputs.

Not safe to share between threads: `seat` holds its lock meanwhile. Only `why` may be asked without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from edgewright_agent.errors import AgentError
from edgewright_agent.runtime import ladder
from edgewright_agent.runtime.ladder import LOAD, Standing, Step, Way, kind_of


@dataclass(frozen=True)
class Reason:
    """Why a step was not taken: an error in words, to be raised as often as somebody asks."""

    kind: type[AgentError]
    code: str
    message: str

    @classmethod
    def of(cls, error: AgentError) -> Reason:
        """Return what an error says."""
        return cls(type(error), error.code, str(error))

    def error(self) -> AgentError:
        """Return a new error that says the same."""
        return self.kind(self.code, self.message)


class Standings:
    """The standings of one session's steps."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._of: dict[Way, Standing] = {}
        self._reasons: dict[Way, Reason] = {}

    def keep(self, steps: Iterable[Step]) -> None:
        """Forget every way that is none of `steps`."""
        ways = {step.way for step in steps}
        self._of = {way: standing for way, standing in self._of.items() if way in ways}
        self._reasons = {way: reason for way, reason in self._reasons.items() if way in ways}

    def is_down(self, step: Step) -> bool:
        """Whether a step is neither to be used nor tried yet."""
        return self._standing(step).is_down(self._clock())

    def was_down(self, step: Step) -> bool:
        """Whether a step has been down, so that it has to show more than that it loads."""
        return self._standing(step).backoff_s > 0

    def failed(self, step: Step, error: AgentError) -> bool:
        """Count a failed inference; return whether that was one too many."""
        kind = kind_of(error.code, error.__cause__)
        self._of[step.way] = ladder.failed(self._standing(step), kind, self._clock(), str(error))
        if self.is_down(step):
            self._reasons[step.way] = Reason.of(error)
        return self.is_down(step)

    def unloadable(self, step: Step, error: AgentError) -> None:
        """Take a step down that could not be loaded."""
        self._of[step.way] = ladder.failed(self._standing(step), LOAD, self._clock())
        self._reasons[step.way] = Reason.of(error)

    def fell(self, step: Step, error: AgentError) -> None:
        """Take a step down, however often it has failed."""
        if not self.is_down(step):
            self._of[step.way] = ladder.fallen(self._standing(step), self._clock())
        self._reasons[step.way] = Reason.of(error)

    def rose(self, step: Step) -> None:
        """Note that a step that was down works again."""
        if self.was_down(step):
            self._of[step.way] = ladder.risen(self._standing(step), self._clock())

    def acquit(self, step: Step) -> None:
        """Forget all that was held against a step: it was not at fault."""
        self._of.pop(step.way, None)
        self._reasons.pop(step.way, None)

    def succeeded(self, step: Step) -> None:
        """Note a success: failures in a row have ended."""
        standing = self._standing(step)
        if standing.failures:
            self._of[step.way] = replace(standing, failures=0, kind="")

    def excuse(self, step: Step) -> None:
        """Forget why a step was not taken: it is taken."""
        self._reasons.pop(step.way, None)

    def why(self, steps: Sequence[Step]) -> AgentError | None:
        """Return why the best of `steps` that is held back is, as an error nobody else has."""
        # Another thread may take one out between two looks.
        found = map(self._reasons.get, (step.way for step in steps))
        reason = next(filter(None, found), None)
        return reason.error() if reason else None

    def next_try(self, steps: Iterable[Step]) -> float:
        """Return when one of `steps` may be tried next, by the clock; infinity when there is none."""
        return ladder.next_try(steps, self._standing)

    def _standing(self, step: Step) -> Standing:
        return self._of.get(step.way, Standing())
