"""TUF metadata as an attacker changes it and signs it again, with exactly the keys that he is said to have.

>>> forgery = Forgery(release.metadata, fleet.keys, stolen={"timestamp"})       # doctest: +SKIP
>>> forgery.change("timestamp").snapshot_meta.version = 7                        # doctest: +SKIP
>>> forgery.publish(fleet.made.open("tuf"))                                      # doctest: +SKIP

Roles, delegations and keys are read from the metadata, so it follows whatever roles the fleet has. A role that none of
the stolen keys may sign is signed by a key of the attacker's own.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from attacks.fleet import PI
from edgewright.publish import oci
from edgewright.publish.registry import Registry
from edgewright.trust.push import metadata_manifest
from edgewright.trust.repository import file_name, target_file
from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    OCI_EMPTY_BYTES,
    OCI_MANIFEST,
    ROLE_ROLLOUT,
    artifact_target,
    canonical_json,
    class_role,
    digest_of,
    tuf_tag,
)

ONLINE = frozenset({ROLE_ROLLOUT, "snapshot", "timestamp"})
"""Keys that lie on machines with a network, by the names of their files."""

ALL_BUT_ROOT = ONLINE | {"targets", "artifacts", "cart"}

PI_ROLE = class_role(PI)
ABOVE = {
    "timestamp": (),
    "snapshot": ("timestamp",),
    "targets": ("snapshot", "timestamp"),
    PI_ROLE: ("snapshot", "timestamp"),
    ROLE_ROLLOUT: ("snapshot", "timestamp"),
}
"""Role → roles that have to say so when it changes."""

FAR = 2**31 - 1
"""A version that honest counting never reaches."""


class Forgery:
    """The newest metadata of one release, to be changed; versions rise with every change, as honest ones do."""

    def __init__(self, metadata: Path, keys: Path, stolen: Collection[str]) -> None:
        self._metadata = metadata
        self._own: Signer = CryptoSigner.generate_ed25519()
        self.stolen = {name: signer for name, signer in _signers(keys) if name in stolen}
        self.roles: dict[str, Metadata[Any]] = dict(_newest(metadata))
        self.changed: list[str] = []  # roles
        self._files: dict[str, bytes] = {}
        self.last: tuple[str, ...] = ()  # roles that were published last

    @property
    def root(self) -> Root:
        """The newest root."""
        root: Root = self.roles["root"].signed
        return root

    @property
    def timestamp(self) -> Timestamp:
        """The timestamp."""
        timestamp: Timestamp = self.roles["timestamp"].signed
        return timestamp

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot."""
        snapshot: Snapshot = self.roles["snapshot"].signed
        return snapshot

    @property
    def assignment(self) -> dict[str, Any]:
        """A copy of the assignment, to be changed and given to `assign`."""
        target = self.roles[ROLE_ROLLOUT].signed.targets[ASSIGNMENT_TARGET]
        name = target_file(target)
        body = self._files.get(name) or (self._metadata / name).read_bytes()
        document: dict[str, Any] = json.loads(body)
        return document

    def change(self, role: str) -> Any:
        """Return a role's content, to be changed; its next version is signed at `publish`."""
        signed = self.roles[role].signed
        if role not in self.changed:
            self.changed.append(role)
            signed.version += 1
        return signed

    def assign(self, document: dict[str, Any]) -> None:
        """Let the rollout role sign another assignment."""
        body = canonical_json(document)
        self.document(ROLE_ROLLOUT, ASSIGNMENT_TARGET, body)

    def document(self, role: str, path: str, body: bytes) -> None:
        """Let a role sign a document."""
        target = TargetFile.from_data(path, body, ["sha256"])
        self._files[target_file(target)] = body
        self.change(role).targets[path] = target

    def choose(self, model: str, hardware_class: str, *, digest: str, size: int, version: str) -> None:
        """Let the rollout role tell every group to run this digest."""
        document = self.assignment
        document["sequence"] += 1
        for group in document["groups"]:
            group["models"][model]["artifacts"][hardware_class] |= {
                "digest": digest,
                "size": size,
                "modelVersion": version,
            }
        self.assign(document)

    def approve(self, model: str, hardware_class: str, manifest: bytes, **custom: Any) -> None:
        """Let whichever role lists the artifacts of a class list one more, as the newest."""
        prefix = artifact_target(model, hardware_class, "")
        role, path = next(
            (role, path)
            for role, metadata in self.roles.items()
            if isinstance(metadata.signed, Targets)
            for path in metadata.signed.targets
            if path.startswith(prefix)
        )
        targets = self.change(role).targets
        told = max(
            (t.custom for p, t in targets.items() if p.startswith(prefix)), key=lambda c: c["sequence"]
        )
        numbers = {key: told[key] + 1 for key in ("build", "sequence") if key in told}
        made = TargetFile.from_data(path, manifest, ["sha256"])
        made.unrecognized_fields["custom"] = {**told, **numbers, **custom}
        made.path = artifact_target(model, hardware_class, digest_of(manifest))
        targets[made.path] = made

    def publish(self, registry: Registry, *roles: str) -> None:
        """Sign what was changed, and `roles` above it, from the leaves to the timestamp, and push it under its tags.

        A role above that is not named keeps saying what it said: the attacker cannot sign it.
        """
        for role in roles:
            self.change(role)
        order = sorted(self.changed, key=lambda role: _HEIGHT.get(role, 0))
        files = dict(self._files)
        for role in order:
            files[file_name(role, self.roles[role].signed.version)] = self._signed(role)
        push(registry, files)
        self.last, self.changed = tuple(order), []

    def _signed(self, role: str) -> bytes:
        if role == "snapshot":
            for name in self.changed:
                if f"{name}.json" in self.snapshot.meta:
                    self.snapshot.meta[f"{name}.json"] = self._meta_file(name)
        if role == "timestamp" and "snapshot" in self.changed:
            self.timestamp.snapshot_meta = self._meta_file("snapshot")
        metadata = self.roles[role]
        metadata.signatures.clear()
        for signer in self._who_may_sign(role) or [self._own]:
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def _meta_file(self, role: str) -> MetaFile:
        metadata = self.roles[role]
        return MetaFile.from_data(metadata.signed.version, metadata.to_bytes(), ["sha256"])

    def _who_may_sign(self, role: str) -> list[Signer]:
        allowed = self._keyids(role)
        return [signer for signer in self.stolen.values() if signer.public_key.keyid in allowed]

    def _keyids(self, role: str) -> list[str]:
        if role in self.root.roles:
            return list(self.root.roles[role].keyids)
        for metadata in self.roles.values():
            delegations = getattr(metadata.signed, "delegations", None)
            if delegations and role in (delegations.roles or {}):
                return list(delegations.roles[role].keyids)
        raise KeyError(role)


def push(registry: Registry, files: dict[str, bytes]) -> None:
    """Put metadata files under their tags, whatever is there."""
    registry.put_blob(oci.EMPTY_CONFIG["digest"], OCI_EMPTY_BYTES)
    for name, body in files.items():
        registry.put_blob(digest_of(body), body)
        registry.put_manifest(tuf_tag(name), metadata_manifest(name, body), OCI_MANIFEST)


def foreign(metadata: Path) -> dict[str, bytes]:
    """Return metadata of the same shape as a release's, every role signed by keys that nobody knows.

    Every version is one higher, and root 2 says that it is so: what somebody publishes who has the registry alone.
    """
    own = {role: CryptoSigner.generate_ed25519() for role in dict(_newest(metadata))}
    forgery = Forgery(metadata, metadata, ())
    for role in list(forgery.roles):
        forgery.change(role)
    for role in forgery.root.roles:
        for keyid in list(forgery.root.roles[role].keyids):
            forgery.root.revoke_key(keyid, role)
        forgery.root.add_key(own[role].public_key, role)
    for parent in list(forgery.roles.values()):
        delegations = getattr(parent.signed, "delegations", None)
        for role in list(delegations.roles or {}) if delegations else []:
            for keyid in list(delegations.roles[role].keyids):
                parent.signed.revoke_key(keyid, role)
            parent.signed.add_key(own[role].public_key, role)
    forgery.stolen = dict(own)
    order = sorted(forgery.roles, key=lambda role: _HEIGHT.get(role, 0))
    return {
        file_name(role, forgery.roles[role].signed.version): forgery._signed(role)  # noqa: SLF001
        for role in order
    }


_HEIGHT = {"root": -1, "targets": 1, "snapshot": 2, "timestamp": 3}
"""Who is signed after whom; delegated roles come first, root before all."""


def _signers(keys: Path) -> Iterator[tuple[str, Signer]]:
    for path in sorted(keys.glob("*.key")):
        private: PrivateKeyTypes = load_pem_private_key(path.read_bytes(), None)
        yield path.stem, CryptoSigner(copy.copy(private))


def _newest(metadata: Path) -> Iterator[tuple[str, Metadata[Any]]]:
    versions = [int(path.name.partition(".")[0]) for path in metadata.glob("*.root.json")]
    yield "root", Metadata.from_file(str(metadata / f"{max(versions)}.root.json"))
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(metadata / "timestamp.json"))
    yield "timestamp", timestamp
    version = timestamp.signed.snapshot_meta.version
    snapshot: Metadata[Snapshot] = Metadata.from_file(str(metadata / f"{version}.snapshot.json"))
    yield "snapshot", snapshot
    for name, meta in snapshot.signed.meta.items():
        yield name.removesuffix(".json"), Metadata.from_file(str(metadata / f"{meta.version}.{name}"))
