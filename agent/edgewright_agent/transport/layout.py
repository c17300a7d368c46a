"""OCI image layouts in a directory: DIR/<repository>/{oci-layout,index.json,blobs/sha256/…} (image-spec 1.1).

The directory may be a USB stick prepared by anybody: names are checked before they become paths, symbolic
links and devices inside it are never followed or opened.

>>> source = open_layout("/media/usb/release")                    # doctest: +SKIP
>>> source.manifest("tuf", "timestamp.json").etag                 # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Any, Protocol

from edgewright_agent.contract import (
    ANNOTATION_REF_NAME,
    MAX_LISTED_REFERRERS,
    MAX_MANIFEST_BYTES,
    fallback_tag,
    is_digest,
)
from edgewright_agent.errors import TransportError
from edgewright_agent.transport import Manifest, check_reference, check_repository
from edgewright_agent.transport.document import (
    check_body,
    descriptors,
    in_chunks,
    media_type_of,
    parse_manifest,
    referrer_list,
)

_MAX_INDEX_BYTES = 4 * 1024 * 1024
_MAX_INDEX_ENTRIES = 16_384  # what fits into the bytes above
_MAX_SCANNED = 512  # manifests opened in search of a subject, when there is no fallback tag


class Files(Protocol):
    """Named byte strings, read in place."""

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return `size` bytes of `name` from `offset`, fewer at its end.

        Args:
            name: Relative path with forward slashes, already checked.

        Raises:
            TransportError: `not-found`, `denied`, `network` (the medium fails), `bad-response` (not a file).
        """

    def close(self) -> None:
        """Let go of whatever is open."""


class LayoutSource:
    """A `Source` over OCI image layouts, wherever their files are; an ETag is the manifest's digest."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """See `Source.manifest`."""
        check_repository(repository)
        check_reference(reference)
        digest = reference if is_digest(reference) else self._resolve(repository, reference)
        if etag == digest:
            return None
        body = self._files.read(_blob_name(repository, digest), 0, limit + 1)
        if len(body) > limit:
            raise TransportError("too-large", f"{repository}:{reference} has more than {limit} bytes")
        check_body(body, repository, digest)
        media_type = media_type_of(parse_manifest(body, f"{repository}:{reference}"))
        return Manifest(digest, media_type, body, digest)

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """See `Source.blob`."""
        check_repository(repository)
        check_reference(digest)
        name = _blob_name(repository, digest)
        for count in in_chunks(size - offset):
            chunk = self._files.read(name, offset, count)
            if len(chunk) < count:
                raise TransportError("truncated", f"{repository}@{digest} is shorter than {size} bytes")
            offset += count
            yield chunk

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """See `Source.referrers`; without a fallback tag the manifests of the index are searched."""
        check_repository(repository)
        check_reference(digest)
        tag = fallback_tag(digest)
        if any(_tag_of(entry) == tag for entry in self._index(repository)):
            listed = self.manifest(repository, tag)
            return referrer_list(listed.body, f"{repository}:{tag}") if listed is not None else []
        return self._search(repository, digest)

    def close(self) -> None:
        """Close what is open."""
        self._files.close()

    def _index(self, repository: str) -> list[dict[str, Any]]:
        name = f"{repository}/index.json"
        body = self._files.read(name, 0, _MAX_INDEX_BYTES + 1)
        if len(body) > _MAX_INDEX_BYTES:
            raise TransportError("too-large", f"{name} has more than {_MAX_INDEX_BYTES} bytes")
        return descriptors(parse_manifest(body, name).get("manifests"), name, limit=_MAX_INDEX_ENTRIES)

    def _resolve(self, repository: str, tag: str) -> str:
        found = {str(entry["digest"]) for entry in self._index(repository) if _tag_of(entry) == tag}
        if not found:
            raise TransportError("not-found", f"{repository} has no tag {tag}")
        if len(found) > 1:
            raise TransportError(
                "bad-response", f"{repository}/index.json gives tag {tag} to {len(found)} manifests"
            )
        return found.pop()

    def _search(self, repository: str, digest: str) -> list[dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for entry in self._index(repository)[:_MAX_SCANNED]:
            try:
                manifest = self.manifest(repository, str(entry["digest"]))
            except TransportError:
                continue  # what cannot be read refers to nothing; another manifest may well be fine
            subject = (
                parse_manifest(manifest.body, repository).get("subject") if manifest is not None else None
            )
            if isinstance(subject, dict) and subject.get("digest") == digest:
                found[str(entry["digest"])] = entry
        return list(found.values())[:MAX_LISTED_REFERRERS]


class DirectoryFiles:
    """Files below a directory, opened step by step without following any symbolic link."""

    def __init__(self, root: str) -> None:
        self._root = root

    def read(self, name: str, offset: int, size: int) -> bytes:
        """See `Files.read`."""
        steps = name.split("/")
        try:
            # The directory itself is the operator's word and may be a link; what is in it is a stranger's.
            held = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            for step in steps[:-1]:
                held = _swap(held, step, os.O_DIRECTORY)
            # O_NONBLOCK: opening a FIFO would wait for a writer for ever.
            held = _swap(held, steps[-1], os.O_NONBLOCK)
            try:
                require_file(held, f"{name} in {self._root}")
                return read_at(held, offset, size)
            finally:
                os.close(held)
        except OSError as error:
            raise failure(error, f"{name} in {self._root}") from error

    def close(self) -> None:
        """Nothing stays open between reads."""


def open_layout(directory: str) -> LayoutSource:
    """Open a directory of OCI layouts; it need not be there before the first read."""
    return LayoutSource(DirectoryFiles(directory))


def require_file(descriptor: int, what: str) -> None:
    """Refuse an open descriptor that is no regular file.

    Raises:
        TransportError: `bad-response`.
    """
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise TransportError("bad-response", f"{what} is not a regular file")


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Return `size` bytes of an open file from `offset`, fewer only at its end."""
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


def failure(error: OSError, what: str) -> TransportError:
    """Turn an operating system error into ours, saying what could not be read."""
    if error.errno == errno.ENOENT:
        return TransportError("not-found", f"{what} does not exist")
    if error.errno in (errno.EACCES, errno.EPERM):
        return TransportError("denied", f"{what} may not be read by this user")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
        return TransportError(
            "bad-response", f"{what} is a link or not what it should be; links are not followed"
        )
    return TransportError("network", f"{what} cannot be read: {error.strerror}")


def _swap(parent: int, step: str, flags: int) -> int:
    try:
        return os.open(step, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    finally:
        os.close(parent)


def _blob_name(repository: str, digest: str) -> str:
    return f"{repository}/blobs/sha256/{digest.removeprefix('sha256:')}"


def _tag_of(entry: dict[str, Any]) -> object:
    annotations = entry.get("annotations")
    return annotations.get(ANNOTATION_REF_NAME) if isinstance(annotations, dict) else None
