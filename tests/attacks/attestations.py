"""What is attached to artifacts, taken off, changed, signed again, by whoever has the key.

>>> attach(scene, digest, signed(scene, digest, PREDICATE_SIGN, {}))        # doctest: +SKIP
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from attacks.fleet import AUDITOR, MODEL, PI, SIGNING
from attacks.forgery import ALL_BUT_ROOT
from attacks.scene import Scene
from edgewright.publish import oci
from edgewright.publish.referrer import referrer_manifest
from edgewright.publish.statement import sign_statement, statement
from edgewright.trust.signing_key import SigningKey, load_signing_key
from edgewright_agent.contract import OCI_MANIFEST, canonical_json, digest_of
from unit.publish.lane import LaneFiles

AUDITING = {"privateKey": "file:auditor/signing.key", "publicKey": AUDITOR}
"""The key of somebody who may make bills of materials and nothing else."""


def sign_and_assign(scene: Scene, lane: LaneFiles, document: dict[str, Any], *blobs: bytes) -> str:
    """Publish a changed manifest with all that a device asks for, for a thief of every key but root's.

    Returns its digest.
    """
    body = canonical_json(document)
    digest = digest_of(body)
    given = {digest_of(blob) for blob in blobs}
    for blob in blobs:
        scene.repository.put_blob(digest_of(blob), blob)
    for other in document["layers"]:
        if other["digest"] not in given:
            path = lane.inputs[f"packaged/{other['annotations']['org.opencontainers.image.title']}"]
            scene.repository.put_blob(other["digest"], path)
    scene.repository.put_blob(document["config"]["digest"], lane.inputs["packaged/config.json"])
    scene.repository.put_manifest(digest, body, OCI_MANIFEST)
    lane.gate(artifact=digest)
    lane.inputs["packaged/manifest.json"].write_bytes(body)
    lane.sign()
    bundles = [path.read_bytes() for path in sorted(lane.folder("signed").glob("*.json"))]
    attach(scene, digest, *bundles)
    forgery = scene.forgery(*ALL_BUT_ROOT)
    forgery.approve(MODEL, PI, body, modelVersion=lane.model_version)
    forgery.choose(MODEL, PI, digest=digest, size=len(body), version=lane.model_version)
    forgery.publish(scene.tuf, "snapshot", "timestamp")
    return digest


def signed(
    scene: Scene,
    digest: str,
    predicate_type: str,
    predicate: Mapping[str, Any],
    signing: Mapping[str, str] = SIGNING,
) -> bytes:
    """Return a bundle that says something of a digest, signed with a key of the fleet."""
    return sign_statement(statement(MODEL, digest, predicate_type, predicate), key_of(scene, signing))


def key_of(scene: Scene, signing: Mapping[str, str] = SIGNING) -> SigningKey:
    """Return a key of the fleet; default: the one that signs releases."""
    return load_signing_key(signing, scene.fleet.made.root)


def bundles_of(scene: Scene, digest: str) -> list[bytes]:
    """Return the bundles attached to a digest in what is served."""
    found = []
    for referrer in scene.referrers_of(digest):
        layer = json.loads(referrer)["layers"][0]
        body = scene.repository.get_blob(layer["digest"], limit=1 << 20)
        assert body is not None
        found.append(body)
    return found


def attach(scene: Scene, digest: str, *bundles: bytes, keep: bool = False) -> None:
    """Let these bundles be the referrers of a digest."""
    for bundle in bundles:
        scene.repository.put_blob(digest_of(bundle), bundle)
    made = [referrer_manifest(subject_of(scene, digest), bundle) for bundle in bundles]
    scene.list_referrers(digest, *(scene.referrers_of(digest) if keep else []), *made)


def subject_of(scene: Scene, digest: str) -> oci.Descriptor:
    """Return the descriptor of a manifest."""
    body = scene.repository.get_manifest(digest)
    assert body is not None
    return oci.manifest_descriptor(body)


def statement_of(bundle: bytes) -> dict[str, Any]:
    """Return what a bundle says."""
    document: dict[str, Any] = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    return document


def predicate_type(bundle: bytes) -> str:
    """Return about what kind of thing it says that."""
    return str(statement_of(bundle)["predicateType"])
