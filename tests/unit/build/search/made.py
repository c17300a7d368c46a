"""Candidates and demands made up for tests of the decision."""

from __future__ import annotations

from typing import Any

from edgewright.build.metric import Drop, Score
from edgewright.build.search.candidate import Candidate, Cost, Proposal
from edgewright.build.search.demands import Demands

LIMITS: dict[str, Any] = {
    "artifactSize": 1000.0,
    "loadTime": 100.0,
    "latency": {"p95": 10.0, "p99": 20.0},
    "peakMemory": 1e6,
}


def demands(
    floor: float = 0.9, max_drop: float = 0.02, max_label_drop: float | None = None, **limits: Any
) -> Demands:
    """Return demands that what `candidate` makes meets."""
    return Demands({**LIMITS, **limits}, floor, max_drop, max_label_drop)


def candidate(
    recipe: str = "static-int8",
    *,
    value: float = 0.95,
    drop: float = 0.0,
    size: int = 100,
    latency_ms: float = 1.0,
    memory_bytes: int = 1000,
    base: str = "trained",
    worst: tuple[str, float] | None = None,
    disagrees: str = "",
    measured: bool = True,
) -> Candidate:
    """Return a candidate that was measured."""
    band = {"value": latency_ms, "low": latency_ms, "high": latency_ms}
    cost = Cost(band, 10.0, 20.0, memory_bytes, memory_bytes, int(latency_ms * 1e6), disagrees)
    return Candidate(
        Proposal(base, recipe, "fp32" if recipe == "fp32" else "int8"),
        digest=f"sha256:{recipe}{base}{size}",
        size_bytes=size,
        rung="target" if measured else "full",
        score=Score(value, value - 0.02, value + 0.02, 400),
        drop=Drop(drop, drop - 0.01, drop + 0.01),
        worst_label=worst,
        cost=cost if measured else None,
        stopped="" if measured else "beaten before the target",
    )


FP32 = candidate("fp32", size=400, latency_ms=4.0, memory_bytes=4000)
