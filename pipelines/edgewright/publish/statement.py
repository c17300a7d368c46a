"""in-toto statement → DSSE envelope → Sigstore bundle v0.3 with a bare key: what cosign and devices verify.

>>> payload = statement("digit-reader", "sha256:" + "0" * 64, PREDICATE_SIGN, {})
>>> bundle = sign_statement(payload, key)          # doctest: +SKIP
>>> verify_bundle(bundle, public_key)["predicateType"]   # doctest: +SKIP
'https://sigstore.dev/cosign/sign/v1'
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright.errors import TrustError
from edgewright.trust.signing_key import SigningKey
from edgewright_agent.contract import (
    INTOTO_PAYLOAD,
    INTOTO_STATEMENT,
    MAX_BUNDLE_BYTES,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    canonical_json,
    dsse_pae,
    key_hint,
)


def statement(name: str, digest: str, predicate_type: str, predicate: Mapping[str, Any]) -> bytes:
    """Return the bytes of an in-toto Statement v1 about one manifest.

    Args:
        name: Repository of the manifest; informative, only the digest identifies it.
        digest: `sha256:<hex>` of the manifest's bytes.
        predicate_type: What is being said, as a URI.
        predicate: What is said.
    """
    return canonical_json(
        {
            "_type": INTOTO_STATEMENT,
            "subject": [{"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}],
            "predicateType": predicate_type,
            "predicate": dict(predicate),
        }
    )


def sign_statement(payload: bytes, key: SigningKey) -> bytes:
    """Return a Sigstore bundle v0.3 over `payload` (DSSE 1.0, one signature, public key by hint).

    Raises:
        TrustError: the bundle would be larger than a device reads.
    """
    document = {
        "mediaType": SIGSTORE_BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key_hint(key.public_der)}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": INTOTO_PAYLOAD,
            "signatures": [
                {"sig": base64.b64encode(key.sign(dsse_pae(INTOTO_PAYLOAD, payload))).decode()},
            ],
        },
    }
    bundle = canonical_json(document)
    if len(bundle) > MAX_BUNDLE_BYTES:
        raise TrustError(
            f"a signed statement of {len(bundle)} bytes is more than devices read ({MAX_BUNDLE_BYTES})"
        )
    return bundle


def read_statement(bundle: bytes) -> dict[str, Any]:
    """Return the statement inside a bundle **without** checking its signature.

    Raises:
        TrustError: not a bundle of one in-toto statement.
    """
    try:
        envelope = json.loads(bundle)["dsseEnvelope"]
        document: dict[str, Any] = json.loads(base64.b64decode(envelope["payload"], validate=True))
        document["subject"][0]["digest"]["sha256"], document["predicateType"]
    except (ValueError, KeyError, TypeError, IndexError, binascii.Error) as error:
        raise TrustError("this is not a Sigstore bundle over an in-toto statement") from error
    return document


def subject_digest(document: Mapping[str, Any]) -> str:
    """Return the digest a statement is about."""
    return "sha256:" + str(document["subject"][0]["digest"]["sha256"])


def verify_bundle(bundle: bytes, public_key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    """Return the statement inside a bundle after checking its signature with `public_key`.

    Raises:
        TrustError: malformed, or not signed by that key.
    """
    document = read_statement(bundle)
    try:
        envelope = json.loads(bundle)["dsseEnvelope"]
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(envelope["signatures"][0]["sig"], validate=True)
        public_key.verify(signature, dsse_pae(envelope["payloadType"], payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise TrustError("the bundle is not signed by this key") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise TrustError("this is not a Sigstore bundle over an in-toto statement") from error
    return document


__all__ = [
    "PREDICATE_SIGN",
    "read_statement",
    "sign_statement",
    "statement",
    "subject_digest",
    "verify_bundle",
]
