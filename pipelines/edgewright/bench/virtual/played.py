"""What happened in one case of a simulation, tick by tick, and the figures that follow from it.

>>> percentile([10, 20, 30, 40], 50), percentile([10, 20, 30, 40], 95)
(20, 40)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.bench.virtual.thermal import NO_HEAT, TICK_NS, Die
from edgewright.bench.virtual.workload import NS_PER_S

PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Case:
    """Surroundings and past of the die.

    Attributes:
        ambient_c: Temperature of the air.
        settled: Whether the load has been there for hours; otherwise the die has idled.
    """

    name: str
    ambient_c: float
    settled: bool = False


@dataclass(frozen=True)
class Tick:
    """What one look of the governor saw.

    Attributes:
        step: During the tick; 0 is full clock.
        served: Answers given in it.
        power_uw: Mean over it.
        temperature_nk: At its end.
    """

    step: int
    served: int
    power_uw: int
    temperature_nk: int


@dataclass(frozen=True)
class Played:
    """What happened in one case.

    Attributes:
        die: With its heat, or `NO_HEAT`.
        start_nk: Temperature at the beginning.
        requests: Inferences asked for.
        dropped: Those that found the queue full.
        pending: Those not answered when time was up.
        sojourns_ns: Time from asking to answer of each request served, sorted.
        services_ns: Time from start to answer of each, sorted.
        busy_ns: Time spent inferring.
        ticks: The course of it all.
        projected_ns: When the clock would first drop at the offered load, by the closed form, however long
            that takes; None: never.
        sustained_per_s: Services per second this die keeps up for hours in this air, always busy.
    """

    case: Case
    die: Die
    start_nk: int
    requests: int
    dropped: int
    pending: int
    sojourns_ns: Sequence[int]
    services_ns: Sequence[int]
    busy_ns: int
    ticks: Sequence[Tick]
    projected_ns: int | None
    sustained_per_s: float

    @property
    def duration_ns(self) -> int:
        """Virtual time that passed."""
        return len(self.ticks) * TICK_NS

    @property
    def peak_nk(self) -> int:
        """Highest temperature."""
        return max(self.start_nk, max(tick.temperature_nk for tick in self.ticks))

    @property
    def throttled_ns(self) -> int:
        """Time below full clock."""
        return sum(TICK_NS for tick in self.ticks if tick.step)

    @property
    def throttled_at_ns(self) -> int | None:
        """When the clock first dropped, None when it never did."""
        return next((index * TICK_NS for index, tick in enumerate(self.ticks) if tick.step), None)

    def document(self) -> dict[str, Any]:
        """Return the figures with their units, rounded to what they are worth."""
        served, duration_ns = len(self.sojourns_ns), self.duration_ns
        queueing = {
            "name": self.case.name,
            "requests": self.requests,
            "served": served,
            "dropped": self.dropped,
            "pending": self.pending,
            "droppedShare": round(self.dropped / self.requests, 4) if self.requests else 0.0,
            "servedPerS": round(served * NS_PER_S / duration_ns, 3),
            "sustainedPerS": round(self.sustained_per_s, 3),
            "utilization": round(self.busy_ns / duration_ns, 4),
            "sojournMs": _percentiles(self.sojourns_ns),
            "serviceMs": _percentiles(self.services_ns),
        }
        if self.die is NO_HEAT:
            return queueing
        return {
            **queueing,
            "ambientC": self.case.ambient_c,
            "peakTemperatureC": round(self.peak_nk / 1_000_000_000, 2),
            "meanPowerW": round(sum(tick.power_uw for tick in self.ticks) / len(self.ticks) / 1_000_000, 3),
            "timeToThrottleS": _seconds(self.throttled_at_ns),
            "projectedTimeToThrottleS": _seconds(self.projected_ns),
            "throttledShare": round(self.throttled_ns / duration_ns, 4),
        }


def percentile(ordered: Sequence[int], share: int) -> int:
    """Return the smallest of `ordered` that at least `share` percent do not exceed (nearest rank)."""
    return ordered[max(0, -(-share * len(ordered) // 100) - 1)]


def _percentiles(ordered: Sequence[int]) -> dict[str, float] | None:
    if not ordered:
        return None
    return {
        **{f"p{share}": rounded_ms(percentile(ordered, share)) for share in PERCENTILES},
        "max": rounded_ms(ordered[-1]),
    }


def rounded_ms(duration_ns: int) -> float:
    """Return a duration in milliseconds, rounded to microseconds."""
    return round(duration_ns / 1_000_000, 3)


def _seconds(duration_ns: int | None) -> float | None:
    return None if duration_ns is None else round(duration_ns / NS_PER_S, 1)
