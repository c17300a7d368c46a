"""When inferences are asked for: a seeded stream of arrival times.

>>> Workload("periodic", rate_per_s=4, queue=2).arrivals_ns(seed="any").__next__()
250000000

Times are whole nanoseconds, and chance comes from comparing uniform numbers only. No logarithm is involved,
whose last bit may differ between two C libraries, so every machine draws the same stream.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgewright.errors import SpecError

NS_PER_S = 1_000_000_000
Arrival = Literal["periodic", "poisson", "burst"]


@dataclass(frozen=True)
class Workload:
    """What an application asks of a model.

    Attributes:
        arrival: `periodic` (a sensor's clock), `poisson` (independent requests), `burst` (groups of `burst`
            at once; the groups are independent of each other).
        rate_per_s: Inferences per second, on average.
        queue: How many may wait besides the one being served; whatever comes on top is dropped.
        burst: How many come at once; 1 except with `burst`.
    """

    arrival: Arrival
    rate_per_s: float
    queue: int
    burst: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.rate_per_s <= NS_PER_S or self.queue < 0 or self.burst < 1:
            raise SpecError(f"a workload needs a rate, a queue of 0 or more and bursts of 1 or more: {self}")

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Workload:
        """Read `workload` of `model.yaml`, in the words of the YAML, the rate in 1/s."""
        return cls(spec["arrival"], float(spec["rate"]), int(spec["queue"]), int(spec.get("burst") or 1))

    @property
    def gap_ns(self) -> int:
        """Mean time between arrivals, or between groups of them."""
        return max(1, round(NS_PER_S * self.burst / self.rate_per_s))

    def arrivals_ns(self, seed: str) -> Iterator[int]:
        """Yield arrival times (ns), rising, without end.

        Periodic arrivals begin one period after the start and use no chance.
        """
        gap_ns, now_ns = self.gap_ns, 0
        if self.arrival == "periodic":
            while True:
                now_ns += gap_ns
                yield now_ns
        # `random()` of a given integer seed is what Python promises to keep (library reference, "Notes on
        # Reproducibility").
        uniform = random.Random(seed_of(seed)).random  # noqa: S311  a simulation, not a secret
        while True:
            now_ns += int(exponential(uniform) * gap_ns)
            for _ in range(self.burst):
                yield now_ns


def seed_of(text: str) -> int:
    """Return an integer seed that depends on every character of `text` and on nothing else."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def exponential(uniform: Any) -> float:
    """Return an exponential variate of mean 1 by comparing uniform ones.

    Von Neumann's method ("Various techniques used in connection with random digits", 1951; Devroye,
    *Non-Uniform Random Variate Generation*, IV.2.1): the length of the falling run that begins at `x` is odd
    with probability e^-x. About six uniform numbers a call.
    """
    whole = 0
    while True:
        first = last = uniform()
        odd = True
        while (following := uniform()) < last:
            last, odd = following, not odd
        if odd:
            return float(whole + first)
        whole += 1
