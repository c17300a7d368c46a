"""`edgewright plan`: what would be built, and why."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewright.cli.options import root_option
from edgewright.plan.cache import open_cache
from edgewright.plan.history import History
from edgewright.plan.render import HEADINGS, as_json, conclusion, markdown, rows, table
from edgewright.plan.resolve import resolve
from edgewright.spec.load import load_fleet


@click.command()
@root_option
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a pull-request comment.")
def command(root: Path, as_json_: bool, as_markdown: bool) -> None:
    """Show what would be built and why; builds nothing."""
    workspace = load_fleet(root)
    plan = resolve(workspace, open_cache(workspace.root), history=History(workspace.root))
    if as_json_:
        click.echo(json.dumps(as_json(plan), indent=2))
    elif as_markdown:
        click.echo(markdown(workspace, plan))
    else:
        click.echo(table(HEADINGS, rows(workspace, plan)))
        click.echo(f"\n{conclusion(plan)}")
