"""An artifact and what refers to it, in an OCI layout, signed by whom a test says.

>>> published = Published(Shelf(tmp_path / "release"), key)      # doctest: +SKIP
>>> published.signature()                                        # doctest: +SKIP
>>> published.gate_report()                                      # doctest: +SKIP
>>> published.verify()["verdict"]                                # doctest: +SKIP
'pass'
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from edgewright_agent.contract import (
    BOM_CLASS,
    BOM_MODEL,
    BUILD_TYPE,
    INTOTO_PAYLOAD,
    INTOTO_STATEMENT,
    PREDICATE_BOM,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    dsse_pae,
    key_hint,
)
from edgewright_agent.errors import TrustError
from edgewright_agent.transport import Source, open_source
from edgewright_agent.trust.policy import Demands, demands_of
from edgewright_agent.trust.sigstore import key_signer, verify_artifact
from unit.agent.transport.shelf import Shelf

MODEL, CLASS = "digit-reader", "raspberry-pi-4"
PROVENANCE = "https://slsa.dev/provenance/v1"
BUILDER = "https://github.com/acme/fleet/.github/workflows/release.yml@refs/heads/main"


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def statement(digest: str, kind: str = PREDICATE_SIGN, predicate: Any = None, **more: Any) -> dict[str, Any]:
    return {
        "_type": INTOTO_STATEMENT,
        "subject": [{"name": MODEL, "digest": {"sha256": digest.removeprefix("sha256:")}}],
        "predicateType": kind,
        "predicate": {} if predicate is None else predicate,
        **more,
    }


def report(digest: str, **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "model": MODEL,
        "hardwareClass": CLASS,
        "modelVersion": "1.0.0",
        "artifact": digest,
        "verdict": "pass",
        "checks": [{"name": "latency-p95", "verdict": "pass"}],
        **more,
    }


def provenance(builder: str, hardware_class: str = CLASS, model: str = MODEL) -> dict[str, Any]:
    parameters = {"model": model, "hardwareClass": hardware_class}
    return {
        "buildDefinition": {"buildType": BUILD_TYPE, "externalParameters": parameters},
        "runDetails": {"builder": {"id": builder}},
    }


def bom(hardware_class: str = CLASS, model: str = MODEL) -> dict[str, Any]:
    properties = [{"name": BOM_MODEL, "value": model}, {"name": BOM_CLASS, "value": hardware_class}]
    return {"bomFormat": "CycloneDX", "metadata": {"component": {"properties": properties}}}


def sign(
    key: ec.EllipticCurvePrivateKey, document: dict[str, Any], *, payload_type: str = INTOTO_PAYLOAD
) -> dict[str, Any]:
    payload = json.dumps(document).encode()
    der = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signature = key.sign(dsse_pae(payload_type, payload), ec.ECDSA(hashes.SHA256()))
    return {
        "mediaType": SIGSTORE_BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": key_hint(der)}},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"sig": base64.b64encode(signature).decode()}],
        },
    }


def pinned(*pems: bytes) -> Demands:
    """What a device without a policy demands: signature and gate report, by one of its pinned keys."""
    pins = [key_signer(f"key-{number}", data) for number, data in enumerate(pems)]
    return demands_of(None, pins=pins, hardware_class=CLASS)


@dataclass
class Published:
    """An artifact and its referrers in an OCI layout."""

    shelf: Shelf
    key: ec.EllipticCurvePrivateKey
    digest: str = ""
    referrers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.digest = self.shelf.artifact(MODEL, [b"weights"], tag="1.0.0")

    def attach(self, document: dict[str, Any], *, key: ec.EllipticCurvePrivateKey | None = None) -> None:
        self.attach_bytes(json.dumps(sign(key or self.key, document)).encode())

    def attach_bytes(self, bundle: bytes, **more: Any) -> None:
        self.referrers.append(self.shelf.refer(MODEL, self.digest, bundle, **more))

    def signature(self) -> None:
        self.attach(statement(self.digest))

    def gate_report(self, **more: Any) -> None:
        self.attach(statement(self.digest, PREDICATE_GATE_REPORT, report(self.digest, **more)))

    def provenance(self, builder: str = BUILDER, *, hardware_class: str = CLASS, model: str = MODEL) -> None:
        self.attach(statement(self.digest, PREDICATE_PROVENANCE, provenance(builder, hardware_class, model)))

    def bom(self, hardware_class: str = CLASS, model: str = MODEL) -> None:
        self.attach(statement(self.digest, PREDICATE_BOM, bom(hardware_class, model)))

    def everything(self) -> None:
        self.signature()
        self.gate_report()
        self.provenance()
        self.bom()

    def source(self, *, annotated: bool = False) -> Source:
        self.shelf.list_referrers(MODEL, self.digest, self.referrers, annotated=annotated)
        return open_source(f"oci:{self.shelf.root}")

    def verify(
        self, source: Source | None = None, demands: Demands | None = None, trusted_root: bytes | None = None
    ) -> Any:
        return verify_artifact(
            source or self.source(),
            MODEL,
            self.digest,
            demands or pinned(pem(self.key)),
            model=MODEL,
            hardware_class=CLASS,
            trusted_root=trusted_root,
        )

    def refuses(self, code: str, demands: Demands | None = None, trusted_root: bytes | None = None) -> str:
        with pytest.raises(TrustError) as caught:
            self.verify(demands=demands, trusted_root=trusted_root)
        assert caught.value.code == code, caught.value
        return str(caught.value)
