"""`edgewright collect`: take signed device reports, and show the fleet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.errors import EnvironmentFault, GateError
from edgewright.plan.render import table
from edgewright.spec.load import load_fleet

if TYPE_CHECKING:
    from edgewright.collect.fleet_table import Line

_MORE_THAN_A_REPORT = 1024 * 1024


@click.command()
@root_option
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--database",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where accepted reports are kept; by default .edgewright/collect.sqlite.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(root: Path, files: tuple[Path, ...], database: Path | None, as_json: bool) -> None:
    """Check reports of devices (edgewright-agent report) and show what the whole fleet runs.

    A report counts when an enrolled, not revoked device signed it and it is newer than that device's last one.
    """
    from edgewright.collect.fleet_table import fleet_table
    from edgewright.collect.report import Refused, accept
    from edgewright.collect.store import DATABASE, Store

    workspace = load_fleet(root)
    accepted: list[dict[str, object]] = []
    refused: list[dict[str, object]] = []
    with Store(database or root / DATABASE) as store:
        for file in files:
            try:
                report = accept(_read(file), workspace.devices, store, fleet=workspace.fleet.name)
                accepted.append({"file": str(file), "device": report.device, "sequence": report.sequence})
            except Refused as error:
                told = {"file": str(file), "reason": error.reason, "message": error.message}
                refused.append({**told, "device": error.device})
        lines = fleet_table(workspace.devices, store)
    if as_json:
        devices = [line.to_json() for line in lines]
        click.echo(json.dumps({"accepted": accepted, "refused": refused, "devices": devices}, indent=2))
    else:
        click.echo(_table(lines) if lines else "no device is enrolled; next: edgewright devices enroll CSR")
        for entry in refused:
            click.echo(f"refused {entry['file']}: {entry['reason']}: {entry['message']}", err=True)
    if refused:
        raise GateError(
            f"{len(refused)} of {len(files)} report{'' if len(files) == 1 else 's'} refused",
            hint="the reasons are above",
        )


def _table(lines: list[Line]) -> str:
    rows = [
        (
            line.device,
            line.state + (f" ({', '.join(line.differs)} differ)" if line.differs else ""),
            line.time + ("" if line.clock == "synchronized" else f" (clock {line.clock})")
            if line.time
            else "–",
            "  ".join(f"{model} {version}" for model, version in sorted(line.models.items())),
        )
        for line in lines
    ]
    return table(("device", "state", "reported", "runs"), rows)


def _read(file: Path) -> bytes:
    """Return the start of a file: enough of it to see that it is too large."""
    try:
        with file.open("rb") as opened:
            return opened.read(_MORE_THAN_A_REPORT)
    except OSError as error:
        raise EnvironmentFault(f"cannot read {file}: {error.strerror}") from error
