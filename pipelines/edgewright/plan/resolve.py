"""The plan: for every step, whether its result is at hand, must be made, or is held by a gate, and why.

>>> plan = resolve(workspace, cache)              # doctest: +SKIP
>>> [str(step.id) for step in plan.to_run]        # doctest: +SKIP
['digit-reader/gated/raspberry-pi-4', …]
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgewright.plan.action import Action, prepare
from edgewright.plan.cache import Cache, Record
from edgewright.plan.figures import shown
from edgewright.plan.history import History, explain, line_of
from edgewright.plan.lane import Lane, StepId, classes_of, lanes
from edgewright.plan.stage import LANE_STAGES, MODEL_STAGES, upstream
from edgewright.spec.load import Workspace

State = Literal["cached", "run", "blocked"]


@dataclass(frozen=True)
class Step:
    """One step of the plan.

    Attributes:
        state: `cached` (nothing to do), `run`, or `blocked` (a gate said no; it will not be asked again until
            something it reads changes).
        cause: Why, in words for a person; empty when cached.
        record: The result at hand, when cached.
        after: The step that must run first, when one does; what this one reads is not known yet.
    """

    id: StepId
    state: State
    cause: str = ""
    record: Record | None = None
    after: StepId | None = None


@dataclass(frozen=True)
class Plan:
    """Every step of every lane, in the order in which they run."""

    steps: tuple[Step, ...]

    @property
    def to_run(self) -> tuple[Step, ...]:
        """Steps that must be made."""
        return tuple(step for step in self.steps if step.state == "run")

    @property
    def records(self) -> dict[StepId, Record]:
        """Results at hand."""
        return {step.id: step.record for step in self.steps if step.record is not None}

    def of(self, lane: Lane) -> tuple[Step, ...]:
        """Return the steps of one lane, from `exported` to `published`."""
        return tuple(
            step
            for step in self.steps
            if (step.id.model, step.id.hardware_class) == (lane.model, lane.hardware_class)
        )

    def step(self, step_id: StepId) -> Step:
        """Return one step."""
        return next(step for step in self.steps if step.id == step_id)


def resolve(
    workspace: Workspace,
    cache: Cache,
    *,
    history: History | None = None,
    steps: Iterable[StepId] | None = None,
) -> Plan:
    """Decide for every step of the fleet (or for `steps`, in their order) whether it must run.

    Looks at specs and digests only; nothing is executed.
    """
    known: dict[StepId, Step] = {}
    for step_id in order(workspace) if steps is None else steps:
        known[step_id] = _resolve_step(workspace, cache, step_id, known, history)
    return Plan(tuple(known.values()))


def order(workspace: Workspace) -> Iterator[StepId]:
    """Yield every step so that each comes after those it needs: model by model, lane by lane."""
    for model in sorted(workspace.models):
        yield from (StepId(stage, model) for stage in MODEL_STAGES)
        for lane in lanes(workspace):
            if lane.model == model:
                for stage in LANE_STAGES:
                    yield StepId(stage, model, lane.hardware_class)
        yield StepId("index", model)


def before(workspace: Workspace, step: StepId) -> list[StepId]:
    """Return every step that `step` needs, directly or not, in running order."""
    wanted = {step}
    for candidate in reversed(list(order(workspace))):
        if candidate in wanted:
            wanted.update(upstream(candidate, classes_of(workspace, candidate.model)))
    return [candidate for candidate in order(workspace) if candidate in wanted - {step}]


def _resolve_step(
    workspace: Workspace, cache: Cache, step_id: StepId, known: dict[StepId, Step], history: History | None
) -> Step:
    needs = [known[need] for need in upstream(step_id, classes_of(workspace, step_id.model))]
    if step_id.stage == "index":
        published = [step for step in needs if step.id.stage == "published"]
        needs = [step for step in needs if step.state == "run"]
        if published and all(step.state == "blocked" for step in published):
            return Step(step_id, "blocked", "every lane is blocked")
    held = next((step for step in needs if step.state == "blocked"), None)
    if held is not None:
        return Step(step_id, "blocked", held.cause)
    waits = next((step for step in needs if step.state == "run"), None)
    if waits is not None:
        return Step(step_id, "run", f"after {waits.id.stage}", after=waits.id)
    records = {step.id: step.record for step in known.values() if step.record is not None}
    if step_id.stage == "signed" and (reason := gate_reason(workspace, cache, records, step_id)):
        return Step(step_id, "blocked", reason)
    action = prepare(workspace, step_id, records)
    record = cache.record(action.key)
    if record is not None:
        return Step(step_id, "cached", record=record)
    return Step(step_id, "run", _cause(workspace, cache, action, history))


def _cause(workspace: Workspace, cache: Cache, action: Action, history: History | None) -> str:
    before = history.parts(action.step, cache) if history else None
    return explain(workspace, action, before) if before else "first build"


def gate_report(cache: Cache, records: dict[StepId, Record], lane: StepId) -> dict[str, Any] | None:
    """Return the gate report of `lane`'s current artifact, or None when there is none yet."""
    record = records.get(StepId("gated", lane.model, lane.hardware_class))
    if record is None:
        return None
    report: dict[str, Any] = json.loads(cache.verified(record.files["gate-report.json"]).read_bytes())
    return report


def gate_reason(workspace: Workspace, cache: Cache, records: dict[StepId, Record], lane: StepId) -> str:
    """Return why the gate holds `lane` back, or an empty string when it passed or has not been asked."""
    report = gate_report(cache, records, lane)
    if report is None or report["verdict"] == "pass":
        return ""
    failed = [check for check in report["checks"] if check["verdict"] != "pass"]
    return "; ".join(_missed(workspace, check) for check in failed)


def _missed(workspace: Workspace, check: Mapping[str, Any]) -> str:
    detail = check.get("detail")
    if detail and check["measured"] is None:  # it went wrong before there was a figure
        return f"{check['name']}: {detail}"
    measured, limit = (shown(check[figure], check["unit"]) for figure in ("measured", "limit"))
    missed = f"{check['name']} {measured} misses {limit} ({line_of(workspace, check['source'])})"
    return f"{missed}: {detail}" if detail else missed
