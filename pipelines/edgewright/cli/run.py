"""`edgewright run`: build, gate, sign and publish what changed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewright.cli.options import root_option
from edgewright.errors import BuildError, EdgewrightError
from edgewright.plan.cache import Record, open_cache
from edgewright.plan.history import History
from edgewright.plan.lane import StepId
from edgewright.plan.render import HEADINGS, as_json, conclusion, rows, table
from edgewright.plan.resolve import Plan, resolve
from edgewright.spec.load import load_fleet


class _Lines:
    """Tells every step on one line."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._quiet, self._count = total, quiet, 0
        self.failures: list[tuple[StepId, EdgewrightError]] = []

    def begin(self, step: StepId) -> None:
        self._count += 1

    def done(self, step: StepId, record: Record, cause: str, cpu_seconds: float) -> None:
        self._say(step, f"{cpu_seconds:6.1f} s CPU  {cause}" if cpu_seconds else "    shared  same action as another lane")

    def failed(self, step: StepId, error: EdgewrightError) -> None:
        self.failures.append((step, error))
        self._say(step, click.style(f"    failed  {error}", fg="red"))

    def _say(self, step: StepId, text: str) -> None:
        if not self._quiet:
            place = f"{step.model} · {step.stage}" + (f" · {step.hardware_class}" if step.hardware_class else "")
            click.echo(f"[{self._count:3}/{self._total}] {place:58} {text}")


@click.command()
@root_option
@click.option("--json", "as_json_", is_flag=True, help="Print the resulting plan as JSON; no progress.")
def command(root: Path, as_json_: bool) -> None:
    """Build, gate, sign and publish what changed.

    A lane that misses a limit is blocked; the others go on. Exit code 2 when any lane is blocked.
    """
    workspace = load_fleet(root)
    cache, history = open_cache(workspace.root), History(workspace.root)
    plan = resolve(workspace, cache, history=history)
    failures: list[tuple[StepId, EdgewrightError]] = []
    if plan.to_run:
        from edgewright.assets.run import run_steps  # Dagster costs a second of CPU: only when there is work

        watch = _Lines(len(plan.to_run), as_json_)
        succeeded = run_steps(workspace, [step.id for step in plan.to_run], watch)
        failures = watch.failures
        plan = resolve(workspace, cache, history=history)
        if plan.to_run and succeeded and not failures:
            raise BuildError("Dagster reported success but results are missing", hint="edgewright plan")
    history.remember(plan.records)
    _report(workspace_rows=rows(workspace, plan), plan=plan, as_json_=as_json_)
    if failures:
        raise failures[0][1]
    if any(step.state == "blocked" for step in plan.steps):
        raise SystemExit(2)


def _report(workspace_rows: list[tuple[str, str, str, str]], plan: Plan, as_json_: bool) -> None:
    if as_json_:
        click.echo(json.dumps(as_json(plan), indent=2))
        return
    shown = [row for row in workspace_rows if row[2] != "up to date"]
    if shown:
        click.echo(table(HEADINGS, shown))
    next_step = "" if plan.to_run else " Next: edgewright release"
    click.echo(f"{conclusion(plan)}{next_step}")
