"""Keys and certificate authorities: a root and what it vouches for.

>>> root = Authority.root("fulcio-root")
>>> [certificate.subject.rfc4514_string() for certificate in root.issue_authority("fulcio").chain]
['CN=fulcio,O=private.local', 'CN=fulcio-root,O=private.local']
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORGANIZATION = "private.local"
BORN = dt.datetime.now(dt.timezone.utc).replace(microsecond=0) - dt.timedelta(hours=3)
"""When everything that lives long began; tests sign at times around now."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh ECDSA P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return an ECDSA signature over SHA-256, DER."""
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the SubjectPublicKeyInfo of a key's public half, DER."""
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.DER, kind)


def key_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return how logs are called (RFC 6962 3.2): sha256 of the SubjectPublicKeyInfo."""
    return hashlib.sha256(spki(key)).digest()


def b64(data: bytes) -> str:
    """Return base64 as protobuf's JSON wants bytes."""
    return base64.b64encode(data).decode()


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate, DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(certificate: x509.Certificate) -> str:
    """Return a certificate, PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def named(common_name: str) -> x509.Name:
    """Return a distinguished name of this organization."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


@dataclass(frozen=True)
class Authority:
    """A key with its certificate and those above it, up to a root.

    Attributes:
        key: Signs what it issues.
        chain: Its own certificate first, the root last.
    """

    key: ec.EllipticCurvePrivateKey
    chain: Sequence[x509.Certificate]

    @classmethod
    def root(cls, name: str) -> Authority:
        """Return a self-signed root."""
        key = new_key()
        builder = _builder(name, key).issuer_name(named(name))
        builder = _ca(builder, key, path_length=1)
        return cls(key, (builder.sign(key, hashes.SHA256()),))

    def issue_authority(self, name: str) -> Authority:
        """Return an intermediate that may sign certificates for code signing."""
        key = new_key()
        builder = _ca(_builder(name, key).issuer_name(self.chain[0].subject), self.key, path_length=0)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
        return Authority(key, (builder.sign(self.key, hashes.SHA256()), *self.chain))

    def issue_timestamper(self, name: str) -> Authority:
        """Return a key that may stamp times and nothing else (RFC 3161 2.3: one critical extended usage)."""
        key = new_key()
        builder = _builder(name, key).issuer_name(self.chain[0].subject)
        builder = _key_usage(builder.add_extension(x509.BasicConstraints(False, None), True), ca=False)
        builder = _linked(builder, self.key)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)
        return Authority(key, (builder.sign(self.key, hashes.SHA256()), *self.chain))


def _builder(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(BORN)
        .not_valid_after(BORN + dt.timedelta(days=3650))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _ca(
    builder: x509.CertificateBuilder, issuer: ec.EllipticCurvePrivateKey, *, path_length: int
) -> x509.CertificateBuilder:
    builder = builder.add_extension(x509.BasicConstraints(True, path_length), True)
    return _linked(_key_usage(builder, ca=True), issuer)


def _linked(builder: x509.CertificateBuilder, issuer: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())
    return builder.add_extension(identifier, False)


def _key_usage(builder: x509.CertificateBuilder, *, ca: bool) -> x509.CertificateBuilder:
    usage = x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False)
    return builder.add_extension(usage, True)
