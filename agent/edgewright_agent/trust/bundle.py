"""One Sigstore bundle v0.3: a DSSE envelope around an in-toto statement about one artifact, checked offline.

Bundles of a bare key need only `cryptography`; what real `cosign sign --key` writes is accepted. Those with a
certificate are told apart here and verified by `trust.keyless`.

>>> keys = [load_key(Path("signing.pub").read_bytes())]                                      # doctest: +SKIP
>>> verify_bundle(data, keys, subject_digest="sha256:…").predicate_type                      # doctest: +SKIP
'https://sigstore.dev/cosign/sign/v1'
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent.contract import (
    INTOTO_PAYLOAD,
    INTOTO_STATEMENT,
    MAX_BUNDLE_BYTES,
    SIGSTORE_BUNDLE,
    dsse_pae,
    is_digest,
)
from edgewright_agent.errors import ConfigError, TrustError
from edgewright_agent.transport.document import parse_json
from edgewright_agent.trust.policy import By, ByKey


@dataclass(frozen=True)
class Statement:
    """A verified in-toto statement about one artifact (in-toto Attestation v1), and who signed it."""

    predicate_type: str
    predicate: Mapping[str, Any]
    by: By | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Bundle:
    """A bundle of the right shape; nothing about it is verified yet.

    Attributes:
        data: The bundle itself, JSON.
        certified: Whether it was signed under a certificate (keyless) rather than with a bare key.
        payload: What is signed.
        signature: ASN.1 DER.
    """

    data: bytes
    certified: bool
    payload: bytes
    signature: bytes


def load_key(pem: bytes, name: str = "the signing key") -> ec.EllipticCurvePublicKey:
    """Load a public key that may sign artifacts: ECDSA P-256 in PEM (SubjectPublicKeyInfo), as cosign's.

    Raises:
        ConfigError: `bad-key`.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        # What the library says of it is for its developers.
        raise ConfigError("bad-key", f"{name} is not a PEM public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("bad-key", f"{name} is not an ECDSA P-256 key")
    return key


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """Return the sha256 of a key's SubjectPublicKeyInfo in hex, as `edgewright keys show` prints it."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def parse_bundle(data: bytes) -> Bundle:
    """Check the outer shape of a bundle.

    Raises:
        TrustError: `bad-signature`, saying what is wrong.
    """
    if len(data) > MAX_BUNDLE_BYTES:
        raise _bad(f"it has more than {MAX_BUNDLE_BYTES} bytes")
    document = _parse(data, "the bundle")
    if document.get("mediaType") != SIGSTORE_BUNDLE:
        raise _bad(f"its media type is {str(document.get('mediaType'))[:80]!r}, not Sigstore bundle v0.3")
    material = _object(document, "verificationMaterial")
    envelope = _object(document, "dsseEnvelope")
    if envelope.get("payloadType") != INTOTO_PAYLOAD:
        raise _bad("its payload is not an in-toto statement")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise _bad("it does not have exactly one signature")
    certified = "certificate" in material or "x509CertificateChain" in material
    if not certified and not isinstance(material.get("publicKey"), dict):
        raise _bad("it names neither a public key nor a certificate")
    return Bundle(data, certified, _decode(envelope, "payload"), _decode(signatures[0], "sig"))


def verify_bundle(
    data: bytes, keys: Sequence[ec.EllipticCurvePublicKey], *, subject_digest: str
) -> Statement:
    """Check a bundle's signature by a bare key and that its statement is about exactly one artifact.

    Args:
        data: Sigstore bundle v0.3, JSON.
        keys: Trusted public keys; one of them must have signed.
        subject_digest: `sha256:…` of the artifact's manifest.

    Raises:
        TrustError: `bad-signature`, saying what is wrong.
    """
    return verify_with_keys(parse_bundle(data), keys, subject_digest=subject_digest)


def verify_with_keys(
    bundle: Bundle, keys: Sequence[ec.EllipticCurvePublicKey], *, subject_digest: str
) -> Statement:
    """Check a parsed bundle as `verify_bundle` does.

    The key hint inside is ignored: it is not signed, and every trusted key is tried anyway.

    Raises:
        TrustError: `bad-signature`, saying what is wrong.
    """
    if bundle.certified:
        raise _bad("it was signed with a certificate (keyless), but only keys are trusted here")
    signed = dsse_pae(INTOTO_PAYLOAD, bundle.payload)
    for key in keys:
        try:
            key.verify(bundle.signature, signed, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return read_statement(bundle.payload, subject_digest=subject_digest, by=ByKey(fingerprint(key)))
    raise _bad("none of the trusted keys made its signature")


def read_statement(payload: bytes, *, subject_digest: str, by: By) -> Statement:
    """Read a payload whose signature has been verified; it must be about exactly one artifact.

    Raises:
        TrustError: `bad-signature`.
    """
    statement = _parse(payload, "the statement")
    if statement.get("_type") != INTOTO_STATEMENT:
        raise _bad("its statement is not an in-toto Statement v1")
    expected = [{"sha256": subject_digest.removeprefix("sha256:")}]
    subjects = statement.get("subject")
    named = (
        [subject.get("digest") if isinstance(subject, dict) else None for subject in subjects]
        if isinstance(subjects, list)
        else None
    )
    if not is_digest(subject_digest) or named != expected:
        raise _bad(f"its statement is about another artifact than {subject_digest}")
    kind, predicate = statement.get("predicateType"), statement.get("predicate")
    # cosign leaves an empty predicate out or writes null.
    predicate = {} if predicate is None else predicate
    if not isinstance(kind, str) or not isinstance(predicate, dict):
        raise _bad("its statement says nothing")
    return Statement(kind[:255], predicate, by)


def _parse(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = parse_json(data, what)
    except ValueError as error:
        raise _bad(str(error)) from None
    if not isinstance(document, dict):
        raise _bad(f"{what} is not a JSON object")
    return document


def _object(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = document.get(key)
    if not isinstance(value, dict):
        raise _bad(f"it has no {key}")
    return value


def _decode(fields: Mapping[str, Any], key: str) -> bytes:
    try:
        return base64.b64decode(fields[key], validate=True)
    except (KeyError, TypeError, ValueError):
        raise _bad(f"its {key} is not base64") from None


def _bad(reason: str) -> TrustError:
    return TrustError("bad-signature", f"a signature bundle is refused: {reason}")
