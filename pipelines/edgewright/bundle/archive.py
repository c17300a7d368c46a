"""OCI layouts of several repositories as one uncompressed tar: the same content gives the same file.

>>> layouts = Layouts()
>>> layouts.add_blob("digit-reader", "sha256:…", 3, lambda: [b"abc"])       # doctest: +SKIP
>>> layouts.add_manifest("digit-reader", body, tag=None)                   # doctest: +SKIP
>>> write(layouts, Path("line-1.tar"))                                     # doctest: +SKIP

Devices read the file where it lies and never extract it (`edgewright_agent.transport.bundle`), so it is not compressed:
weights hardly shrink, and what does shrink can be compressed in its own layer (`registry.compression`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from edgewright.errors import BuildError
from edgewright.publish import oci
from edgewright.publish.durable import write_file
from edgewright.publish.layer import BLOCK_BYTES, header
from edgewright.publish.layout_registry import LAYOUT_BYTES, LAYOUT_FILE
from edgewright_agent.contract import ANNOTATION_REF_NAME, OCI_INDEX, canonical_json, digest_of

Read = Callable[[], Iterable[bytes]]


@dataclass(frozen=True)
class Blob:
    """Bytes that are read when their turn comes: a model need not be in memory, nor all of them at once."""

    digest: str
    size: int
    read: Read


@dataclass
class Layouts:
    """What goes into the file.

    Attributes:
        blobs: Member's name → its bytes.
        manifests: Repository → entries of its index.
    """

    blobs: dict[str, Blob] = field(default_factory=dict)
    manifests: dict[str, list[oci.Descriptor]] = field(default_factory=dict)

    def add_blob(self, repository: str, digest: str, size: int, read: Read) -> None:
        """Add a blob; one that is there already is not added twice."""
        name = f"{repository}/blobs/sha256/{digest.removeprefix('sha256:')}"
        self.blobs.setdefault(name, Blob(digest, size, read))

    def add_manifest(
        self, repository: str, body: bytes, *, tag: str | None = None, entry: oci.Descriptor | None = None
    ) -> str:
        """Add a manifest, under a tag or by its digest alone; return that digest.

        Args:
            repository: Where.
            body: Its bytes.
            tag: What it is found by besides its digest.
            entry: How the index describes it; by default as it does itself.
        """
        digest = digest_of(body)
        self.add_blob(repository, digest, len(body), lambda: [body])
        entry = dict(entry or oci.manifest_descriptor(body))
        if tag is not None:
            entry["annotations"] = {ANNOTATION_REF_NAME: tag}
        entries = self.manifests.setdefault(repository, [])
        if entry not in entries:
            entries.append(entry)
        return digest

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs.values())


def write(
    layouts: Layouts, path: Path, *, progress: Callable[[int, str], None] = lambda _n, _name: None
) -> int:
    """Write the file, whole or not at all; return its size in bytes.

    Args:
        layouts: What goes into it.
        path: Where; what is there is replaced.
        progress: Called with the bytes of blobs written so far, and the name of what comes next.

    Raises:
        BuildError: what was read is not what its digest says.
        EnvironmentFault: no space, or not writable.
    """
    written = 0

    def counted() -> Iterator[bytes]:
        nonlocal written
        for piece in _pieces(layouts, progress):
            written += len(piece)
            yield piece

    write_file(path, counted())
    return written


def _pieces(layouts: Layouts, progress: Callable[[int, str], None]) -> Iterator[bytes]:
    small = {
        name: body
        for repository, entries in layouts.manifests.items()
        for name, body in (
            (f"{repository}/{LAYOUT_FILE}", LAYOUT_BYTES),
            (f"{repository}/index.json", _index(entries)),
        )
    }
    done = 0
    # A device indexes the whole file before it reads anything of it, so the order is only for people.
    for name in sorted({*small, *layouts.blobs}):
        blob = layouts.blobs.get(name)
        size = blob.size if blob else len(small[name])
        progress(done, name)
        yield header(name, size)
        yield from _checked(blob, name) if blob else [small[name]]
        yield bytes(-size % BLOCK_BYTES)
        done += size if blob else 0
    progress(done, "")
    yield bytes(2 * BLOCK_BYTES)


def _index(entries: list[oci.Descriptor]) -> bytes:
    def order(entry: oci.Descriptor) -> tuple[str, str]:
        return entry.get("annotations", {}).get(ANNOTATION_REF_NAME, ""), str(entry["digest"])

    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": sorted(entries, key=order)}
    return canonical_json(document)


def _checked(blob: Blob, name: str) -> Iterator[bytes]:
    hasher, size = hashlib.sha256(), 0
    for piece in blob.read():
        hasher.update(piece)
        size += len(piece)
        yield piece
    if (size, f"sha256:{hasher.hexdigest()}") != (blob.size, blob.digest):
        raise BuildError(
            f"{name} is not what its digest says", hint="edgewright run --republish, then this again"
        )
