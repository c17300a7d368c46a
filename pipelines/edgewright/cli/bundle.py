"""`edgewright bundle`: releases that travel on a stick."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.plan.render import table
from edgewright.spec.load import load_fleet

if TYPE_CHECKING:
    from edgewright.bundle.create import Bundle


@click.group()
def command() -> None:
    """Write what a group needs into one file, for devices without a network."""


@command.command()
@root_option
@click.option("--group", "groups", multiple=True, required=True, help="For this group's devices; repeatable.")
@click.option("--class", "classes", multiple=True, help="Only for this hardware class; repeatable.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file; by default GROUP-RELEASE.tar here.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def create(
    root: Path, groups: tuple[str, ...], classes: tuple[str, ...], out: Path | None, as_json: bool
) -> None:
    """Write the current release, as far as a group needs it: metadata, artifacts, signatures.

    Devices verify it as they verify a registry, and believe it until its metadata ends.
    """
    workspace = load_fleet(root)
    from edgewright.bundle.create import create as create_bundle
    from edgewright.bundle.create import release_of

    out = out or Path(f"{'-'.join(groups)}-{release_of(workspace)}.tar")
    bar = _Bar()
    bundle = create_bundle(workspace, groups=groups, classes=classes, out=out.absolute(), progress=bar)
    click.echo(json.dumps(bundle.to_json(), indent=2) if as_json else render(bundle, out))


def render(bundle: Bundle, out: Path) -> str:
    """Return what was written, as people read it."""
    rows = [
        (
            artifact.model,
            artifact.hardware_class,
            f"{artifact.size_bytes / 1e6:.2f} MB",
            f"{artifact.version} ({artifact.digest.removeprefix('sha256:')[:12]})"
            + (f", experiment {artifact.experiment}" if artifact.experiment else ""),
        )
        for artifact in bundle.artifacts
    ]
    return "\n\n".join(
        (
            f"Release {bundle.release} for {', '.join(bundle.groups)}: {out}, {bundle.size_bytes / 1e6:.2f} MB.",
            table(("model", "class", "size", "version"), rows),
            f"Devices believe it until {bundle.expires}. Next, on a device: edgewright-agent install {out.name}",
        )
    )


class _Bar:
    """How far it is: one line that moves on a terminal, nothing elsewhere."""

    def __call__(self, done: int, total: int, name: str) -> None:
        if not sys.stderr.isatty():
            return
        share = done / total if total else 1.0
        end = "" if name else "\n"
        print(
            f"\r\x1b[K{'█' * round(24 * share):░<24} {done / 1e6:.1f} of {total / 1e6:.1f} MB",
            end=end,
            file=sys.stderr,
            flush=True,
        )
