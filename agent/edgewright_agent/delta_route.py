"""The way by deltas: whether one is worth taking, what it needs, and what to do when it fails.

>>> route = find_route(source, target.repository, artifact, approval, store)     # doctest: +SKIP
>>> route.make("model.onnx", reserve_bytes=64 << 20)                             # doctest: +SKIP
True

A delta is a saving and never a condition: whatever goes wrong with one (no base, a damaged base, bytes that are
not what was signed, a codec that this Python lacks), the file is fetched whole, and a note in the staging directory
keeps the next try from fetching the same delta for nothing. Only a line that drops is no reason to fetch more: the poll
ends, and the next one goes on where this one was; a delta that has brought nothing in two polls is given up too.

The base is always an artifact that was installed whole, never something a delta is half-way through making, and of an
encrypted artifact neither side is used: a delta would show how its plaintext changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from edgewright_agent.artifact import Artifact, Layer
from edgewright_agent.contract import digest_of
from edgewright_agent.delta import apply, read_header
from edgewright_agent.delta_manifest import parse
from edgewright_agent.download import RESUMABLE, fetch
from edgewright_agent.errors import AgentError, LinkClosedError, StorageError, TransportError, TrustError
from edgewright_agent.reuse import size_of
from edgewright_agent.store import Store, part_of, unpacked_of
from edgewright_agent.transport import Source
from edgewright_agent.transport.mirrors import in_turn
from edgewright_agent.trust.approval import Approval, Delta

FAILED = "delta-failed.part"  # names that no file of an artifact has; `Store.install` clears them away
STALLED = "delta-stalled.part"
TRANSIENT = (*RESUMABLE, "busy")


@dataclass(frozen=True)
class Route:
    """A delta that leads from an installed artifact to the wanted one.

    Attributes:
        base: What it starts from.
        layers: File → layer that makes it.
        size: Bytes of the delta's manifest.
    """

    source: Source
    repository: str
    store: Store
    artifact: Artifact
    base: Artifact
    layers: Mapping[str, Layer]
    size: int

    @property
    def staging(self) -> Path:
        """Where the artifact grows."""
        return self.store.staging(self.artifact.digest)

    def left_bytes(self, file: str) -> int:
        """Return what is still to be fetched to make a file."""
        layer = self.layers[file]
        if size_of(self.staging / layer.file) == layer.size:
            return 0
        return layer.size - min(layer.size, size_of(part_of(self.staging, layer)))

    def need_bytes(self, file: str) -> int:
        """Return what room making a file takes: what is still to be fetched, and the file itself."""
        whole = self._layer(file)
        begun = size_of(unpacked_of(self.staging, whole))
        return self.left_bytes(file) + whole.file_size - min(whole.file_size, begun)

    def make(self, file: str, *, reserve_bytes: int) -> bool:
        """Fetch the delta of a file and make the file; return whether that worked.

        Raises:
            TransportError: the line dropped, or its window closed; the next try goes on from there.
        """
        delta, layer = self.layers[file], self._layer(file)
        disk, left = self.store.disk, self.left_bytes(file)
        try:
            fetch(self.source, self.repository, delta, self.staging, disk, reserve_bytes=reserve_bytes)
            base = self._base_of(self.staging / delta.file)
            whole = unpacked_of(self.staging, layer)
            apply(self.staging / delta.file, base, layer, whole, disk, reserve_bytes=reserve_bytes)
            disk.rename(whole, self.staging / file)
        except LinkClosedError:
            raise  # the end of a window says nothing about the delta
        except AgentError as error:
            if isinstance(error, TransportError) and error.code in TRANSIENT:
                _stall(self.store, self.staging, error, progress=self.left_bytes(file) < left)
            self.give_up(error)
            return False
        disk.remove(self.staging / delta.file)
        disk.remove(self.staging / STALLED)
        return True

    def give_up(self, error: AgentError) -> None:
        """Remove what there is of the delta, and remember not to try it again for this artifact.

        Raises:
            StorageError: the disk does not even take that.
        """
        for layer in self.layers.values():
            self.store.disk.remove(part_of(self.staging, layer))
            self.store.disk.remove(self.staging / layer.file)
        _remember(self.store, self.staging, FAILED, error)

    def _base_of(self, delta: Path) -> Path:
        header = read_header(delta)
        for layer in self.base.layers:
            if (layer.file_digest, layer.file_size) == (header.base_digest, header.base_size):
                return self.store.path(self.base.digest) / layer.file
        raise TrustError("bad-delta", f"the delta starts from a file that {self.base.version} does not have")

    def _layer(self, file: str) -> Layer:
        return next(layer for layer in self.artifact.layers if layer.file == file)


def find_route(
    source: Source,
    repository: str,
    artifact: Artifact,
    approval: Approval,
    store: Store,
    missing: Set[str],
) -> Route | None:
    """Return the delta to take; None when none that was signed starts here, or is worth it, or can be read.

    Args:
        source: Where the deltas are.
        repository: In which of its repositories.
        artifact: What is wanted.
        approval: What was signed about it.
        store: Where bases are installed.
        missing: Files that have to come from somewhere else than this device.

    Raises:
        TransportError: the line dropped.
    """
    staging = store.staging(artifact.digest)
    if artifact.sealed or (staging / FAILED).exists():
        return None
    full = sum(_left(staging, layer) for layer in artifact.layers if layer.file in missing)
    for delta in sorted(approval.deltas, key=lambda one: one.bytes):
        if delta.bytes + delta.size >= full:
            break
        base = _installed_whole(store, delta.base)
        if base is None or base.sealed:
            continue
        try:
            layers = parse(_manifest(source, repository, delta), delta, artifact)
        except LinkClosedError:
            raise
        except AgentError as error:
            if isinstance(error, TransportError) and error.code in TRANSIENT:
                _stall(store, store.stage(artifact), error, progress=False)
            _remember(store, store.stage(artifact), FAILED, error)
            return None
        wanted = {
            layer.file: layers[layer.file]
            for layer in artifact.layers
            if layer.file in missing and layer.file in layers
        }
        route = Route(source, repository, store, artifact, base, wanted, delta.size)
        worth = {
            layer.file: wanted[layer.file]
            for layer in artifact.layers
            if layer.file in wanted and route.left_bytes(layer.file) < _left(staging, layer)
        }
        return Route(source, repository, store, artifact, base, worth, delta.size) if worth else None
    return None


def _manifest(source: Source, repository: str, delta: Delta) -> bytes:
    """Fetch the manifest of a delta: the very bytes that were signed, from whichever mirror has them."""

    def read(place: Source) -> bytes:
        found = place.manifest(repository, delta.digest, limit=delta.size)
        if found is None or len(found.body) != delta.size or digest_of(found.body) != delta.digest:
            raise TransportError(
                "digest-mismatch", f"{repository}: {delta.digest} has not the bytes that were signed"
            )
        return found.body

    return in_turn(source, read)


def _installed_whole(store: Store, digest: str) -> Artifact | None:
    try:
        return store.artifact(digest) if store.intact(digest) else None
    except StorageError:
        return None


def _left(staging: Path, layer: Layer) -> int:
    return layer.size - min(layer.size, size_of(part_of(staging, layer)))


def _stall(store: Store, staging: Path, error: TransportError, *, progress: bool) -> None:
    """Let the next poll go on after a dropped line, unless this is the second that brought nothing.

    Raises:
        TransportError: `error`, if so.
    """
    if progress:
        store.disk.remove(staging / STALLED)
        raise error
    if not (staging / STALLED).exists():
        _remember(store, staging, STALLED, error)
        raise error


def _remember(store: Store, staging: Path, name: str, error: AgentError) -> None:
    store.disk.write_file(staging / name, f"{error.code}: {error}\n".encode()[:1024])
    store.disk.sync_dir(staging)
