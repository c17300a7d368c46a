"""Sigstore bundles as strangers send them, and statements inside bundles whose signature is good."""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Iterator
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgewright_agent.contract import (
    ATTESTATIONS,
    BOM_CLASS,
    BOM_MODEL,
    BUILD_TYPE,
    INTOTO_PAYLOAD,
    INTOTO_STATEMENT,
    OCI_MANIFEST,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    digest_of,
    dsse_pae,
)
from edgewright_agent.errors import TransportError, TrustError
from edgewright_agent.transport import Manifest
from edgewright_agent.trust import sigstore
from edgewright_agent.trust.policy import Demands
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
    provenance = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"model": "digit-reader", "hardwareClass": "raspberry-pi-4"},
        },
        "runDetails": {"builder": {"id": "https://ci.example"}},
    }
    lane = [{"name": BOM_MODEL, "value": "digit-reader"}, {"name": BOM_CLASS, "value": "raspberry-pi-4"}]
    bill = {"bomFormat": "CycloneDX", "metadata": {"component": {"properties": lane}}}
    return [
        _statement(PREDICATE_SIGN, {}),
        _statement(PREDICATE_GATE_REPORT, report),
        _statement(PREDICATE_PROVENANCE, provenance),
        _statement(PREDICATE_BOM, bill),
    ]


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
    """A source with one artifact that has all it needs but one attestation, and a well-signed bundle that may be it."""

    def __init__(self, payload: bytes) -> None:
        try:
            kind = json.loads(payload)["predicateType"]
        except (ValueError, TypeError, LookupError, RecursionError):
            kind = PREDICATE_SIGN
        honest = [
            bundle
            for bundle, said in zip(_bundles(), statements(), strict=True)
            if said["predicateType"] != kind
        ]
        self.bundles = [json.dumps(document).encode() for document in (*honest, _bundle(payload))]

    def manifest(self, _repository: str, reference: str, **_: Any) -> Manifest:
        body = self.bundles[next(n for n in range(len(self.bundles)) if reference == digest_of(b"%d" % n))]
        layer = {"mediaType": SIGSTORE_BUNDLE, "digest": digest_of(body), "size": len(body)}
        made = {"mediaType": OCI_MANIFEST, "layers": [layer], "subject": {"digest": DIGEST}}
        return Manifest(reference, OCI_MANIFEST, json.dumps(made).encode(), None)

    def blob(self, _repository: str, digest: str, **_: Any) -> Iterator[bytes]:
        yield next(body for body in self.bundles if digest_of(body) == digest)

    def referrers(self, _repository: str, _digest: str) -> list[dict[str, Any]]:
        # The fuzzed one first: the others must not make up for what it is not.
        numbers = [len(self.bundles) - 1, *range(len(self.bundles) - 1)]
        return [{"digest": digest_of(b"%d" % n), "size": 1, "mediaType": OCI_MANIFEST} for n in numbers]


@functools.cache
def _demands() -> Demands:
    pem = _key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signer = sigstore.key_signer("release", pem)
    return Demands({kind: (signer,) for kind in ATTESTATIONS.values()}, (), frozenset({"https://ci.example"}))


@target(
    "statement",
    "a statement inside a correctly signed bundle",
    TrustError,
    TransportError,
    seeds=lambda: seeds_of(statements()),
)
def _signed_statement(data: bytes) -> object:
    source: Any = _Referrers(document_of(data, statements()))
    return sigstore.verify_artifact(
        source, "digit-reader", DIGEST, _demands(), model="digit-reader", hardware_class="raspberry-pi-4"
    )
