"""`edgewright verify`: check everything attached to a published artifact, as a device would, and say it in words."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgewright.cli.options import FLEET_FILE, find_root
from edgewright.errors import EnvironmentFault, NetworkError, SpecError, TrustError

if TYPE_CHECKING:
    from edgewright.spec.load import Workspace
    from edgewright.verify.audit import Terms
    from edgewright.verify.reference import Reference

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("ref")
@click.option(
    "--policy", type=_FILE, help="Policy as devices read it (trust/policy.json); default: this fleet's."
)
@click.option(
    "--key", "keys", type=_FILE, multiple=True, help="Insist on this public key, as a device that pins it."
)
@click.option(
    "--trusted-root", type=_FILE, help="Sigstore trusted root for certificates; default: this fleet's."
)
@click.option("--class", "hardware_class", help="Only this hardware class.")
@click.option("--plain-http", is_flag=True, help="Ask the registry without TLS.")
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), help=f"Folder of {FLEET_FILE}.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    ref: str,
    policy: Path | None,
    keys: tuple[Path, ...],
    trusted_root: Path | None,
    hardware_class: str | None,
    plain_http: bool,
    root: Path | None,
    as_json: bool,
) -> None:
    """Check every signature and attestation of REF against a policy.

    REF is HOST/REPOSITORY@sha256:…, HOST/REPOSITORY:TAG or oci:DIR/REPOSITORY@sha256:…; an index is checked for all its
    classes. Ends with 2 when a device that follows the policy would refuse something, with 3 when it cannot be read.
    """
    from edgewright.verify.audit import audit
    from edgewright.verify.reference import parse_reference
    from edgewright.verify.render import render, to_json

    workspace = _workspace(root, needed=policy is None and not keys)
    reference = parse_reference(ref, plain_http=plain_http or _is_plain(workspace, ref))
    with _as_the_pipeline_says_it():
        terms = _terms(workspace, policy, keys, trusted_root)
        with contextlib.closing(reference.open(**_log_in(workspace, reference))) as source:
            report = audit(reference, source, terms, hardware_class=hardware_class)
    click.echo(
        json.dumps(to_json(report, reference), indent=2)
        if as_json
        else render(report, reference, terms, key_files=_key_files(workspace, policy, keys))
    )
    if not report.accepted:
        sys.exit(2)


def _workspace(root: Path | None, *, needed: bool) -> Workspace | None:
    """Return the fleet around here, None when there is none and nobody needs it.

    Raises:
        SpecError: one is needed, or the one that is named is wrong.
    """
    from edgewright.spec.load import load_fleet

    if root is not None:
        return load_fleet(root.resolve())
    try:
        return load_fleet(find_root(Path.cwd()))
    except SpecError as error:
        if needed:
            raise SpecError(
                f"nothing says whom to believe: {error}",
                hint="name a policy (--policy) or a public key (--key)",
            ) from error
        return None


def _terms(
    workspace: Workspace | None, policy: Path | None, keys: tuple[Path, ...], trusted_root: Path | None
) -> Terms:
    from edgewright.trust.documents import trust_documents
    from edgewright.verify.audit import Terms
    from edgewright_agent.contract import (
        MAX_POLICY_BYTES,
        MAX_TRUSTED_ROOT_BYTES,
        POLICY_TARGET,
        TRUSTED_ROOT_TARGET,
    )
    from edgewright_agent.trust.policy import parse_policy
    from edgewright_agent.trust.sigstore import key_signer

    # With keys alone, those keys are all that is believed: outside a fleet as well as inside one.
    own = trust_documents(workspace) if workspace is not None and (policy is None and not keys) else {}
    body = _read(policy, MAX_POLICY_BYTES) if policy is not None else own.get(POLICY_TARGET)
    anchors = (
        _read(trusted_root, MAX_TRUSTED_ROOT_BYTES)
        if trusted_root is not None
        else own.get(TRUSTED_ROOT_TARGET)
    )
    return Terms(
        policy=parse_policy(body) if body is not None else None,
        pins=tuple(key_signer(key.stem, _read(key, MAX_POLICY_BYTES)) for key in keys),
        trusted_root=anchors,
    )


def _log_in(workspace: Workspace | None, reference: Reference) -> dict[str, str]:
    """Return the fleet's credentials and certificate authority, for the fleet's own registry only."""
    from edgewright.trust.secret import read_line

    if workspace is None:
        return {}
    registry = workspace.fleet.registry
    if not reference.url.startswith("http") or not f"{registry.url}/".startswith(f"{reference.url}/"):
        return {}
    given: dict[str, str] = {}
    if registry.credentials is not None:
        for name, secret in (
            ("username", registry.credentials.username),
            ("password", registry.credentials.password),
        ):
            if secret is not None:
                given[name] = read_line(secret, workspace.root, what=f"the registry's {name}")
        if registry.credentials.helper is not None:
            given["credential_helper"] = registry.credentials.helper
    if registry.ca_file is not None:
        given["ca_file"] = str(workspace.root / registry.ca_file)
    return given


def _is_plain(workspace: Workspace | None, ref: str) -> bool:
    """Whether a reference names the fleet's own registry, and that one has no TLS."""
    if workspace is None:
        return False
    scheme, _, place = workspace.fleet.registry.url.partition("://")
    return scheme == "http" and ref.startswith(f"{place.partition('/')[0]}/")


def _key_files(workspace: Workspace | None, policy: Path | None, keys: tuple[Path, ...]) -> dict[str, str]:
    """Return name of a signer → the file its public key is in, where that is known."""
    files = {key.stem: str(key) for key in keys}
    if workspace is None or policy is not None or keys:
        return files
    fleet = workspace.fleet
    if fleet.policy is None:
        return {"release": str(workspace.root / fleet.signing.public_key)}
    named = ((signer.name, signer.public_key) for signer in fleet.policy.signers)
    return {name: str(workspace.root / path) for name, path in named if path is not None}


def _read(path: Path, limit: int) -> bytes:
    """Return a file.

    Raises:
        EnvironmentFault: it cannot be read, or is larger than any that is meant.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise EnvironmentFault(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit:
        raise EnvironmentFault(f"{path} has more than {limit} bytes, so it is not what is meant")
    return data


@contextlib.contextmanager
def _as_the_pipeline_says_it() -> Iterator[None]:
    """Turn the agent's errors into those this command line knows.

    Raises:
        NetworkError: the source cannot be read.
        TrustError: a policy or key is unusable.
    """
    from edgewright_agent.errors import AgentError, TransportError

    try:
        yield
    except TransportError as error:
        plain = "WRONG_VERSION_NUMBER" in str(error)  # what OpenSSL calls an answer that is not TLS
        hint = "a registry without TLS is asked with --plain-http" if plain else None
        raise NetworkError(f"{error.code}: {error}", hint=hint) from error
    except AgentError as error:
        raise TrustError(f"{error.code}: {error}") from error
