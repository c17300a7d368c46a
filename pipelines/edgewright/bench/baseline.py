"""What a model costs in guest instructions, against its budget and against what is published.

>>> limits = {"instructions": {"inference": 2_500_000}, "regression": 1.0}
>>> counts = {"target": "cortex-a72", "load": {"instructions": 900}, "perInference": {"instructions": 2_000_000}}
>>> made, notes = checks(counts, "onnxruntime 1.31.1", limits, None, {})
>>> [(check.name, check.measured, check.verdict) for check in made]
[('instructions-inference', 2000000, 'pass')]
>>> notes == (NO_BASELINE,)
True

Counts repeat to the last instruction, so a small share of growth is a finding and not noise. They do so with one
ruler only: one emulated processor, one engine. A baseline of another ruler gives **no check and a note**, because

- an engine upgrade shifts every count of every lane: to fail would block all releases for no fault of a model, and
  teach people to accept regressions unread;
- to compare all the same would hide a regression behind a faster engine, or blame a model for a slower one;
- a check that passes would claim a comparison that nobody made.

What is not compared must be seen: the note stands in the signed gate report and names the command that renews the
baseline, `edgewright baseline` marks the lane until that is done, and whoever declares checks beforehand
(`edgewright.spec.checks`) shows one without a result as a warning. The absolute budget holds with any ruler. A figure
that is missing altogether fails: then it is not the ruler that is unknown but the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from edgewright.bench.report import Check

SPANS = {"load": "load", "inference": "perInference"}
"""What people call a span of instructions → what a `Counts` document does."""

NO_BASELINE = (
    "no baseline: the instructions are compared with nothing until `edgewright baseline --write` records what"
    " is published"
)
# Decimals of a share: in binary, 0.7 / 100 is a little less than 0.007, and growth of exactly the limit must pass.
_DECIMALS = 9


class Ruler(NamedTuple):
    """What instructions were counted with."""

    target: str
    engine: str


def checks(
    counts: Mapping[str, Any] | None,
    engine: str | None,
    limits: Mapping[str, Any],
    baseline: Mapping[str, Any] | None,
    sources: Mapping[str, str],
) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Return the checks on instruction counts, and in sentences what was not or could not be compared.

    Args:
        counts: `Counts.to_json()`; None when the model did not run, which fails every check there is.
        engine: Engine that was counted, as the target calls itself.
        limits: The lane's limits as the gate sees them: `instructions` (counts), `regression` (percent).
        baseline: `ClassBaseline.yardstick()` of the lane; None when it has no baseline.
        sources: Gate check → the YAML that decides its limit.
    """
    made = _budgets(counts, limits.get("instructions") or {}, sources)
    if baseline is None:
        return made, (NO_BASELINE,)
    then = Ruler(baseline["target"], baseline["engine"])
    if counts is not None and (
        reason := obstacle(then, Ruler(counts["target"], engine or "an unknown engine"))
    ):
        return made, (
            f"the instructions are not compared with the baseline: {reason};"
            " `edgewright baseline --write` renews it once this is published",
        )
    compared = _regressions(counts, limits["regression"], baseline["instructions"], sources)
    grown = tuple(
        f"{check.name}: {_counted(counts, span):,} instructions, {baseline['instructions'][span]:,} in"
        f" {baseline['modelVersion']}; if that is wanted: `edgewright baseline MODEL --accept`"
        for span, check in zip(SPANS, compared, strict=True)
        if check.seen and check.verdict == "fail"
    )
    return (*made, *compared), grown


def growth(now: int, then: int) -> float:
    """Return by which share of `then` a count has grown; negative when it has shrunk."""
    return round((now - then) / then, _DECIMALS)


def obstacle(then: Ruler, now: Ruler) -> str:
    """Return why counts of two rulers cannot be compared, an empty string when they can."""
    apart = [
        f"it was counted with {old}, this with {new}"
        for old, new in zip(then, now, strict=True)
        if old != new
    ]
    return " and ".join(apart)


def _budgets(
    counts: Mapping[str, Any] | None, budgets: Mapping[str, int], sources: Mapping[str, str]
) -> tuple[Check, ...]:
    return tuple(
        Check(name, _counted(counts, span), budgets[span], "instructions", "max", sources.get(name, ""))
        for span, name in ((span, f"instructions-{span}") for span in SPANS)
        if span in budgets
    )


def _regressions(
    counts: Mapping[str, Any] | None, percent: float, then: Mapping[str, int], sources: Mapping[str, str]
) -> tuple[Check, ...]:
    made = []
    for span in SPANS:
        name, now = f"regression-{span}", _counted(counts, span)
        grown = None if now is None else growth(now, then[span])
        made.append(
            Check(name, grown, round(percent / 100, _DECIMALS), "ratio", "max", sources.get(name, ""))
        )
    return tuple(made)


def _counted(counts: Mapping[str, Any] | None, span: str) -> int | None:
    return None if counts is None else int(counts[SPANS[span]]["instructions"])
