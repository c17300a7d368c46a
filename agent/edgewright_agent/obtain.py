"""Have an assigned artifact in the store, whole: as it is there already, or fetched now.

>>> obtaining = Obtaining(config, store, source, collect=lambda keep: None)       # doctest: +SKIP
>>> artifact = obtaining.manifest(approval, target)                               # doctest: +SKIP
>>> obtaining.obtain(artifact, target)                                            # doctest: +SKIP

Nothing here decides what may be used: the manifest's digest and length are signed, and so is that of every layer in it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgewright_agent.artifact import Artifact, check_purpose, parse
from edgewright_agent.config import Config
from edgewright_agent.contract import digest_of
from edgewright_agent.download import fetch
from edgewright_agent.errors import StorageError, TransportError, TrustError
from edgewright_agent.store import Store
from edgewright_agent.transport import Source
from edgewright_agent.trust.approval import Approval
from edgewright_agent.trust.assignment import Assigned

if TYPE_CHECKING:
    from edgewright_agent.decrypt import ContentKey


@dataclass(frozen=True)
class Obtaining:
    """Fetches artifacts from one source into one store.

    Attributes:
        collect: Removes what neither a slot nor one of the given downloads needs.
    """

    config: Config
    store: Store
    source: Source
    collect: Callable[[Sequence[str]], None]

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

    def obtain(self, artifact: Artifact, target: Assigned) -> None:
        """Have the artifact in the store, whole: as it is there already, or downloaded now.

        Raises:
            StorageError: `no-space` and other faults of the disk.
            TransportError, TrustError: as `download.fetch`.
        """
        try:
            self.store.verify(artifact.digest)
        except StorageError:
            keys = self._content_keys(artifact)  # before a byte is fetched that nobody here could use
            reserve_bytes = self._reserve_bytes(target)
            self._make_room(artifact, reserve_bytes)
            staging = self.store.stage(artifact)
            for layer in artifact.layers:
                fetch(
                    self.source,
                    target.repository,
                    layer,
                    staging,
                    self.store.disk,
                    reserve_bytes=reserve_bytes,
                    key=keys.get(layer.file),
                )
            self.store.install(artifact)

    def repair(self, artifact: Artifact, target: Assigned) -> None:
        """Fetch again what the disk does not give back of an active artifact, into its entry, while it is in use.

        Each file is replaced whole: whoever reads the entry meanwhile, or after a power cut, finds the old or the new.

        Raises:
            StorageError, TransportError, TrustError: as `obtain`.
        """
        entry = self.store.path(artifact.digest)
        if not entry.is_dir():
            return self.obtain(artifact, target)
        keys, reserve_bytes = self._content_keys(artifact), self._reserve_bytes(target)
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
        return self.store.complete(artifact)

    def _content_keys(self, artifact: Artifact) -> dict[str, ContentKey]:
        """Return file → what opens its layer, for those that are encrypted."""
        if not artifact.sealed:
            return {}
        from edgewright_agent.decrypt import load_keys, unwrap

        keys = load_keys(self.config.decryption.keys)
        return {layer.file: unwrap(layer, keys) for layer in artifact.layers if layer.sealed}

    def _reserve_bytes(self, target: Assigned) -> int:
        """Return what must stay free: the device's own reserve or its class's, whichever is larger."""
        signed = target.update_policy.get("diskReserveBytes", 0)
        return max(self.config.reserve_bytes, signed if isinstance(signed, int) else 0)

    def _make_room(self, artifact: Artifact, reserve_bytes: int) -> None:
        if self.store.shortage(artifact, reserve_bytes=reserve_bytes):
            self.collect([artifact.digest])
        if why := self.store.shortage(artifact, reserve_bytes=reserve_bytes):
            raise StorageError("no-space", f"{artifact.model} {artifact.version} {why}; free some space")
