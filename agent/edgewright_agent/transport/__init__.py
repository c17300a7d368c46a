"""Where bytes come from: a registry over HTTP, OCI layouts in a directory, or a bundle file, behind one interface.

A source is untrusted. It bounds what it reads and checks content against digests; whether content may be
*used* is decided in `edgewright_agent.trust`.

>>> source = open_source("https://registry.example/acme")     # doctest: +SKIP
>>> source.manifest("tuf", "timestamp.json", etag=last_seen)  # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from edgewright_agent.contract import MAX_MANIFEST_BYTES


@dataclass(frozen=True)
class Manifest:
    """A manifest as stored: its digest is computed from `body`, never taken from a header.

    `etag` is what to send next time; None where the source has no such notion.
    """

    digest: str
    media_type: str
    body: bytes
    etag: str | None


class Source(Protocol):
    """One place that holds repositories of manifests and blobs (OCI distribution-spec 1.1, pull side)."""

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """Return a manifest by tag or digest, or None when it still has `etag` (HTTP 304).

        Raises:
            TransportError: not found (`not-found`), too large (`too-large`), a digest reference whose bytes
                hash to something else (`digest-mismatch`), or unreachable (`network`).
        """

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """Yield the bytes of a blob from `offset` to `size` exactly, in chunks; never more than that.

        The caller hashes (it may have the first `offset` bytes on disk already).

        Raises:
            TransportError: as for `manifest`, or `truncated` when the source ends early.
        """

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """Return descriptors of manifests whose subject is `digest`, at most `MAX_REFERRERS`.

        Asks the referrers API, then the fallback tag. Never filters on artifactType (signers disagree on it).
        An empty list when there are none.
        """
