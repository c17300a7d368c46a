"""A compressed or encrypted layer becomes the file it carries: streamed, bounded by what was signed, hashed on the way.

>>> unpack(part, whole, layer, disk, reserve_bytes=64 << 20)   # doctest: +SKIP

A compressed layer is a gzip stream of a tar archive with one file in it (ModelPack `….tar+gzip`). Name, size and digest
of the file stand in the signed manifest, so nothing the archive says of itself is believed: it is refused when it
differs. An encrypted one goes from its ciphertext straight into the store: no other file ever holds its plaintext.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.artifact import Layer
from edgewright_agent.errors import StorageError, TrustError
from edgewright_agent.files import Appender, Disk, faults
from edgewright_agent.store import PRIVATE_FILE, SHARED_FILE

if TYPE_CHECKING:
    from edgewright_agent.decrypt import ContentKey

READ_BYTES = 64 * 1024
SYNC_BYTES = 8 * 1024 * 1024
BLOCK_BYTES = 512  # of a tar archive (POSIX.1-1988, ustar)
# What follows the file: the rest of its last block, two blocks that say the end, and, in a record of twenty, 19 more.
MAX_PADDING_BYTES = 22 * BLOCK_BYTES
_GZIP = 16 + zlib.MAX_WBITS
_REGULAR = (b"0", b"\0")


def unpack(
    part: Path,
    whole: Path,
    layer: Layer,
    disk: Disk,
    *,
    reserve_bytes: int,
    key: ContentKey | None = None,
) -> None:
    """Write the file that a downloaded layer carries, synced.

    Args:
        part: The layer's blob, hashed already.
        whole: Where the file goes; of an encrypted layer nobody else can read it before it is whole.
        layer: What the manifest says of it.
        disk: Where both are.
        reserve_bytes: What must stay free.
        key: What opens an encrypted layer.

    Raises:
        TrustError: `bad-manifest`, `digest-mismatch`: the blob is not what the signed manifest says it is; nothing is
            left of it.
        StorageError: as for every write; a file begun is removed when the disk is full.
    """
    try:
        with disk.appending(whole, keep=0) as file:
            if layer.sealed:
                disk.set_mode(whole, PRIVATE_FILE)
            _write(_content(part, layer, key), file, layer, disk, reserve_bytes)
            if layer.sealed:
                disk.set_mode(whole, SHARED_FILE)  # its directory still keeps everybody out
            file.sync()
    except (TrustError, StorageError) as error:
        if isinstance(error, TrustError) or error.code == "no-space":
            disk.remove(whole)
        raise


def _write(content: Iterator[bytes], file: Appender, layer: Layer, disk: Disk, reserve_bytes: int) -> None:
    digest, synced = hashlib.sha256(), 0
    for chunk in content:
        if file.size + len(chunk) > layer.file_size:
            raise _bad(layer, f"holds more than {layer.file_size} bytes")
        file.write(chunk)
        digest.update(chunk)
        if file.size - synced >= SYNC_BYTES:
            file.sync()
            synced = file.size
            if disk.free(file.path.parent).bytes < reserve_bytes:
                raise StorageError(
                    "no-space", f"the reserve of {reserve_bytes} bytes is reached; free some space"
                )
    if file.size != layer.file_size:
        raise _bad(layer, f"ends after {file.size} of {layer.file_size} bytes")
    if f"sha256:{digest.hexdigest()}" != layer.file_digest:
        if layer.sealed:
            raise TrustError("digest-mismatch", f"{layer.file} does not decrypt to what was signed")
        raise _bad(layer, "holds other bytes than were signed")


def _content(part: Path, layer: Layer, key: ContentKey | None) -> Iterator[bytes]:
    """Yield the file's bytes: what authenticates them may come after the last."""
    blob = _read(part)
    if layer.sealed:
        from edgewright_agent.decrypt import decrypted

        if key is None:
            raise ValueError(f"no key for {layer.file}")
        blob = decrypted(part, layer, key)
    yield from _entry(_inflated(blob, layer), layer) if layer.packed else blob


def _entry(chunks: Iterator[bytes], layer: Layer) -> Iterator[bytes]:
    """Yield the one file of an archive, and insist that it is the only one."""
    header, given, padding = b"", 0, 0
    for read in chunks:
        chunk = read
        if len(header) < BLOCK_BYTES:
            header, chunk = (header + chunk)[:BLOCK_BYTES], (header + chunk)[BLOCK_BYTES:]
            if len(header) < BLOCK_BYTES:
                continue
            _check_header(header, layer)
        content, rest = chunk[: layer.file_size - given], chunk[layer.file_size - given :]
        given += len(content)
        yield content
        padding += len(rest)
        if padding > MAX_PADDING_BYTES or rest.strip(b"\0"):
            raise _bad(layer, "holds more than the one file")


def _read(part: Path) -> Iterator[bytes]:
    with faults(part, "read"), part.open("rb") as file:
        while data := file.read(READ_BYTES):
            yield data


def _inflated(blob: Iterator[bytes], layer: Layer) -> Iterator[bytes]:
    """Yield the archive in pieces of bounded size, however well they were compressed."""
    stream = zlib.decompressobj(_GZIP)
    for piece in blob:
        data = piece
        while data:
            if stream.eof:
                raise _bad(layer, "goes on after its end")
            try:
                chunk = stream.decompress(data, READ_BYTES)
            except zlib.error as error:
                raise _bad(layer, f"is no gzip stream: {error}") from error
            yield chunk
            data = stream.unconsumed_tail or stream.unused_data
    if not stream.eof:
        raise _bad(layer, "has no end")


def _check_header(header: bytes, layer: Layer) -> None:
    """Check that the archive's one entry is the file that was signed (POSIX ustar: name, size, type)."""
    name = header[:100].rstrip(b"\0")
    try:
        size = int(header[124:136].strip(b"\0 "), 8)
    except ValueError as error:
        raise _bad(layer, "does not begin with a tar header") from error
    if name != layer.file.encode() or header[156:157] not in _REGULAR or size != layer.file_size:
        raise _bad(layer, f"holds {name[:60]!r} of {size} bytes")


def _bad(layer: Layer, what: str) -> TrustError:
    return TrustError("bad-manifest", f"the {'archive' if layer.packed else 'layer'} of {layer.file} {what}")
