"""`edgewright devices`: enroll devices in Git, certify them from CI, revoke them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import root_option
from edgewright.errors import EnvironmentFault
from edgewright.plan.render import table
from edgewright.spec.device import REASONS
from edgewright.spec.load import load_fleet

if TYPE_CHECKING:
    from edgewright.devices.certify import Certified
    from edgewright.devices.listing import Line
    from edgewright.publish.registry import Registry
    from edgewright.spec.workspace import Workspace

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def command() -> None:
    """Enroll, certify and revoke the devices of this fleet."""


@command.command()
@root_option
@click.option(
    "--key-out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write the key, when devices.ca.key is not a file: reference.",
)
def ca(root: Path, key_out: Path | None) -> None:
    """Make the fleet's device authority; never replaces one."""
    from edgewright.devices.authority import create

    workspace = load_fleet(root)
    key, certificate = create(workspace, now=_now(), key_out=key_out)
    click.echo(f"{_shown(key, root)}  keep it out of Git and in a backup; CI needs it to certify")
    click.echo(f"{_shown(certificate, root)}  commit it; devices and registries pin it")
    if key_out is not None:
        click.echo(f"  → fleet.yaml reads the key from {workspace.fleet.devices.ca.key}: put it there")
    click.echo("  → next: edgewright devices enroll CSR --class CLASS")


@command.command()
@root_option
@click.argument("request", type=click.Path(path_type=Path, dir_okay=False, exists=True), metavar="CSR")
@click.option("--class", "hardware_class", required=True, metavar="CLASS", help="Its hardware class.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Repeatable; selects groups.")
@click.option("--replace", is_flag=True, help="The enrolled device has lost its key; this is its new one.")
def enroll(root: Path, request: Path, hardware_class: str, labels: tuple[str, ...], replace: bool) -> None:
    """Write devices/ID.yaml from a device's certificate request, for a pull request.

    Compare the fingerprint with what the device itself shows (edgewright-agent identity show).
    """
    from edgewright.devices.enrolment import enroll as write
    from edgewright.devices.enrolment import read_request

    workspace = load_fleet(root)
    pairs = dict(_label(text) for text in labels)
    found = read_request(_read(request))
    file = write(workspace, found, hardware_class=hardware_class, labels=pairs, replace=replace)
    click.echo(f"wrote {_shown(file, root)}: {found.device_id}, key {found.fingerprint}")
    click.echo(
        "  → compare the key with `edgewright-agent identity show` on the device, then commit the file"
    )
    click.echo("  → once it is merged: edgewright devices certify")


@command.command()
@root_option
@click.argument("device_ids", nargs=-1, metavar="[ID]...")
@click.option("--due", is_flag=True, help="Every device whose certificate is due; so also without any ID.")
@_json_option
def certify(root: Path, device_ids: tuple[str, ...], due: bool, as_json: bool) -> None:
    """Issue what is due (or for these devices), and publish it with a fresh revocation list.

    A certificate is due with half of its life left; devices fetch their next one when a third is.
    """
    if device_ids and due:
        raise click.UsageError("name devices, or say --due, not both")
    from edgewright.devices.authority import open_authority
    from edgewright.devices.certify import certify as run

    workspace = load_fleet(root)
    authority = open_authority(workspace)
    outcome = run(
        workspace,
        authority,
        _repository(workspace),
        now=_now(),
        device_ids=device_ids,
        progress=lambda line: click.echo(line, err=True),
    )
    click.echo(json.dumps(_outcome(outcome), indent=2) if as_json else _told(outcome, root))


@command.command()
@root_option
@click.argument("device_id", metavar="ID")
@click.option("--reason", type=click.Choice(REASONS), required=True, help="Why, as revocation lists say it.")
@click.option("--note", help="What happened, for people; one line.")
def revoke(root: Path, device_id: str, reason: str, note: str | None) -> None:
    """Mark a device as revoked in devices/ID.yaml; the next certify publishes that."""
    from edgewright.devices.enrolment import revoke as mark

    file = mark(load_fleet(root), device_id, reason=reason, note=note, now=_now())
    click.echo(f"wrote {_shown(file, root)}: {device_id} is revoked ({reason})")
    click.echo("  → commit it, then: edgewright devices certify")
    click.echo("  → registries refuse it once they have read the new revocation list")


@command.command("list")
@root_option
@_json_option
def show(root: Path, as_json: bool) -> None:
    """List enrolled devices and until when their certificates are valid."""
    from edgewright.devices.authority import read_certificate
    from edgewright.devices.certify import published
    from edgewright.devices.issued import Issued
    from edgewright.devices.listing import listing

    workspace = load_fleet(root)
    known = []
    if workspace.devices and (workspace.root / workspace.fleet.devices.ca.certificate).exists():
        authority = read_certificate(workspace)
        folder = workspace.root / workspace.fleet.devices.ca.issued
        if folder.is_dir():
            known = Issued(folder, authority).all()
        else:  # not where certificates are issued: the registry has the newest of each
            registry = _repository(workspace)
            known = [
                found
                for name in workspace.devices
                if (found := published(registry, name, authority)) is not None
            ]
    lines = listing(workspace, known, now=_now())
    if as_json:
        click.echo(json.dumps({"devices": [line.to_json() for line in lines]}, indent=2))
    else:
        click.echo(_table(lines) if lines else "no device is enrolled; next: edgewright devices enroll CSR")


def _table(lines: list[Line]) -> str:
    rows = [
        (
            line.device_id,
            line.hardware_class,
            f"{line.until:%Y-%m-%d %H:%M}" if line.until else "–",
            "  ".join([line.state, *(f"{key}={value}" for key, value in sorted(line.labels.items()))]),
        )
        for line in lines
    ]
    return table(("device", "class", "certificate until", "state and labels"), rows)


def _told(outcome: Certified, root: Path) -> str:
    parts = []
    if outcome.published:
        rows = [
            (
                entry.device_id,
                f"{entry.until:%Y-%m-%d %H:%M}",
                f"{entry.certificate.serial_number:x}"[:16],
                "",
            )
            for entry in outcome.published
        ]
        parts.append(table(("device", "certificate until", "serial", ""), rows))
    issued = f"{len(outcome.issued)} certificate{'' if len(outcome.issued) == 1 else 's'} issued"
    parts.append(
        f"{issued}, {len(outcome.kept)} not due; "
        f"{len(outcome.revoked)} on the revocation list {outcome.address} ({_shown(outcome.crl, root)})."
    )
    return "\n\n".join(parts)


def _outcome(outcome: Certified) -> dict[str, object]:
    return {
        "issued": [
            {
                "id": entry.device_id,
                "serial": f"{entry.certificate.serial_number:x}",
                "until": entry.until.isoformat(),
            }
            for entry in outcome.issued
        ],
        "published": [entry.device_id for entry in outcome.published],
        "kept": list(outcome.kept),
        "revoked": [
            {"serial": f"{entry.serial:x}", "reason": entry.reason, "at": entry.at.isoformat()}
            for entry in outcome.revoked
        ],
        "crl": str(outcome.crl),
        "address": outcome.address,
    }


def _repository(workspace: Workspace) -> Registry:
    from edgewright.publish.registry import open_registry
    from edgewright_agent.contract import DEVICE_CERTIFICATES

    spec = workspace.fleet.registry.model_dump(mode="json", by_alias=True, exclude_none=True)
    return open_registry(spec, workspace.root)(DEVICE_CERTIFICATES)


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.UsageError(f"--label {text!r} is not KEY=VALUE")
    return key, value


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from error


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
