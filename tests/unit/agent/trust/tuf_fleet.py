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
    ISSUED_FIELD,
    ROLE_CLASS_PREFIX,
    ROLE_ROLLOUT,
    TUF_METADATA,
    TUF_REPOSITORY,
    artifact_target,
    canonical_json,
    class_role,
    digest_of,
    tuf_tag,
)
from unit.agent.transport.shelf import Shelf

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
SOON = NOW + timedelta(days=1)
TOP = ("root", "targets", "snapshot", "timestamp")
PI = "raspberry-pi-4"
PI_ROLE = class_role(PI)
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
    """Roles, keys and the newest version of every metadata object; tests bend them before `publish`.

    As in a fleet, one key, `artifacts`, signs for every hardware class.
    """

    def __init__(self, shelf: Shelf, *classes: str) -> None:
        self.shelf = shelf
        self.hashes = True  # whether snapshot and timestamp give length and hash of what they list
        self.signers = {role: CryptoSigner.generate_ed25519() for role in (*TOP, ROLE_ROLLOUT, "artifacts")}
        self.root = Root(version=1, expires=NOW + timedelta(days=365), consistent_snapshot=True)
        for role in TOP:
            self.root.add_key(self.signers[role].public_key, role)
        self.targets = Targets(version=1, expires=SOON)
        self.targets.delegations = Delegations(keys={}, roles={})
        self.classes = {class_role(name): Targets(version=1, expires=SOON) for name in (PI, *classes)}
        for name in (PI, *classes):
            self.delegate(class_role(name), f"artifacts/*/{name}/*")
        self.delegate(ROLE_ROLLOUT, "rollout/*")
        self.rollout = Targets(version=1, expires=SOON)
        self.snapshot = Snapshot(version=1, expires=SOON)
        self.timestamp = Timestamp(version=1, expires=SOON)
        self.assign(assignment())
        self.root_bytes = self.signed(self.root, ["root"])

    def delegate(self, role: str, path: str) -> None:
        """Let `targets` delegate to a role, signed by the key that is its own."""
        delegations = self.targets.delegations
        assert delegations is not None
        assert delegations.roles is not None
        delegations.roles[role] = DelegatedRole(role, [], 1, terminating=True, paths=[path])
        self.targets.add_key(self.signer(role).public_key, role)

    def signer(self, role: str) -> CryptoSigner:
        return self.signers["artifacts" if role.startswith(ROLE_CLASS_PREFIX) else role]

    def role(self, name: str) -> Any:
        """Return the metadata object of any role."""
        return self.classes[name] if name in self.classes else getattr(self, name)

    def signed(self, role: Signed, signers: Iterable[str]) -> bytes:
        metadata = Metadata(role)
        for name in signers:
            metadata.sign(self.signer(name), append=True)
        return metadata.to_bytes(JSONSerializer(compact=True))

    def approve(self, model: str, hardware_class: str, manifest: bytes, **custom: Any) -> str:
        """List an artifact in its class's role; keywords change its custom data."""
        digest = digest_of(manifest)
        path = artifact_target(model, hardware_class, digest)
        target = TargetFile.from_data(path, manifest)
        target.unrecognized_fields["custom"] = {
            "model": model,
            "hardwareClass": hardware_class,
            "modelVersion": "1.0.0",
            "build": 1,
            "sequence": 1,
            "runtime": {"engine": "onnxruntime", "version": ">=1.0,<100"},
            "minAgent": "0.1.0",
            **custom,
        }
        self.classes[class_role(hardware_class)].targets[path] = target
        return digest

    def assign(self, document: dict[str, Any] | bytes) -> None:
        body = document if isinstance(document, bytes) else canonical_json(document)
        self.document(ASSIGNMENT_TARGET, body, self.rollout)

    def document(self, path: str, body: bytes, signer: Targets | None = None) -> None:
        """Let `targets`, or another role, sign a document, and write that."""
        target = TargetFile.from_data(path, body)
        (signer or self.targets).targets[path] = target
        folder, _, name = path.rpartition("/")
        self.write(f"{folder}/{target.hashes['sha256']}.{name}", body)

    def issued(self, moment: datetime | str | None) -> None:
        """Say in the timestamp when it was signed."""
        if moment is None:
            self.timestamp.unrecognized_fields.pop(ISSUED_FIELD, None)
            return
        text = moment if isinstance(moment, str) else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        self.timestamp.unrecognized_fields[ISSUED_FIELD] = text

    def bump(self, *roles: str) -> None:
        for name in roles:
            self.role(name).version += 1

    def publish(self, **more: Signed) -> None:
        """Write every role; keywords add further delegated roles, signed by the key of their name."""
        delegated = {ROLE_ROLLOUT: self.rollout, **self.classes, **more}
        files = {
            name: self.signed(role, [name]) for name, role in {"targets": self.targets, **delegated}.items()
        }
        self.snapshot.meta = {
            f"{name}.json": self._listed(self._version(name, more), body) for name, body in files.items()
        }
        snapshot = self.signed(self.snapshot, ["snapshot"])
        self.timestamp.snapshot_meta = self._listed(self.snapshot.version, snapshot)
        self.write(f"{self.root.version}.root.json", self.root_bytes)
        for name, body in files.items():
            self.write(f"{self._version(name, more)}.{name}.json", body)
        self.write(f"{self.snapshot.version}.snapshot.json", snapshot)
        self.write("timestamp.json", self.signed(self.timestamp, ["timestamp"]))

    def _listed(self, version: int, body: bytes) -> MetaFile:
        return MetaFile.from_data(version, body, ["sha256"]) if self.hashes else MetaFile(version)

    def _version(self, name: str, more: dict[str, Signed]) -> int:
        version: int = (more[name] if name in more else self.role(name)).version
        return version

    def release(self, document: dict[str, Any]) -> None:
        """Publish a new assignment as a fleet does: everything above it gets a new version."""
        self.assign(document)
        self.bump("rollout", "snapshot", "timestamp")
        self.publish()

    def rotate_root(self, *roles: str) -> None:
        """Replace roles' keys by new ones in the next root, signed by the old and the new root keys."""
        old_root = self.signers["root"]
        for role in roles:
            self.root.revoke_key(self.signers[role].public_key.keyid, role)
            self.signers[role] = CryptoSigner.generate_ed25519()
            self.root.add_key(self.signers[role].public_key, role)
        self.next_root(old_root)

    def next_root(self, *more: CryptoSigner) -> None:
        """Sign and write the next root, as it is now."""
        self.root.version += 1
        metadata = Metadata(self.root)
        for signer in (*more, self.signers["root"]):
            metadata.sign(signer, append=True)
        self.root_bytes = metadata.to_bytes(JSONSerializer(compact=True))
        self.write(f"{self.root.version}.root.json", self.root_bytes)

    def rotate_delegated(self, role: str) -> None:
        """Replace a delegated role's key by a new one in the next targets."""
        name = "artifacts" if role.startswith(ROLE_CLASS_PREFIX) else role
        old = self.signers[name].public_key.keyid
        self.signers[name] = CryptoSigner.generate_ed25519()
        for other in [
            r for r in (*self.classes, ROLE_ROLLOUT) if (r in self.classes) == (role in self.classes)
        ]:
            self.targets.revoke_key(old, other)
            self.targets.add_key(self.signers[name].public_key, other)
        self.bump("targets")

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
