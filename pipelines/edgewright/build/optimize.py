"""Optimized: which candidate ships on this class, and how it is to be run there.

The stage `searched` measured; this one decides, by the model's objective within the lane's limits and floors. A pure
decision over figures: a changed limit re-decides in a moment. Where no candidate fits, the nearest goes on, and the
gate refuses it with the figures.

Inputs: `searched/candidates.json`, `searched/models/*.onnx`. Outputs: `model.onnx` (and `model.onnx.data`, where
weights are laid apart), `runtime.json`, `search.json`, `pareto.png`; and `model.cpu.onnx` with `runtime.cpu.json`,
where the class wants a model for its processor beside.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from edgewright.build.fallback import Fallback, choose_fallback, cpu_runtime
from edgewright.build.layout import apply, choose_layout
from edgewright.build.manifest import expected_cost, runtime_manifest
from edgewright.build.search.candidate import Candidate
from edgewright.build.search.choose import Choice, choose
from edgewright.build.search.demands import Demands
from edgewright.build.search.report import document, pareto_png, rows
from edgewright.errors import BuildError
from edgewright.plan.figures import shown
from edgewright.plan.job import Job, Result
from edgewright_agent.contract import (
    FILE_CPU_MODEL,
    FILE_CPU_RUNTIME,
    FILE_MODEL,
    FILE_RUNTIME,
    canonical_json,
    digest_of,
)

FILE = "search.json"
LOAD_FROM = "counted on the class's emulated processor, upper end of the prediction"


def run(job: Job) -> Result:
    """Write `model.onnx`, `runtime.json`, `search.json` and `pareto.png`.

    Raises:
        BuildError: the search left nothing that was measured.
    """
    found = json.loads(job.inputs["searched/candidates.json"].read_bytes())
    choice = decide(found, job.spec)
    winner = choice.winner
    model = _model(job, winner)
    job.progress(f"{winner.name}: {choice.why}")
    hardware = job.spec["hardware"]
    layout = choose_layout(hardware, model)
    files = apply(layout, model)
    for name, data in files.items():
        (job.out / name).write_bytes(data)
    load_ms = winner.cost.load_ms if winner.cost else None
    expected = expected_cost(model, hardware["runtime"], layout, load_ms=load_ms, load_from=LOAD_FROM)
    manifest = runtime_manifest(
        hardware["runtime"],
        job.spec["signature"],
        winner.proposal.precision,
        expected=expected,
        layout=layout,
        safe_output=job.spec.get("safeOutput"),
        swap=job.spec.get("swap"),
    )
    (job.out / FILE_RUNTIME).write_bytes(canonical_json(manifest))
    fallback = _fallback(job, found, winner)
    search = {
        **document(choice, job.spec["objective"], found["skipped"], found["beyondBudget"]),
        "model": digest_of(files[FILE_MODEL]),
        "layout": layout.why,
        **({"fallback": fallback.to_json()} if fallback else {}),
    }
    title = f"{job.model} on {job.hardware_class}"
    (job.out / FILE).write_bytes(canonical_json(search))
    (job.out / "pareto.png").write_bytes(pareto_png(search, title, job.spec["metric"]["floor"]))
    return Result(facts(choice, search))


def _fallback(job: Job, found: Mapping[str, Any], winner: Candidate) -> Fallback | None:
    """Write the model for the processor beside, where the class asks for one and it is another."""
    if not job.spec.get("cpuFallback"):
        return None
    candidates = [Candidate.from_json(one) for one in found["candidates"]]
    fallback = choose_fallback(candidates, job.spec, winner)
    one = fallback.candidate
    job.progress(f"beside, for the processor: {one.name if one else 'nothing'}: {fallback.why}")
    if one is not None:
        model = _model(job, one)
        runtime = cpu_runtime(job.spec["hardware"]["runtime"])
        load_ms = one.cost.load_ms if one.cost else None
        expected = expected_cost(model, runtime, load_ms=load_ms, load_from=LOAD_FROM)
        precision = one.proposal.precision
        manifest = runtime_manifest(runtime, job.spec["signature"], precision, expected=expected)
        (job.out / FILE_CPU_MODEL).write_bytes(model)
        (job.out / FILE_CPU_RUNTIME).write_bytes(canonical_json(manifest))
    return fallback


def _model(job: Job, candidate: Candidate) -> bytes:
    return job.inputs[f"searched/models/{candidate.digest.removeprefix('sha256:')[:16]}.onnx"].read_bytes()


def decide(found: Mapping[str, Any], spec: Mapping[str, Any]) -> Choice:
    """Return the decision.

    Args:
        found: `candidates.json`.
        spec: The stage's slice.

    Raises:
        BuildError: not even fp32 was measured on the target; says why.
    """
    candidates = [Candidate.from_json(one) for one in found["candidates"]]
    fp32 = candidates[0]
    if fp32.cost is None:
        raise BuildError(
            f"fp32 was not measured on the target: {fp32.stopped or 'the search was stopped before'}",
            hint="whatever cannot run in fp32 has nothing to be compared with"
            if fp32.stopped
            else "what was measured is kept: the same command goes on from there",
        )
    declared = spec["hardware"]["emulation"]["method"] == "declared"
    return choose(candidates, Demands.of(spec), spec["objective"], declared=declared)


def facts(choice: Choice, search: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person wants to see first."""
    winner = choice.winner
    fp32 = next(one.candidate for one in choice.judged if one.candidate.name == "fp32")
    return {
        "chosen": winner.name,
        "why": choice.why,
        "fits": choice.fits,
        "precision": winner.proposal.precision,
        "size_bytes": winner.size_bytes,
        "size_before_bytes": fp32.size_bytes,
        "size_ratio": round(winner.size_bytes / fp32.size_bytes, 3),
        "latency": shown(winner.cost.latency_ms["value"], "ms") if winner.cost else None,
        "candidates": rows(search),
        **({"fallback": search["fallback"]["name"] or "none needed"} if "fallback" in search else {}),
    }
