"""Enrolment: a request a device made becomes a file that a person reviews.

>>> found = read_request(Path("pi-7.csr").read_bytes())                        # doctest: +SKIP
>>> enroll(workspace, found, hardware_class="raspberry-pi-4", labels={})       # doctest: +SKIP
PosixPath('devices/pi-7.yaml')
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edgewright.errors import SpecError, TrustError
from edgewright.publish.durable import storage, write_file
from edgewright.spec.base import NAME
from edgewright.spec.device import DEVICES, Device, quoted, text_of
from edgewright.spec.document import load_document
from edgewright.spec.problem import InvalidSpec, did_you_mean
from edgewright.spec.workspace import Workspace
from edgewright.trust.signing_key import fingerprint, spki_der
from edgewright_agent.contract import DEVICE_URI, MAX_CERTIFICATE_BYTES


@dataclass(frozen=True)
class Request:
    """What a certificate request says, its own signature checked.

    Attributes:
        device_id: The device.
        public_key: SubjectPublicKeyInfo, PEM.
    """

    device_id: str
    public_key: str

    @property
    def fingerprint(self) -> str:
        """How people compare keys: sha256 of the SubjectPublicKeyInfo, hex."""
        return fingerprint(spki_der(serialization.load_pem_public_key(self.public_key.encode())))


def read_request(data: bytes) -> Request:
    """Check a certificate request (PKCS#10, PEM): whoever made it holds the key, and it names one device.

    Raises:
        TrustError: it is no request, its signature is wrong, its key is not P-256, or its names disagree.
    """
    hint = "make it on the device: edgewright-agent identity request --out FILE"
    if len(data) > MAX_CERTIFICATE_BYTES:
        raise TrustError(f"the request has more than {MAX_CERTIFICATE_BYTES} bytes", hint=hint)
    try:
        found = x509.load_pem_x509_csr(data)
        public = found.public_key()
        own = found.is_signature_valid
        names = found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)  # read only now; may be anything
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise TrustError("this is not a certificate request (PKCS#10, PEM)", hint=hint) from error
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise TrustError("the request's key is not ECDSA P-256", hint=hint)
    if not own:
        raise TrustError("the request's signature is wrong: whoever made it does not hold its key", hint=hint)
    if len(names) != 1 or not NAME.accepts(str(names[0].value)):
        raise TrustError(
            f"the request's common name is not {NAME.what}", hint="give the device such a device.id"
        )
    device_id = str(names[0].value)
    if _uris(found) != [DEVICE_URI + device_id]:
        raise TrustError(f"the request does not name {DEVICE_URI}{device_id} and nothing else", hint=hint)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Request(device_id, pem.decode())


def enroll(
    workspace: Workspace,
    request: Request,
    *,
    hardware_class: str,
    labels: Mapping[str, str],
    replace: bool = False,
) -> Path:
    """Write the device's file; merged, it makes the device one of the fleet.

    Args:
        replace: The device has a new key: its file is written anew, and what the old key was certified for goes on
            the revocation list. Never for a revoked device.

    Raises:
        SpecError: no such class, or a label that cannot be one.
        TrustError: the device or its key is enrolled already, or the device is revoked.
        EnvironmentFault: the file cannot be written.
    """
    if hardware_class not in workspace.hardware:
        raise SpecError(
            f"there is no hardware class {hardware_class!r}",
            hint=did_you_mean(hardware_class, workspace.hardware, "classes are"),
        )
    file = workspace.root / DEVICES / f"{request.device_id}.yaml"
    _require_free(workspace, request, file, replace=replace)
    before = file.read_bytes() if file.exists() else None
    text = text_of(request.device_id, hardware_class, dict(labels), request.public_key)
    write_file(file, text.encode())
    loaded = load_document(Device, file, f"{DEVICES}/{file.name}", request.device_id)
    if loaded.problems:  # a label: everything else was checked above
        if before is None:
            file.unlink()
        else:
            write_file(file, before)
        raise InvalidSpec(list(loaded.problems))
    return file


def revoke(workspace: Workspace, device_id: str, *, reason: str, note: str | None, now: datetime) -> Path:
    """Mark a device as revoked, in its file; the next `certify` puts its certificates on the revocation list.

    Raises:
        TrustError: there is no such device, or it is revoked already.
        EnvironmentFault: the file cannot be written.
    """
    device = workspace.devices.get(device_id)
    if device is None:
        raise unknown(workspace, device_id)
    if device.revoked is not None:
        raise TrustError(f"{device_id} was revoked {device.revoked.at} ({device.revoked.reason})")
    file = workspace.root / DEVICES / f"{device_id}.yaml"
    with storage("read", file):
        text = file.read_text(encoding="utf-8")
    at = now.replace(microsecond=0, tzinfo=None).isoformat() + "Z"
    lines = ["revoked:", f"  at: {at}", f"  reason: {reason}", *([f"  note: {quoted(note)}"] if note else [])]
    write_file(file, (text.rstrip("\n") + "\n" + "\n".join(lines) + "\n").encode())
    loaded = load_document(Device, file, f"{DEVICES}/{file.name}", device_id)
    if loaded.problems:
        write_file(file, text.encode())
        raise InvalidSpec(list(loaded.problems))
    return file


def unknown(workspace: Workspace, device_id: str) -> TrustError:
    """Return the error about a device nobody enrolled."""
    return TrustError(
        f"{device_id!r} is not enrolled",
        hint=did_you_mean(device_id, workspace.devices, "devices are") or None,
    )


def _uris(found: x509.CertificateSigningRequest) -> list[str] | None:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError, TypeError):
        return None
    uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
    return uris if len(uris) == len(list(names)) else None


def _require_free(workspace: Workspace, request: Request, file: Path, *, replace: bool) -> None:
    for name, device in workspace.devices.items():
        if device.public_key.strip() == request.public_key.strip():
            raise TrustError(
                f"this key is enrolled already, as {name}" + (" (revoked)" if device.revoked else ""),
                hint="make a new one on the device: edgewright-agent identity create",
            )
    present = workspace.devices.get(request.device_id)
    if present is not None and present.revoked is not None:
        raise TrustError(
            f"{request.device_id} was revoked {present.revoked.at} ({present.revoked.reason})",
            hint="give the device another device.id, or take the revocation out of its file first, in a review",
        )
    if file.exists() and not replace:
        raise TrustError(
            f"{request.device_id} is enrolled already, with another key",
            hint="if the device has lost its key: --replace; if it is another device, give it another device.id",
        )
