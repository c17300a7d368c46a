"""A session's way down the ladder and up again: when to go, how long to stay. Pure; nothing here loads or infers.

>>> standing = Standing()
>>> for _ in range(3): standing = failed(standing, "inference-failed Fail", 100.0)
>>> standing.is_down(100.0), standing.down_until
(True, 130.0)
>>> failed(risen(standing, 130.0), LOAD, 131.0).down_until    # down again soon after: twice as long
191.0

A step is left after one failure that means it is gone (it does not load, the device was reset, memory ran out) and
after three failed inferences of one kind in a row otherwise. It is tried again in the background after 30 s, and
each time it disappoints soon after that, twice as late, at most after an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

FIRST_BACKOFF_S = 30.0
MAX_BACKOFF_S = 3600.0
TOLERATED = 3  # failed inferences of one kind in a row
LOAD = "load"  # the kind of a failure to load
# Parts of the class names and messages of engine errors after which trying again at once is no use.
_GONE = (
    "EPFail",
    "DeviceReset",
    "EngineError",
    "MemoryError",
    "out of memory",
    "device lost",
    "device removed",
)

# Digest, variant, providers.
Way = tuple[str, str, "tuple[str, ...] | None"]


@dataclass(frozen=True)
class Step:
    """One way in which a model can be run on this device.

    Attributes:
        rung: Its name in `degrade.RUNGS`.
        digest: Of the artifact; empty for the safe output.
        variant: A key of `settings.VARIANTS`.
        providers: Execution providers to load it with; None: whatever the artifact says.
    """

    rung: str
    digest: str
    variant: str = ""
    providers: tuple[str, ...] | None = None

    @property
    def way(self) -> Way:
        """What makes it the same engine, whatever the rung is called by now."""
        return self.digest, self.variant, self.providers


@dataclass(frozen=True)
class Standing:
    """What is known about one way of running a model; times are seconds of a monotonic clock.

    Attributes:
        failures: In a row, of one kind.
        kind: Of what.
        down_until: When it may be tried again.
        backoff_s: How long it stayed down last time.
        risen_at: Since when it has been working again, if it has been down.
    """

    failures: int = 0
    kind: str = ""
    down_until: float = float("-inf")
    backoff_s: float = 0.0
    risen_at: float = float("-inf")

    def is_down(self, now: float) -> bool:
        """Whether it is not to be used, nor tried, yet."""
        return now < self.down_until


def kind_of(code: str, cause: BaseException | None) -> str:
    """Return what a failed inference is compared by: its code and the engine's own class of error."""
    return f"{code} {type(cause).__name__}" if cause else code


def is_gone(kind: str, message: str = "") -> bool:
    """Whether a failure means that what runs the model is gone, so that trying again at once is no use."""
    return kind == LOAD or any(sign in kind or sign.lower() in message.lower() for sign in _GONE)


def failed(standing: Standing, kind: str, now: float, message: str = "") -> Standing:
    """Return the standing after one more failure; it is down when that was one too many."""
    count = standing.failures + 1 if kind == standing.kind else 1
    standing = replace(standing, failures=count, kind=kind)
    return fallen(standing, now) if count >= TOLERATED or is_gone(kind, message) else standing


def fallen(standing: Standing, now: float) -> Standing:
    """Return the standing of what is down from now on."""
    # What has been up for longer than it was down has proved itself: the next time begins anew.
    proved = float("-inf") < standing.risen_at < now - standing.backoff_s
    again = standing.backoff_s and not proved
    backoff_s = min(MAX_BACKOFF_S, 2 * standing.backoff_s) if again else FIRST_BACKOFF_S
    return Standing(kind=standing.kind, down_until=now + backoff_s, backoff_s=backoff_s)


def risen(standing: Standing, now: float) -> Standing:
    """Return the standing of what was found to work again."""
    return replace(standing, failures=0, kind="", risen_at=now)


def succeeded(standing: Standing, now: float) -> Standing:
    """Return the standing after an answer, of what requests try again: what was down has risen with it."""
    if standing.backoff_s and standing.risen_at == float("-inf") and not standing.is_down(now):
        return risen(standing, now)
    return replace(standing, failures=0, kind="") if standing.failures else standing


def above(steps: Sequence[Step], current: Step | None) -> Sequence[Step]:
    """Return the steps that are better than `current`; all of them when it is none of them."""
    for index, step in enumerate(steps):
        if current is not None and step.way == current.way:
            return steps[:index]
    return steps


def below(steps: Sequence[Step], current: Step) -> Sequence[Step]:
    """Return the steps that are worse than `current`; all others when it is none of them."""
    for index, step in enumerate(steps):
        if step.way == current.way:
            return steps[index + 1 :]
    return steps


def next_try(steps: Iterable[Step], standing: Callable[[Step], Standing]) -> float:
    """Return when one of `steps` may be tried next; infinity when there is none."""
    return min((standing(step).down_until for step in steps), default=float("inf"))
