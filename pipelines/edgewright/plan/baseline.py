"""What every lane costs now, as far as results are at hand, beside what its baseline says.

>>> for cost in lane_costs(workspace, cache, plan):                      # doctest: +SKIP
...     print(cost.lane, cost.state, cost.now and cost.now.instructions.inference)
digit-reader on raspberry-pi-4 published 345108
>>> text_of("digit-reader", renewed(costs))                              # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgewright.plan.cache import Cache, Record
from edgewright.plan.lane import Lane, StepId, lanes
from edgewright.plan.resolve import Plan, gate_report
from edgewright.spec.baseline import ClassBaseline
from edgewright.spec.workspace import Workspace

State = Literal["published", "blocked", "waiting"]


@dataclass(frozen=True)
class LaneCost:
    """The instruction counts of one lane, as published before and as built now.

    Attributes:
        state: `published`; `blocked` by its gate; or `waiting`: something has to run first.
        then: The lane's entry in the baseline; None when it has none.
        now: The entry its present build would have; None where nothing is built or counted.
        cause: Why it is blocked; empty otherwise.
        only_regressed: Whether growth over the baseline is all that the gate has against it.
    """

    lane: Lane
    state: State
    then: ClassBaseline | None
    now: ClassBaseline | None
    cause: str = ""
    only_regressed: bool = False

    def is_recorded(self, *, accept: bool) -> bool:
        """Whether the present counts become the baseline.

        They do when they are published. A lane that a gate holds back never becomes anybody's yardstick, unless a
        person accepts its growth, and growth is all there is to accept.
        """
        return self.now is not None and (self.state == "published" or (accept and self.only_regressed))


def lane_costs(workspace: Workspace, cache: Cache, plan: Plan) -> list[LaneCost]:
    """Return one entry per lane of the fleet, models and classes in alphabetical order.

    Raises:
        EnvironmentFault: a result is damaged on disk.
    """
    states: dict[str, State] = {"cached": "published", "blocked": "blocked", "run": "waiting"}
    records = plan.records
    costs = []
    for lane in lanes(workspace):
        step = plan.step(StepId("published", lane.model, lane.hardware_class))
        report = gate_report(cache, records, step.id) if step.state == "blocked" else None
        costs.append(
            LaneCost(
                lane=lane,
                state=states[step.state],
                then=workspace.baseline_of(lane.model, lane.hardware_class),
                now=_counted(workspace, cache, records, lane),
                cause=step.cause if step.state == "blocked" else "",
                only_regressed=report is not None and _only_regressed(report),
            )
        )
    return costs


def renewed(costs: Iterable[LaneCost], *, accept: bool = False) -> list[ClassBaseline]:
    """Return the entries of the next baseline of one model: what is recorded now, and the others as they are."""
    chosen = [cost.now if cost.is_recorded(accept=accept) else cost.then for cost in costs]
    return [entry for entry in chosen if entry is not None]


def _counted(
    workspace: Workspace, cache: Cache, records: Mapping[StepId, Record], lane: Lane
) -> ClassBaseline | None:
    benchmarked, packaged = (
        records.get(StepId(stage, lane.model, lane.hardware_class)) for stage in ("benchmarked", "packaged")
    )
    if benchmarked is None or packaged is None:
        return None
    benchmark = json.loads(cache.verified(benchmarked.files["benchmark.json"]).read_bytes())
    counts = benchmark.get("counts") or {}
    engine = counts.get("engine")
    if not counts or not engine:
        return None
    return ClassBaseline.model_validate(
        {
            "hardwareClass": lane.hardware_class,
            "modelVersion": workspace.models[lane.model].model_version,
            "artifact": packaged.files["manifest.json"],  # the digest of an artifact is that of its manifest
            "target": counts["target"],
            "engine": engine,
            "instructions": {
                "load": counts["load"]["instructions"],
                "inference": counts["perInference"]["instructions"],
            },
        }
    )


def _only_regressed(report: Mapping[str, Any]) -> bool:
    failed = [check["name"] for check in report["checks"] if check["verdict"] != "pass"]
    return bool(failed) and all(name.startswith("regression-") for name in failed)
