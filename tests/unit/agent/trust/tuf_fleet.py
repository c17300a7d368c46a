"""A TUF repository made with python-tuf, published as a fleet publishes it: every file a small OCI artifact.

>>> fleet = TufFleet(Shelf(tmp_path / "release"))     # doctest: +SKIP
>>> fleet.approve("digit-reader", "raspberry-pi-4", manifest)   # doctest: +SKIP
>>> fleet.assign(assignment(...)); fleet.publish()    # doctest: +SKIP
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    ROLE_ROLLOUT,
    TUF_METADATA,
    TUF_REPOSITORY,
    artifact_target,
    canonical_json,
    digest_of,
    tuf_tag,
)
from unit.agent.transport.shelf import Shelf

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
SOON = NOW + timedelta(days=1)
TOP = ("root", "targets", "snapshot", "timestamp")
DIGEST = "sha256:" + "ab" * 32


def assignment(sequence: int = 1, **artifact: Any) -> dict[str, Any]:
    """Return an assignment with one group that takes all; keywords change its only artifact."""
    return {
        "version": 1,
        "fleet": "test-fleet",
        "sequence": sequence,
        "release": f"r{sequence}",
        "groups": [
            {
                "name": "everyone",
                "selector": {"matchLabels": {}},
                "models": {
                    "digit-reader": {
                        "repository": "digit-reader",
                        "modelVersion": "1.0.0",
                        "artifacts": {
                            "raspberry-pi-4": {
                                "digest": DIGEST,
                                "size": 1000,
                                "modelVersion": "1.0.0",
                                **artifact,
                            }
                        },
                    }
                },
            }
        ],
    }


class TufFleet:
    """Roles, keys and the newest version of every metadata object; tests bend them before `publish`."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.signers = {role: CryptoSigner.generate_ed25519() for role in (*TOP, ROLE_ROLLOUT)}
        self.root = Root(version=1, expires=NOW + timedelta(days=365), consistent_snapshot=True)
        for role in TOP:
            self.root.add_key(self.signers[role].public_key, role)
        self.targets = Targets(version=1, expires=SOON)
        self.targets.delegations = Delegations(
            keys={},
            roles={ROLE_ROLLOUT: DelegatedRole(ROLE_ROLLOUT, [], 1, terminating=True, paths=["rollout/*"])},
        )
        self.targets.add_key(self.signers[ROLE_ROLLOUT].public_key, ROLE_ROLLOUT)
        self.rollout = Targets(version=1, expires=SOON)
        self.snapshot = Snapshot(version=1, expires=SOON)
        self.timestamp = Timestamp(version=1, expires=SOON)
        self.assign(assignment())
        self.root_bytes = self.signed(self.root, ["root"])

    def signed(self, role: Signed, signers: Iterable[str]) -> bytes:
        metadata = Metadata(role)
        for name in signers:
            metadata.sign(self.signers[name], append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def approve(self, model: str, hardware_class: str, manifest: bytes) -> str:
        digest = digest_of(manifest)
        path = artifact_target(model, hardware_class, digest)
        target = TargetFile.from_data(path, manifest)
        target.unrecognized_fields["custom"] = {
            "model": model,
            "hardwareClass": hardware_class,
            "modelVersion": "1.0.0",
            "sequence": 1,
        }
        self.targets.targets[path] = target
        return digest

    def assign(self, document: dict[str, Any] | bytes) -> None:
        body = document if isinstance(document, bytes) else canonical_json(document)
        target = TargetFile.from_data(ASSIGNMENT_TARGET, body)
        self.rollout.targets[ASSIGNMENT_TARGET] = target
        self.write(f"rollout/{target.hashes['sha256']}.assignment.json", body)

    def bump(self, *roles: str) -> None:
        for name in roles:
            getattr(self, name).version += 1

    def publish(self, **more: Signed) -> None:
        """Write every role; keywords add further delegated roles, signed by the key of their name."""
        self.snapshot.meta = {
            "targets.json": MetaFile(self.targets.version),
            "rollout.json": MetaFile(self.rollout.version),
            **{f"{name}.json": MetaFile(role.version) for name, role in more.items()},
        }
        self.timestamp.snapshot_meta = MetaFile(self.snapshot.version)
        self.write(f"{self.root.version}.root.json", self.root_bytes)
        for name, role in {"targets": self.targets, ROLE_ROLLOUT: self.rollout, **more}.items():
            self.write(f"{role.version}.{name}.json", self.signed(role, [name]))
        self.write(f"{self.snapshot.version}.snapshot.json", self.signed(self.snapshot, ["snapshot"]))
        self.write("timestamp.json", self.signed(self.timestamp, ["timestamp"]))

    def release(self, document: dict[str, Any]) -> None:
        """Publish a new assignment as a fleet does: everything above it gets a new version."""
        self.assign(document)
        self.bump("rollout", "snapshot", "timestamp")
        self.publish()

    def rotate_root(self, role: str) -> None:
        """Replace a role's key by a new one in the next root, signed by the old and the new root keys."""
        old_root = self.signers["root"]
        self.root.revoke_key(self.signers[role].public_key.keyid, role)
        self.signers[role] = CryptoSigner.generate_ed25519()
        self.root.add_key(self.signers[role].public_key, role)
        self.root.version += 1
        metadata = Metadata(self.root)
        metadata.sign(old_root, append=True)
        if role == "root":
            metadata.sign(self.signers["root"], append=True)
        self.root_bytes = metadata.to_bytes(JSONSerializer(compact=True))

    def write(self, name: str, data: bytes) -> None:
        self.shelf.artifact(
            TUF_REPOSITORY,
            [data],
            tag=tuf_tag(name),
            layer_type="application/json",
            artifactType=TUF_METADATA,
        )

    def read(self, name: str) -> bytes:
        """Return what the shelf has under a metadata file's tag."""
        for entry in self.shelf.index(TUF_REPOSITORY)["manifests"]:
            if tuf_tag(name) in entry.get("annotations", {}).values():
                manifest = json.loads(self.shelf.body(TUF_REPOSITORY, entry["digest"]))
                return self.shelf.body(TUF_REPOSITORY, manifest["layers"][0]["digest"])
        raise KeyError(name)
