"""`edgewright run`: build, gate, sign and publish what changed."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.plan.settled import Settled, fingerprint

if TYPE_CHECKING:
    from edgewright.errors import EdgewrightError
    from edgewright.plan.cache import Cache, Record
    from edgewright.plan.history import History
    from edgewright.plan.lane import StepId
    from edgewright.plan.resolve import Plan
    from edgewright.spec.load import Workspace


@click.command()
@root_option
@click.option(
    "--republish", is_flag=True, help="Publish everything again: the registry lost it, or is another one."
)
@click.option("--json", "as_json_", is_flag=True, help="Print the resulting plan as JSON; no progress.")
def command(root: Path, republish: bool, as_json_: bool) -> None:
    """Build, gate, sign and publish what changed.

    A lane that misses a limit is blocked; the others go on. Exit code 2 when any lane is blocked.
    """
    settled = None if as_json_ or republish else Settled.find(root)
    if settled is not None:
        click.echo(settled.text)
    exit_code = settled.exit_code if settled else _run(root, as_json_, republish)
    if exit_code:
        raise SystemExit(exit_code)


def _run(root: Path, as_json_: bool, republish: bool) -> int:
    # imported here: a run with nothing to do never needs them
    from edgewright.errors import BuildError
    from edgewright.plan.cache import open_cache
    from edgewright.plan.history import History
    from edgewright.plan.resolve import resolve
    from edgewright.spec.load import load_fleet

    began = fingerprint(root)
    workspace = load_fleet(root)
    cache, history = open_cache(workspace.root), History(workspace.root)
    plan = resolve(workspace, cache, history=history)
    if republish:
        for step, record in plan.records.items():
            if step.stage in ("published", "index"):
                cache.forget(record.key)
        plan = resolve(workspace, cache, history=history)
    made = 0
    if plan.to_run:
        watch = _Lines(len(plan.to_run), as_json_)
        # models' own code may print; with --json, standard output belongs to the document
        with contextlib.redirect_stdout(sys.stderr) if as_json_ else contextlib.nullcontext():
            plan = _materialize(workspace, cache, history, plan, watch)
        made = watch.count
        if watch.failures:
            click.echo(_text(workspace, plan, as_json_))
            raise watch.failures[0][1]
        if plan.to_run:
            raise BuildError(f"{plan.to_run[0].id} has no result", hint="edgewright ui shows the run's log")
    history.remember(plan.records)
    blocked = any(step.state == "blocked" for step in plan.steps)
    exit_code = 2 if blocked else 0
    click.echo(_text(workspace, plan, as_json_, made))
    if not as_json_:
        from edgewright.bench.target.place import documents

        settled = Settled(_text(workspace, plan, as_json_), exit_code)
        signing = workspace.fleet.signing
        verifies = signing.public_key if signing.mode == "key" else str(signing.trust_config)
        reads = [verifies, *map(str, documents())]
        settled.keep(root, began, reads, _results(cache, plan))
    return exit_code


def _materialize(workspace: Workspace, cache: Cache, history: History, plan: Plan, watch: _Lines) -> Plan:
    """Run the lanes, then the indexes; return the plan that is left.

    An index comes in a run of its own: within one run Dagster skips everything below a blocked lane, but a version is
    the index over the lanes that passed.
    """
    from edgewright.assets.run import run_steps
    from edgewright.plan.resolve import resolve

    lanes = [step.id for step in plan.to_run if step.id.stage != "index"]
    if lanes:
        run_steps(workspace, lanes, watch)
        plan = resolve(workspace, cache, history=history)
        history.remember(plan.records)
    ready = [step.id for step in plan.to_run if step.id.stage == "index" and step.after is None]
    if ready:
        run_steps(workspace, ready, watch)
        plan = resolve(workspace, cache, history=history)
    return plan


def _results(cache: Cache, plan: Plan) -> list[Path]:
    return [
        path
        for record in plan.records.values()
        for path in (cache.entry(record.key), *map(cache.path, record.files.values()))
    ]


def _text(workspace: Workspace, plan: Plan, as_json_: bool, made: int = 0) -> str:
    import json

    from edgewright.plan.render import HEADINGS, as_json, conclusion, rows, table

    if as_json_:
        return json.dumps(as_json(plan), indent=2)
    shown = [row for row in rows(workspace, plan) if row[2] != "up to date"]
    lines = [table(HEADINGS, shown)] if shown else []
    lines.append(conclusion(plan, made) + ("" if plan.to_run else " Next: edgewright release"))
    return "\n".join(lines)


class _Lines:
    """Tells every step on one line."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._quiet, self.count = total, quiet, 0
        self.failures: list[tuple[StepId, EdgewrightError]] = []

    def begin(self, step: StepId) -> None:
        self.count += 1

    def done(self, step: StepId, record: Record, cause: str, seconds: float) -> None:
        from edgewright.plan.render import headline

        took = f"{seconds:6.1f} s" if seconds else "  shared"
        self._say(step, f"{took}  {headline(step, record)}")

    def failed(self, step: StepId, error: EdgewrightError) -> None:
        self.failures.append((step, error))
        said = str(error).partition("\n")[0]
        self._say(step, f"{click.style('  failed', fg='red')}  {said}")

    def _say(self, step: StepId, text: str) -> None:
        if not self._quiet:
            place = " · ".join(part for part in (step.model, step.stage, step.hardware_class) if part)
            click.echo(f"[{self.count:{len(str(self._total))}}/{self._total}] {place:57} {text}")
