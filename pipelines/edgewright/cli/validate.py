"""`edgewright validate`: is the YAML right, and if not, what exactly is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edgewright.cli.options import root_option
from edgewright.spec.load import load_fleet
from edgewright.spec.problem import InvalidSpec


@click.command()
@root_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(root: Path, as_json: bool) -> None:
    """Check fleet.yaml, hardware/*.yaml, models/*/model.yaml and baselines/*.yaml; builds nothing."""
    try:
        workspace = load_fleet(root)
    except InvalidSpec as error:
        if not as_json:
            raise
        problems = [problem.as_json() for problem in error.problems]
        click.echo(json.dumps({"ok": False, "problems": problems}, indent=2, ensure_ascii=False))
        sys.exit(error.exit_code)
    counts = {
        "classes": len(workspace.hardware),
        "models": len(workspace.models),
        "lanes": len(workspace.lanes()),
    }
    if as_json:
        click.echo(json.dumps({"ok": True, "problems": [], **counts}, indent=2))
        return
    parts = [f"{count} {name if count != 1 else _one(name)}" for name, count in counts.items()]
    click.echo(f"{click.style('ok', fg='green')}: {', '.join(parts)}")


def _one(plural: str) -> str:
    return {"classes": "class", "models": "model", "lanes": "lane"}[plural]
