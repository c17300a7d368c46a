"""`edgewright keys`: make the keys of a fleet, and show which key may do what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.errors import TrustError
from edgewright.plan.render import table
from edgewright.spec.load import load_fleet
from edgewright_agent.contract import is_name

if TYPE_CHECKING:
    from edgewright.spec.fleet import Fleet
    from edgewright.spec.workspace import Workspace
    from edgewright.trust.keys import KeySummary

_SIGNS_NEXT = (
    "signs artifacts and gate reports once fleet.yaml names it: signing.privateKey, signing.publicKey"
)
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
    from edgewright.trust.roles import addresses, purposes

    workspace = load_fleet(root)
    fleet = workspace.fleet
    made = create_keys(
        workspace.root / fleet.trust.keys,
        signing_passphrase=passphrase_of(workspace, signing=True),
        role_passphrase=passphrase_of(workspace, signing=False),
        purposes=purposes(fleet.trust),
        addresses=addresses(fleet.trust),
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
@click.argument("names", nargs=-1, required=True)
@_json_option
def new(root: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Create single keys, such as NAMES for a role's next holder; never overwrites any."""
    from edgewright.trust.keys import create_key, is_signing
    from edgewright.trust.roles import purposes

    workspace = load_fleet(root)
    folder = workspace.root / workspace.fleet.trust.keys
    known = purposes(workspace.fleet.trust)
    made = [
        create_key(
            folder,
            require_name(name),
            passphrase_of(workspace, signing=is_signing(name)),
            purpose=known.get(name) or (_SIGNS_NEXT if is_signing(name) else None),
        )
        for name in names
    ]
    if as_json:
        click.echo(json.dumps({"keys": [key.to_json() for key in made]}, indent=2))
        return
    click.echo(f"{listing(made)}\n")
    halves = ", ".join(f"{key.name}.pub" for key in made)
    click.echo(f"  → whoever names {'it' if len(made) == 1 else 'them'} in metadata needs {halves}, no more")


@command.command("import")
@root_option
@click.argument("name")
def import_(root: Path, name: str) -> None:
    """Fetch the public half of a key in a PKCS #11 token: NAME has an `hsm:` address in fleet.yaml."""
    from edgewright.trust.roles import addresses
    from edgewright.trust.signers import KeyRing, import_token_key

    workspace = load_fleet(root)
    ring = KeyRing.of(workspace)
    uri = addresses(workspace.fleet.trust).get(name)
    if uri is None:
        raise TrustError(
            f"fleet.yaml gives no address for a key '{name}'", hint="edgewright explain fleet.trust.roles"
        )
    path = import_token_key(name, uri, ring.folder, ring.pin)
    click.echo(f"Wrote {path}\n\n  → next: edgewright keys show")


@command.command()
@root_option
@_json_option
def show(root: Path, as_json: bool) -> None:
    """Show every key's fingerprint and what it is for; asks for no passphrase."""
    from edgewright.trust.keys import describe_folder
    from edgewright.trust.roles import addresses
    from edgewright.trust.status import purposes_now

    workspace = load_fleet(root)
    trust = workspace.fleet.trust
    keys, missing = describe_folder(workspace.root / trust.keys, purposes_now(workspace), addresses(trust))
    if as_json:
        click.echo(json.dumps({"keys": [key.to_json() for key in keys], "missing": missing}, indent=2))
        return
    click.echo(listing(keys))
    if missing:
        halves = ", ".join(f"{name}.pub" for name in missing)
        click.echo(f"\n  → not here: {halves}; get the public halves from whoever has those keys")


def passphrase_of(workspace: Workspace, *, signing: bool) -> str | None:
    """Return the passphrase that fleet.yaml names for new keys; None when it names none."""
    from edgewright.trust.secret import read_line

    fleet = workspace.fleet
    reference = fleet.signing.passphrase if signing else fleet.trust.passphrase
    if reference is None:
        return None
    what = "the passphrase of the signing key" if signing else "the passphrase of the role keys"
    return read_line(reference, workspace.root, what=what)


def require_name(name: str) -> str:
    """Return `name` if a key may be called so.

    Raises:
        TrustError: it is not a plain name.
    """
    if not is_name(name):
        raise TrustError(f"'{name}' is not a name for a key: lower-case letters, digits and single dashes")
    return name


def next_steps(fleet: Fleet) -> list[str]:
    """Return what remains to be done with fresh keys of `fleet`."""
    from edgewright.trust.roles import addresses

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
    advice += [
        f"{name} is at {uri}: edgewright keys import {name}" for name, uri in addresses(fleet.trust).items()
    ]
    return [*advice, "next: edgewright run"]


def listing(keys: Sequence[KeySummary]) -> str:
    """Return a table: name, fingerprint, where the private half is, purpose."""
    rows = [(key.name, f"{key.algorithm} {key.fingerprint[:32]}", key.private, key.purpose) for key in keys]
    return table(("key", "fingerprint", "private key", "what it is for"), rows)
