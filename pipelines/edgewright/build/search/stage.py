"""Searched: every candidate of a lane, built and measured; which one ships is decided by the next stage.

Inputs: `exported/model.onnx`, `variants/<name>.onnx`. Outputs: `candidates.json`, and `models/<n>.onnx`, the bytes of
every candidate that reached the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewright.bench.meter import ROWS, TargetMeter
from edgewright.bench.target.userland import targets_cache
from edgewright.build.entry import ModelCode
from edgewright.build.leakage import check_separate, load_sets
from edgewright.build.metric import metric, stratified
from edgewright.build.passes.facts import ClassFacts
from edgewright.build.search.candidate import TRAINED, Candidate
from edgewright.build.search.explore import Found, Meter, Tell, Watch, document, explore
from edgewright.build.search.planned import Plan, plan
from edgewright.build.search.shelf import Shelf
from edgewright.build.search.workshop import Workshop
from edgewright.plan.cache import open_cache
from edgewright.plan.figures import shown
from edgewright.plan.job import Job, Result
from edgewright.spec.hardware import Sheet
from edgewright_agent.contract import canonical_json

FILE = "candidates.json"
VARIANTS = "variants/"


def run(job: Job) -> Result:
    """Write `candidates.json` and the models.

    Raises:
        BuildError: data contradict the signature, or fp32 itself does not run, gives NaN, or contradicts the metric.
        EnvironmentFault: the class's emulated target is not on this machine; names the command that mends it.
    """

    def watch(one: Candidate) -> None:
        job.progress(progress_line(one))

    found = search(job, watch=watch, tell=job.progress)
    write(job, found)
    return Result(facts(found))


def search(
    job: Job, *, watch: Watch, tell: Tell, shelf: Shelf | None = None, meter: Meter | None = None
) -> Found:
    """Return what a search of the lane finds.

    Args:
        job: Of the stage.
        watch: As for `explore`.
        tell: As for `explore`.
        shelf: Where results are kept; the fleet's own when None.
        meter: Measures candidates; the class's target when None.

    Raises:
        BuildError: as `run`.
        EnvironmentFault: as `run`.
    """
    shop = workshop(job, shelf)
    if meter is None:
        rows = stratified(shop.selection.targets, ROWS)
        inputs = {name: array[rows] for name, array in shop.selection.inputs.items()}
        meter = TargetMeter.open(Sheet.read(job.spec["hardware"]), targets_cache(), inputs)
    found = explore(
        shop,
        ClassFacts.of(job.spec),
        job.spec["recipes"],
        meter,
        budget_s=job.spec["timeBudget"],
        watch=watch,
        tell=tell,
    )
    shop.shelf.tidy()
    return found


def planned(job: Job) -> Plan:
    """Return what a search of the lane would try; nothing is built but clean graphs.

    Raises:
        BuildError: as `run`.
    """
    return plan(workshop(job), ClassFacts.of(job.spec), job.spec["recipes"], job.spec["timeBudget"])


def workshop(job: Job, shelf: Shelf | None = None) -> Workshop:
    """Return the workshop of a lane.

    Raises:
        BuildError: data contradict the signature, or two sets share a sample.
    """
    spec = job.spec
    code = ModelCode(job.root / "models" / job.model)
    sets = load_sets(code, spec["data"], spec["signature"])
    check_separate(sets, judged=spec["metric"]["name"] != "cosine")
    bases = {TRAINED: job.inputs["exported/model.onnx"].read_bytes()}
    for name, path in sorted(job.inputs.items()):
        if name.startswith(VARIANTS) and name.endswith(".onnx"):
            bases[name.removeprefix(VARIANTS).removesuffix(".onnx")] = path.read_bytes()
    return Workshop(
        bases,
        sets["calibration"],
        sets["selection"],
        metric(spec["metric"]["name"]),
        shelf or Shelf(open_cache(job.root).folder / "search"),
        tuple(spec.get("labels", ())),
        tuple(spec.get("conditions", ())),
    )


def write(job: Job, found: Found) -> None:
    """Write what was found to the stage's outputs."""
    (job.out / FILE).write_bytes(canonical_json(document(found)))
    folder = job.out / "models"
    folder.mkdir()
    for digest, data in found.models.items():
        (folder / f"{digest.removeprefix('sha256:')[:16]}.onnx").write_bytes(data)


def progress_line(candidate: Candidate) -> str:
    """Return one line about what is known of a candidate."""
    parts = [candidate.name]
    if candidate.score:
        parts.append(f"{candidate.score.value:.4f}")
    if candidate.size_bytes:
        parts.append(shown(candidate.size_bytes, "bytes"))
    if candidate.cost:
        parts.append(shown(candidate.cost.latency_ms["value"], "ms"))
    if candidate.stopped:
        parts.append(candidate.stopped)
    return ", ".join(parts)


def facts(found: Found) -> Mapping[str, Any]:
    """Return what a person wants to see first."""
    return {
        "candidates": len(found.candidates),
        "on_the_target": sum(one.cost is not None for one in found.candidates),
        "table": [row(one) for one in found.candidates],
        "not_applicable": dict(found.skipped),
        "beyond_the_time_budget": list(found.left),
    }


def row(candidate: Candidate) -> dict[str, str]:
    """Return the cells of one candidate, as people read them."""
    score, cost = candidate.score, candidate.cost
    return {
        "candidate": candidate.name,
        "accuracy": f"{score.value:.4f} [{score.low:.4f}, {score.high:.4f}]" if score else "–",
        "drop": f"{candidate.drop.value:+.4f}" if candidate.drop else "–",
        "size": shown(candidate.size_bytes, "bytes") if candidate.size_bytes else "–",
        "latency": shown(cost.latency_ms["value"], "ms") if cost else "–",
        "memory": shown(cost.memory_bytes, "bytes") if cost else "–",
        "stopped": candidate.stopped,
    }
