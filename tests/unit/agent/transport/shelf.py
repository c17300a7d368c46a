"""OCI content made by hand: written as layouts, packed as a bundle file, pushed to a real registry.

>>> shelf = Shelf(tmp_path / "release")                         # doctest: +SKIP
>>> digest = shelf.artifact("digit-reader", [b"weights"], tag="1.0.0")   # doctest: +SKIP
>>> shelf.push(registry.url)                                    # doctest: +SKIP
"""

from __future__ import annotations

import http.client
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgewright_agent.contract import (
    ANNOTATION_REF_NAME,
    OCI_EMPTY,
    OCI_EMPTY_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    SIGSTORE_BUNDLE,
    digest_of,
    fallback_tag,
)


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data), **more}


class Shelf:
    """A directory of OCI layouts, one per repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)

    def blob(self, repository: str, data: bytes) -> str:
        folder = self.root / repository / "blobs" / "sha256"
        folder.mkdir(parents=True, exist_ok=True)
        digest = digest_of(data)
        (folder / digest.removeprefix("sha256:")).write_bytes(data)
        return digest

    def blob_path(self, repository: str, digest: str) -> Path:
        return self.root / repository / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def index(self, repository: str) -> dict[str, Any]:
        path = self.root / repository / "index.json"
        if path.exists():
            return json.loads(path.read_bytes())
        return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}

    def write_index(self, repository: str, index: dict[str, Any]) -> None:
        (self.root / repository / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        (self.root / repository / "index.json").write_text(json.dumps(index))

    def manifest(self, repository: str, document: dict[str, Any], *, tag: str | None = None) -> str:
        body = json.dumps(document).encode()
        digest = self.blob(repository, body)
        index = self.index(repository)
        kept = [
            entry
            for entry in index["manifests"]
            if tag is None or entry.get("annotations", {}).get(ANNOTATION_REF_NAME) != tag
        ]
        entry = descriptor(document["mediaType"], body)
        if tag is not None:
            entry["annotations"] = {ANNOTATION_REF_NAME: tag}
        self.write_index(repository, {**index, "manifests": [*kept, entry]})
        return digest

    def artifact(
        self, repository: str, layers: Sequence[bytes], *, tag: str | None = None, **more: Any
    ) -> str:
        media_type = more.pop("layer_type", "application/octet-stream")
        for layer in (OCI_EMPTY_BYTES, *layers):
            self.blob(repository, layer)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_EMPTY, OCI_EMPTY_BYTES),
            "layers": [descriptor(media_type, layer) for layer in layers],
            **more,
        }
        return self.manifest(repository, document, tag=tag)

    def body(self, repository: str, digest: str) -> bytes:
        return self.blob_path(repository, digest).read_bytes()

    def refer(self, repository: str, subject: str, bundle: bytes, **more: Any) -> str:
        """Attach a signature bundle to `subject`; `list_referrers` makes it findable by tag."""
        body = self.body(repository, subject)
        return self.artifact(
            repository,
            [bundle],
            layer_type=SIGSTORE_BUNDLE,
            artifactType=SIGSTORE_BUNDLE,
            subject=descriptor(OCI_MANIFEST, body),
            **more,
        )

    def list_referrers(
        self, repository: str, subject: str, referrers: Sequence[str], *, annotated: bool = False
    ) -> None:
        """Write the fallback tag (OCI distribution-spec 1.1, Referrers Tag Schema), as registries do if `annotated`."""
        entries = []
        for digest in referrers:
            body = self.body(repository, digest)
            notes = json.loads(body).get("annotations")
            more = {"annotations": notes} if annotated and notes else {}
            entries.append(descriptor(OCI_MANIFEST, body, **more))
        self.manifest(
            repository,
            {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries},
            tag=fallback_tag(subject),
        )

    def bundle(self, path: Path) -> Path:
        with tarfile.open(path, "w") as tar:
            for file in sorted(self.root.rglob("*")):
                tar.add(file, str(file.relative_to(self.root)), recursive=False)
        return path

    def push(self, url: str, *, authorization: str | None = None) -> None:
        """Copy everything to an empty registry: blobs, manifests without references, indexes, tags."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
        prefix = parts.path.strip("/")

        def send(method: str, path: str, body: bytes = b"", **headers: str) -> str:
            if authorization:
                headers["Authorization"] = authorization
            connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status in (201, 202), (answer.status, path, text)
            return answer.headers.get("Location", "")

        for index_path in sorted(self.root.rglob("index.json")):
            repository = str(index_path.parent.relative_to(self.root))
            base = f"/v2/{prefix}/{repository}" if prefix else f"/v2/{repository}"
            for file in (index_path.parent / "blobs/sha256").iterdir():
                location = send("POST", f"{base}/blobs/uploads/")
                target = urlsplit(location)
                send(
                    "PUT",
                    f"{target.path}?{target.query}&digest=sha256:{file.name}",
                    file.read_bytes(),
                    Content_Type="application/octet-stream",
                )
            entries = self.index(repository)["manifests"]
            entries.sort(key=lambda entry: entry["mediaType"] == OCI_INDEX)
            for entry in entries:
                tag = entry.get("annotations", {}).get(ANNOTATION_REF_NAME)
                for reference in [entry["digest"], *([tag] if tag else [])]:
                    send(
                        "PUT",
                        f"{base}/manifests/{reference}",
                        self.body(repository, entry["digest"]),
                        Content_Type=entry["mediaType"],
                    )
        connection.close()
