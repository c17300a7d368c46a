"""Signatures as referrers: manifests that point at what they sign, findable by everyone who has its digest.

>>> attach(registry, subject=manifest_descriptor(body), bundle=bundle)      # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

import json
from collections.abc import Sequence, Set

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

    A registry offers no lock, so two signers who write at the same instant could lose an entry after both have
    looked. Therefore each first claims its place by a tag of its own (`claim_tag`), and whoever writes the list reads
    it again with all claims, until nothing claimed is missing: the last to write sees every claim made before its
    last look, and who claims later looks later. In a layout the lock of `Registry.exclusive` does it.

    Raises:
        NetworkError: entries do not stay, or the tag holds something else.
    """
    tag, own = fallback_tag(subject_digest), _entry(body)
    with registry.exclusive() as alone:
        if not alone:
            claim = claim_tag(subject_digest, own["digest"])
            if registry.get_manifest(claim) != body:
                registry.put_manifest(claim, body, OCI_MANIFEST)
        for _ in range(_ATTEMPTS):
            entries = listed(registry, subject_digest)
            there = {entry.get("digest") for entry in entries}
            # Of a full list, what others claim may have been left out on purpose.
            whole = alone or len(entries) >= MAX_LISTED_REFERRERS
            wanted = [own] if whole else [own, *_claimed(registry, subject_digest, {*there, own["digest"]})]
            missing = [entry for entry in wanted if entry["digest"] not in there]
            if not missing:
                return
            # Ours first: devices look at a bounded number of entries. What none of them reads any more is left out,
            # or an artifact that is signed again and again would get a list that is longer than they accept.
            updated = oci.index([*missing, *entries][:MAX_LISTED_REFERRERS])
            registry.put_manifest(tag, updated, OCI_INDEX)
    raise NetworkError(
        f"{registry.address(tag)} keeps losing our entry; somebody else is signing the same artifact",
        hint="run the same command again when they are done",
    )


def require_listed(registry: Registry, *, subject: oci.Descriptor, bundles: Sequence[bytes]) -> None:
    """Check at the end of a push that all that was attached can be found, and enter again what somebody removed.

    Signers that know no claims (cosign, oras) read and write the list without looking again.

    Raises:
        NetworkError: an entry does not stay.
    """
    digest = str(subject["digest"])
    for body in (referrer_manifest(subject, bundle) for bundle in reversed(bundles)):
        for _ in range(_ATTEMPTS):
            if any(entry.get("digest") == digest_of(body) for entry in referrers(registry, digest)):
                break
            list_referrer(registry, digest, body)
        else:
            raise NetworkError(
                f"{registry.address(digest)} does not list a signature that was attached to it",
                hint="run the same command again; look for somebody who signs the same artifact",
            )


def claim_tag(subject_digest: str, referrer_digest: str) -> str:
    """Return the tag by which a referrer claims its place in the fallback list of its subject.

    >>> claim_tag("sha256:" + "a" * 64, "sha256:" + "b" * 64)[-34:]
    'a.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'
    """
    return f"{fallback_tag(subject_digest)}.{referrer_digest.removeprefix('sha256:')[:32]}"


def referrers(registry: Registry, subject_digest: str) -> list[oci.Descriptor]:
    """Return at most `MAX_LISTED_REFERRERS` that refer to a manifest: the registry's own list, or the fallback tag's.

    Raises:
        NetworkError: unreachable, or the list makes no sense.
    """
    kept = registry.own_referrers(subject_digest)
    return listed(registry, subject_digest)[:MAX_LISTED_REFERRERS] if kept is None else kept


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
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise NetworkError(f"{registry.address(tag)} is not a list of referrers") from error


def _claimed(registry: Registry, subject_digest: str, known: Set[object]) -> list[oci.Descriptor]:
    """Return entries of all claims on a place in a subject's list but those whose digest is known to be in it."""
    prefix = fallback_tag(subject_digest) + "."
    digests = [str(digest).removeprefix("sha256:") for digest in known]
    found = []
    for tag in registry.tags(prefix):
        if any(digest.startswith(tag.removeprefix(prefix)) for digest in digests):
            continue
        body = registry.get_manifest(tag)
        if body is not None and tag == _own_claim(body, subject_digest):
            found.append(_entry(body))
    return found


def _own_claim(body: bytes, subject_digest: str) -> str | None:
    """Return the claim a manifest may make on a subject's list; None when it refers to something else."""
    try:
        names_it = json.loads(body)["subject"]["digest"] == subject_digest
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return claim_tag(subject_digest, digest_of(body)) if names_it else None


def _entry(body: bytes) -> oci.Descriptor:
    return oci.manifest_descriptor(body) | {"annotations": json.loads(body).get("annotations", {})}
