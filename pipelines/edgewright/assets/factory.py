"""Makes one Dagster asset per step, keyed `[model, stage, class]`, so that the graph shows a row per hardware class.

The body of every asset is the same: work out the action, take its result from the cache or make it, and attach what a
person wants to see. A blind "materialize all" is therefore all cache hits.
"""

# Dagster reads the annotation of `context` at definition time, so this module must not postpone annotations.
import hashlib
import time
from collections.abc import Iterator
from typing import Any, Protocol

import dagster as dg

from edgewright.assets.automation import when_inputs_change
from edgewright.assets.metadata import describe, references
from edgewright.errors import BuildError, EdgewrightError
from edgewright.plan.action import perform, prepare
from edgewright.plan.cache import Cache, Record
from edgewright.plan.history import History, explain
from edgewright.plan.lane import StepId, classes_of
from edgewright.plan.resolve import before, gate_report, resolve
from edgewright.plan.stage import STAGES, upstream
from edgewright.spec.checks import checks_of
from edgewright.spec.load import Workspace
from edgewright_agent.contract import canonical_json


class Watch(Protocol):
    """Somebody who looks on while steps run."""

    def begin(self, step: StepId) -> None:
        """A step starts."""

    def done(self, step: StepId, record: Record, cause: str, seconds: float) -> None:
        """A step has its result; no seconds: it came from the cache."""

    def failed(self, step: StepId, error: EdgewrightError) -> None:
        """A step could not be done."""


def key_of(step: StepId) -> dg.AssetKey:
    """Return the asset key of a step; Dagster allows no dashes, and specs no underscores, so the map is one to one."""
    parts = (step.model, step.stage, step.hardware_class)
    return dg.AssetKey([part.replace("-", "_") for part in parts if part])


def make_asset(
    workspace: Workspace, cache: Cache, step: StepId, watch: Watch | None = None
) -> dg.AssetsDefinition:
    """Return the asset of one step; gates appear as blocking checks on `gated`.

    Args:
        workspace: The fleet.
        cache: Where results are found and put.
        step: The step.
        watch: Told how the step goes, for a run with somebody looking on.
    """
    key = key_of(step)
    gated = step.stage == "gated" and step.hardware_class is not None
    checks = checks_of(workspace, step.model, str(step.hardware_class)) if gated else ()

    @dg.asset(
        key=key,
        deps=[key_of(need) for need in _direct(workspace, step)],
        group_name=step.model.replace("-", "_"),
        kinds={step.stage},
        description=_description(workspace, step),
        code_version=_code_version(workspace, step),
        metadata=references(workspace, step),
        check_specs=[
            dg.AssetCheckSpec(name=name.replace("-", "_"), asset=key, blocking=True) for name in checks
        ],
        automation_condition=when_inputs_change(),
    )
    def body(context: dg.AssetExecutionContext) -> Iterator[Any]:
        if watch:
            watch.begin(step)
        try:
            record, cause, seconds = bring(workspace, cache, step, context.log.info)
        except EdgewrightError as error:
            if watch:
                watch.failed(step, error)
            raise dg.Failure(
                description=f"{error}" + (f"\n→ {error.hint}" if error.hint else ""), allow_retries=False
            ) from error
        except Exception as error:
            if watch:
                said = f"{step} failed: {type(error).__name__}: {error}"
                watch.failed(step, BuildError(said, hint="edgewright ui shows the run's log"))
            raise
        if watch:
            watch.done(step, record, cause, seconds)
        yield dg.MaterializeResult(
            metadata=describe(cache, record, cause, seconds),
            data_version=dg.DataVersion(hashlib.sha256(canonical_json(record.files)).hexdigest()),
        )
        if checks:
            yield from _check_results(key, checks, gate_report(cache, {step: record}, step))

    return body


def bring(workspace: Workspace, cache: Cache, step: StepId, tell: Any) -> tuple[Record, str, float]:
    """Return the record of a step, its cause and the seconds it took; from the cache when the key is known.

    Raises:
        EdgewrightError: an earlier step is missing, or the stage itself failed.
    """
    history = History(workspace.root)
    earlier = before(workspace, step)
    plan = resolve(workspace, cache, steps=earlier)
    records = plan.records
    # An index is the version of what passed: a blocked lane stays out of it, one that is still to run does not.
    done = {found.id for found in plan.steps if found.state == "blocked"} if step.stage == "index" else set()
    missing = [
        need
        for need in upstream(step, classes_of(workspace, step.model))
        if need not in records and need not in done
    ]
    if missing:
        raise EdgewrightError(
            f"{missing[0]} has not been built for the current specs, so {step} cannot be",
            hint="materialize it first, or let `edgewright run` choose",
        )
    action = prepare(workspace, step, records)
    found = cache.record(action.key)
    if found is not None:
        return found, "unchanged: taken from the cache", 0.0
    last = history.parts(step, cache)
    cause = explain(workspace, action, last) if last else "first build"
    began = time.perf_counter()
    record = perform(workspace, action, cache, tell)
    history.remember({step: record})
    return record, cause, time.perf_counter() - began


def _check_results(
    key: dg.AssetKey, names: tuple[str, ...], report: dict[str, Any] | None
) -> Iterator[dg.AssetCheckResult]:
    """Yield a result for every declared check; one that the report does not have could not be made: a warning."""
    found = {check["name"]: check for check in (report or {"checks": []})["checks"]}
    for name in names:
        check = found.get(name)
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=name.replace("-", "_"),
            passed=check is not None and check["verdict"] == "pass",
            severity=dg.AssetCheckSeverity.ERROR if check else dg.AssetCheckSeverity.WARN,
            description=None if check else "not compared: see the notes of the gate report",
            metadata={
                part: value
                for part in ("measured", "limit", "unit", "headroom", "source", "detail")
                if (value := (check or {}).get(part)) is not None
            },
        )


def _direct(workspace: Workspace, step: StepId) -> list[StepId]:
    """Return the steps right before this one: needs that another need implies would only clutter the graph."""
    classes = classes_of(workspace, step.model)
    needs = upstream(step, classes)
    implied = {earlier for need in needs for earlier in before(workspace, need)}
    return [need for need in needs if need not in implied]


def _description(workspace: Workspace, step: StepId) -> str:
    about = workspace.models[step.model].description
    if step.hardware_class is None:
        return f"{step.model}: {about}"
    return f"{step.model}: {about}\n\nfor {step.hardware_class}: {workspace.hardware[step.hardware_class].description}"


def _code_version(workspace: Workspace, step: StepId) -> str | None:
    stage = STAGES[step.stage]
    try:
        slice_ = stage.reads(workspace, step)
    except EdgewrightError:
        return None  # no keys yet: the graph still loads, and the step itself says what is missing
    return hashlib.sha256(canonical_json([stage.version, slice_])).hexdigest()[:16]
