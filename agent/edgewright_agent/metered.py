"""A source that knows what it has given: requests and content bytes, for reports and for links that cost money.

>>> traffic = Traffic()
>>> metered = Metered(source, traffic)              # doctest: +SKIP
>>> metered.manifest("tuf", "timestamp.json")       # doctest: +SKIP
>>> traffic.document()
{'requests': 0, 'bytes_received': 0}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgewright_agent.contract import MAX_MANIFEST_BYTES
from edgewright_agent.transport import Manifest, Source


@dataclass
class Traffic:
    """What has been asked of one or more sources, and how many bytes of content came."""

    requests: int = 0
    bytes_received: int = 0

    def document(self) -> dict[str, int]:
        """Return it as reports carry it."""
        return {"requests": self.requests, "bytes_received": self.bytes_received}


class Metered:
    """Counts around any source. Headers, logins and redirects are not content."""

    def __init__(self, source: Source, traffic: Traffic) -> None:
        self._source = source
        self._traffic = traffic

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """As `Source.manifest`."""
        self._traffic.requests += 1
        found = self._source.manifest(repository, reference, limit=limit, etag=etag)
        self._traffic.bytes_received += len(found.body) if found else 0
        return found

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """As `Source.blob`."""
        self._traffic.requests += 1
        for chunk in self._source.blob(repository, digest, size=size, offset=offset):
            self._traffic.bytes_received += len(chunk)
            yield chunk

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """As `Source.referrers`; its answer is not counted in bytes."""
        self._traffic.requests += 1
        return self._source.referrers(repository, digest)

    def close(self) -> None:
        """As `Source.close`."""
        self._source.close()
