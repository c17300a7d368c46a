"""Fills a cache with stand-in results, so that planning is tested without training anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgewright.plan.action import prepare
from edgewright.plan.cache import Cache
from edgewright.plan.lane import Lane, StepId
from edgewright.plan.resolve import Plan, before, resolve
from edgewright.spec.load import Workspace, load_fleet

BENCHMARK = {
    "counts": {
        "target": "some core",
        "engine": "onnxruntime 1.31.1",
        "load": {"instructions": 50_000_000},
        "perInference": {"instructions": 400_000},
    },
}


def fill(
    workspace: Workspace, cache: Cache, scratch: Path, failing: frozenset[str] = frozenset()
) -> list[StepId]:
    """Give every step that must run a stand-in result; lanes of `failing` classes fail their gate. Return the steps."""
    filled = []
    scratch.mkdir(parents=True, exist_ok=True)
    while ready := _ready(plan := resolve(workspace, cache)):
        for step in ready:
            action = prepare(workspace, step, plan.records)
            outputs = {}
            for name, text in _files(step, action.key, failing).items():
                outputs[name] = scratch / name
                outputs[name].write_text(text)
            cache.store(action.key, action.parts, outputs, {})
            filled.append(step)
    return filled


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
    if step.stage == "benchmarked":
        return {"benchmark.json": json.dumps(BENCHMARK)}
    if step.stage == "packaged":
        return {"manifest.json": json.dumps({"packaged": key})}
    if step.stage == "published":
        document = {"digest": f"sha256:{key}", "size": 1, "repository": step.model, "url": "oci:x"}
        return {"published.json": json.dumps(document)}
    if step.stage == "optimized":  # the same choice for other reasons: that is all most limits change
        search = {"chosen": "fp32", "why": key}
        return {
            "model.onnx": step.model,
            "runtime.json": step.hardware_class or "",
            "search.json": json.dumps(search),
        }
    if step.stage == "evaluated":
        return {"golden.json": key, "drift.json": key, "evaluation.json": key}
    return {f"{step.stage}.bin": f"{step.stage} {key}"}


def replace(fleet: Path, lane: Lane, stage: str, name: str, document: Any) -> None:
    """Give a lane's stage another result than it has."""
    workspace, cache = load_fleet(fleet), Cache(fleet / "cache")
    step = StepId(stage, lane.model, lane.hardware_class)
    records = resolve(workspace, cache, steps=before(workspace, step)).records
    action = prepare(workspace, step, records)
    file = fleet / "scratch" / name
    file.write_text(json.dumps(document))
    cache.store(action.key, action.parts, {name: file}, {})


def fail(fleet: Path, lane: Lane, *checks: str) -> None:
    """Let the lane's gate fail these checks."""
    failed = [
        {"name": name, "measured": 0.02, "limit": 0.01, "unit": "ratio", "verdict": "fail", "source": "x#y"}
        for name in checks
    ]
    passed = {**failed[0], "name": "load-time", "verdict": "pass"}
    replace(fleet, lane, "gated", "gate-report.json", {"verdict": "fail", "checks": [passed, *failed]})
