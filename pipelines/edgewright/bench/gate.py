"""Gated: the figures of one artifact against the limits of its lane, bound to the artifact's digest.

A failing gate completes this stage: its report is what a person needs. It is the signing step that refuses.

Inputs: `optimized/search.json`, `evaluated/evaluation.json`, `benchmarked/benchmark.json`, `packaged/manifest.json`.
Outputs: `gate-report.json`, `headroom.png`, and `conditions.png` where the model declares field conditions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from edgewright.bench import baseline
from edgewright.bench.conditions import condition_checks
from edgewright.bench.field_plot import conditions_png
from edgewright.bench.plot import headroom_png
from edgewright.bench.report import HEADINGS, Check, Direction, GateReport, table
from edgewright.errors import BuildError
from edgewright.plan.figures import shown
from edgewright.plan.job import Job, Result
from edgewright.plan.lane import Lane
from edgewright_agent.contract import (
    FILE_CPU_MODEL,
    FILE_DATA,
    FILE_MODEL,
    FILE_RUNTIME,
    digest_of,
    file_of_layer,
)


def run(job: Job) -> Result:
    """Write `gate-report.json`, `headroom.png` and, with field conditions, `conditions.png`.

    Raises:
        BuildError: the evaluation or the benchmark is about other files than the artifact holds.
    """
    report = judge(
        Lane(job.model, str(job.hardware_class)),
        job.spec,
        manifest=job.inputs["packaged/manifest.json"].read_bytes(),
        evaluation=json.loads(job.inputs["evaluated/evaluation.json"].read_bytes()),
        benchmark=json.loads(job.inputs["benchmarked/benchmark.json"].read_bytes()),
        search=json.loads(job.inputs["optimized/search.json"].read_bytes()),
    )
    (job.out / "gate-report.json").write_bytes(report.to_json())
    for name, picture in plots(report).items():
        (job.out / name).write_bytes(picture)
    for check in report.failed:
        job.progress(
            f"{job.model} on {job.hardware_class}: {check.name} is {shown(check.measured, check.unit)},"
            f" limit {shown(check.limit, check.unit)} ({check.source})"
            + (f": {check.detail}" if check.detail else "")
        )
    return Result(
        {
            "verdict": report.verdict,
            "artifact": report.artifact,
            "calibration": report.calibration,
            "failed": [check.name for check in report.failed],
            "checks": [dict(zip(HEADINGS, row, strict=True)) for row in table(report)],
            "notes": list(report.notes),
        }
    )


def judge(
    lane: Lane,
    spec: Mapping[str, Any],
    *,
    manifest: bytes,
    evaluation: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    search: Mapping[str, Any],
) -> GateReport:
    """Return the gate report of one artifact.

    Args:
        lane: Model and class.
        spec: The stage's slice: `limits`, `metric`, `conditions`, `baseline`, `sources`, `modelVersion`.
        manifest: The artifact's manifest.
        evaluation: `evaluation.json`.
        benchmark: `benchmark.json`.
        search: `search.json`: why it is this artifact, and what else was tried.

    Raises:
        BuildError: evaluation, benchmark or search are about other files than the artifact holds.
    """
    holds = json.loads(manifest)
    check_binding(holds, evaluation, benchmark, search)
    counts = benchmark.get("counts")
    grown, notes = baseline.checks(
        counts, (counts or {}).get("engine"), spec["limits"], spec.get("baseline"), spec["sources"]
    )
    return GateReport(
        model=lane.model,
        hardware_class=lane.hardware_class,
        model_version=spec["modelVersion"],
        artifact=digest_of(manifest),
        calibration=benchmark["calibration"],
        checks=(*checks(spec, evaluation, benchmark, artifact_bytes(holds)), *grown),
        figures={"search": search, "evaluation": evaluation, "benchmark": benchmark},
        notes=(
            *([] if search["fits"] else [search["why"]]),
            *benchmark.get("notes", ()),
            *storage_notes(holds),
            *notes,
        ),
    )


def plots(report: GateReport) -> dict[str, bytes]:
    """Return file name → PNG of a report: the headroom, and what is left under each field condition."""
    pictures = {"headroom.png": headroom_png(report)}
    if (measured := report.figures["benchmark"].get("conditions")) is not None:
        title = f"{report.model} on {report.hardware_class}"
        pictures["conditions.png"] = conditions_png(measured, report.checks, title)
    return pictures


def check_binding(
    manifest: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    search: Mapping[str, Any],
) -> None:
    """Check that the figures are about exactly the files in the artifact.

    Raises:
        BuildError: says which digest is where.
    """
    layers = {name: digest for name, digest, _ in map(file_of_layer, manifest["layers"])}
    for what, claimed, name in (
        ("the search", search.get("model"), FILE_MODEL),
        ("the evaluation", evaluation.get("model"), FILE_MODEL),
        ("the benchmark", benchmark.get("model"), FILE_MODEL),
        ("the benchmark", benchmark.get("runtime"), FILE_RUNTIME),
        ("the evaluation", evaluation.get("data"), FILE_DATA),
        ("the evaluation", (evaluation.get("fallback") or {}).get("model"), FILE_CPU_MODEL),
        ("the benchmark", benchmark.get("data"), FILE_DATA),
    ):
        if claimed != layers.get(name) or (claimed is None and name not in (FILE_DATA, FILE_CPU_MODEL)):
            raise BuildError(
                f"{what} is about a {name} with digest {claimed}; the artifact holds {layers.get(name)}",
                hint="figures and artifact must come from one run: edgewright run",
            )


def artifact_bytes(manifest: Mapping[str, Any]) -> int:
    """Return the sum of all layers as they are transferred: what a device's line and patience are spent on."""
    return sum(int(layer["size"]) for layer in manifest["layers"])


def storage_notes(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return, where layers are compressed, what the artifact takes on a device."""
    stored = sum(size for _, _, size in map(file_of_layer, manifest["layers"]))
    transferred = artifact_bytes(manifest)
    if stored == transferred:
        return ()
    return (
        f"artifact-size is what is transferred, {shown(transferred, 'bytes')}; on the device its files take"
        f" {shown(stored, 'bytes')}",
    )


def checks(
    spec: Mapping[str, Any], evaluation: Mapping[str, Any], benchmark: Mapping[str, Any], size_bytes: int
) -> tuple[Check, ...]:
    """Return every check of a lane.

    Args:
        spec: `limits`, `metric`, `conditions`, `sources` as the gate sees them (bytes, milliseconds, shares).
        evaluation: `evaluation.json`.
        benchmark: `benchmark.json`.
        size_bytes: Size of the artifact.
    """
    limits, sources, metric = spec["limits"], spec["sources"], spec["metric"]
    provider = benchmark.get("provider")
    rows: tuple[tuple[str, Any, float | None, str, Direction], ...] = (
        ("artifact-size", size_bytes, limits["artifactSize"], "bytes", "max"),
        ("load-time", benchmark.get("loadMs"), limits["loadTime"], "ms", "max"),
        ("power-cycle", benchmark.get("powerCycleMs"), limits.get("powerCycle"), "ms", "max"),
        ("latency-p95", benchmark.get("p95Ms"), limits["latency"]["p95"], "ms", "max"),
        ("latency-p99", benchmark.get("p99Ms"), limits["latency"]["p99"], "ms", "max"),
        ("dropped-requests", benchmark.get("droppedShare"), spec.get("maxDropped"), "ratio", "max"),
        ("peak-memory", benchmark.get("peakMemoryBytes"), limits["peakMemory"], "bytes", "max"),
    )
    return (
        *(
            Check(name, _figure(measured), limit, unit, direction, sources.get(name, ""))
            for name, measured, limit, unit, direction in rows
            if limit is not None
        ),
        *metric_checks(metric, evaluation, sources),
        *target_checks("target", benchmark.get("functional"), metric["maxDrop"], sources),
        *(target_checks("provider", provider, metric["maxDrop"], sources) if provider else ()),
        *(fallback_checks(metric, evaluation, sources) if spec.get("cpuFallback") else ()),
        *condition_checks(benchmark.get("conditions"), spec["conditions"], sources),
    )


def metric_checks(
    metric: Mapping[str, Any], evaluation: Mapping[str, Any], sources: Mapping[str, str]
) -> Iterator[Check]:
    """Yield what the evaluation is held to.

    The floor is judged at the lower end of the 95 % interval: a value that few samples show is not yet worth that much.
    A drop is judged by its value: it is of the same samples, and its interval would refuse every small test set.

    Args:
        metric: `floor`, `maxDrop`, and `maxLabelDrop` where the model sets it.
        evaluation: `evaluation.json`.
        sources: Check → the YAML that decides it.
    """

    def check(name: str, measured: Any, limit: float, direction: Direction, detail: str) -> Check:
        return Check(name, _figure(measured), limit, "ratio", direction, sources.get(name, ""), detail)

    drop = evaluation.get("drop") or {}
    told = (
        f"{evaluation.get('metric')} {_ratio(evaluation.get('value'))} on {evaluation.get('samples')} samples"
    )
    interval = f"{told}, 95 % interval {_ends(evaluation)}: the lower end counts"
    yield check("accuracy-floor", evaluation.get("low"), metric["floor"], "min", interval)
    against = (
        f"fp32 {_ratio((evaluation.get('fp32') or {}).get('value'))}, 95 % interval of the drop {_ends(drop)}"
    )
    yield check("accuracy-drop", drop.get("value"), metric["maxDrop"], "max", against)
    if metric.get("maxLabelDrop") is not None:
        worst = evaluation.get("worstLabel") or {}
        entry = (evaluation.get("perLabel") or {}).get(worst.get("label"), {})
        recall = f"recall {_ratio(entry.get('recall'))} of {entry.get('samples')} samples"
        words = f"label '{worst.get('label')}': {recall}, fp32 {_ratio(entry.get('fp32'))}"
        detail = words if entry else "no label was measured"
        yield check("label-drop", worst.get("drop"), metric["maxLabelDrop"], "max", detail)


def fallback_checks(
    metric: Mapping[str, Any], evaluation: Mapping[str, Any], sources: Mapping[str, str]
) -> Iterator[Check]:
    """Yield what a device's last way to run this version is held to: the same floor and drop as the model itself.

    Args:
        metric: `floor`, `maxDrop`.
        evaluation: `evaluation.json`; without `fallback`, the model itself runs on the processor.
        sources: Check → the YAML that decides it.
    """
    found = evaluation.get("fallback") or evaluation
    which = "model for the processor" if "fallback" in evaluation else "the model itself"

    def check(name: str, measured: Any, limit: float, direction: Direction) -> Check:
        source = sources.get(f"accuracy-{name}", "")  # the same key of the same file decides both
        return Check(f"fallback-{name}", _figure(measured), limit, "ratio", direction, source, which)

    yield check("floor", found.get("low"), metric["floor"], "min")
    yield check("drop", (found.get("drop") or {}).get("value"), metric["maxDrop"], "max")


def target_checks(
    what: str, tried: Mapping[str, Any] | None, max_drop: float, sources: Mapping[str, str]
) -> tuple[Check, Check]:
    """Return what an execution path of the class is held to: the golden outputs, and the metric on a sample.

    The sample is judged against this machine's run of the same artifact on the same samples, so its size costs no
    certainty; but a drop smaller than one sample (or one pair, for an area) cannot be seen, and one may be a tie.

    Args:
        what: `target`, the class's processor, or `provider`, its execution provider.
        tried: `functional` or `provider` of `benchmark.json`.
        max_drop: What the model allows.
        sources: Check → the YAML that decides it.
    """
    functional = tried or {}
    failure = functional.get("failure")
    mended = "".join(f" → {advice}" for advice in functional.get("advice") or ())
    detail = f"{failure}: {functional.get('message', '')}{mended}" if failure else ""
    drop, allowed = functional.get("drop"), max(max_drop, _figure(functional.get("resolution")) or 0.0)
    return (
        Check(
            f"{what}-outputs",
            None if failure else _figure(functional.get("toleranceUsed")),
            1.0,
            "ratio",
            "max",
            sources.get(f"{what}-outputs", ""),
            detail,
        ),
        Check(f"{what}-drop", _figure(drop), allowed, "ratio", "max", sources.get(f"{what}-drop", "")),
    )


def _ratio(value: Any) -> str:
    return shown(_figure(value), "ratio")


def _ends(interval: Mapping[str, Any]) -> str:
    return f"{_ratio(interval.get('low'))} to {_ratio(interval.get('high'))}"


def _figure(value: Any) -> float | None:
    """Return a number, or None for anything that is not one (bool is not)."""
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
