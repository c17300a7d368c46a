"""Benchmarked: what an artifact costs on its class's emulated target, and whether it works there at all.

A model that does not load, answers otherwise or does not fit completes this stage: the document names the failure,
and the gate says no. A missing emulator does not: the figures of another machine would stand in its place.

Inputs: `optimized/model.onnx` (and `.data`), `optimized/runtime.json`, `evaluated/golden.json`. Outputs:
`benchmark.json`, and `latency.png` and `heat.png` where a workload was simulated.
"""

from __future__ import annotations

from typing import Any

from edgewright.bench.assessment import Assessment, Subject, alone, assess
from edgewright.bench.functional import Functional
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.userland import targets_cache
from edgewright.build.evaluate import optimized_digests
from edgewright.errors import EnvironmentFault
from edgewright.plan.job import Job, Result
from edgewright.plan.lane import Lane
from edgewright.spec.hardware import Sheet
from edgewright_agent.contract import canonical_json, digest_of

VERSION = 3


def run(job: Job) -> Result:
    """Write `benchmark.json` and plots.

    Raises:
        EnvironmentFault: the class's emulated target is not on this machine, or does not do its work; names the
            command that mends it.
        BuildError: the artifact does not run on this machine, or the test data cannot be loaded.
    """
    found = benchmark(job, Memo(targets_cache()))
    (job.out / "benchmark.json").write_bytes(canonical_json(document(job, found)))
    for name, picture in plots(found).items():
        (job.out / name).write_bytes(picture)
    return Result(facts(found))


def benchmark(job: Job, memo: Memo | None = None) -> Assessment:
    """Return what the target says of a lane's artifact; one benchmark at a time on a machine.

    Raises:
        EnvironmentFault: as `run`.
        BuildError: as `run`.
    """
    subject = Subject(
        lane=Lane(job.model, str(job.hardware_class)),
        sheet=Sheet.read(job.spec["hardware"]),
        spec=job.spec["model"],
        folder=job.root / "models" / job.model,
        model=job.inputs["optimized/model.onnx"],
        runtime=job.inputs["optimized/runtime.json"],
        golden=job.inputs["evaluated/golden.json"],
        data=job.inputs.get("optimized/model.onnx.data"),
    )
    with alone(targets_cache(), job.progress):
        found = assess(subject, targets_cache(), memo=memo, progress=job.progress)
    for tried in filter(None, (found.functional, found.provider)):
        refuse_fault(tried)
    return found


def refuse_fault(tried: Functional) -> None:
    """Check that what went wrong is the model's doing: a verdict on it is recorded, and must not blame it for us.

    Raises:
        EnvironmentFault: the target itself is broken, or this machine was too busy.
    """
    if tried.failure in ("engine-missing", "provider-missing"):
        raise EnvironmentFault(
            f"{tried.target} does not start its engine: {tried.message}",
            hint="edgewright targets provision checks every file and fetches again what is damaged",
        )
    if tried.failure == "timed-out":
        raise EnvironmentFault(
            f"{tried.target}: {tried.failure}: {tried.message}",
            hint="try again when this machine is idle; if it repeats: " + "; ".join(tried.advice),
        )


def document(job: Job, found: Assessment) -> dict[str, Any]:
    """Return `benchmark.json`: the figures, bound to the files they are about."""
    return {
        "version": VERSION,
        **optimized_digests(job.inputs),
        "runtime": digest_of(job.inputs["optimized/runtime.json"].read_bytes()),
        **found.to_json(),
    }


def plots(found: Assessment, limits_ms: dict[str, float] | None = None) -> dict[str, bytes]:
    """Return file name → PNG of what was simulated.

    Args:
        found: The assessment.
        limits_ms: `p95`, `p99` → limit, to be drawn beside the latencies.
    """
    if found.simulation is None:
        return {}
    from edgewright.bench.virtual.plot import heat_png, latency_png

    title = f"{found.lane.model} on {found.lane.hardware_class}"
    return {
        "latency.png": latency_png(found.simulation, title, limits_ms),
        "heat.png": heat_png(found.simulation, title),
    }


def facts(found: Assessment) -> dict[str, Any]:
    """Return what a person wants to see first."""
    figures = found.figures()
    functional = found.functional
    return {
        "target": functional.target,
        "works": functional.failure or "yes",
        "metric": functional.compared.metric if functional.compared else None,
        "value_there": functional.compared.value if functional.compared else None,
        "value_here": functional.compared.reference if functional.compared else None,
        "samples_there": functional.samples,
        "instructions_per_inference": found.counts.per_inference.instructions if found.counts else None,
        "instructions_to_load": found.counts.load.instructions if found.counts else None,
        "load_ms": figures["loadMs"],
        "power_cycle_ms": figures["powerCycleMs"],
        "p95_ms": figures["p95Ms"],
        "p99_ms": figures["p99Ms"],
        "peak_memory_bytes": figures["peakMemoryBytes"],
        "calibration": found.calibration,
        "notes": list(found.notes),
    }
