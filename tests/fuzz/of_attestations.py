"""Sigstore bundles as strangers send them, and statements inside bundles whose signature is good."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgewright_agent.contract import (
    INTOTO_PAYLOAD,
    INTOTO_STATEMENT,
    OCI_MANIFEST,
    PREDICATE_GATE_REPORT,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    digest_of,
    dsse_pae,
)
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.transport import Manifest
from edgewright_agent.trust import sigstore
from fuzz.mutation import document_of, seeds_of
from fuzz.target import DIGEST, target


@functools.cache
def _key() -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(0x1234567890ABCDEF, ec.SECP256R1())  # the same in every run


def _statement(kind: str, predicate: Any) -> dict[str, Any]:
    return {
        "_type": INTOTO_STATEMENT,
        "subject": [{"name": "digit-reader", "digest": {"sha256": DIGEST[7:]}}],
        "predicateType": kind,
        "predicate": predicate,
    }


@functools.cache
def statements() -> list[Any]:
    report = {
        "version": 1,
        "model": "digit-reader",
        "hardwareClass": "raspberry-pi-4",
        "artifact": DIGEST,
        "verdict": "pass",
        "checks": [{"name": "latency-p95", "measured": 1.5, "limit": 2, "verdict": "pass"}],
    }
    return [_statement(PREDICATE_SIGN, {}), _statement(PREDICATE_GATE_REPORT, report)]


def _bundle(payload: bytes) -> dict[str, Any]:
    signature = _key().sign(dsse_pae(INTOTO_PAYLOAD, payload), ec.ECDSA(hashes.SHA256()))
    return {
        "mediaType": SIGSTORE_BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": "aGludA=="}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": INTOTO_PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
        },
    }


@functools.cache
def _bundles() -> list[Any]:
    return [_bundle(json.dumps(statement).encode()) for statement in statements()]


@target("sigstore-bundle", "a Sigstore bundle", TrustError, seeds=lambda: seeds_of(_bundles()))
def _sigstore_bundle(data: bytes) -> object:
    body = document_of(data, _bundles())
    return sigstore.verify_bundle(body, [_key().public_key()], subject_digest=DIGEST)


class _Referrers:
    """A source with one artifact and two referrers: an honest signature, and a bundle whose signature is good."""

    def __init__(self, payload: bytes) -> None:
        self.bundles = [json.dumps(document).encode() for document in (_bundles()[0], _bundle(payload))]

    def manifest(self, _repository: str, reference: str, **_: Any) -> Manifest:
        body = self.bundles[reference == digest_of(b"1")]
        layer = {"mediaType": SIGSTORE_BUNDLE, "digest": digest_of(body), "size": len(body)}
        made = {"mediaType": OCI_MANIFEST, "layers": [layer], "subject": {"digest": DIGEST}}
        return Manifest(reference, OCI_MANIFEST, json.dumps(made).encode(), None)

    def blob(self, _repository: str, digest: str, **_: Any) -> Iterator[bytes]:
        yield next(body for body in self.bundles if digest_of(body) == digest)

    def referrers(self, _repository: str, _digest: str) -> list[dict[str, Any]]:
        return [{"digest": digest_of(n), "size": 1, "mediaType": OCI_MANIFEST} for n in (b"0", b"1")]


@target(
    "statement",
    "a statement inside a correctly signed bundle",
    TrustError,
    TransportError,
    seeds=lambda: seeds_of(statements()),
)
def _signed_statement(data: bytes) -> object:
    source: Any = _Referrers(document_of(data, statements()))
    keys = [_key().public_key()]
    return sigstore.verify_artifact(
        source, "digit-reader", DIGEST, keys, model="digit-reader", hardware_class="raspberry-pi-4"
    )
