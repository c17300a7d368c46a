"""`edgewright targets`: the processors that models are tried on, and fetching those that are not this machine's."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click

from edgewright.bench.target.userland import EMULATOR, USERLANDS, Installed, inspect, targets_cache
from edgewright.plan.figures import shown
from edgewright.plan.render import table

FETCHED = tuple(name for name, userland in USERLANDS.items() if userland.fetched)
HEADINGS = ("target", "state", "size", "what")


@click.group()
def command() -> None:
    """Fetch and list the processors that models are tried on.

    They are kept in ~/.cache/edgewright/targets, for all checkouts; EDGEWRIGHT_TARGETS names another folder.
    """


@command.command()
@click.option(
    "--arch",
    "names",
    multiple=True,
    type=click.Choice(FETCHED),
    help="What to fetch; can be given several times. By default what hardware/ needs.",
)
def provision(names: tuple[str, ...]) -> None:
    """Fetch userlands and the emulator; changes nothing on the system and needs no root.

    What is there and whole is left alone; an interrupted download goes on where it stopped.
    """
    from edgewright.bench.target.provision import provision as fetch

    cache = targets_cache()
    for name in names or _needed():
        started_s = time.monotonic()
        watch = Lines(name)
        installed = fetch(name, cache, watch)
        watch.close()
        click.echo(
            f"{name}: {installed.document['engine']}{_with(name)} on Python {installed.document['python']},"
            f" {shown(installed.document['bytes'], 'bytes')}, {time.monotonic() - started_s:.1f} s"
        )


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Show what is there; every file is checked against the digest taken when it was fetched."""
    cache = targets_cache()
    found = [inspect(name, cache, verify=True) for name in (*USERLANDS, EMULATOR)]
    if as_json:
        click.echo(json.dumps({"cache": str(cache), "targets": [_as_json(item) for item in found]}, indent=2))
        return
    click.echo(table(HEADINGS, [_row(item) for item in found]))
    absent = [item.name for item in found if item.state not in ("ready", "native") and item.name != EMULATOR]
    click.echo(f"\nin {cache}")
    if absent:
        click.echo(f"  → edgewright targets provision {' '.join(f'--arch {name}' for name in absent)}")


class Lines:
    """Tells every step on one line; on a terminal the line also counts bytes."""

    def __init__(self, name: str) -> None:
        self._name, self._total, self._live = name, 0, sys.stdout.isatty()
        self._what = ""

    def step(self, what: str, total_bytes: int | None = None) -> None:
        """A new step begins."""
        self.close()
        self._what, self._total = what, total_bytes or 0
        size = f" ({shown(self._total, 'bytes')})" if self._total else ""
        click.echo(f"{self._name}: {what}{size}", nl=not self._live)

    def advance(self, done_bytes: int) -> None:
        """That much of the step's bytes is there."""
        if self._live and self._total:
            share = min(1.0, done_bytes / self._total)
            bar = "█" * round(24 * share)
            click.echo(f"\r{self._name}: {self._what}  {bar:░<24} {share:4.0%}", nl=False)

    def close(self) -> None:
        """End the line that is being written."""
        if self._live and self._what:
            click.echo()
        self._what = ""


def _needed() -> list[str]:
    """Return what the classes of this fleet run and are counted in, their execution providers included.

    Raises:
        InvalidSpec: the fleet's YAML is wrong.
    """
    from edgewright.bench.target.place import userlands_of
    from edgewright.cli.options import find_root
    from edgewright.spec.hardware import Sheet
    from edgewright.spec.load import load_fleet

    fleet = load_fleet(find_root(Path.cwd()))
    needed = {name for hardware in fleet.hardware.values() for name in userlands_of(Sheet.of(hardware))}
    return [name for name in FETCHED if name in needed]


def _row(item: Installed) -> tuple[str, str, str, str]:
    document = item.document
    size = shown(document["bytes"], "bytes") if document else "–"
    if item.name == EMULATOR:
        what = f"the emulator, {document['build']}" if document else "the emulator"
    elif item.state == "native":
        what = "this Python; nothing is fetched"
    elif document:
        what = f"{document['engine']}{_with(item.name)} on Python {document['python']}, {item.tree[7:19]}"
    else:
        what = f"for {USERLANDS[item.name].qemu or USERLANDS[item.name].provider}"
    return item.name, item.state, size, what


def _with(name: str) -> str:
    provider = USERLANDS[name].provider
    return f" with {provider}" if provider else ""


def _as_json(item: Installed) -> dict[str, object]:
    return {"name": item.name, "state": item.state, "path": str(item.root), **item.document}
