"""What is attached to an artifact, as far as devices look at it: the Sigstore bundles that refer to it.

>>> [one.digest for one in attached(registry, "sha256:…", wanted={PREDICATE_SIGN})]      # doctest: +SKIP
['sha256:…', 'sha256:…']

Anybody who may push can enter something into the list, so it is read as devices read it
(`edgewright_agent.trust.referrers`): those that claim an attestation that is demanded come first, and what is no
Sigstore bundle is passed over. A device finds in a bundle file whatever it would have found in the registry.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from edgewright.errors import ContentError
from edgewright.publish import oci
from edgewright.publish.referrer import referrers
from edgewright.publish.registry import Registry
from edgewright_agent.contract import (
    ANNOTATION_BUNDLE_PREDICATE,
    ATTESTATIONS,
    MAX_BUNDLE_BYTES,
    MAX_MANIFEST_BYTES,
    MAX_REFERRERS,
    OCI_EMPTY,
    OCI_MANIFEST,
    SIGSTORE_BUNDLE,
    digest_of,
    is_digest,
)


@dataclass(frozen=True)
class Attached:
    """One referrer that carries a Sigstore bundle.

    Attributes:
        manifest: Bytes of its manifest.
        entry: How a list of referrers names it.
        blobs: Digest → bytes of what the manifest names, at most `MAX_BUNDLE_BYTES` each.
    """

    manifest: bytes
    entry: oci.Descriptor
    blobs: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """Digest of the manifest."""
        return digest_of(self.manifest)


def attached(registry: Registry, subject: str, *, wanted: Collection[str]) -> list[Attached]:
    """Return at most `MAX_REFERRERS` Sigstore bundles that refer to an artifact, in the order devices look at them.

    Args:
        registry: Its repository.
        subject: Digest of its manifest.
        wanted: Predicate types that devices demand of it.

    Raises:
        NetworkError: unreachable, or the list of referrers makes no sense.
        EnvironmentFault: a layout cannot be read.
    """
    return list(islice(_fitting(registry, subject, wanted), MAX_REFERRERS))


def _fitting(registry: Registry, subject: str, wanted: Collection[str]) -> Iterator[Attached]:
    seen = set()
    # What does not fit takes no place here, though it does where devices read the registry: they find as much or more.
    for entry in sorted(referrers(registry, subject), key=lambda entry: _promise(entry, wanted)):
        digest = entry.get("digest")
        if not is_digest(digest) or digest in seen:
            continue
        seen.add(digest)
        if (found := _read(registry, str(digest), subject)) is not None:
            yield found


def _promise(entry: Mapping[str, Any], wanted: Collection[str]) -> int:
    """Return how late devices look (`edgewright_agent.trust.referrers`): by what an entry claims to be."""
    claimed = _claimed(entry)
    if claimed is not None:
        return 0 if isinstance(claimed, str) and claimed in wanted else 2
    return 1 if entry.get("artifactType") in (None, SIGSTORE_BUNDLE, OCI_EMPTY) else 2


def _claimed(document: Mapping[str, Any]) -> object:
    notes = document.get("annotations")
    return notes.get(ANNOTATION_BUNDLE_PREDICATE) if isinstance(notes, dict) else None


def _read(registry: Registry, digest: str, subject: str) -> Attached | None:
    """Return a referrer, or None when devices would pass it over."""
    try:
        body = registry.get_manifest(digest)
    except ContentError:
        return None  # a registry that is away is another error, or signatures would be missing without a word
    if body is None or len(body) > MAX_MANIFEST_BYTES:
        return None
    try:
        document = json.loads(body)
        layers = document["layers"]
        fits = (
            document.get("mediaType", OCI_MANIFEST) == OCI_MANIFEST
            and document["subject"]["digest"] == subject
            and len(layers) == 1
            and layers[0]["mediaType"] == SIGSTORE_BUNDLE
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    bundle = _small_blob(registry, layers[0]) if fits else None
    if bundle is None:
        return None
    blobs = {layers[0]["digest"]: bundle}
    # Devices read no config; it is there for whoever copies the layout with another tool.
    config = document.get("config")
    if (settings := _small_blob(registry, config)) is not None:
        blobs[config["digest"]] = settings
    return Attached(body, _entry(body, document), blobs)


def _small_blob(registry: Registry, part: Any) -> bytes | None:
    """Return what a descriptor names; None when it names nothing that devices would read."""
    if not isinstance(part, dict) or not is_digest(part.get("digest")):
        return None
    size = part.get("size")
    if type(size) is not int or not 0 <= size <= MAX_BUNDLE_BYTES:
        return None
    try:
        body = registry.get_blob(str(part["digest"]), limit=size)
    except ContentError:
        return None
    return body if body is not None and len(body) == size else None


def _entry(body: bytes, document: Mapping[str, Any]) -> oci.Descriptor:
    """Describe a referrer in our own words: a stranger's could be more than a device reads of the whole list."""
    kind, claimed = document.get("artifactType"), _claimed(document)
    return oci.descriptor(
        OCI_MANIFEST,
        body,
        artifact_type=str(kind) if kind in (SIGSTORE_BUNDLE, OCI_EMPTY) else None,
        annotations={ANNOTATION_BUNDLE_PREDICATE: str(claimed)} if claimed in ATTESTATIONS.values() else None,
    )
