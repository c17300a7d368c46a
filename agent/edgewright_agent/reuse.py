"""Files of a new artifact that this device has already, in an artifact that is installed: they are not fetched.

>>> copy_installed(store, layer, staging, reserve_bytes=64 << 20)      # doctest: +SKIP
True

A file is copied and not hard-linked: two versions that share their blocks also share the sector that goes bad, and
the version to return to is worth most when the active one is damaged. It is hashed on the way, so that a damaged
file is not carried on: it is fetched then, like any other.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgewright_agent.artifact import Artifact, Layer
from edgewright_agent.contract import is_digest
from edgewright_agent.errors import StorageError, TrustError
from edgewright_agent.files import faults
from edgewright_agent.store import PRIVATE_FILE, SHARED_FILE, Store, unpacked_of
from edgewright_agent.unpack import write_checked

READ_BYTES = 256 * 1024


def installed(store: Store) -> tuple[Artifact, ...]:
    """Return the artifacts in the store whose manifests are as they were signed."""
    found = []
    for entry in sorted(store.root.iterdir()) if store.root.is_dir() else ():
        if is_digest(digest := f"sha256:{entry.name}"):
            try:
                found.append(store.artifact(digest))
            except StorageError:
                continue  # `verify` and `recovery` tell of it
    return tuple(found)


def twins(store: Store, layer: Layer) -> Iterator[Path]:
    """Yield files in the store that should be the layer's, by digest and size; they may be damaged.

    What came encrypted is copied to where it comes encrypted again and nowhere else: a manifest that names the digest
    of a plaintext must not make it a file that everybody reads.
    """
    for artifact in installed(store):
        for other in artifact.layers:
            if other.sealed and not layer.sealed:
                continue
            if (other.file_digest, other.file_size) == (layer.file_digest, layer.file_size):
                path = store.path(artifact.digest) / other.file
                if size_of(path) == layer.file_size:
                    yield path


def copy_installed(store: Store, layer: Layer, staging: Path, *, reserve_bytes: int) -> bool:
    """Make `staging/<layer.file>` from a file in the store that is the same; return whether there was one.

    Raises:
        StorageError: `no-space` and other faults of the disk that is written.
    """
    whole = unpacked_of(staging, layer)
    for path in twins(store, layer):
        try:
            with store.disk.appending(whole, keep=0) as out:
                if layer.sealed:
                    store.disk.set_mode(whole, PRIVATE_FILE)
                write_checked(_read(path), out, layer, store.disk, reserve_bytes=reserve_bytes)
                if layer.sealed:
                    store.disk.set_mode(whole, SHARED_FILE)  # its directory still keeps everybody out
                out.sync()
        except TrustError:  # damaged since it was installed
            store.disk.remove(whole)
            continue
        except StorageError as error:
            store.disk.remove(whole)
            if (
                error.code != "io-error"
            ):  # a bad sector under the old file; of the new one the next write tells
                raise
            continue
        store.disk.rename(whole, staging / layer.file)
        return True
    return False


def size_of(path: Path) -> int:
    """Return a file's size in bytes; 0 when it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read(path: Path) -> Iterator[bytes]:
    with faults(path, "read"), path.open("rb", buffering=0) as file:
        while data := file.read(READ_BYTES):
            yield data
