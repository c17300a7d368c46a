"""`edgewright bench`: what the emulated target says about one lane, and what the gate makes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.cli.watch import lane_of, progress
from edgewright.errors import BuildError

if TYPE_CHECKING:
    from edgewright.bench.assessment import Assessment, Progress
    from edgewright.bench.functional import Functional
    from edgewright.bench.report import Check, GateReport
    from edgewright.bench.timing import Banded
    from edgewright.plan.lane import Lane
    from edgewright.spec.workspace import Workspace

Rows = list[tuple[str, str]]


@click.command()
@root_option
@click.argument("model")
@click.option("--class", "hardware_class", required=True, help="Hardware class, the name of its file.")
@click.option("--json", "as_json", is_flag=True, help="Print the gate report as JSON; no progress.")
@click.option(
    "--plots",
    "plots_folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to draw latency, heat, headroom and field conditions into.",
)
def command(root: Path, model: str, hardware_class: str, as_json: bool, plots_folder: Path | None) -> None:
    """Try the built MODEL on its class's emulated processor: does it work, what will it cost.

    Runs it there, counts its instructions, predicts latency and start-up, plays its workload in virtual time,
    and judges the result as the gate does; nothing is taken from earlier runs or recorded. Exit code 2 when
    it does not work or misses a limit.
    """
    from edgewright.spec.load import load_fleet

    workspace = load_fleet(root)
    lane = lane_of(workspace, model, hardware_class)
    started_s = time.monotonic()
    with progress(quiet=as_json) as tell:
        found, report = _assess(workspace, lane, tell)
    if as_json:
        click.echo(report.to_json())
    else:
        click.echo(table(workspace, found, report))
        click.echo(f"\ntook {time.monotonic() - started_s:.1f} s")
    if plots_folder is not None:
        names = _draw(plots_folder, found, report)
        click.echo(f"drew {', '.join(names)} in {plots_folder}", err=True)
    if report.verdict != "pass":
        raise SystemExit(2)


def _assess(workspace: Workspace, lane: Lane, tell: Progress) -> tuple[Assessment, GateReport]:
    """Run the stages `benchmarked` and `gated` of a built lane, without the cache.

    Raises:
        BuildError: it is not built, or a spec or its code has changed since.
        EnvironmentFault: its target is not on this machine.
    """
    from edgewright.bench.benchmark import benchmark, document
    from edgewright.bench.gate import judge
    from edgewright.bench.target.scratch import scratch
    from edgewright.plan.action import job_of, prepare, told_of_the_disk
    from edgewright.plan.cache import open_cache
    from edgewright.plan.lane import StepId
    from edgewright.plan.resolve import before, resolve
    from edgewright.plan.stage import STAGES

    cache = open_cache(workspace.root)
    last = StepId("packaged", lane.model, lane.hardware_class)
    records = resolve(workspace, cache, steps=[*before(workspace, last), last]).records
    if last not in records:
        raise BuildError(
            f"{lane} is not built, or something it is made of has changed", hint="edgewright run"
        )
    step = StepId("benchmarked", *_names(lane))
    with told_of_the_disk(step), scratch("bench") as folder:
        job = job_of(workspace, prepare(workspace, step, records), cache, folder, tell)
        found = benchmark(job)
        limits = STAGES["gated"].reads(workspace, StepId("gated", *_names(lane)))
        files = records[StepId("evaluated", *_names(lane))].files
        chosen = records[StepId("optimized", *_names(lane))]
        report = judge(
            lane,
            limits,
            manifest=cache.verified(records[last].files["manifest.json"]).read_bytes(),
            evaluation=json.loads(cache.verified(files["evaluation.json"]).read_bytes()),
            benchmark=document(job, found),
            search=json.loads(cache.verified(chosen.files["search.json"]).read_bytes()),
        )
    return found, report


def _names(lane: Lane) -> tuple[str, str]:
    return lane.model, lane.hardware_class


def _draw(folder: Path, found: Assessment, report: GateReport) -> list[str]:
    """Write every picture of a lane; return their names.

    Raises:
        EnvironmentFault: the folder cannot be written.
    """
    from edgewright.bench import benchmark, gate
    from edgewright.errors import EnvironmentFault

    limits_ms = {
        check.name.removeprefix("latency-"): check.limit
        for check in report.checks
        if check.name.startswith("latency-")
    }
    pictures: Mapping[str, bytes] = {**benchmark.plots(found, limits_ms), **gate.plots(report)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, picture in pictures.items():
            (folder / name).write_bytes(picture)
    except OSError as error:
        raise EnvironmentFault(f"cannot write {folder}: {error.strerror or error}") from error
    return sorted(pictures)


def table(workspace: Workspace, found: Assessment, report: GateReport) -> str:
    """Return an assessment and its verdict for a terminal."""
    version = workspace.models[found.lane.model].model_version
    rows: Rows = [("", f"{found.lane.model} {version} on {found.lane.hardware_class}, {found.precision}")]
    rows += [*_tried(found.functional), *(_tried(found.provider) if found.provider else [])]
    rows += [*_times(found), *_load(found)]
    for item in report.checks:
        rows.append((item.name, _judged(workspace, item)))
        rows += [("", item.detail)] if item.detail and item.seen else []
    rows.append(("verdict", _verdict(report.verdict)))
    rows += [("note" if number == 0 else "", note) for number, note in enumerate(found.notes)]
    width = max(len(label) for label, _ in rows) + 2
    return "\n".join(f"{label:<{width}}{text}".rstrip() for label, text in rows)


def _tried(functional: Functional) -> Rows:
    from edgewright.plan.figures import shown

    engine = f", {functional.engine}" if functional.engine else ""
    rows: Rows = [("ran on", f"{functional.target}{engine}")]
    if functional.failure:
        rows.append(("failed", functional.failure))  # the check target-outputs says more
    elif functional.worst is not None:
        rows.append(("golden outputs", f"agree, the worst is off by {functional.worst:.3g}"))
    if (compared := functional.compared) is not None:
        there, here = shown(compared.value, "ratio"), shown(compared.reference, "ratio")
        text = f"{there} of {functional.samples} samples, {here} here"
        if compared.agreement is not None:
            text += f", same answer for {shown(compared.agreement, 'ratio')}"
        if compared.metric == "cosine":
            text = f"{there} on {functional.samples} samples, to the outputs here"
        elif compared.metric == "auc":
            text = f"{there} on {functional.samples} samples, {here} here"
        rows.append((f"{compared.metric} there", text))
    return rows


def _times(found: Assessment) -> Rows:
    if found.counts is None or found.timing is None:
        return []
    per, load = found.counts.per_inference, found.counts.load
    rows: Rows = [
        ("instructions", f"{per.instructions:,} per inference, {load.instructions:,} to load"),
    ]
    if per.kinds:
        shares = sorted(per.kinds.items(), key=lambda kind: -kind[1])
        mix = ", ".join(f"{name} {amount / per.instructions:.0%}" for name, amount in shares if amount)
        rows.append(("", mix))
    used = found.timing.coefficients
    per_cycle = used.cycles_per_instruction.value
    rows += [
        ("latency", f"{_band(found.timing.latency_ms)}, {found.calibration}"),
        ("start-up", f"{_band(found.timing.startup_ms)}, {found.calibration}"),
        ("power cycle", f"{_band(found.timing.power_cycle_ms)}, from no engine to the first answer"),
        ("", f"cycles per instruction {per_cycle:g}, clock {used.clock_hz / 1e6:,.0f} MHz"),
    ]
    return rows


def _load(found: Assessment) -> Rows:
    """Return one row per simulated case, at the upper end of the latency."""
    if found.simulation is None:
        return []
    rows: Rows = []
    for case in found.simulation.document()["cases"]:
        name = case["name"]
        where = f"{name} {case['ambientC']:g} °C" if "ambientC" in case else name
        text = f"{case['servedPerS']:g}/s served, {case['droppedShare']:.1%} dropped"
        if case["sojournMs"]:
            text += f"; answer p50 {case['sojournMs']['p50']:g}, p99 {case['sojournMs']['p99']:g} ms"
        if "peakTemperatureC" in case:
            throttled = case["timeToThrottleS"]
            text += f"; peak {case['peakTemperatureC']:.0f} °C, "
            text += "full clock throughout" if throttled is None else f"throttles after {throttled:g} s"
        rows.append((where, f"{text}; can sustain {case['sustainedPerS']:,.0f}/s"))
    return rows


def _band(figure: Banded) -> str:
    from edgewright.plan.figures import shown

    ends = figure.to_json()
    return f"{shown(ends['value'], 'ms')} ({shown(ends['low'], 'ms')} to {shown(ends['high'], 'ms')})"


def _judged(workspace: Workspace, item: Check) -> str:
    from edgewright.plan.figures import shown
    from edgewright.plan.history import line_of

    relation = "≤" if item.direction == "max" else "≥"
    if item.detail and not item.seen:
        return f"{_verdict(item.verdict)}  {item.detail}"
    left = "" if item.headroom is None else f", {item.headroom:.0%} left"
    figures = f"{shown(item.measured, item.unit)} {relation} {shown(item.limit, item.unit)}{left}"
    where = f"  ({line_of(workspace, item.source)})" if item.source else ""
    return f"{_verdict(item.verdict)}  {figures}{where}"


def _verdict(verdict: str) -> str:
    return click.style(verdict, fg="green" if verdict == "pass" else "red")
