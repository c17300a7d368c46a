"""`edgewright optimize`: search the best artifact of one lane, and say why it is the best."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.options import root_option
from edgewright.cli.watch import lane_of, progress
from edgewright.errors import BuildError, EnvironmentFault

if TYPE_CHECKING:
    from edgewright.build.search.candidate import Candidate
    from edgewright.build.search.explore import Found
    from edgewright.build.search.planned import Plan
    from edgewright.plan.action import Action
    from edgewright.plan.cache import Cache, Record
    from edgewright.plan.lane import Lane, StepId
    from edgewright.spec.workspace import Workspace

Tell = Callable[[str], None]


@click.command()
@root_option
@click.argument("model")
@click.option("--class", "hardware_class", required=True, help="Hardware class, the name of its file.")
@click.option("--dry-run", is_flag=True, help="List what would be tried and roughly how long it takes.")
@click.option(
    "--time-limit",
    "limit_s",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Stop after so many seconds and show the best so far; nothing is recorded.",
)
@click.option(
    "--plot",
    "picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to draw the candidates into (PNG).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the search as JSON; no progress.")
def command(
    root: Path,
    model: str,
    hardware_class: str,
    dry_run: bool,
    limit_s: float | None,
    picture: Path | None,
    as_json: bool,
) -> None:
    """Search the best artifact of MODEL for a class by its objective, within its limits and floors.

    Builds candidates, measures them on the class's emulated processor, and shows them all with a verdict and a reason.
    The pipeline takes the results as they are: `edgewright run` measures nothing of it again. Ctrl-C shows the best so
    far. Exit code 2 when no candidate fits.
    """
    from edgewright.spec.load import load_fleet

    workspace = load_fleet(root)
    lane = lane_of(workspace, model, hardware_class)
    if dry_run:
        with progress(quiet=as_json) as tell:
            planned = _planned(workspace, lane, tell)
        click.echo(json.dumps(_plan_document(planned), indent=2) if as_json else plan_text(lane, planned))
        return
    began_s = time.monotonic()
    with progress(quiet=as_json) as tell:
        search, complete = _search(workspace, lane, tell, limit_s)
    if as_json:
        click.echo(json.dumps(search, indent=2))
    else:
        click.echo(text(lane, search))
        recorded = (
            "Next: edgewright run"
            if complete
            else "Stopped early: nothing was recorded, what was measured is kept."
        )
        click.echo(f"\ntook {time.monotonic() - began_s:.1f} s. {recorded}")
    if picture is not None:
        _draw(picture, workspace, lane, search)
        click.echo(f"drew {picture}", err=True)
    if not search["fits"]:
        raise SystemExit(2)


def _search(
    workspace: Workspace, lane: Lane, tell: Tell, limit_s: float | None
) -> tuple[Mapping[str, Any], bool]:
    """Run the stages of a lane up to `optimized`, as far as the cache does not know them.

    Returns:
        `search.json`, and whether the search came to its end.
    """
    from edgewright.build.optimize import decide
    from edgewright.build.search.explore import document as found_document
    from edgewright.build.search.report import document
    from edgewright.plan.lane import StepId
    from edgewright.plan.stage import STAGES

    cache, records, history = _until(workspace, lane, "searched", tell)
    searched, optimized = (
        StepId(stage, lane.model, lane.hardware_class) for stage in ("searched", "optimized")
    )
    action = _prepared(workspace, searched, records)
    record = cache.record(action.key)
    if record is None:
        found, record = _explore(workspace, action, cache, tell, limit_s)
        if record is None:
            spec = STAGES["optimized"].reads(workspace, optimized)
            choice = decide(found_document(found), spec)
            return document(choice, spec["objective"], found.skipped, list(found.left)), False
    records[searched] = record
    history.remember({searched: record})
    chosen = _bring(workspace, _prepared(workspace, optimized, records), cache, tell)
    history.remember({optimized: chosen})
    search: Mapping[str, Any] = json.loads(cache.verified(chosen.files["search.json"]).read_bytes())
    return search, True


def _until(
    workspace: Workspace, lane: Lane, stage: str, tell: Tell
) -> tuple[Cache, dict[StepId, Record], Any]:
    """Bring every step before a stage of the lane."""
    from edgewright.plan.cache import open_cache
    from edgewright.plan.history import History
    from edgewright.plan.lane import StepId
    from edgewright.plan.resolve import before

    cache, history = open_cache(workspace.root), History(workspace.root)
    records: dict[StepId, Record] = {}
    for step in before(workspace, StepId(stage, lane.model, lane.hardware_class)):
        records[step] = _bring(workspace, _prepared(workspace, step, records), cache, tell)
        history.remember({step: records[step]})
    return cache, records, history


def _prepared(workspace: Workspace, step: StepId, records: Mapping[StepId, Record]) -> Action:
    from edgewright.plan.action import prepare

    return prepare(workspace, step, records)


def _bring(workspace: Workspace, action: Action, cache: Cache, tell: Tell) -> Record:
    from edgewright.plan.action import perform

    return cache.record(action.key) or perform(workspace, action, cache, tell)


def _explore(
    workspace: Workspace, action: Action, cache: Cache, tell: Tell, limit_s: float | None
) -> tuple[Found, Record | None]:
    """Search; record what was found only when the search came to its end."""
    from edgewright.build.search import stage
    from edgewright.build.search.explore import Stopped
    from edgewright.plan.action import job_of, record_of, told_of_the_disk
    from edgewright.plan.job import Result

    deadline_s = time.monotonic() + limit_s if limit_s else None
    with cache.scratch() as scratch, told_of_the_disk(action.step), _interrupted() as asked:
        job = job_of(workspace, action, cache, Path(scratch), tell)

        def watch(one: Candidate) -> None:
            tell(stage.progress_line(one))
            if asked() or (deadline_s is not None and time.monotonic() > deadline_s):
                raise Stopped

        found = stage.search(job, watch=watch, tell=tell)
        if not found.complete:
            return found, None
        stage.write(job, found)
        return found, record_of(action, cache, job, Result(stage.facts(found)))


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Take the first Ctrl-C as a wish to see the best so far; the second ends the program as usual."""
    asked = False

    def note(_number: int, _frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, before)
        click.echo("stopping at the next result; Ctrl-C again ends at once", err=True)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked
    finally:
        signal.signal(signal.SIGINT, before)


def _planned(workspace: Workspace, lane: Lane, tell: Tell) -> Plan:
    from edgewright.build.search.stage import planned
    from edgewright.plan.action import job_of
    from edgewright.plan.lane import StepId

    cache, records, _history = _until(workspace, lane, "searched", tell)
    action = _prepared(workspace, StepId("searched", lane.model, lane.hardware_class), records)
    with cache.scratch() as scratch:
        return planned(job_of(workspace, action, cache, Path(scratch), tell))


def plan_text(lane: Lane, planned: Plan) -> str:
    """Return what would be tried, for a terminal."""
    lines = [
        f"{lane.model} on {lane.hardware_class}: {len(planned.proposals)} candidates, about {planned.estimate_s:.0f} s"
    ]
    rows = [
        (one.name, f"{one.estimate_s:.1f} s", f"{planned.target_of(one):.1f} s", f"{one.speed:.2f}")
        for one in planned.proposals
    ]
    lines += columns(("candidate", "build, score", "on target", "rough speed"), rows)
    lines += [f"not tried: {name}: {why}" for name, why in planned.skipped.items()]
    lines += [f"beyond the time budget: {one.name}" for one in planned.left]
    return "\n".join(lines)


def _plan_document(planned: Plan) -> dict[str, Any]:
    return {
        "version": 1,
        "estimateSeconds": round(planned.estimate_s, 1),
        "candidates": [
            {
                "name": one.name,
                "recipe": one.recipe,
                "settings": dict(one.settings),
                "estimateSeconds": one.estimate_s,
                "targetSeconds": round(planned.target_of(one), 2),
            }
            for one in planned.proposals
        ],
        "notApplicable": dict(planned.skipped),
        "beyondBudget": [one.name for one in planned.left],
    }


def text(lane: Lane, search: Mapping[str, Any]) -> str:
    """Return a search for a terminal: every candidate, the choice and its reason."""
    from edgewright.build.search.report import rows

    found = rows(search)
    head = tuple(found[0])
    lines = [
        f"{lane.model} on {lane.hardware_class}, by {search['objective']} (* no other beats it in everything)"
    ]
    lines += columns(head, [tuple(row.values()) for row in found])
    lines += [f"not tried: {name}: {why}" for name, why in search["notApplicable"].items()]
    lines += [f"beyond the time budget: {name}" for name in search["beyondBudget"]]
    verdict = click.style("chosen", fg="green") if search["fits"] else click.style("nothing fits", fg="red")
    lines += ["", f"{verdict}: {search['chosen']}: {search['why']}"]
    return "\n".join(lines)


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return aligned columns; the last one is free to be long."""
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head) - 1)]
    return [
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)), row[-1]]
        ).rstrip()
        for row in (head, *rows)
    ]


def _draw(picture: Path, workspace: Workspace, lane: Lane, search: Mapping[str, Any]) -> None:
    """Write the Pareto plot.

    Raises:
        BuildError: nothing was measured that could be drawn.
        EnvironmentFault: the file cannot be written.
    """
    from edgewright.build.search.report import pareto_png
    from edgewright.spec.limits import effective_metric

    if all(one["latencyMs"] is None for one in search["candidates"]):
        raise BuildError("nothing was measured that could be drawn")
    floor = effective_metric(workspace.models[lane.model], lane.hardware_class).floor
    try:
        picture.write_bytes(pareto_png(search, f"{lane.model} on {lane.hardware_class}", floor))
    except OSError as error:
        raise EnvironmentFault(f"cannot write {picture}: {error.strerror or error}") from error
