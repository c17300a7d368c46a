"""`edgewright explain`: what a key of the YAML means."""

from __future__ import annotations

import shutil

import click

from edgewright.spec.explain import explain


@click.command()
@click.argument("path")
def command(path: str) -> None:
    """Explain a key: type, unit, default, meaning, example.

    PATH is dotted and starts with the kind of file: fleet, hardware, model or baseline; for example
    hardware.limits.latency.p95.
    """
    explanation = explain(path)
    width = max(60, min(shutil.get_terminal_size((100, 24)).columns, 120))
    head, _, rest = explanation.render(width=width).partition("\n")
    click.echo(f"{click.style(head, bold=True)}\n{rest}")
