"""A source that knows what it has given: requests and content bytes, for reports and for links that cost money.

>>> metered = Metered(source)                       # doctest: +SKIP
>>> metered.manifest("tuf", "timestamp.json")       # doctest: +SKIP
>>> metered.traffic()                               # doctest: +SKIP
{'requests': 1, 'bytes_received': 412}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from edgewright_agent.contract import MAX_MANIFEST_BYTES
from edgewright_agent.transport import Manifest, Source


class Metered:
    """Counts around any source. Headers, logins and redirects are not content."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._requests = 0
        self._bytes = 0

    def traffic(self) -> dict[str, int]:
        """Return `requests` and `bytes_received` since the source was opened."""
        return {"requests": self._requests, "bytes_received": self._bytes}

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """As `Source.manifest`."""
        self._requests += 1
        found = self._source.manifest(repository, reference, limit=limit, etag=etag)
        self._bytes += len(found.body) if found else 0
        return found

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """As `Source.blob`."""
        self._requests += 1
        for chunk in self._source.blob(repository, digest, size=size, offset=offset):
            self._bytes += len(chunk)
            yield chunk

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """As `Source.referrers`; its answer is not counted in bytes."""
        self._requests += 1
        return self._source.referrers(repository, digest)

    def close(self) -> None:
        """As `Source.close`."""
        self._source.close()
