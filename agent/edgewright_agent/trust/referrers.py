"""The referrers of one artifact: which to look at, and the Sigstore bundles they carry.

The list comes from an untrusted registry and anybody who may push can enter something, so work is bounded: at most
`MAX_LISTED_REFERRERS` entries are read, and at most `MAX_REFERRERS` of them are fetched. Those that say they carry what
is asked for come first. What they say is a hint that only orders the work: a lie costs its author a place, it hides
nothing that an honest list would show within the bound, and it makes nothing believed.

>>> for digest, found in bundles_of(source, "digit-reader", "sha256:…", wanted={PREDICATE_SIGN}): ...  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from edgewright_agent.contract import (
    ANNOTATION_BUNDLE_PREDICATE,
    MAX_BUNDLE_BYTES,
    MAX_REFERRERS,
    OCI_EMPTY,
    SIGSTORE_BUNDLE,
)
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import Source
from edgewright_agent.transport.document import only_layer, parse_manifest, read_layer

# Failures that say nothing about one referrer but all about the way to the source: they end the search.
_OUTAGES = ("network", "busy", "too-slow", "captive-portal")


def bundles_of(
    source: Source, repository: str, digest: str, *, wanted: Collection[str]
) -> Iterator[tuple[str, bytes | TransportError]]:
    """Yield (digest of the referrer, its bundle or why it cannot be read), the most promising first.

    Args:
        source: Untrusted.
        repository: Where the artifact is.
        digest: Its manifest.
        wanted: Predicate types; referrers that claim one of them come first.

    Raises:
        TransportError: the source cannot be reached at all.
    """
    listed = source.referrers(repository, digest)
    # Stable: among equals the registry's order stays, in which a publisher's own entries lead.
    for entry in sorted(listed, key=lambda entry: _promise(entry, wanted))[:MAX_REFERRERS]:
        referrer = str(entry["digest"])
        try:
            bundle = _fetch(source, repository, referrer, digest)
        except TransportError as error:
            if error.code in _OUTAGES:
                raise
            yield referrer, error
            continue
        if bundle is not None:
            yield referrer, bundle


def _promise(entry: dict[str, Any], wanted: Collection[str]) -> int:
    """Return how late to look: 0 says it is wanted, 1 says nothing (cosign's own), 2 says it is something else."""
    notes = entry.get("annotations")
    claimed = notes.get(ANNOTATION_BUNDLE_PREDICATE) if isinstance(notes, dict) else None
    if claimed is not None:
        return 0 if isinstance(claimed, str) and claimed in wanted else 2
    return 1 if entry.get("artifactType") in (None, SIGSTORE_BUNDLE, OCI_EMPTY) else 2


def _fetch(source: Source, repository: str, referrer: str, subject: str) -> bytes | None:
    """Return the bundle a referrer carries, or None when it carries something else."""
    manifest = source.manifest(repository, referrer)
    if manifest is None:
        return None
    document = parse_manifest(manifest.body, f"referrer {referrer}")
    named = document.get("subject")
    if not isinstance(named, dict) or named.get("digest") != subject:
        return None  # listed by mistake or malice; its statement would be refused as well
    layers = document.get("layers")
    # artifactType says nothing: cosign's own entries carry that of an empty config. The layer decides.
    if not isinstance(layers, list) or not any(
        isinstance(layer, dict) and layer.get("mediaType") == SIGSTORE_BUNDLE for layer in layers
    ):
        return None
    return read_layer(
        source, repository, only_layer(manifest, f"referrer {referrer}"), limit=MAX_BUNDLE_BYTES
    )
