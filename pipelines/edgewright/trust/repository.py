"""The TUF repository on disk: one folder that is read as a verified whole and written all or nothing.

>>> folder = MetadataFolder(Path(".edgewright/tuf"))   # doctest: +SKIP
>>> folder.read().versions                             # doctest: +SKIP
{'root': 1, 'targets': 1, 'class-raspberry-pi-4': 3, 'rollout': 3, 'snapshot': 5, 'timestamp': 9}

A release becomes current at the moment `timestamp.json` is replaced; files a crash leaves before that are not
referred to by anything and are written over. Changes that wait for signatures are in `staged/` (see
`edgewright.trust.staged`), which nobody publishes.

Folders of before the class roles, in which `targets` listed the artifacts itself, are refused with what to do:
nothing was ever released in that form, so they are not carried over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp

from edgewright.errors import TrustError
from edgewright.publish.durable import storage, write_file
from edgewright.trust.roles import is_class
from edgewright_agent.contract import ASSIGNMENT_TARGET, ROLE_ROLLOUT

STAGED = "staged"
_RESTORE = "restore that folder from where you keep it; it is meant to be committed or backed up"


@dataclass(frozen=True)
class Current:
    """A complete set of metadata.

    Attributes:
        metadata: Role → metadata: root, targets, the class roles, rollout, snapshot, timestamp, in this order.
        bodies: Role → bytes of its file, exactly as signed and published.
        files: Target path → bytes of the targets that live here: the assignment and the trust documents.
    """

    metadata: Mapping[str, Metadata[Any]]
    bodies: Mapping[str, bytes]
    files: Mapping[str, bytes]

    @property
    def root(self) -> Root:
        """The root."""
        root: Root = self.metadata["root"].signed
        return root

    @property
    def targets(self) -> Targets:
        """The targets role: delegations and trust documents."""
        targets: Targets = self.metadata["targets"].signed
        return targets

    @property
    def timestamp(self) -> Timestamp:
        """The timestamp."""
        timestamp: Timestamp = self.metadata["timestamp"].signed
        return timestamp

    @property
    def assignment(self) -> bytes:
        """Bytes of the assignment document."""
        return self.files[ASSIGNMENT_TARGET]

    def artifacts(self) -> list[TargetFile]:
        """Return every artifact that a class role has signed."""
        roles = (metadata.signed for role, metadata in self.metadata.items() if is_class(role))
        return [target for signed in roles for target in signed.targets.values()]

    @property
    def versions(self) -> dict[str, int]:
        """Role → version."""
        return {role: metadata.signed.version for role, metadata in self.metadata.items()}

    @property
    def expires(self) -> dict[str, str]:
        """Role → expiry, ISO 8601 in UTC."""
        roles = self.metadata.items()
        return {role: f"{metadata.signed.expires:%Y-%m-%dT%H:%M:%SZ}" for role, metadata in roles}


class MetadataFolder:
    """The folder that holds the repository's files: `N.<role>.json`, `timestamp.json`, `rollout/…`, `trust/…`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> Current | None:
        """Return the current metadata after verifying it whole, with thresholds; None when there is none.

        Raises:
            TrustError: files are missing, damaged, or not signed by the keys that root names.
        """
        if not (self.folder / "timestamp.json").is_file():
            return None
        try:
            return self._read()
        except (RepositoryError, KeyError, IndexError, ValueError, AttributeError) as error:
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
        documents = {target_file(target): current.files[path] for path, target in _here(current).items()}
        roots = [file_name("root", version) for version in range(1, current.root.version + 1)]
        others = {
            file_name(role, current.versions[role]): current.bodies[role]
            for role in current.metadata
            if role not in ("root", "timestamp")
        }
        # Between a root with another timestamp key and that key's first timestamp devices can follow neither: a run
        # that is cut off there should have nothing else left to push.
        return {
            **documents,
            **others,
            **{name: self._bytes(name) for name in roots},
            file_name("timestamp", 0): current.bodies["timestamp"],
        }

    def _read(self) -> Current:
        timestamp: Metadata[Timestamp] = Metadata.from_bytes(self._bytes("timestamp.json"))
        root, body = self._root(timestamp)
        set_ = _Set({"root": root}, {"root": body})
        self._add(set_, "timestamp", root.signed)
        snapshot = self._add(set_, "snapshot", root.signed, timestamp.signed.snapshot_meta)
        meta = snapshot.signed.meta
        targets = self._add(set_, "targets", root.signed, meta["targets.json"])
        if any(path.startswith("artifacts/") for path in targets.signed.targets):
            raise TrustError(
                f"the metadata in {self.folder} has the layout of an earlier Edgewright, in which targets lists"
                " the artifacts",
                hint="move that folder and the registry's tuf repository away, release again, and give devices"
                " the new 1.root.json",
            )
        for role in delegated(targets.signed):
            self._add(set_, role, targets.signed, meta[f"{role}.json"])
        order = ("root", "targets", *delegated(targets.signed), "snapshot", "timestamp")
        current = Current({role: set_.metadata[role] for role in order}, set_.bodies, {})
        return Current(current.metadata, current.bodies, self._files(current))

    def _add(self, set_: _Set, role: str, delegator: Any, meta: Any = None) -> Metadata[Any]:
        body = self._bytes(file_name(role, meta.version if meta else 0))
        metadata: Metadata[Any] = Metadata.from_bytes(body)
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        if meta is not None:
            meta.verify_length_and_hashes(body)
            if metadata.signed.version != meta.version:
                raise ValueError(f"{role} has version {metadata.signed.version}, not {meta.version}")
        set_.metadata[role], set_.bodies[role] = metadata, body
        return metadata

    def _root(self, timestamp: Metadata[Timestamp]) -> tuple[Metadata[Root], bytes]:
        """Return the newest root of an unbroken chain that the timestamp belongs to.

        A crash can leave a root that the timestamp does not follow yet: it was never published.
        """
        chain: list[tuple[Metadata[Root], bytes]] = []
        while (self.folder / file_name("root", len(chain) + 1)).is_file() or not chain:
            body = self._bytes(file_name("root", len(chain) + 1))
            root: Metadata[Root] = Metadata.from_bytes(body)
            if root.signed.version != len(chain) + 1:
                raise ValueError(f"{len(chain) + 1}.root.json holds version {root.signed.version}")
            for delegator in (chain[-1][0].signed if chain else root.signed, root.signed):
                delegator.verify_delegate("root", root.signed_bytes, root.signatures)
            chain.append((root, body))
        snapshot: Metadata[Snapshot] = self._load("snapshot", timestamp.signed.snapshot_meta.version)
        targets = self._load("targets", snapshot.signed.meta["targets.json"].version)
        roles: dict[str, Metadata[Any]] = {"timestamp": timestamp, "snapshot": snapshot, "targets": targets}
        fitting = (entry for entry in reversed(chain) if _names(entry[0].signed, roles))
        return next(fitting, chain[-1])  # when none fits, the verification that follows says what is wrong

    def _load(self, role: str, version: int) -> Metadata[Any]:
        metadata: Metadata[Any] = Metadata.from_bytes(self._bytes(file_name(role, version)))
        return metadata

    def _files(self, current: Current) -> dict[str, bytes]:
        files = {}
        for path, target in _here(current).items():
            files[path] = self._bytes(target_file(target))
            target.verify_length_and_hashes(files[path])
        if ASSIGNMENT_TARGET not in files:
            raise ValueError(f"{ROLE_ROLLOUT} does not list {ASSIGNMENT_TARGET}")
        return files

    def _bytes(self, name: str) -> bytes:
        path = self.folder / name
        if not path.is_file():
            raise TrustError(f"{path} is missing", hint=_RESTORE)
        with storage("read", path):
            return path.read_bytes()


@dataclass
class _Set:
    metadata: dict[str, Metadata[Any]]
    bodies: dict[str, bytes]


def _names(root: Root, roles: Mapping[str, Metadata[Any]]) -> bool:
    return all(
        root.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
        for role, metadata in roles.items()
    )


def delegated(targets: Targets) -> tuple[str, ...]:
    """Return the roles that `targets` delegates to, class roles first."""
    roles = targets.delegations.roles if targets.delegations else None
    return tuple(sorted(roles or (), key=lambda role: (not is_class(role), role)))


def file_name(role: str, version: int) -> str:
    """Return the name of a metadata file (TUF 6.1, consistent snapshots): only timestamp has no version."""
    return "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"


def target_file(target: TargetFile) -> str:
    """Return the name of a target's file: it is found by its hash (TUF 6.1)."""
    folder, _, name = target.path.rpartition("/")
    return f"{folder}/{target.hashes['sha256']}.{name}"


def _here(current: Current) -> dict[str, TargetFile]:
    """Return the targets whose bytes are in the metadata folder: artifacts are in repositories of their own."""
    snapshot: Snapshot = current.metadata["snapshot"].signed
    assert ROLE_ROLLOUT + ".json" in snapshot.meta
    return {**current.metadata[ROLE_ROLLOUT].signed.targets, **current.targets.targets}
