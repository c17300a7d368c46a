"""The fleet's device authority: an X.509 certificate authority for its devices and for nothing else.

>>> authority = create(workspace, now=now)                       # doctest: +SKIP
>>> authority.issue("pi-7", public_key, now=now, lifetime_s=90 * 86400)   # doctest: +SKIP

Profiles follow RFC 5280: P-256, random 159-bit serial numbers, one level (a path length of zero), certificates for TLS
clients only, which name the device twice: as common name and as `urn:edgewright:device:<id>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgewright.errors import TrustError
from edgewright.publish.durable import write_file
from edgewright.spec.workspace import Workspace
from edgewright.trust.secret import read_line, read_secret, secret_path
from edgewright.trust.signing_key import parse_private_key, spki_der
from edgewright_agent.contract import DEVICE_URI

HINT = "edgewright devices ca"
CA_LIFETIME = timedelta(days=10 * 365)
SKEW = timedelta(
    minutes=5
)  # a registry whose clock is a little late must not refuse a certificate made just now


@dataclass(frozen=True)
class RevokedSerial:
    """A certificate that ends before its time.

    Attributes:
        serial: Its serial number.
        at: Since when.
        reason: In the words of `spec.device.Reason`.
    """

    serial: int
    at: datetime
    reason: str


@dataclass(frozen=True)
class Authority:
    """The authority with its private key."""

    certificate: x509.Certificate
    private: ec.EllipticCurvePrivateKey

    def issue(
        self,
        device_id: str,
        public: ec.EllipticCurvePublicKey,
        *,
        fleet: str,
        now: datetime,
        lifetime_s: float,
    ) -> x509.Certificate:
        """Return a certificate for a device, never one that outlives the authority.

        Raises:
            TrustError: the authority itself has ended.
        """
        end = min(now + timedelta(seconds=lifetime_s), self.certificate.not_valid_after_utc)
        if end <= now:
            raise TrustError(
                "the device authority's certificate has ended", hint="make a new one, see the guide"
            )
        if now < self.certificate.not_valid_before_utc:
            raise TrustError(
                "the device authority's certificate is not valid yet", hint="is this machine's clock right?"
            )
        name = [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet),
            x509.NameAttribute(NameOID.COMMON_NAME, device_id),
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(name))
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(max(now - SKEW, self.certificate.not_valid_before_utc))
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(DEVICE_URI + device_id)]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        return builder.sign(self.private, hashes.SHA256())

    def revocation_list(
        self, revoked: Iterable[RevokedSerial], *, now: datetime, lifetime_s: float
    ) -> x509.CertificateRevocationList:
        """Return the list of certificates that ended before their time (RFC 5280 5), numbered by the clock."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(now + timedelta(seconds=lifetime_s))
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
            .add_extension(self._key_identifier(), critical=False)
        )
        for entry in sorted(revoked, key=lambda one: one.serial):
            one = x509.RevokedCertificateBuilder().serial_number(entry.serial).revocation_date(entry.at)
            if entry.reason != "unspecified":  # RFC 5280 5.3.1: said by leaving it out
                one = one.add_extension(x509.CRLReason(_REASONS[entry.reason]), critical=False)
            builder = builder.add_revoked_certificate(one.build())
        return builder.sign(self.private, hashes.SHA256())

    def listed(self, pem: bytes) -> list[RevokedSerial]:
        """Return what a revocation list of this authority names; nothing when it is not one."""
        try:
            crl = x509.load_pem_x509_crl(pem)
            if not crl.is_signature_valid(self.private.public_key()):
                return []
        except (ValueError, TypeError, UnsupportedAlgorithm):
            return []
        return [
            RevokedSerial(one.serial_number, one.revocation_date_utc, _reason_of(one.extensions))
            for one in crl
        ]

    def issued(self, certificate: x509.Certificate) -> bool:
        """Whether this authority signed `certificate`."""
        return issued_by(certificate, self.certificate)

    def _key_identifier(self) -> x509.AuthorityKeyIdentifier:
        found = self.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


_REASONS = {
    "key-compromise": x509.ReasonFlags.key_compromise,
    "superseded": x509.ReasonFlags.superseded,
    "cessation-of-operation": x509.ReasonFlags.cessation_of_operation,
    "privilege-withdrawn": x509.ReasonFlags.privilege_withdrawn,
}


def _reason_of(extensions: x509.Extensions) -> str:
    try:
        reason = extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return "unspecified"
    return next((word for word, flag in _REASONS.items() if flag is reason), "unspecified")


def issued_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether `authority` signed `certificate`."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def create(workspace: Workspace, *, now: datetime, key_out: Path | None = None) -> tuple[Path, Path]:
    """Make the authority of a fleet; returns the files of its key and of its certificate.

    Args:
        key_out: Where to write the key when `devices.ca.key` is not a `file:` reference.

    Raises:
        TrustError: there is a key or a certificate already; neither is ever replaced.
        EnvironmentFault: a file cannot be written.
    """
    spec = workspace.fleet.devices.ca
    key_file = key_out or secret_path(spec.key, workspace.root)
    certificate_file = workspace.root / spec.certificate
    if key_file is None:
        raise TrustError(
            f"devices.ca.key is {spec.key}, which nobody can write to",
            hint="name a file with --key-out, and put its content there afterwards",
        )
    for file in (key_file, certificate_file):
        if file.exists():
            raise TrustError(
                f"{file} exists, and the device authority is never replaced",
                hint="to begin with a new authority, move it away first; every device needs the new certificate",
            )
    reference = spec.passphrase
    passphrase = (
        read_line(reference, workspace.root, what="the device authority's passphrase") if reference else None
    )
    private = ec.generate_private_key(ec.SECP256R1())
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        lock = serialization.BestAvailableEncryption(passphrase.encode())
    pem = serialization.Encoding.PEM
    certificate = _self_signed(workspace.fleet.name, private, now)
    write_file(key_file, private.private_bytes(pem, serialization.PrivateFormat.PKCS8, lock), mode=0o600)
    write_file(certificate_file, certificate.public_bytes(pem))
    return key_file, certificate_file


def read_certificate(workspace: Workspace) -> x509.Certificate:
    """Return the authority's certificate; needs no key.

    Raises:
        TrustError: it is missing or is not one.
    """
    file = workspace.root / workspace.fleet.devices.ca.certificate
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except OSError as error:
        raise TrustError(
            f"the device authority's certificate {file} cannot be read: {error.strerror}", hint=HINT
        ) from error
    except ValueError as error:
        raise TrustError(f"{file} is not a certificate (PEM)", hint=HINT) from error


def open_authority(workspace: Workspace) -> Authority:
    """Return the authority, its key read from where fleet.yaml says it is.

    Raises:
        TrustError: key or certificate is missing, locked, or not the other's.
    """
    spec = workspace.fleet.devices.ca
    certificate = read_certificate(workspace)
    pem = read_secret(spec.key, workspace.root, what="the device authority's key", hint=HINT)
    reference = spec.passphrase
    passphrase = (
        read_line(reference, workspace.root, what="the device authority's passphrase") if reference else None
    )
    private = parse_private_key(
        pem, passphrase, what="the device authority's key", setting="devices.ca.passphrase"
    )
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TrustError("the device authority's key is not an ECDSA key", hint=HINT)
    if spki_der(private.public_key()) != spki_der(certificate.public_key()):
        raise TrustError(f"the device authority's key does not belong to {spec.certificate}", hint=HINT)
    return Authority(certificate, private)


def _self_signed(fleet: str, private: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, fleet),
            x509.NameAttribute(NameOID.COMMON_NAME, "Edgewright device authority"),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .sign(private, hashes.SHA256())
    )


def _usage(**granted: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: granted.get(name, False) for name in names})
