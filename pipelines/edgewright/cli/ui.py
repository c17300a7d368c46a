"""`edgewright ui`: the Dagster UI on this fleet."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from edgewright.cli.options import root_option
from edgewright.spec.load import load_fleet


@click.command()
@root_option
@click.option(
    "--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port on 127.0.0.1."
)
def command(root: Path, port: int) -> None:
    """Open the Dagster UI on this fleet at http://127.0.0.1:PORT (Ctrl-C stops it)."""
    from edgewright.assets.instance import prepare_home

    workspace = load_fleet(root)
    prepare_home(workspace.root)
    os.environ["EDGEWRIGHT_ROOT"] = str(workspace.root)
    os.chdir(workspace.root)
    click.echo(f"Dagster UI: http://127.0.0.1:{port}/asset-groups  (Ctrl-C stops it)")
    dagster = [sys.executable, "-W", "ignore", "-m", "dagster", "dev", "-m", "edgewright.assets.definitions"]
    os.execv(sys.executable, [*dagster, "-h", "127.0.0.1", "-p", str(port)])  # noqa: S606 - our own program
