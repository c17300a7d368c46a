"""Fetch one layer into its staging directory: resumable, exact in length, hashed on the way.

>>> fetch(source, "digit-reader", layer, staging, disk, reserve_bytes=64 << 20)   # doctest: +SKIP

The unfinished file is `<name>.part`. Its size is the offset to resume from, also after a restart: what is
there is hashed first, and if the whole then has another digest it is thrown away and fetched anew, once; then the
next mirror is asked, if there is one.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.artifact import Layer
from edgewright_agent.errors import StorageError, TransportError, TrustError
from edgewright_agent.files import Appender, Disk, faults
from edgewright_agent.store import READ_BYTES, check_file, part_of, unpacked_of
from edgewright_agent.transport import Source
from edgewright_agent.transport.mirrors import in_turn
from edgewright_agent.unpack import unpack

if TYPE_CHECKING:
    from edgewright_agent.decrypt import ContentKey

SYNC_BYTES = 8 * 1024 * 1024  # how much a power cut may cost; also bounds dirty memory
RESUMABLE = ("network", "truncated", "too-slow")
MAX_RECONNECTS = (
    8  # per layer and try: a source that drops us after every byte must not keep us busy for ever
)


def fetch(
    source: Source,
    repository: str,
    layer: Layer,
    staging: Path,
    disk: Disk,
    *,
    reserve_bytes: int,
    key: ContentKey | None = None,
) -> None:
    """Make `staging/<layer.file>` hold exactly the layer's file, synced.

    Args:
        source: Where the blob is.
        repository: In which of its repositories.
        layer: What the manifest says of it.
        staging: Where it goes; of an encrypted layer it is the first and only place that holds plaintext.
        disk: Where that is.
        reserve_bytes: What must stay free.
        key: What opens an encrypted layer.

    Raises:
        TransportError: unreachable, or `digest-mismatch` when the source gives other bytes; the part of an
            unreachable source stays for the next try.
        TrustError: `bad-manifest`, `digest-mismatch`: a compressed or encrypted layer does not hold the file that was
            signed.
        StorageError: `no-space` (the part is removed: a full disk harms others) and other faults.
    """
    final, part = staging / layer.file, part_of(staging, layer)
    if final.exists():
        with contextlib.suppress(StorageError):  # it stays until another can take its place: it may be in use
            check_file(final, layer)
            return

    def whole(place: Source) -> None:
        resumed = _size(part)
        if not _complete(place, repository, layer, part, disk, reserve_bytes):
            disk.remove(part)
            # A resumed part may be older than a power cut, or another mirror's: only bytes fetched in one go
            # accuse the source.
            if not resumed or not _complete(place, repository, layer, part, disk, reserve_bytes):
                disk.remove(part)
                raise TransportError("digest-mismatch", f"{repository}: {layer.file} is not what was signed")

    try:
        in_turn(source, whole)
        if layer.content is not None:
            unpack(part, unpacked_of(staging, layer), layer, disk, reserve_bytes=reserve_bytes, key=key)
    except (StorageError, TrustError) as error:
        if isinstance(error, TrustError) or error.code == "no-space":
            disk.remove(part)
        raise
    if layer.content is None:
        disk.rename(part, final)
    else:
        disk.rename(unpacked_of(staging, layer), final)
        disk.remove(part)


def _complete(
    source: Source, repository: str, layer: Layer, part: Path, disk: Disk, reserve_bytes: int
) -> bool:
    """Grow the part to the layer's size; return whether it has the layer's digest."""
    have = _size(part)
    if have > layer.size:
        disk.remove(part)
        have = 0
    digest = hashlib.sha256()
    _hash_into(digest, part, have)
    with disk.appending(part, keep=have) as file:
        reconnects = 0
        while file.size < layer.size:
            before = file.size
            try:
                _stream(source, repository, layer, file, digest, disk, reserve_bytes)
            except TransportError as error:
                file.sync()  # what has arrived is the next try's offset
                reconnects += 1
                if error.code not in RESUMABLE or file.size == before or reconnects > MAX_RECONNECTS:
                    raise
        file.sync()
    return f"sha256:{digest.hexdigest()}" == layer.digest


def _stream(
    source: Source,
    repository: str,
    layer: Layer,
    file: Appender,
    digest: hashlib._Hash,
    disk: Disk,
    reserve_bytes: int,
) -> None:
    synced = file.size
    for chunk in source.blob(repository, layer.digest, size=layer.size, offset=file.size):
        if file.size + len(chunk) > layer.size:
            raise TransportError(
                "too-large", f"{repository}: {layer.file} is longer than its {layer.size} bytes"
            )
        file.write(chunk)
        digest.update(chunk)
        if file.size - synced >= SYNC_BYTES:
            file.sync()
            synced = file.size
            if disk.free(file.path.parent).bytes < reserve_bytes:
                raise StorageError(
                    "no-space", f"the reserve of {reserve_bytes} bytes is reached; free some space"
                )
    if file.size < layer.size:
        raise TransportError("truncated", f"{repository}: {layer.file} ended after {file.size} bytes")


def _hash_into(digest: hashlib._Hash, path: Path, count: int) -> None:
    if not count:
        return
    with faults(path, "read"), path.open("rb", buffering=0) as file:
        while count and (data := file.read(min(READ_BYTES, count))):
            digest.update(data)
            count -= len(data)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
