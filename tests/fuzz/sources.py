"""What targets read from: a source and a socket that give whatever bytes they are told to."""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator
from typing import Any

from edgewright_agent.contract import MAX_MANIFEST_BYTES, OCI_MANIFEST, canonical_json, digest_of
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import Manifest


class Files:
    """A source in memory whose every tag stands for one small file; as `Shelf` for `TufFleet`, too."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}

    def artifact(self, _repository: str, layers: list[bytes], *, tag: str, **_: Any) -> None:
        """Put a file under its tag."""
        self.bodies[tag] = layers[0]

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """See `Source.manifest`."""
        body = self.bodies.get(reference)
        if body is None:
            raise TransportError("not-found", f"{repository}:{reference}")
        self._blobs[digest_of(body)] = body
        layer = {"mediaType": "application/json", "digest": digest_of(body), "size": len(body)}
        made = canonical_json({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": [layer]})
        return Manifest(digest_of(made), OCI_MANIFEST, made, None)

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """See `Source.blob`."""
        yield self._blobs[digest][offset:size]

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """See `Source.referrers`."""
        return []

    def close(self) -> None:
        """Nothing is open."""


class OneAnswer(http.client.HTTPConnection):
    """A connection whose server says the same bytes to every request."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("registry.example")
        self._answer = answer

    def connect(self) -> None:
        """Be connected."""
        self.sock: Any = _Socket(self._answer)


class _Socket:
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, _mode: str, buffering: int = 0) -> io.BytesIO:
        return io.BytesIO(self._answer)

    def sendall(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass
