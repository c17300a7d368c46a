"""What a lane demands of a candidate, as far as a candidate can be held to it, and what one misses.

>>> missed(candidate, Demands(limits, floor=0.97, max_drop=0.01))[0].text       # doctest: +SKIP
'latency-p95 2.2 ms misses 2 ms by 10.0 %'
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from edgewright.build.search.candidate import Candidate
from edgewright.plan.figures import shown
from edgewright.spec.limits import condition_check

DOCUMENTS_BYTES = 4096
"""Drift reference, labels, runtime manifest and names: 3 to 5 kB in the models of this repository."""


@dataclass(frozen=True)
class Demands:
    """What a lane must meet.

    Attributes:
        limits: Of the lane, in the words of the YAML, in base units.
        floor: Least score; the gate judges the interval's lower end on the test data. On the selection data, which may
            be harder, it is held against a candidate only where fp32 itself reaches it.
        max_drop: Largest loss against fp32 on the same samples.
        max_label_drop: Largest loss of recall of one label; None: any.
        conditions: Field condition → least score under it; held against a candidate as the floor is.
        beside_bytes: What the artifact holds beside the model, roughly: golden samples above all.
    """

    limits: Mapping[str, Any]
    floor: float
    max_drop: float
    max_label_drop: float | None = None
    conditions: Mapping[str, float] = field(default_factory=dict)
    beside_bytes: int = 0

    @classmethod
    def of(cls, spec: Mapping[str, Any]) -> Demands:
        """Read them from the slice of the stage `optimized`."""
        metric = spec["metric"]
        conditions = {condition["name"]: condition["floor"] for condition in spec["conditions"]}
        return cls(
            spec["limits"],
            metric["floor"],
            metric["maxDrop"],
            metric.get("maxLabelDrop"),
            conditions,
            beside_bytes(spec["signature"], spec["golden"]["samples"]),
        )

    def reached_by(self, fp32: Candidate) -> Demands:
        """Return the demands without the floors that fp32 itself misses on the selection data."""
        conditions = {
            name: floor for name, floor in self.conditions.items() if fp32.conditions.get(name, -1.0) >= floor
        }
        reached = fp32.score is not None and fp32.score.value >= self.floor
        return replace(self, floor=self.floor if reached else 0.0, conditions=conditions)


@dataclass(frozen=True)
class Miss:
    """A demand that a candidate misses.

    Attributes:
        check: As the gate calls it.
        by: How far beyond: as a share of the limit, or of what a floor leaves (at least a thousandth).
    """

    check: str
    measured: float
    limit: float
    unit: str
    by: float

    @property
    def text(self) -> str:
        """What is missed, in words."""
        if math.isnan(self.measured):
            return self.check
        figures = f"{shown(self.measured, self.unit)} misses {shown(self.limit, self.unit)}"
        beyond = f" by {self.by:.1%}".replace("%", " %") if math.isfinite(self.by) else ""
        return f"{self.check} {figures}{beyond}"


def missed(candidate: Candidate, demands: Demands) -> list[Miss]:
    """Return the demands that a measured candidate misses, as far as a candidate can be held to them."""
    cost, limits, found = candidate.cost, demands.limits, []
    if cost is None or candidate.score is None or candidate.drop is None:
        raise ValueError(f"{candidate.name} was not measured")
    budget = limits.get("instructions") or {}
    most: tuple[tuple[str, float, float | None, str], ...] = (
        ("artifact-size", candidate.size_bytes + demands.beside_bytes, limits["artifactSize"], "bytes"),
        ("load-time", cost.load_ms, limits["loadTime"], "ms"),
        ("power-cycle", cost.power_cycle_ms, limits.get("powerCycle"), "ms"),
        ("latency-p95", cost.latency_ms["high"], limits["latency"]["p95"], "ms"),
        ("latency-p99", cost.latency_ms["high"], limits["latency"]["p99"], "ms"),
        ("peak-memory", cost.memory_bytes, limits["peakMemory"], "bytes"),
        ("instructions-load", cost.load_instructions, budget.get("load"), "instructions"),
        ("instructions-inference", cost.instructions, budget.get("inference"), "instructions"),
        ("accuracy-drop", candidate.drop.value, demands.max_drop, "ratio"),
    )
    for check, measured, limit, unit in most:
        if limit is not None and measured > limit:
            found.append(Miss(check, measured, limit, unit, measured / limit - 1 if limit else math.inf))
    floors = [("accuracy-floor", candidate.score.value, demands.floor)]
    floors += [
        (condition_check(name), candidate.conditions[name], floor)
        for name, floor in demands.conditions.items()
        if name in candidate.conditions
    ]
    for check, value, floor in floors:
        if value < floor:
            found.append(Miss(check, value, floor, "ratio", (floor - value) / max(1 - floor, 0.001)))
    worst, allowed = candidate.worst_label, demands.max_label_drop
    if worst is not None and allowed is not None and worst[1] > allowed:
        by = worst[1] / allowed - 1 if allowed else math.inf
        found.append(Miss(f"label-drop of {worst[0]}", worst[1], allowed, "ratio", by))
    if cost.disagrees:
        found.append(Miss(f"target-outputs: {cost.disagrees}", math.nan, 1.0, "ratio", math.inf))
    return found


def beside_bytes(signature: Mapping[str, Any], samples: int) -> int:
    """Return roughly what lies in an artifact beside its model: golden samples in base64, and the small documents.

    >>> beside_bytes({"inputs": [{"dtype": "float32", "shape": ["batch", 6]}], "outputs": []}, 8)
    4352
    """
    widths = {"float32": 4, "int64": 8, "int32": 4, "uint8": 1}
    each = sum(
        widths[tensor["dtype"]] * math.prod(size for size in tensor["shape"] if size != "batch")
        for tensor in (*signature["inputs"], *signature["outputs"])
    )
    return int(DOCUMENTS_BYTES + samples * each * 4 // 3)
