"""`edgewright baseline`: what models cost in guest instructions, beside what they cost as last recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.options import root_option
from edgewright.errors import BuildError, SpecError

if TYPE_CHECKING:
    from edgewright.plan.baseline import LaneCost
    from edgewright.spec.baseline import ClassBaseline
    from edgewright.spec.workspace import Workspace

Row = tuple[str, ...]
HEADINGS: Row = ("model", "class", "of", "baseline", "now", "change", "")
NUMBERS = (3, 4, 5)  # columns that are aligned on their right


@click.command()
@root_option
@click.argument("models", metavar="[MODEL]…", nargs=-1)
@click.option("--write", is_flag=True, help="Record the counts of published lanes in baselines/.")
@click.option(
    "--accept", is_flag=True, help="The same, and those of lanes of MODEL that only a regression holds back."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(root: Path, models: tuple[str, ...], write: bool, accept: bool, as_json: bool) -> None:
    """Show instruction counts per lane: baseline, now, change.

    With --write, the counts of what is published become the baseline that later builds are compared with. A lane
    that is blocked or not published keeps the baseline it has.
    """
    from edgewright.plan.baseline import lane_costs
    from edgewright.plan.cache import open_cache
    from edgewright.plan.resolve import resolve
    from edgewright.spec.load import load_fleet

    workspace = load_fleet(root)
    chosen = _chosen(workspace, models)
    if accept and not models:
        raise click.UsageError("name the MODEL whose regression is accepted")
    cache = open_cache(workspace.root)
    costs = [
        cost for cost in lane_costs(workspace, cache, resolve(workspace, cache)) if cost.lane.model in chosen
    ]
    written = _write(workspace.root, costs, accept=accept) if write or accept else {}
    if as_json:
        click.echo(json.dumps(document(costs, written), indent=2))
        return
    click.echo(table(costs))
    click.echo("\n" + (_told(costs, written, accept) if write or accept else _next(costs)))


def _chosen(workspace: Workspace, models: tuple[str, ...]) -> set[str]:
    from edgewright.spec.problem import did_you_mean

    for name in models:
        if name not in workspace.models:
            hint = did_you_mean(name, workspace.models, "models here")
            raise SpecError(f"there is no model {name!r}", hint=hint or None)
    return set(models or workspace.models)


def _write(root: Path, costs: Sequence[LaneCost], *, accept: bool) -> dict[str, bool]:
    """Write the baseline of every model among `costs`; return file → whether it changed.

    Raises:
        BuildError: no lane can be recorded.
        EnvironmentFault: a file cannot be written.
    """
    from edgewright.plan.baseline import renewed
    from edgewright.publish.durable import write_file
    from edgewright.spec.baseline import baseline_file_of, text_of

    recorded = sorted({cost.lane.model for cost in costs if cost.is_recorded(accept=accept)})
    if not recorded:
        raise BuildError(
            "there is nothing to record: no lane is published with instruction counts", hint="edgewright run"
        )
    written: dict[str, bool] = {}
    for model in recorded:
        entries = renewed((cost for cost in costs if cost.lane.model == model), accept=accept)
        name, content = baseline_file_of(model), text_of(model, entries).encode()
        file = root / name
        written[name] = not file.is_file() or file.read_bytes() != content
        if written[name]:
            write_file(file, content)
    return written


def table(costs: Sequence[LaneCost]) -> str:
    """Return two rows per lane, load and inference, for a terminal."""
    rows: list[Row] = [HEADINGS]
    for cost in costs:
        then, now, changes = _counts(cost.then), _counts(cost.now), _changes(cost)
        for span, remark in (("load", _remark(cost)), ("inference", "")):
            rows.append(
                (
                    cost.lane.model,
                    cost.lane.hardware_class,
                    span,
                    f"{then[span]:,}" if then else "–",
                    f"{now[span]:,}" if now else "–",
                    _percent(changes[span]) if changes else "–",
                    remark,
                )
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in NUMBERS else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def document(costs: Sequence[LaneCost], written: dict[str, bool]) -> dict[str, Any]:
    """Return the same as JSON values; shares, not percent."""
    return {
        "version": 1,
        "lanes": [
            {
                "model": cost.lane.model,
                "hardwareClass": cost.lane.hardware_class,
                "state": cost.state,
                "baseline": cost.then.model_dump(by_alias=True) if cost.then else None,
                "now": cost.now.model_dump(by_alias=True) if cost.now else None,
                "change": _changes(cost),
                "remark": _remark(cost),
            }
            for cost in costs
        ],
        "files": [{"file": name, "changed": changed} for name, changed in written.items()],
    }


def _counts(entry: ClassBaseline | None) -> dict[str, int] | None:
    return entry.instructions.model_dump() if entry is not None else None


def _changes(cost: LaneCost) -> dict[str, float] | None:
    """Return the growth of load and inference; None where there are not two counts of one ruler."""
    from edgewright.bench.baseline import growth

    then, now = _counts(cost.then), _counts(cost.now)
    if then is None or now is None or _obstacle(cost):
        return None
    return {span: growth(now[span], then[span]) for span in then}


def _obstacle(cost: LaneCost) -> str:
    from edgewright.bench.baseline import Ruler, obstacle

    if cost.then is None or cost.now is None:
        return ""
    return obstacle(Ruler(cost.then.target, cost.then.engine), Ruler(cost.now.target, cost.now.engine))


def _percent(change: float) -> str:
    # counts repeat to the last instruction: none at all is another finding than very little
    return f"{100 * change:+.2f} %" if change else "0 %"


def _remark(cost: LaneCost) -> str:
    remarks = []
    if cost.state == "blocked":
        remarks.append(f"blocked: {cost.cause}")
    elif cost.state == "waiting":
        remarks.append("not published: edgewright run")
    elif cost.now is None:
        remarks.append("its benchmark has no instruction counts")
    if cost.then is None:
        remarks.append("no baseline")
    elif reason := _obstacle(cost):
        remarks.append(f"not comparable: {reason}")
    return "; ".join(remarks)


def _told(costs: Sequence[LaneCost], written: dict[str, bool], accept: bool) -> str:
    lines = [f"{name} {'written' if changed else 'is as it was'}" for name, changed in written.items()]
    lines += [
        f"accepted: {cost.lane}, {cost.cause}"
        for cost in costs
        if cost.state == "blocked" and cost.is_recorded(accept=accept)
    ]
    lines += [
        f"{cost.lane} {'keeps its baseline' if cost.then else 'gets no baseline'}: {_why_not(cost)}"
        for cost in costs
        if not cost.is_recorded(accept=accept)
    ]
    if any(written.values()):
        lines.append("Next: review and commit; edgewright run")
    return "\n".join(lines)


def _why_not(cost: LaneCost) -> str:
    if cost.state == "blocked":
        return f"blocked by its gate ({cost.cause})"
    return "not published" if cost.state == "waiting" else "its benchmark has no instruction counts"


def _next(costs: Sequence[LaneCost]) -> str:
    if any(cost.only_regressed for cost in costs):
        models = sorted({cost.lane.model for cost in costs if cost.only_regressed})
        return f"If that growth is wanted: edgewright baseline {' '.join(models)} --accept"
    if any(cost.is_recorded(accept=False) and cost.now != cost.then for cost in costs):
        return "What is published is not what the baseline says. Next: edgewright baseline --write"
    if any(cost.state == "waiting" for cost in costs):
        return "Next: edgewright run"
    if all(cost.state == "published" and cost.now == cost.then for cost in costs):
        return "The baseline is what is published."
    return "What is not published keeps its baseline."
