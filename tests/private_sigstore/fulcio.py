"""Fulcio: gives whoever shows an identity token a certificate of ten minutes (API v2, `signingCert`).

What the certificate says is described in Fulcio's `docs/oid-info.md`: who (subject alternative name) and who says so
(the OIDC issuer, in the extensions 1.3.6.1.4.1.57264.1.1 and .1.8).
"""

from __future__ import annotations

import base64
import datetime as dt
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from private_sigstore.authorities import Authority, pem
from private_sigstore.ctlog import CertificateLog
from private_sigstore.oidc import TokenIssuer

LIFETIME = dt.timedelta(minutes=10)

_ISSUER_V1 = ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # the bare text
_ISSUER_V2 = ObjectIdentifier("1.3.6.1.4.1.57264.1.8")  # the same as a DER UTF8String
_SCT_LIST = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")


@dataclass
class Fulcio:
    """The certificate authority.

    Attributes:
        tokens: Whose tokens it believes.
        log: Where it announces certificates.
        authority: Signs certificates.
        foreign: An authority that no trusted root knows, with the same names.
    """

    tokens: TokenIssuer
    log: CertificateLog
    authority: Authority = field(default_factory=lambda: _intermediate())
    foreign: Authority = field(default_factory=lambda: _intermediate())

    def answer(self, token: str, request: Mapping[str, Any], faults: Collection[str]) -> dict[str, Any]:
        """Answer `POST /api/v2/signingCert`.

        Raises:
            ValueError: The token is not believed or the key is not the caller's.
        """
        claims = self.tokens.check(token)
        certificate = self.issue(claims, _public_key(request, claims), faults)
        chain = [certificate, *self.authority.chain]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": [pem(one) for one in chain]}}}

    def issue(
        self, claims: Mapping[str, Any], public: ec.EllipticCurvePublicKey, faults: Collection[str] = ()
    ) -> x509.Certificate:
        """Return a certificate for a public key.

        Args:
            claims: Of the identity token.
            public: The ephemeral key.
            faults: `no-sct`, `forged-sct`, `foreign-ca`.
        """
        authority = self.foreign if "foreign-ca" in faults else self.authority
        now = dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
        builder = _profile(claims, public, authority, now)
        if "no-sct" not in faults:
            # RFC 6962 3.2: the log signs the certificate as it is without the extension.
            tbs = builder.sign(authority.key, hashes.SHA256()).tbs_certificate_bytes
            value = self.log.timestamp(tbs, authority.key, now, forged="forged-sct" in faults)
            builder = builder.add_extension(x509.UnrecognizedExtension(_SCT_LIST, value), False)
        return builder.sign(authority.key, hashes.SHA256())


def _intermediate() -> Authority:
    return Authority.root("fulcio-root").issue_authority("fulcio")


def _profile(
    claims: Mapping[str, Any], public: ec.EllipticCurvePublicKey, authority: Authority, now: dt.datetime
) -> x509.CertificateBuilder:
    issuer = str(claims["iss"]).encode()
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.chain[0].subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.KeyUsage(True, *[False] * 8), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), False)
        .add_extension(identifier, False)
        .add_extension(x509.SubjectAlternativeName([_subject(claims)]), True)
        .add_extension(x509.UnrecognizedExtension(_ISSUER_V1, issuer), False)
        .add_extension(x509.UnrecognizedExtension(_ISSUER_V2, bytes([0x0C, len(issuer)]) + issuer), False)
    )


def _subject(claims: Mapping[str, Any]) -> x509.GeneralName:
    """A workflow by its file and ref, as for GitHub; a person by address; anything else by its URI."""
    if "job_workflow_ref" in claims:
        return x509.UniformResourceIdentifier(f"https://github.com/{claims['job_workflow_ref']}")
    if "email" in claims:
        return x509.RFC822Name(claims["email"])
    return x509.UniformResourceIdentifier(claims["sub"])


def _public_key(request: Mapping[str, Any], claims: Mapping[str, Any]) -> ec.EllipticCurvePublicKey:
    """Return the key to certify, after its holder proved to have the private half.

    sigstore-python sends a signing request, cosign a key and its signature over the token's subject.
    """
    if "certificateSigningRequest" in request:
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        if not csr.is_signature_valid:
            raise ValueError("the signing request is not signed by its own key")
        public = csr.public_key()
    else:
        asked = request["publicKeyRequest"]
        public = serialization.load_pem_public_key(asked["publicKey"]["content"].encode())
        assert isinstance(public, ec.EllipticCurvePublicKey)
        subject = str(claims.get("email", claims["sub"])).encode()
        public.verify(base64.b64decode(asked["proofOfPossession"]), subject, ec.ECDSA(hashes.SHA256()))
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("only elliptic curves here")
    return public
