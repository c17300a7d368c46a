"""Signatures as referrers: manifests that point at what they sign, findable by everyone who has its digest.

>>> attach(registry, subject=manifest_descriptor(body), bundle=bundle)      # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

import json

from edgewright.errors import NetworkError
from edgewright.publish import oci
from edgewright.publish.registry import Registry
from edgewright.publish.statement import read_statement
from edgewright_agent.contract import (
    ANNOTATION_BUNDLE_CONTENT,
    ANNOTATION_BUNDLE_PREDICATE,
    MAX_LISTED_REFERRERS,
    OCI_EMPTY_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    SIGSTORE_BUNDLE,
    digest_of,
    fallback_tag,
)

_ATTEMPTS = 10


def referrer_manifest(subject: oci.Descriptor, bundle: bytes) -> bytes:
    """Return the manifest that carries one Sigstore bundle, in the form cosign writes and finds."""
    return oci.manifest(
        artifact_type=SIGSTORE_BUNDLE,
        config=oci.EMPTY_CONFIG,
        layers=[oci.descriptor(SIGSTORE_BUNDLE, bundle)],
        subject={key: subject[key] for key in ("mediaType", "digest", "size")},
        annotations={
            ANNOTATION_BUNDLE_CONTENT: "dsse-envelope",
            ANNOTATION_BUNDLE_PREDICATE: read_statement(bundle)["predicateType"],
        },
    )


def attach(registry: Registry, *, subject: oci.Descriptor, bundle: bytes) -> str:
    """Push `bundle` as a referrer of `subject`; attaching the same one again changes nothing.

    Args:
        registry: The repository that holds (or is about to hold) the subject.
        subject: Descriptor of the signed manifest or index.
        bundle: A Sigstore bundle.

    Returns:
        Digest of the referrer manifest.

    Raises:
        NetworkError: unreachable, refused, or the referrers list cannot be kept.
        EnvironmentFault: no space, or not writable.
    """
    body = referrer_manifest(subject, bundle)
    digest = digest_of(body)
    registry.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
    registry.put_blob(digest_of(bundle), bundle)
    if not registry.put_manifest(digest, body, OCI_MANIFEST):
        list_referrer(registry, str(subject["digest"]), body)
    return digest


def list_referrer(registry: Registry, subject_digest: str, body: bytes) -> None:
    """Enter a referrer into the fallback tag (distribution-spec 1.1, Referrers Tag Schema).

    A registry offers no lock, so this is read, write, read again, until our entry is in. Two signers that
    write at the same instant can still lose one entry after both have looked; publishing again enters it
    again. In a layout the lock of `Registry.exclusive` closes that gap.

    Raises:
        NetworkError: our entry does not stay, or the tag holds something else.
    """
    tag = fallback_tag(subject_digest)
    document = json.loads(body)
    entry = oci.manifest_descriptor(body) | {"annotations": document["annotations"]}
    with registry.exclusive():
        for _ in range(_ATTEMPTS):
            entries = listed(registry, subject_digest)
            if any(other.get("digest") == entry["digest"] for other in entries):
                return
            # Ours first: devices look at a bounded number of entries. What none of them reads any more is left out,
            # or an artifact that is signed again and again would get a list that is longer than they accept.
            updated = oci.index([entry, *entries][:MAX_LISTED_REFERRERS])
            registry.put_manifest(tag, updated, OCI_INDEX)
            if registry.get_manifest(tag) == updated:
                return
    raise NetworkError(
        f"{registry.address(tag)} keeps losing our entry; somebody else is signing the same artifact",
        hint="run the same command again when they are done",
    )


def listed(registry: Registry, subject_digest: str) -> list[oci.Descriptor]:
    """Return the entries of the fallback tag of `subject_digest`, none when there is no such tag.

    Raises:
        NetworkError: unreachable, or the tag holds something that is not an index.
    """
    tag = fallback_tag(subject_digest)
    current = registry.get_manifest(tag)
    if current is None:
        return []
    try:
        entries = json.loads(current)["manifests"]
        return [entry for entry in entries if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError) as error:
        raise NetworkError(f"{registry.address(tag)} is not a list of referrers") from error
