"""Certificates for enrolled devices, and the list of those that are not believed any more, into the registry.

>>> outcome = certify(workspace, authority, open_repository(DEVICE_CERTIFICATES), now=now)   # doctest: +SKIP
>>> [entry.device_id for entry in outcome.issued]                                            # doctest: +SKIP
['pi-7']

A device's certificate lies in repository `devices` under the device's id, the revocation list under `ca.crl`. Both are
public, and signed by the authority: a registry can withhold them and cannot change them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgewright.devices.authority import Authority, RevokedSerial, issued_by
from edgewright.devices.enrolment import unknown
from edgewright.devices.issued import REVOCATIONS, Entry, Issued
from edgewright.errors import TrustError
from edgewright.publish import oci
from edgewright.publish.durable import locked, write_file
from edgewright.publish.push import put_verified
from edgewright.publish.registry import Registry
from edgewright.spec.device import Device
from edgewright.spec.workspace import Workspace
from edgewright.trust.signing_key import spki_der
from edgewright_agent.contract import (
    ANNOTATION_TITLE,
    DEVICE_CERTIFICATE,
    DEVICE_REVOCATIONS,
    MAX_CERTIFICATE_BYTES,
    OCI_EMPTY_BYTES,
    OCI_MANIFEST,
    PEM_CHAIN,
    PEM_FILE,
    REVOCATIONS_TAG,
    digest_of,
    is_digest,
)

DUE_SHARE = 0.5  # issued anew with half of its life left: devices ask when a third is, and find it waiting
LONGEST_LIFE = timedelta(days=2 * 365)  # what fleet.yaml may say at most (spec.rules.fleet)
_MAX_LIST_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Certified:
    """What `certify` did.

    Attributes:
        issued: New certificates.
        published: Certificates that went to the registry: new ones, and those an earlier run did not bring there.
        kept: Devices whose certificate is not due.
        revoked: Certificates on the revocation list.
        crl: File of the revocation list (PEM).
        address: Where the registry has it.
    """

    issued: tuple[Entry, ...]
    published: tuple[Entry, ...]
    kept: tuple[str, ...]
    revoked: tuple[RevokedSerial, ...]
    crl: Path
    address: str


def certify(
    workspace: Workspace,
    authority: Authority,
    registry: Registry,
    *,
    now: datetime,
    device_ids: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _line: None,
) -> Certified:
    """Issue what is due, and publish it with a fresh revocation list.

    Args:
        registry: Repository `devices`.
        device_ids: These devices, due or not; none: every enrolled device that is due.

    Raises:
        TrustError: a named device is not enrolled or is revoked, or a key is no key.
        NetworkError: the registry cannot be reached or refuses; the next run goes on where this one stopped.
        EnvironmentFault: the folder of issued certificates cannot be written.
    """
    for name in device_ids:
        _require_trusted(workspace, name)
    folder = workspace.root / workspace.fleet.devices.ca.issued
    issued = Issued(folder, authority.certificate)
    with locked(folder.with_name(f"{folder.name}.lock")):
        former = _former(folder / REVOCATIONS, registry, authority, now)
        ended = issued.prune(now)
        known = _adopt(workspace, issued, registry, authority.certificate, now)
        chosen = list(dict.fromkeys(device_ids)) or [
            name
            for name, device in workspace.devices.items()
            if device.revoked is None and _due(device, known, name, now)
        ]
        fresh = tuple(_issue(workspace, authority, issued, name, now) for name in chosen)
        waiting = [entry for entry in known if entry.pending and _trusted(workspace.devices, entry)]
        # Of several that wait for one device the newest goes out.
        newest = {entry.device_id: entry for entry in (*waiting, *fresh)}
        for entry in newest.values():
            _publish(registry, entry)
            progress(f"published {registry.address(entry.device_id)}")
        for entry in (*waiting, *fresh):
            issued.settle(entry)
        revoked = tuple(_revoked(workspace.devices, [*known, *fresh], now))
        told = ended | {entry.certificate.serial_number for entry in (*known, *fresh)}
        revoked += tuple(entry for entry in former if entry.serial not in told)
        crl = authority.revocation_list(revoked, now=now, lifetime_s=workspace.fleet.devices.crl_lifetime)
        pem = crl.public_bytes(serialization.Encoding.PEM)
        write_file(folder / REVOCATIONS, pem)
        _push(registry, REVOCATIONS_TAG, DEVICE_REVOCATIONS, PEM_FILE, REVOCATIONS, pem)
    trusted = [name for name, device in workspace.devices.items() if device.revoked is None]
    return Certified(
        issued=fresh,
        published=tuple(newest.values()),
        kept=tuple(name for name in trusted if name not in newest),
        revoked=revoked,
        crl=folder / REVOCATIONS,
        address=registry.address(REVOCATIONS_TAG),
    )


def published(registry: Registry, device_id: str, authority: x509.Certificate) -> Entry | None:
    """Return a device's certificate as the registry has it; None when it has none of this authority.

    Raises:
        NetworkError: the registry cannot be reached.
    """
    try:
        certificate = x509.load_pem_x509_certificate(
            _pulled(registry, device_id, MAX_CERTIFICATE_BYTES) or b""
        )
    except ValueError:
        return None
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ours = issued_by(certificate, authority) and [name.value for name in names] == [device_id]
    return Entry(device_id, certificate) if ours else None


def public_key_of(device_id: str, device: Device) -> ec.EllipticCurvePublicKey:
    """Return an enrolled device's public key.

    Raises:
        TrustError: it is no point of the curve.
    """
    try:
        public = serialization.load_pem_public_key(device.public_key.encode())
    except ValueError as error:
        raise TrustError(
            f"devices/{device_id}.yaml: publicKey is not a key", hint="enroll it again"
        ) from error
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise TrustError(f"devices/{device_id}.yaml: publicKey is not ECDSA P-256", hint="enroll it again")
    return public


def _require_trusted(workspace: Workspace, name: str) -> None:
    device = workspace.devices.get(name)
    if device is None:
        raise unknown(workspace, name)
    if device.revoked is not None:
        raise TrustError(f"{name} was revoked {device.revoked.at} and gets no certificate")


def _adopt(
    workspace: Workspace, issued: Issued, registry: Registry, authority: x509.Certificate, now: datetime
) -> list[Entry]:
    """Return every known certificate; devices without one may have theirs in the registry, if this folder was lost."""
    known = issued.all()
    for name in workspace.devices.keys() - {entry.device_id for entry in known}:
        found = published(registry, name, authority)
        if found is not None and found.until >= now:
            issued.keep(found)
            known.append(found)
    return known


def _former(file: Path, registry: Registry, authority: Authority, now: datetime) -> list[RevokedSerial]:
    """Return what the list before this one names: certificates nobody knows here any more, if the folder was lost.

    Serial numbers alone do not say when a certificate ends; after the longest life there is, it has.
    """
    pem = file.read_bytes() if file.is_file() else _pulled(registry, REVOCATIONS_TAG, _MAX_LIST_BYTES)
    found = authority.listed(pem) if pem is not None else []
    return [entry for entry in found if entry.at + LONGEST_LIFE > now]


def _pulled(registry: Registry, tag: str, limit: int) -> bytes | None:
    """Return a published file, unverified; None when there is none, or something else."""
    manifest = registry.get_manifest(tag)
    try:
        digest = json.loads(manifest)["layers"][0]["digest"] if manifest is not None else None
    except (ValueError, KeyError, IndexError, TypeError):
        return None
    return registry.get_blob(str(digest), limit=limit) if is_digest(digest) else None


def _due(device: Device, known: Sequence[Entry], name: str, now: datetime) -> bool:
    key = spki_der(public_key_of(name, device))
    own = [entry for entry in known if entry.device_id == name and entry.public_der == key]
    return not any(entry.left(now) > DUE_SHARE for entry in own)


def _issue(workspace: Workspace, authority: Authority, issued: Issued, name: str, now: datetime) -> Entry:
    fleet = workspace.fleet
    certificate = authority.issue(
        name,
        public_key_of(name, workspace.devices[name]),
        fleet=fleet.name,
        now=now,
        lifetime_s=fleet.devices.lifetime,
    )
    entry = Entry(name, certificate, pending=True)
    issued.keep(entry)
    return entry


def _trusted(devices: Mapping[str, Device], entry: Entry) -> bool:
    device = devices.get(entry.device_id)
    return (
        device is not None
        and device.revoked is None
        and entry.public_der == spki_der(public_key_of(entry.device_id, device))
    )


def _revoked(devices: Mapping[str, Device], known: Sequence[Entry], now: datetime) -> list[RevokedSerial]:
    """Return the certificates that nothing in Git stands behind any more."""
    found = []
    for entry in known:
        device = devices.get(entry.device_id)
        if device is not None and device.revoked is not None:
            at, reason = datetime.fromisoformat(device.revoked.at), device.revoked.reason
        elif device is None:
            at, reason = now, "cessation-of-operation"
        elif not _trusted(devices, entry):
            at, reason = now, "superseded"
        else:
            continue
        found.append(RevokedSerial(entry.certificate.serial_number, at, reason))
    return found


def _publish(registry: Registry, entry: Entry) -> None:
    title = f"{entry.device_id}.crt"
    _push(registry, entry.device_id, DEVICE_CERTIFICATE, PEM_CHAIN, title, entry.pem)


def _push(registry: Registry, tag: str, artifact_type: str, media_type: str, title: str, body: bytes) -> None:
    layer = oci.descriptor(media_type, body, annotations={ANNOTATION_TITLE: title})
    manifest = oci.manifest(artifact_type=artifact_type, config=oci.EMPTY_CONFIG, layers=[layer])
    registry.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
    registry.put_blob(digest_of(body), body)
    put_verified(registry, tag, manifest, OCI_MANIFEST)
