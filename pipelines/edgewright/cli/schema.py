"""`edgewright schema`: JSON Schemas, so that editors complete and check the YAML while it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edgewright.errors import EnvironmentFault
from edgewright.spec.schema import FILES, KINDS, schema_of


@click.command()
@click.argument("kind", type=click.Choice(list(KINDS)), required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write <kind>.schema.json files into this folder instead of printing.",
)
def command(kind: str | None, out: Path | None) -> None:
    """Print the JSON Schema of one KIND of spec file, or write all of them with --out.

    An editor with yaml-language-server (VS Code: "YAML" by Red Hat) uses one when the first line of a file is
    "# yaml-language-server: $schema=PATH".
    """
    if out is None:
        if kind is None:
            raise click.UsageError(f"name one of {', '.join(KINDS)}, or write all of them with --out DIR")
        click.echo(_text(kind), nl=False)
        return
    for name in [kind] if kind else KINDS:
        file = out / f"{name}.schema.json"
        try:
            out.mkdir(parents=True, exist_ok=True)
            file.write_text(_text(name), encoding="utf-8")
        except OSError as error:
            raise EnvironmentFault(f"cannot write {file}: {error.strerror}") from error
        click.echo(f"{file}  for {FILES[name]}")


def _text(kind: str) -> str:
    return json.dumps(schema_of(kind), indent=2, ensure_ascii=False) + "\n"
