"""Stage `index`: one OCI index per model version over the lanes that passed, signed, and tagged last.

Two tags: `<version>-<12 hex of the index digest>` never moves and keeps old builds from being collected;
`<version>` is for people and moves.

>>> run(job).facts["tags"]      # doctest: +SKIP
['1.0.0-3f2a9c1d0b7e', '1.0.0']
"""

from __future__ import annotations

import json

from edgewright.errors import BuildError, GateError
from edgewright.plan.job import Job, Result
from edgewright.publish import oci
from edgewright.publish.attestations import SIGN_BUNDLE
from edgewright.publish.durable import write_file
from edgewright.publish.package import MANIFEST
from edgewright.publish.push import PUBLISHED, put_verified
from edgewright.publish.referrer import attach
from edgewright.publish.registry import open_registry
from edgewright.publish.statement import statement
from edgewright.trust.signer import open_signer
from edgewright_agent.contract import (
    ANNOTATION_MODEL,
    ANNOTATION_VERSION,
    MODEL_ARTIFACT,
    OCI_INDEX,
    PREDICATE_SIGN,
    canonical_json,
    digest_of,
)

INDEX = "index.json"
VERSION = "version.json"
_PREFIX = "published:"


def run(job: Job) -> Result:
    """Build, sign and push the index of one model version.

    Raises:
        GateError: no lane of the model is published.
        BuildError: a published digest is not that of the packaged manifest.
        TrustError: the signing key is missing or wrong; keyless: nobody to sign as.
        NetworkError: the registry cannot be reached or refuses; keyless: or the Sigstore instance.
        EnvironmentFault: a layout cannot be written.
    """
    version = str(job.spec["modelVersion"])
    classes = passed_classes(job)
    if not classes:
        raise GateError(
            f"no lane of {job.model} passed its gates, so there is no version {version} to publish"
        )
    signer = open_signer(job.spec["signing"], job.root)
    body = build_index(job, version, classes)
    digest = digest_of(body)
    bundle = signer.sign(statement(job.model, digest, PREDICATE_SIGN, {}))
    tags = [f"{version}-{digest.removeprefix('sha256:')[:12]}", version]

    registry = open_registry(job.spec["registry"], job.root)(job.model)
    put_verified(registry, digest, body, OCI_INDEX)
    attach(registry, subject=oci.manifest_descriptor(body), bundle=bundle)
    for tag in tags:
        put_verified(registry, tag, body, OCI_INDEX)

    write_file(job.out / INDEX, body)
    write_file(job.out / SIGN_BUNDLE, bundle)
    document = {"repository": job.model, "digest": digest, "tags": tags}
    write_file(job.out / VERSION, canonical_json(document))
    job.progress(f"tagged {registry.address(version)} ({len(classes)} classes)")
    return Result(facts={**document, "classes": classes, "url": registry.address(digest)})


def passed_classes(job: Job) -> list[str]:
    """Return the hardware classes whose lanes are published, in alphabetical order."""
    names = (name.partition("/")[0] for name in job.inputs if name.startswith(_PREFIX))
    return sorted({name.removeprefix(_PREFIX) for name in names})


def build_index(job: Job, version: str, classes: list[str]) -> bytes:
    """Return the bytes of the index over `classes`.

    Raises:
        BuildError: a published digest is not that of the packaged manifest.
    """
    architectures = job.spec.get("architectures", {})
    entries = []
    for name in classes:
        manifest = job.inputs[f"packaged:{name}/{MANIFEST}"].read_bytes()
        published = json.loads(job.inputs[f"{_PREFIX}{name}/{PUBLISHED}"].read_bytes())
        entry = oci.lane_descriptor(manifest, name, architectures.get(name))
        if published["digest"] != entry["digest"] or entry.get("artifactType") != MODEL_ARTIFACT:
            raise BuildError(
                f"{job.model} on {name}: published {published['digest']}, packaged {entry['digest']}"
            )
        entries.append(entry)
    return oci.index(entries, annotations={ANNOTATION_MODEL: job.model, ANNOTATION_VERSION: version})
