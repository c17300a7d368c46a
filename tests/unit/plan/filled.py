"""Fills a cache with stand-in results, so that planning is tested without training anything."""

from __future__ import annotations

import json
from pathlib import Path

from edgewright.plan.action import prepare
from edgewright.plan.cache import Cache
from edgewright.plan.lane import StepId
from edgewright.plan.resolve import Plan, resolve
from edgewright.spec.load import Workspace


def fill(workspace: Workspace, cache: Cache, scratch: Path, failing: frozenset[str] = frozenset()) -> None:
    """Give every step that must run a stand-in result; lanes of `failing` classes fail their gate."""
    scratch.mkdir(parents=True, exist_ok=True)
    while ready := _ready(plan := resolve(workspace, cache)):
        for step in ready:
            action = prepare(workspace, step, plan.records)
            outputs = {}
            for name, text in _files(step, action.key, failing).items():
                outputs[name] = scratch / name
                outputs[name].write_text(text)
            cache.store(action.key, action.parts, outputs, {})


def _ready(plan: Plan) -> list[StepId]:
    return [step.id for step in plan.to_run if step.after is None]


def _files(step: StepId, key: str, failing: frozenset[str]) -> dict[str, str]:
    if step.stage == "gated":
        failed = step.hardware_class in failing
        check = {
            "name": "latency-p95", "measured": 50.0, "limit": 40.0, "unit": "ms",
            "verdict": "fail" if failed else "pass",
            "source": f"hardware/{step.hardware_class}.yaml#limits.latency.p95",
        }  # fmt: skip
        return {"gate-report.json": json.dumps({"verdict": check["verdict"], "checks": [check]})}
    if step.stage == "published":
        document = {"digest": f"sha256:{key}", "size": 1, "repository": step.model, "url": "oci:x"}
        return {"published.json": json.dumps(document)}
    return {f"{step.stage}.bin": f"{step.stage} {key}"}
