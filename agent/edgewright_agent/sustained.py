"""The soak of a trial: golden inputs replayed for a while, as an application would run on the model.

>>> sustain(engine, golden, 30, beat=pulse.beat).p95_ms   # doctest: +SKIP
0.41

What one replay does not show: an answer that drifts, memory that grows with every inference, a processor that
throttles. It works half of the time, so that the model that still runs beside it keeps its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgewright_agent import memory
from edgewright_agent.engine import Engine
from edgewright_agent.errors import HealthError
from edgewright_agent.golden import Golden, compare, one_by_one

MAX_TIMES = 8192  # kept: beyond it, every second one is let go
# Memory has grown when it is more than this, and more than this share of what it was, and has not stopped.
GROWTH_BYTES, GROWTH_SHARE = 8 * 2**20, 0.1


@dataclass(frozen=True)
class Sustained:
    """What a soak measured: wall times of one sample, and memory at its end over that at a third of it."""

    seconds: float
    inferences: int
    p95_ms: float
    growth_bytes: int


@dataclass
class Times:
    """Wall times of inferences in milliseconds, in bounded memory: evenly thinned out as they become many."""

    kept: list[float] = field(default_factory=list)
    count: int = 0
    every: int = 1

    def add(self, ms: float) -> None:
        """Take one."""
        if self.count % self.every == 0:
            self.kept.append(ms)
            if len(self.kept) >= MAX_TIMES:
                self.kept, self.every = self.kept[::2], self.every * 2
        self.count += 1

    def percentile(self, share: float) -> float:
        """Return the nearest-rank percentile; 0 when there is none."""
        ordered = sorted(self.kept)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def sustain(
    engine: Engine,
    golden: Golden,
    seconds: float,
    *,
    beat: Callable[[], None],
    resident: Callable[[], int] = lambda: memory.of_process("self").resident_bytes,
    clock: Callable[[], float] = time.monotonic,
    rest: Callable[[float], None] = time.sleep,
) -> Sustained:
    """Replay the golden samples until the time is over, comparing every pass.

    Args:
        engine: The loaded model, which has answered rightly once.
        golden: Its samples.
        seconds: How long.
        beat: Told after every inference, and after the rest that follows it.
        resident: Memory of this process, in bytes.
        clock: Seconds that only grow.
        rest: Waits for so many seconds.

    Raises:
        HealthError: `health-wrong-output`; `health-memory-growth`: memory grows and has not stopped.
        InferenceError: an inference fails.
    """
    times, began, thirds = Times(), clock(), list[int]()

    def came_back(ms: float) -> None:
        times.add(ms)
        beat()
        rest(ms / 1000)
        beat()  # or what was rested would count as time that the next inference takes

    while True:
        compare(one_by_one(engine, golden.inputs, came_back), golden)
        gone_s = clock() - began
        while len(thirds) < 3 and gone_s >= seconds * (len(thirds) + 1) / 3:
            thirds.append(resident())
        if gone_s >= seconds:
            break
    _check_growth(thirds, seconds)
    return Sustained(
        round(gone_s, 3), times.count, round(times.percentile(0.95), 3), max(0, thirds[2] - thirds[0])
    )


def _check_growth(thirds: list[int], seconds: float) -> None:
    """Memory that settles is what caches take; what also grows in the last third goes on growing."""
    grown, lately = thirds[2] - thirds[0], thirds[2] - thirds[1]
    if grown > max(GROWTH_BYTES, GROWTH_SHARE * thirds[0]) and lately > grown / 4:
        raise HealthError(
            "health-memory-growth",
            f"memory grew by {grown / 2**20:.1f} MiB in {seconds * 2 / 3:.0f} s of inference and has not stopped",
        )
