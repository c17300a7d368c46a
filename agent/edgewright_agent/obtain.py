"""Have an assigned artifact in the store, whole: as it is there already, or fetched now.

>>> obtaining = Obtaining(config, store, source, Space(store, collect))           # doctest: +SKIP
>>> artifact = obtaining.manifest(approval, target)                               # doctest: +SKIP
>>> print(obtaining.obtain(artifact, target, approval))                           # doctest: +SKIP
delta from 1.0.0, 41 kB instead of 40 MB

Nothing here decides what may be used: the manifest's digest and length are signed, and so is that of every file in it,
by whichever way it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgewright_agent.artifact import Artifact, Layer, check_purpose, parse
from edgewright_agent.config import Config
from edgewright_agent.contract import digest_of
from edgewright_agent.degrade import Reserve, reserve_of
from edgewright_agent.delta_route import Route, find_route
from edgewright_agent.download import fetch
from edgewright_agent.errors import StorageError, TransportError, TrustError
from edgewright_agent.reuse import copy_installed, size_of, twins
from edgewright_agent.space import Space
from edgewright_agent.store import Room, Store, unpacked_of
from edgewright_agent.transfer import Transfer
from edgewright_agent.transport import Source
from edgewright_agent.trust.approval import Approval
from edgewright_agent.trust.assignment import Assigned

if TYPE_CHECKING:
    from edgewright_agent.decrypt import ContentKey


@dataclass(frozen=True)
class Obtaining:
    """Fetches artifacts from one source into one store.

    Attributes:
        space: Makes room for them.
    """

    config: Config
    store: Store
    source: Source
    space: Space

    def manifest(self, approval: Approval, target: Assigned) -> Artifact:
        """Fetch the manifest that the class's role signed and check that it is meant for this device.

        Raises:
            TrustError: `bad-manifest`, `bad-metadata`, `wrong-class`, `wrong-model`, `wrong-runtime`, `agent-too-old`.
            TransportError: the source gives another manifest, or none.
        """
        hardware_class, digest = self.config.device.hardware_class, target.digest
        approval.require_fit(what=f"{target.model} {target.model_version}")
        length = approval.length
        found = self.source.manifest(target.repository, digest, limit=length)
        if found is None or len(found.body) != length:
            raise TransportError(
                "digest-mismatch", f"the manifest {digest} has not its signed length of {length}"
            )
        if (given := digest_of(found.body)) != digest:  # nothing unsigned is parsed
            raise TransportError("digest-mismatch", f"the source gives {given} instead of {digest}")
        artifact = parse(found.body)
        check_purpose(artifact, model=target.model, hardware_class=hardware_class)
        if artifact.version != target.model_version:
            raise TrustError(
                "bad-metadata",
                f"the assignment calls {digest} {target.model_version}, it is {artifact.version}",
            )
        return artifact

    def obtain(self, artifact: Artifact, target: Assigned, approval: Approval) -> Transfer | None:
        """Have the artifact in the store, whole: as it is there already, or made now from what costs least.

        Each file is, in this order, one that an earlier try has finished; a copy of the same file in an installed
        artifact; made from one by a signed delta; fetched whole.

        Returns:
            What travelled; None when it was there already.

        Raises:
            StorageError: `no-space` and other faults of the disk.
            TransportError, TrustError: as `download.fetch`.
        """
        try:
            self.store.verify(artifact.digest)
        except StorageError:
            pass
        else:
            return None
        keys = self._content_keys(artifact)  # before a byte is fetched that nobody here could use
        reserve = reserve_of(self.config, target.update_policy)
        room = {layer.file: self._room_to_copy(artifact, layer) for layer in self._copies(artifact)}
        unfinished = {layer.file for layer in self._unfinished(artifact)}
        missing = unfinished - room.keys()
        route = find_route(self.source, target.repository, artifact, approval, self.store, missing)
        if self._make_room(artifact, reserve, room, route):
            route = None
        staging = self.store.stage(artifact)
        transfer = Transfer(full_bytes=artifact.size)
        for layer in artifact.layers:
            if layer.file in room and copy_installed(self.store, layer, staging, reserve_bytes=reserve.bytes):
                transfer = transfer.copied(layer)
                continue
            if route and layer.file in route.layers:
                if route.make(layer.file, reserve_bytes=reserve.bytes):
                    transfer = transfer.delta(route.base, route.layers[layer.file])
                    continue
                route = None
            fetch(
                self.source,
                target.repository,
                layer,
                staging,
                self.store.disk,
                reserve_bytes=reserve.bytes,
                key=keys.get(layer.file),
            )
            transfer = transfer.fetched(layer) if layer.file in unfinished else transfer
        self.store.install(artifact)
        return transfer

    def _unfinished(self, artifact: Artifact) -> list[Layer]:
        """Return the layers whose files no earlier try has finished."""
        staging = self.store.staging(artifact.digest)
        return [layer for layer in artifact.layers if size_of(staging / layer.file) != layer.file_size]

    def _copies(self, artifact: Artifact) -> list[Layer]:
        """Return the layers whose files this device seems to have in an installed artifact."""
        return [layer for layer in self._unfinished(artifact) if any(twins(self.store, layer))]

    def _room_to_copy(self, artifact: Artifact, layer: Layer) -> int:
        begun = size_of(unpacked_of(self.store.staging(artifact.digest), layer))
        return layer.file_size - min(layer.file_size, begun)

    def repair(self, artifact: Artifact, target: Assigned, approval: Approval) -> None:
        """Fetch again what the disk does not give back of an active artifact, into its entry, while it is in use.

        Each file is replaced whole: whoever reads the entry meanwhile, or after a power cut, finds the old or the new.

        Raises:
            StorageError, TransportError, TrustError: as `obtain`.
        """
        entry = self.store.path(artifact.digest)
        if not entry.is_dir():
            self.obtain(artifact, target, approval)
            return
        keys = self._content_keys(artifact)
        reserve_bytes = reserve_of(self.config, target.update_policy).bytes
        for layer in artifact.layers:
            fetch(
                self.source,
                target.repository,
                layer,
                entry,
                self.store.disk,
                reserve_bytes=reserve_bytes,
                key=keys.get(layer.file),
            )
        self.store.complete(artifact)

    def _content_keys(self, artifact: Artifact) -> dict[str, ContentKey]:
        """Return file → what opens its layer, for those that are encrypted."""
        if not artifact.sealed:
            return {}
        from edgewright_agent.decrypt import load_keys, unwrap

        keys = load_keys(self.config.decryption.keys)
        return {layer.file: unwrap(layer, keys) for layer in artifact.layers if layer.sealed}

    def _make_room(
        self, artifact: Artifact, reserve: Reserve, copies: Mapping[str, int], route: Route | None
    ) -> bool:
        """Make room by the ways the artifact is to come; return whether there is none for the route.

        What may go for it, and in which order, is `space`'s.

        Raises:
            StorageError: `no-space`: not even without the route.
        """
        made = {file: route.need_bytes(file) for file in route.layers} if route else {}

        def shortage(ways: Mapping[str, int], spare: Room | None = None) -> str | None:
            return self.store.shortage(
                artifact,
                reserve_bytes=reserve.bytes,
                reserve_inodes=reserve.inodes,
                otherwise=ways,
                spare=spare,
            )

        if not shortage({**made, **copies}):
            return False
        self.space.clear()
        if not shortage({**made, **copies}):
            return False
        # A delta and its file may take more room than the file alone.
        if why := self.space.make(artifact.digest, lambda spare: shortage(copies, spare)):
            raise StorageError("no-space", f"{artifact.model} {artifact.version} {why}; free some space")
        return True
