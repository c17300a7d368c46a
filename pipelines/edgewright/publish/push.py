"""Stage `published`: one lane's artifact and its signatures go to the registry, blobs first.

Nothing names the manifest until all it names is there, and no tag is written: devices learn digests from the
signed desired state. Pushing again sends only what is missing.

>>> run(job).facts["url"]     # doctest: +SKIP
'localhost:5000/acme/digit-reader@sha256:…'
"""

from __future__ import annotations

import json
from pathlib import Path

from edgewright.errors import NetworkError, TrustError
from edgewright.plan.job import Job, Result
from edgewright.publish import oci
from edgewright.publish.attestations import BUNDLES
from edgewright.publish.durable import write_file
from edgewright.publish.package import CONFIG, MANIFEST
from edgewright.publish.referrer import attach, require_listed
from edgewright.publish.registry import Registry, open_registry
from edgewright.publish.statement import read_statement, subject_digest
from edgewright_agent.contract import (
    ANNOTATION_TITLE,
    OCI_MANIFEST,
    canonical_json,
    digest_of,
)

PUBLISHED = "published.json"


def run(job: Job) -> Result:
    """Push blobs, config, manifest by digest, referrers; then read the manifest back.

    Raises:
        TrustError: a signature is missing or about another artifact.
        NetworkError: the registry cannot be reached, refuses, or gives other bytes back.
        EnvironmentFault: a layout cannot be written.
    """
    manifest = job.inputs[f"packaged/{MANIFEST}"].read_bytes()
    digest = digest_of(manifest)
    bundles = [_bundle(job, name, predicate_type, digest) for name, predicate_type in BUNDLES]
    registry = open_registry(job.spec["registry"], job.root)(job.model)

    document = json.loads(manifest)
    sent = 0
    for layer in document["layers"]:
        path = job.inputs[f"packaged/{layer['annotations'][ANNOTATION_TITLE]}"]
        sent += _put(registry, layer, path)
    sent += _put(registry, document["config"], job.inputs[f"packaged/{CONFIG}"])
    put_verified(registry, digest, manifest, OCI_MANIFEST)
    subject = oci.manifest_descriptor(manifest)
    # The signature last: where the registry keeps no list itself, what is attached last is listed first.
    attached = [attach(registry, subject=subject, bundle=bundle) for bundle in reversed(bundles)]
    referrers = attached[::-1]

    require_listed(registry, subject=subject, bundles=bundles)
    published = {
        "repository": job.model,
        "digest": digest,
        "size": len(manifest),
        "url": registry.address(digest),
    }
    write_file(job.out / PUBLISHED, canonical_json(published))
    job.progress(f"pushed {published['url']}")
    return Result(facts={**published, "sent_bytes": sent, "referrers": referrers})


def put_verified(registry: Registry, reference: str, body: bytes, media_type: str) -> None:
    """Push a manifest unless it is there, and read it back.

    Raises:
        NetworkError: the registry gives other bytes back.
    """
    if registry.get_manifest(reference) == body:
        return
    registry.put_manifest(reference, body, media_type)
    if registry.get_manifest(reference) != body:
        raise NetworkError(
            f"{registry.address(reference)} does not come back as it was pushed",
            hint="look for another writer, or for a caching proxy in front of the registry",
        )


def _put(registry: Registry, layer: oci.Descriptor, path: Path) -> int:
    return int(layer["size"]) if registry.put_blob(str(layer["digest"]), path) else 0


def _bundle(job: Job, name: str, predicate_type: str, digest: str) -> bytes:
    path = job.inputs.get(f"signed/{name}")
    if path is None:
        raise TrustError(
            f"{job.model} on {job.hardware_class} is not signed: {name} is missing", hint="edgewright run"
        )
    bundle = path.read_bytes()
    document = read_statement(bundle)
    if subject_digest(document) != digest or document["predicateType"] != predicate_type:
        raise TrustError(
            f"{job.model} on {job.hardware_class}: {name} is about {subject_digest(document)}, not {digest}",
            hint="edgewright run",
        )
    return bundle
