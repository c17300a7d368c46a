"""`edgewright keys`: make the keys of a fleet, and show which key may do what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.plan.render import table
from edgewright.spec.load import load_fleet

if TYPE_CHECKING:
    from edgewright.spec.fleet import Fleet
    from edgewright.trust.keys import KeySummary

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def command() -> None:
    """Make and show the keys of this fleet."""


@command.command()
@root_option
@_json_option
def init(root: Path, as_json: bool) -> None:
    """Create the signing key and the keys of the TUF roles; never overwrites any."""
    from edgewright.trust.keys import create_keys
    from edgewright.trust.secret import read_line

    workspace = load_fleet(root)
    fleet = workspace.fleet
    passphrases = {
        what: read_line(reference, workspace.root, what=f"the passphrase of the {what}")
        for what, reference in (
            ("signing key", fleet.signing.passphrase),
            ("role keys", fleet.trust.passphrase),
        )
        if reference is not None
    }
    made = create_keys(
        workspace.root / fleet.trust.keys,
        signing_passphrase=passphrases.get("signing key"),
        role_passphrase=passphrases.get("role keys"),
    )
    advice = next_steps(fleet)
    if as_json:
        click.echo(json.dumps({"keys": [key.to_json() for key in made], "next": advice}, indent=2))
        return
    click.echo(f"Made {len(made)} keys in {fleet.trust.keys}:\n\n{listing(made)}\n")
    for line in advice:
        click.echo(f"  → {line}")


@command.command()
@root_option
@_json_option
def show(root: Path, as_json: bool) -> None:
    """Show every key's fingerprint and what it is for; asks for no passphrase."""
    from edgewright.trust.keys import describe_keys

    workspace = load_fleet(root)
    keys = describe_keys(workspace.root / workspace.fleet.trust.keys)
    if as_json:
        click.echo(json.dumps({"keys": [key.to_json() for key in keys]}, indent=2))
    else:
        click.echo(listing(keys))


def next_steps(fleet: Fleet) -> list[str]:
    """Return what remains to be done with fresh keys of `fleet`."""
    folder = fleet.trust.keys
    advice = ["keep that folder out of Git and in a backup: a lost root key means visiting every device"]
    if fleet.signing.mode == "keyless":
        return [*advice, "signing is keyless: signing.key is of no use, remove it", "next: edgewright run"]
    if fleet.signing.private_key != f"file:{folder}/signing.key":
        advice.append(
            f"fleet.yaml reads the signing key from {fleet.signing.private_key}: put signing.key there"
        )
    if fleet.signing.public_key != f"{folder}/signing.pub":
        advice.append(
            f"fleet.yaml reads the public key from {fleet.signing.public_key}: put signing.pub there"
        )
    return [*advice, "next: edgewright run"]


def listing(keys: Sequence[KeySummary]) -> str:
    """Return a table: name, fingerprint, where the private half is, purpose."""
    rows = [(key.name, f"{key.algorithm} {key.fingerprint[:32]}", key.private, key.purpose) for key in keys]
    return table(("key", "fingerprint", "private key", "what it is for"), rows)
