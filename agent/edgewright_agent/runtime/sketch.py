"""Sketches that stay small however much they have seen: latency in logarithmic buckets, distances from a reference.

>>> sketch = LatencySketch()
>>> for microseconds in (100, 110, 4000): sketch.add(microseconds)
>>> sketch.pairs(), round(sketch.quantile_us(0.5))
([[53, 1], [54, 1], [95, 1]], 112)
>>> round(psi([0.5, 0.5], [0.9, 0.1]), 3)
0.879
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgewright_agent.latency import bucket_of, quantile_us

if TYPE_CHECKING:
    from edgewright_agent.engine import Array

# A share of nothing has no logarithm; what industry uses in its place, below the share of one sample in a thousand.
EPSILON = 1e-4
# Below this many samples chance alone gives 20 bins about 0.1, from where on people call a shift moderate: without any
# drift the expected value is (bins - 1) × (1/n + 1/m) (Yurdakul 2018).
MIN_SAMPLES = 200
MEMORY = 20_000  # samples after which older ones count half: a year of health must not hide a bad week
# Figures in drift.json have six significant digits, so an edge may lie this much above the value it stands for.
_ROUNDING = 5.1e-6


class LatencySketch:
    """Counts by bucket; see `edgewright_agent.latency`."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def add(self, microseconds: float) -> None:
        """Count one."""
        bucket = bucket_of(microseconds)
        self._counts[bucket] = self._counts.get(bucket, 0) + 1

    def pairs(self) -> list[list[int]]:
        """Return `[bucket, count]`, buckets in order."""
        return [[bucket, count] for bucket, count in sorted(self._counts.items())]

    def quantile_us(self, share: float) -> float:
        """Return the middle of the bucket in which a share of all lies, in microseconds; 0 when nothing was counted."""
        return quantile_us(self._counts, share) or 0.0


def psi(expected: Sequence[float], actual: Sequence[float]) -> float:
    """Return the population stability index of two distributions over the same bins.

    PSI = Σ (a - e) · ln(a / e), a and e the shares of a bin, none below `EPSILON` (Lewis, An Introduction to Credit
    Scoring, 1994; Siddiqi, Credit Risk Scorecards, 2006). By convention nothing has moved below 0.1, and much has
    above 0.25.

    Args:
        expected: Shares of the reference.
        actual: Shares of what was seen.
    """
    total = 0.0
    for want, have in zip(expected, actual, strict=True):
        want, have = max(want, EPSILON), max(have, EPSILON)
        total += (have - want) * math.log(have / want)
    return total


class Histogram:
    """Counts in the bins of a reference distribution; what lies outside belongs to the outermost bins.

    Args:
        edges: Of the reference's bins, ascending.
        share: Of the reference in each, one fewer than edges (or one, for a single value).
    """

    def __init__(self, edges: Sequence[float], share: Sequence[float]) -> None:
        if len(edges) > 2:
            inner, self._expected = list(edges[1:-1]), list(share)
        else:  # everything in one place: being elsewhere is all there is to see
            inner, self._expected = [edges[0], edges[-1]], [0.0, 1.0, 0.0]
        self._inner = [edge - abs(edge) * _ROUNDING for edge in inner]
        if len(edges) <= 2:
            self._inner[1] = math.nextafter(edges[-1] + abs(edges[-1]) * _ROUNDING, math.inf)
        if len(self._expected) != len(self._inner) + 1 or self._inner != sorted(self._inner):
            raise ValueError("bins do not fit their edges")
        self._counts = [0.0] * len(self._expected)
        self._samples = 0.0

    def add(self, values: Sequence[float], samples: int = 1) -> None:
        """Count a few values, of so many samples."""
        for value in values:
            self._counts[bisect_right(self._inner, value)] += 1
        self._seen(samples)

    def add_array(self, values: Array, samples: int = 1) -> None:
        """Count many values, of so many samples."""
        import numpy

        bins = numpy.searchsorted(self._inner, values, side="right")
        for index, count in enumerate(numpy.bincount(bins, minlength=len(self._counts)).tolist()):
            self._counts[index] += count
        self._seen(samples)

    def distance(self) -> float | None:
        """Return the population stability index against the reference; None while too little was seen."""
        total = sum(self._counts)
        if self._samples < MIN_SAMPLES or not total:
            return None
        return psi(self._expected, [count / total for count in self._counts])

    def _seen(self, samples: int) -> None:
        self._samples += samples
        if self._samples > MEMORY:
            self._counts = [count / 2 for count in self._counts]
            self._samples /= 2
