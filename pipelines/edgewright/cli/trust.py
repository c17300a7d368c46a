"""`edgewright trust`: who signs what, what waits for signatures, and how fresh it is.

$ edgewright trust status
$ edgewright trust rotate timestamp && edgewright trust refresh

`init`, `rotate`, `renew` and `sign` write `<trust.metadata>/staged/` and need no network. `refresh` (and every
release) takes over what has all its signatures and publishes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgewright.cli.options import root_option
from edgewright.plan.render import Row, table
from edgewright.spec.load import load_fleet
from edgewright.trust.roles import is_class

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace
    from edgewright.trust.ceremony import Ceremony, Review
    from edgewright.trust.status import KeyStatus, RoleStatus, TrustStatus

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DAY_S = 86400.0


@click.group()
def command() -> None:
    """Begin, inspect, change and refresh who signs what."""


@command.command()
@root_option
@_json_option
def init(root: Path, as_json: bool) -> None:
    """Write version 1 of root and targets, signed by the keys at hand; other holders sign next."""
    from edgewright.trust.ceremony import initialise

    workspace = load_fleet(root)
    _tell(workspace, initialise(workspace), as_json)


@command.command()
@root_option
@_json_option
def status(root: Path, as_json: bool) -> None:
    """Show every role: version, expiry, keys, who has to sign next, and the next command."""
    from edgewright.trust.status import inspect

    found = inspect(load_fleet(root))
    click.echo(json.dumps(found.to_json(), indent=2) if as_json else render(found))


@command.command()
@root_option
@click.argument("roles", nargs=-1, required=True, metavar="ROLE...")
@click.option("--add", multiple=True, metavar="NAME", help="A key the role gets; made when it is not there.")
@click.option("--remove", multiple=True, metavar="NAME", help="A key the role loses.")
@click.option("--threshold", type=click.IntRange(1, 16), help="How many of its keys have to sign.")
@_json_option
def rotate(
    root: Path,
    roles: tuple[str, ...],
    add: tuple[str, ...],
    remove: tuple[str, ...],
    threshold: int | None,
    as_json: bool,
) -> None:
    """Give roles other keys: those fleet.yaml names, else fresh ones, else what the options say.

    ROLE is root, targets, snapshot, timestamp, rollout, artifacts or class-NAME. A key that was stolen is revoked
    this way. When somebody has published metadata with it, follow with `edgewright trust refresh --recover`.
    """
    from edgewright.cli.keys import passphrase_of, require_name
    from edgewright.trust.rotation import rotate as rotate_roles

    workspace = load_fleet(root)
    done = rotate_roles(
        workspace,
        list(dict.fromkeys(roles)),
        add=[require_name(name) for name in add],
        remove=remove,
        threshold=threshold,
        passphrase=passphrase_of(workspace, signing=False),
    )
    _tell(workspace, done, as_json)


@command.command()
@root_option
@click.argument("role")
@_json_option
def renew(root: Path, role: str, as_json: bool) -> None:
    """Extend the life of ROLE, whose keys are kept elsewhere, without changing what it says."""
    from edgewright.trust.ceremony import renew as renew_role

    workspace = load_fleet(root)
    _tell(workspace, renew_role(workspace, role), as_json)


@command.command()
@root_option
@click.option(
    "--staged",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where it was carried to.",
)
@click.option("--yes", is_flag=True, help="Sign without asking.")
@_json_option
def sign(root: Path, folder: Path | None, yes: bool, as_json: bool) -> None:
    """Show what is staged, and add the signatures of the keys that are here."""
    from edgewright.trust.ceremony import sign as sign_staged

    workspace = load_fleet(root)

    def confirm(reviews: Sequence[Review]) -> bool:
        # Beside JSON as well: nobody signs what was not shown.
        click.echo("\n".join(_review(one) for one in reviews) + "\n", err=as_json)
        return yes or click.confirm("Sign this?", err=True)

    done, added = sign_staged(workspace, folder=folder, confirm=confirm)
    if not as_json:
        said = [f"{role} with {', '.join(names)}" for role, names in added.items() if names]
        click.echo(f"Signed {'; '.join(said)}." if said else "Signed nothing.")
    _tell(workspace, done, as_json, folder=folder)


@command.command()
@root_option
@click.option(
    "--recover",
    is_flag=True,
    help="Publish over metadata made with stolen keys, which root must not name any more.",
)
@_json_option
def refresh(root: Path, recover: bool, as_json: bool) -> None:
    """Sign snapshot and timestamp again, take over what is staged and signed, and publish; content stays."""
    from edgewright.trust.publication import refresh as refresh_metadata

    workspace = load_fleet(root)
    done = refresh_metadata(workspace, recover=recover)
    current = done.current
    if as_json:
        facts: dict[str, Any] = {
            "versions": current.versions,
            "expires": current.expires,
            "written": done.written,
            "pushed": done.pushed,
            "address": done.address,
            "notes": done.notes,
        }
        click.echo(json.dumps(facts, indent=2))
        return
    versions = ", ".join(f"{role} {version}" for role, version in current.versions.items())
    click.echo(f"Published at {done.address} ({versions}).")
    click.echo(
        f"\nBelieved until {current.expires['timestamp']}; before that, run `edgewright trust refresh` again."
    )
    for note in done.notes:
        click.echo(f"Note: {note}")


@command.command("export-root")
@root_option
@click.option("--out", type=click.Path(path_type=Path), help="File; default <version>.root.json here.")
@click.option("--version", type=click.IntRange(1), help="Which root; default the newest.")
def export_root(root: Path, out: Path | None, version: int | None) -> None:
    """Write the root that new devices are given, and show its keys."""
    from tuf.api.metadata import Metadata, Root

    from edgewright.publish.durable import write_file
    from edgewright.trust.ceremony import exported_root
    from edgewright.trust.delegation import holders_in
    from edgewright.trust.signers import KeyRing, key_fingerprint

    workspace = load_fleet(root)
    number, body = exported_root(workspace, version)
    path = out or Path(f"{number}.root.json")
    write_file(path, body)
    metadata: Metadata[Root] = Metadata.from_bytes(body)
    ring = KeyRing.of(workspace)
    click.echo(f"Wrote {path}, root {number}, signed by {metadata.signed.roles['root'].threshold} of:")
    for key in holders_in(metadata.signed, "root").keys:
        click.echo(f"  {ring.name_of(key)}  {key_fingerprint(key)}")
    click.echo("\n  → compare that by another way, then: edgewright-agent init --root " + str(path))


def render(status: TrustStatus) -> str:
    """Return the status as people read it: roles, keys, what waits, and what is next."""
    parts = []
    if status.roles:
        rows = [(one.role, _version(one), _believed(one), _signers(one)) for one in status.roles]
        parts.append(table(("role", "version", "believed until", "signed by"), rows))
        parts.append(table(("key", "here", "signs", "fingerprint"), _key_rows(status.roles)))
    waiting = [_waiting(one) for one in status.roles if one.staged is not None]
    if waiting:
        parts.append(table(("staged", "version", "signed by", "waits for"), waiting))
    last = min((one.expires for one in status.roles if one.expires), default=None)
    advice = status.next or (f"nothing to do; the first role expires on {last}",)
    return "\n\n".join([*parts, "\n".join(f"  → {line}" for line in advice)])


def _tell(workspace: Workspace, done: Ceremony, as_json: bool, *, folder: Path | None = None) -> None:
    from edgewright.trust.status import inspect

    found = inspect(workspace, folder=folder)
    if as_json:
        facts = {"made": done.made, "notes": done.notes, "staged": str(done.folder), **found.to_json()}
        click.echo(json.dumps(facts, indent=2))
        return
    if done.made:
        click.echo(f"Made {', '.join(done.made)}: keep the .key files out of Git and in a backup.")
    for one in done.signing:
        state = "has its signatures" if one.complete else f"has {len(one.signed)} of its signatures"
        click.echo(f"{one.role} {one.version} is staged in {done.folder} and {state}.")
    for note in done.notes:
        click.echo(f"Note: {note}.")
    click.echo("")
    for line in found.next:
        click.echo(f"  → {line}")


def _review(review: Review) -> str:
    lines = "\n".join(f"  {line}" for line in review.changes)
    return f"{review.role} {review.version}, to be signed with {', '.join(review.signers)}:\n{lines}"


def _version(role: RoleStatus) -> str:
    return "–" if role.version is None else str(role.version)


def _believed(role: RoleStatus) -> str:
    if role.expires is None or role.seconds_left is None:
        return "–"
    days = role.seconds_left / _DAY_S
    words = "expired" if role.state == "expired" else f"{days:.0f} d" if days >= 2 else f"{days * 24:.0f} h"
    return f"{role.expires} ({words})"


def _signers(role: RoleStatus) -> str:
    return f"{role.threshold} of {', '.join(key.name for key in role.keys)}" if role.keys else "–"


def _key_rows(roles: Sequence[RoleStatus]) -> list[Row]:
    keys: dict[str, KeyStatus] = {}
    signs: dict[str, list[str]] = {}
    for role in roles:
        for key in role.keys:
            keys[key.fingerprint] = key
            signs.setdefault(key.fingerprint, []).append(role.role)
    return [(key.name, _here(key), _together(signs[print_]), print_) for print_, key in keys.items()]


def _here(key: KeyStatus) -> str:
    if key.absence is None:
        return "yes"
    # Of a file that is elsewhere there is nothing to add; of a token there is.
    return "no" if key.absence.startswith(f"{key.name}.key is not in ") else f"no: {key.absence}"


def _together(roles: Sequence[str]) -> str:
    classes = [role for role in roles if is_class(role)]
    if len(classes) < 2:
        return ", ".join(roles)
    return ", ".join((*(role for role in roles if role not in classes), f"{len(classes)} classes"))


def _waiting(role: RoleStatus) -> Row:
    staged = role.staged
    assert staged is not None
    wait = f"{staged.missing} of {', '.join(staged.waiting)}" if staged.missing else "nobody"
    return (role.role, str(staged.version), ", ".join(staged.signed) or "nobody", wait)
