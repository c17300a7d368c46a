"""An OCI image layout in a directory as a registry: what embedded teams copy to a web server or a USB stick.

>>> layout = LayoutRegistry(Path("out/digit-reader"), "oci:out/digit-reader")
>>> layout.put_blob(digest_of(b"x"), b"x")     # doctest: +SKIP
True
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgewright.errors import ContentError, EnvironmentFault
from edgewright.publish import oci
from edgewright.publish.durable import locked, storage, write_file
from edgewright.publish.registry import MAX_TAGS
from edgewright_agent.contract import ANNOTATION_REF_NAME, OCI_INDEX, canonical_json, digest_of, is_digest

LAYOUT_FILE = "oci-layout"
LAYOUT_BYTES = b'{"imageLayoutVersion":"1.0.0"}'
_READ_BYTES = 1 << 20


class LayoutRegistry:
    """One repository as an OCI image layout (image-spec 1.1, image-layout.md).

    `index.json` lists every manifest: pushed by digest, without a name; pushed by tag, under
    `org.opencontainers.image.ref.name`. Both kinds of entry may name the same digest. Every file appears by
    rename, so a reader never sees half of one; `index.json` changes under a lock.
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self._url = url
        self._held = False

    def address(self, reference: str) -> str:
        """Return `oci:DIR/repository` with the tag or digest."""
        return f"{self._url}{'@' if is_digest(reference) else ':'}{reference}"

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is there."""
        return self._blob(digest).is_file()

    def put_blob(self, digest: str, content: bytes | Path) -> bool:
        """Store a blob, hashing what is written.

        Raises:
            EnvironmentFault: no space, not writable, or `content` is not what `digest` says.
        """
        if self.has_blob(digest):
            return False
        self._ensure()
        write_file(self._blob(digest), _checked(content, digest))
        return True

    def get_blob(self, digest: str, *, limit: int) -> bytes | None:
        """Return a small blob, checked against its digest.

        Raises:
            EnvironmentFault: too large, damaged or unreadable.
        """
        path = self._blob(digest)
        with storage("read", path):
            if not path.is_file():
                return None
            with path.open("rb") as file:
                body = file.read(limit + 1)
        if len(body) > limit:
            raise ContentError(f"{path} is larger than {limit} bytes")
        if digest_of(body) != digest:
            raise ContentError(f"{path} is damaged: its bytes hash to something else", hint=f"rm {path}")
        return body

    def save_blob(self, digest: str, path: Path, *, limit: int) -> bool:
        """Copy a blob to a file, checked against its digest.

        Raises:
            EnvironmentFault: too large, damaged, unreadable, or the file cannot be written.
        """
        blob = self._blob(digest)
        if not self.has_blob(digest):
            return False
        with storage("read", blob):
            if blob.stat().st_size > limit:
                raise ContentError(f"{blob} is larger than {limit} bytes")
        with storage("write", path):
            shutil.copyfile(blob, path)
        if oci.hash_file(path)[0] != digest:
            path.unlink()
            raise ContentError(f"{blob} is damaged: its bytes hash to something else", hint=f"rm {blob}")
        return True

    def put_manifest(self, reference: str, body: bytes, media_type: str) -> bool:
        """Store a manifest and list it; always returns False (a layout keeps no referrers list).

        Raises:
            EnvironmentFault: a blob it names is absent, no space, or not writable.
        """
        digest = digest_of(body)
        document = json.loads(body)
        parts = [*document.get("layers", ()), *([document["config"]] if "config" in document else ())]
        for part in [*parts, *document.get("manifests", ())]:
            if not self.has_blob(part["digest"]):
                raise EnvironmentFault(f"{self._url}: {reference} names {part['digest']}, which is not there")
        if is_digest(reference) and reference != digest:
            raise EnvironmentFault(f"{self._url}: the manifest hashes to {digest}, not to {reference}")
        self.put_blob(digest, body)
        tag = None if is_digest(reference) else reference
        entry = oci.manifest_descriptor(body) | {"mediaType": media_type}
        if tag is not None:
            entry["annotations"] = {ANNOTATION_REF_NAME: tag}
        with self.exclusive():
            entries = self._entries()
            updated = sorted(
                (*(old for old in entries if not _same_place(old, tag, digest)), entry), key=_order
            )
            if updated != entries:
                document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": updated}
                write_file(self.folder / "index.json", canonical_json(document))
        return False

    def get_manifest(self, reference: str) -> bytes | None:
        """Return a manifest by tag or digest, None when it is not listed.

        Raises:
            EnvironmentFault: `index.json` or the manifest is damaged or unreadable.
        """
        for entry in self._entries():
            name = entry.get("annotations", {}).get(ANNOTATION_REF_NAME)
            if reference in (name, entry["digest"]):
                return self.get_blob(entry["digest"], limit=int(entry["size"]))
        return None

    def own_referrers(self, digest: str) -> None:  # noqa: ARG002
        """Return None: the fallback tag is a layout's list."""

    def tags(self, prefix: str) -> list[str]:
        """Return the tags in the index that begin with `prefix`.

        Raises:
            EnvironmentFault: `index.json` is damaged or unreadable.
        """
        names = (entry.get("annotations", {}).get(ANNOTATION_REF_NAME) or "" for entry in self._entries())
        return [name for name in names if name.startswith(prefix)][:MAX_TAGS]

    @contextmanager
    def exclusive(self) -> Iterator[bool]:
        """Hold the layout's lock; may be nested."""
        if self._held:
            yield True
            return
        self._ensure()
        with locked(self.folder / ".lock"):
            self._held = True
            try:
                yield True
            finally:
                self._held = False

    def _blob(self, digest: str) -> Path:
        return self.folder / "blobs" / "sha256" / digest.removeprefix("sha256:")

    def _ensure(self) -> None:
        if not (self.folder / LAYOUT_FILE).is_file():
            write_file(self.folder / LAYOUT_FILE, LAYOUT_BYTES)

    def _entries(self) -> list[dict[str, Any]]:
        path = self.folder / "index.json"
        try:
            with storage("read", path):
                entries: list[dict[str, Any]] = json.loads(path.read_bytes())["manifests"]
                return entries
        except EnvironmentFault as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return []
            raise
        except (ValueError, KeyError, TypeError) as error:
            raise EnvironmentFault(f"{path} is not the index of an OCI image layout") from error


def _order(entry: dict[str, Any]) -> tuple[str, str]:
    # Sorted, so that the same content gives the same file whatever order it was pushed in.
    return entry.get("annotations", {}).get(ANNOTATION_REF_NAME, ""), entry["digest"]


def _same_place(entry: dict[str, Any], tag: str | None, digest: str) -> bool:
    name = entry.get("annotations", {}).get(ANNOTATION_REF_NAME)
    return bool(name == tag) if tag is not None else name is None and entry["digest"] == digest


def _checked(content: bytes | Path, digest: str) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    if isinstance(content, bytes):
        hasher.update(content)
        yield content
    else:
        with content.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                hasher.update(piece)
                yield piece
    if "sha256:" + hasher.hexdigest() != digest:
        source = content if isinstance(content, Path) else "the content"
        raise EnvironmentFault(f"{source} no longer hashes to {digest}", hint="edgewright run")
