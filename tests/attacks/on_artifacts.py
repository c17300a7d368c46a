"""Attacks on artifacts and their attestations: the metadata is honest, what lies behind it is not."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

from attacks.attestations import (
    attach,
    bundles_of,
    key_of,
    predicate_type,
    sign_and_assign,
    signed,
    statement_of,
    subject_of,
)
from attacks.fleet import CART, MODEL, PI, SIGNING
from attacks.scene import Scene
from attacks.table import attack
from edgewright.publish import oci
from edgewright.publish.statement import sign_statement, statement
from edgewright_agent.contract import (
    ANNOTATION_BUNDLE_PREDICATE,
    DEVICE_REPORT_PAYLOAD,
    INTOTO_PAYLOAD,
    MAX_REFERRERS,
    OCI_MANIFEST,
    PREDICATE_GATE_REPORT,
    PREDICATE_PROVENANCE,
    PREDICATE_SIGN,
    SIGSTORE_BUNDLE,
    canonical_json,
    digest_of,
    dsse_pae,
)

REGISTRY = "the registry: everything in it can be replaced, no key"
_MAX_REQUESTS = 2 * MAX_REFERRERS + 20  # manifest and blob of each, and the metadata before them


def _layer(scene: Scene, file: str = "model.onnx") -> dict[str, Any]:
    digest = scene.serve(2).digest
    return next(
        layer
        for layer in scene.manifest(digest)["layers"]
        if layer["annotations"]["org.cncf.model.filepath"] == file
    )


@attack(
    "arbitrary software: other bytes under a signed digest",
    has=REGISTRY,
    failed="digest-mismatch",
    process=True,
    floor_kept=False,
)
def other_bytes(scene: Scene) -> Iterator[None]:
    layer = _layer(scene)
    scene.overwrite(layer["digest"], bytes(layer["size"]))
    yield


@attack(
    "arbitrary software: another manifest under a signed digest",
    has=REGISTRY,
    failed="digest-mismatch",
    floor_kept=False,
)
def other_manifest(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    body = scene.repository.get_manifest(digest)
    assert body is not None
    mirror = scene.mirror()
    evil = body.replace(b'"digit-reader"', b'"digit-readed"')
    assert len(evil) == len(body) and evil != body
    answer = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {OCI_MANIFEST}\r\nContent-Length: {len(evil)}\r\n\r\n".encode()
    )
    mirror.lies(f"{scene.path}/{MODEL}/manifests/{digest}", lambda: [answer + evil])
    yield
    mirror.lies_about.clear()


@attack("extraneous dependencies: the tag of a version re-pointed", has=REGISTRY)
def tag_repointed(scene: Scene) -> Iterator[None]:
    malware = scene.malware(number=1)
    for tag in ("1.0.0", "2.0.0", "latest"):
        scene.repository.put_manifest(tag, malware.manifest, OCI_MANIFEST)
    yield


@attack("extraneous dependencies: a flood of referrers", has=REGISTRY, installs=2)
def referrer_flood(scene: Scene) -> Iterator[None]:
    """Entries that do not claim to be what the device wants cost nothing: it looks at those that do first."""
    digest = scene.serve(2).digest
    honest = scene.referrers_of(digest)
    scene.list_referrers(digest, *_junk(scene, digest, artifact_type="application/x-junk"), *honest)
    mirror = scene.mirror()
    yield
    assert len(mirror.asked) < _MAX_REQUESTS
    scene.look_at_registry()


@attack(
    "extraneous dependencies: a flood of referrers that claim to be signatures",
    has=REGISTRY,
    refused="unsigned",
    floor_kept=False,
)
def lying_referrer_flood(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    honest = scene.referrers_of(digest)
    claim = {ANNOTATION_BUNDLE_PREDICATE: PREDICATE_SIGN}
    scene.list_referrers(digest, *_junk(scene, digest, artifact_type=SIGSTORE_BUNDLE, **claim), *honest)
    mirror = scene.mirror()
    yield
    assert len(mirror.asked) < _MAX_REQUESTS, "the flood is looked at only so far"
    scene.look_at_registry()


def _junk(scene: Scene, digest: str, *, artifact_type: str, **annotations: str) -> list[bytes]:
    return [
        oci.manifest(
            artifact_type=artifact_type,
            config=oci.EMPTY_CONFIG,
            layers=[oci.EMPTY_CONFIG],
            subject=subject_of(scene, digest),
            annotations={**annotations, "n": str(number)},
        )
        for number in range(MAX_REFERRERS + 8)
    ]


@attack(
    "signature over another digest: release 1's bundles on release 2",
    has=REGISTRY,
    refused="bad-signature",
    floor_kept=False,
)
def signature_of_another_digest(scene: Scene) -> Iterator[None]:
    bundles = bundles_of(scene, scene.serve(1).digest)
    attach(scene, scene.serve(2).digest, *bundles)
    yield


@attack(
    "provenance-only bundle offered as a signature",
    has="the registry, and provenance that the fleet's own key signed",
    refused="unsigned",
    floor_kept=False,
)
def provenance_as_signature(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    gate = next(
        bundle for bundle in bundles_of(scene, digest) if predicate_type(bundle) == PREDICATE_GATE_REPORT
    )
    attach(scene, digest, signed(scene, digest, PREDICATE_PROVENANCE, {"buildDefinition": {}}), gate)
    yield


@attack("gate report of another artifact", has=REGISTRY, refused="no-gate-report", floor_kept=False)
def gate_report_of_another_artifact(scene: Scene) -> Iterator[None]:
    old = [b for b in bundles_of(scene, scene.serve(1).digest) if predicate_type(b) == PREDICATE_GATE_REPORT]
    digest = scene.serve(2).digest
    sign = [b for b in bundles_of(scene, digest) if predicate_type(b) == PREDICATE_SIGN]
    attach(scene, digest, *sign, *old)
    yield


@attack(
    "gate report of another class",
    has="the registry, and a signer who was talked into it",
    refused="wrong-class",
    floor_kept=False,
)
def gate_report_of_another_class(scene: Scene) -> Iterator[None]:
    _with_report(scene, hardwareClass=CART)
    yield


@attack(
    "gate report of another artifact, signed for this one",
    has="the registry, and a signer who was talked into it",
    refused="no-gate-report",
    floor_kept=False,
)
def gate_report_about_something_else(scene: Scene) -> Iterator[None]:
    _with_report(scene, artifact=scene.fleet.releases[1].digest)
    yield


@attack(
    "gate report that did not pass",
    has="the registry, and a signer who was talked into it",
    refused="gate-failed",
    floor_kept=False,
)
def gate_report_that_failed(scene: Scene) -> Iterator[None]:
    _with_report(scene, verdict="fail")
    yield


@attack(
    "cross-protocol: a report's envelope offered as a signature",
    has="an envelope that a trusted key signed for another purpose (DSSE payload type of a device report)",
    refused="bad-signature",
    floor_kept=False,
)
def cross_protocol(scene: Scene) -> Iterator[None]:
    digest = scene.serve(2).digest
    payload = statement(MODEL, digest, PREDICATE_SIGN, {})
    key = key_of(scene)
    honest = json.loads(sign_statement(payload, key))
    sig = base64.b64encode(key.sign(dsse_pae(DEVICE_REPORT_PAYLOAD, payload))).decode()
    for payload_type in (
        DEVICE_REPORT_PAYLOAD,
        INTOTO_PAYLOAD,
    ):  # as it was signed, and as it should have been
        honest["dsseEnvelope"] |= {"payloadType": payload_type, "signatures": [{"sig": sig}]}
        attach(scene, digest, canonical_json(honest), keep=payload_type == INTOTO_PAYLOAD)
    yield


@attack(
    "endless data: a decompression bomb in a signed layer",
    has="every key but root's, the one that signs artifacts included",
    refused="bad-manifest",
    honest=3,
    floor_kept=False,
)
def decompression_bomb(scene: Scene) -> Iterator[None]:
    honest = scene.fleet.lane(MODEL, PI, 9, signing=SIGNING, compression="gzip")
    honest.package()
    document = json.loads(honest.manifest)
    layer = document["layers"][0]
    packed = bomb(layer["annotations"]["org.cncf.model.filepath"], size=64, real_bytes=50_000_000)
    layer |= {"mediaType": layer["mediaType"].replace(".raw", ".tar+gzip")}
    layer |= {"digest": digest_of(packed), "size": len(packed)}
    layer["annotations"] |= {
        "dev.edgewright.file-digest": digest_of(bytes(64)),
        "dev.edgewright.file-size": "64",
    }
    sign_and_assign(scene, honest, document, packed)
    yield
    left = sum(path.stat().st_size for path in (scene.device.state / "store").rglob("*") if path.is_file())
    assert left < 1_000_000, "the bomb is not on the disk"


def bomb(name: str, *, size: int, real_bytes: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1, mtime=0) as stream:
        stream.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(size))
        for _ in range(real_bytes // 1_000_000):
            stream.write(bytes(1_000_000))
    return packed.getvalue()


def _with_report(scene: Scene, **changes: Any) -> None:
    """Serve release 2 with an honest signature and a changed gate report, signed by the fleet's key."""
    digest = scene.serve(2).digest
    bundles = {predicate_type(bundle): bundle for bundle in bundles_of(scene, digest)}
    report = statement_of(bundles[PREDICATE_GATE_REPORT])["predicate"] | changes
    attach(scene, digest, bundles[PREDICATE_SIGN], signed(scene, digest, PREDICATE_GATE_REPORT, report))
