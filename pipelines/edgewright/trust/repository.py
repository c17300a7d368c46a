"""The TUF repository on disk: one folder that is read as a verified whole and written all or nothing.

>>> folder = MetadataFolder(Path(".edgewright/tuf"))   # doctest: +SKIP
>>> folder.read().versions                             # doctest: +SKIP
{'root': 1, 'targets': 3, 'rollout': 3, 'snapshot': 5, 'timestamp': 9}

A release becomes current at the moment `timestamp.json` is replaced; files a crash leaves before that are not
referred to by anything and are written over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, Targets, Timestamp

from edgewright.errors import TrustError
from edgewright.publish.durable import storage, write_file
from edgewright_agent.contract import ASSIGNMENT_TARGET, ROLE_ROLLOUT, digest_of

ASSIGNMENT_FOLDER, _, _ASSIGNMENT_NAME = ASSIGNMENT_TARGET.partition("/")
_RESTORE = "restore that folder from where you keep it; it is meant to be committed or backed up"


@dataclass(frozen=True)
class Current:
    """A complete set of metadata.

    Attributes:
        assignment: Bytes of the assignment document.
        bodies: Role → bytes of its file, exactly as signed and published.
    """

    root: Metadata[Root]
    targets: Metadata[Targets]
    rollout: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]
    assignment: bytes
    bodies: Mapping[str, bytes]

    def roles(self) -> dict[str, Metadata[Any]]:
        """Return role → metadata."""
        return {
            "root": self.root,
            "targets": self.targets,
            ROLE_ROLLOUT: self.rollout,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }

    @property
    def versions(self) -> dict[str, int]:
        """Role → version."""
        return {role: metadata.signed.version for role, metadata in self.roles().items()}

    @property
    def expires(self) -> dict[str, str]:
        """Role → expiry, ISO 8601 in UTC."""
        roles = self.roles().items()
        return {role: f"{metadata.signed.expires:%Y-%m-%dT%H:%M:%SZ}" for role, metadata in roles}


class MetadataFolder:
    """The folder that holds the repository's files: `N.<role>.json`, `timestamp.json`, `rollout/…`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> Current | None:
        """Return the current metadata after verifying it; None when there is none.

        Raises:
            TrustError: files are missing, damaged, or not signed by the keys that root names.
        """
        if not (self.folder / "timestamp.json").is_file():
            return None
        try:
            return self._read()
        except (RepositoryError, KeyError, IndexError, ValueError) as error:
            raise TrustError(f"the metadata in {self.folder} is damaged: {error}", hint=_RESTORE) from error

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write files in the given order; `timestamp.json`, the last, makes them current.

        Raises:
            EnvironmentFault: no space, or not writable; what was current stays current.
        """
        for name, body in files.items():
            write_file(self.folder / name, body)

    def published_files(self, current: Current) -> dict[str, bytes]:
        """Return every file a device may ask for (relative name → bytes), in the order to publish them.

        Raises:
            TrustError: a file has gone.
        """
        older = {file_name("root", version): version for version in self._root_versions()}
        roots = {name: self._bytes(name) for name in older}
        rest = ("targets", ROLE_ROLLOUT, "snapshot", "timestamp")
        return {
            assignment_file(current.assignment): current.assignment,
            **roots,
            **{file_name(role, current.versions[role]): current.bodies[role] for role in rest},
        }

    def _read(self) -> Current:
        bodies = {"timestamp": self._bytes("timestamp.json")}

        def load(role: str, version: int) -> Metadata[Any]:
            bodies[role] = self._bytes(file_name(role, version))
            metadata: Metadata[Any] = Metadata.from_bytes(bodies[role])
            return metadata

        root: Metadata[Root] = load("root", self._root_versions()[-1])
        timestamp: Metadata[Timestamp] = Metadata.from_bytes(bodies["timestamp"])
        snapshot: Metadata[Snapshot] = load("snapshot", timestamp.signed.snapshot_meta.version)
        meta = snapshot.signed.meta
        targets: Metadata[Targets] = load("targets", meta["targets.json"].version)
        rollout: Metadata[Targets] = load(ROLE_ROLLOUT, meta[f"{ROLE_ROLLOUT}.json"].version)
        checked: tuple[tuple[str, Metadata[Any]], ...] = (
            ("root", root),
            ("timestamp", timestamp),
            ("snapshot", snapshot),
            ("targets", targets),
        )
        for role, metadata in checked:
            root.signed.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        targets.signed.verify_delegate(ROLE_ROLLOUT, rollout.signed_bytes, rollout.signatures)
        file = rollout.signed.targets[ASSIGNMENT_TARGET]
        assignment = self._bytes(f"{ASSIGNMENT_FOLDER}/{file.hashes['sha256']}.{_ASSIGNMENT_NAME}")
        file.verify_length_and_hashes(assignment)
        return Current(root, targets, rollout, snapshot, timestamp, assignment, bodies)

    def _root_versions(self) -> list[int]:
        names = (path.name.partition(".")[0] for path in self.folder.glob("*.root.json"))
        return sorted(int(name) for name in names if name.isdigit())

    def _bytes(self, name: str) -> bytes:
        path = self.folder / name
        if not path.is_file():
            raise TrustError(f"{path} is missing", hint=_RESTORE)
        with storage("read", path):
            return path.read_bytes()


def file_name(role: str, version: int) -> str:
    """Return the name of a metadata file (TUF 6.1, consistent snapshots): only timestamp has no version."""
    return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"


def assignment_file(assignment: bytes) -> str:
    """Return the name of the assignment's file: a target is found by its hash (TUF 6.1)."""
    digest = digest_of(assignment).removeprefix("sha256:")
    return f"{ASSIGNMENT_FOLDER}/{digest}.{_ASSIGNMENT_NAME}"
