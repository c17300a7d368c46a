"""The next revision of the TUF metadata, computed and signed in memory: only what changed gets a new version.

>>> staged = advance(current, targets=…, assignment=…, signers=…, lifetimes=…, now=…)   # doctest: +SKIP
>>> list(staged.files)                                                                  # doctest: +SKIP
['rollout/5c….assignment.json', '3.targets.json', '3.rollout.json', '5.snapshot.json', 'timestamp.json']
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from securesystemslib.signer import Key, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)

from edgewright.errors import TrustError
from edgewright.trust.repository import ASSIGNMENT_FOLDER, Current, assignment_file, file_name
from edgewright_agent.contract import ASSIGNMENT_TARGET, MAX_ASSIGNMENT_BYTES, MAX_TUF_BYTES, ROLE_ROLLOUT

NAMED_BY_ROOT = ("root", "targets", "snapshot", "timestamp")


@dataclass(frozen=True)
class Lifetimes:
    """How long each role's metadata is believed, in seconds."""

    root: float
    targets: float
    rollout: float
    snapshot: float
    timestamp: float

    def of(self, role: str) -> timedelta:
        """Return the lifetime of one role."""
        return timedelta(seconds=getattr(self, role))


@dataclass(frozen=True)
class Authority:
    """Who may sign now, and for how long.

    Attributes:
        public_key: Role → key; asked only when a repository is created.
        signer: Role → signer; asked only for roles that must sign.
        lifetimes: Expiry of each role.
        now: The time, UTC, whole seconds.
    """

    public_key: Callable[[str], Key]
    signer: Callable[[str], Signer]
    lifetimes: Lifetimes
    now: datetime

    def is_old(self, role: str, metadata: Metadata[Any]) -> bool:
        """Whether less than half of the role's lifetime is left."""
        left: timedelta = metadata.signed.expires - self.now
        return left < self.lifetimes.of(role) / 2


@dataclass(frozen=True)
class Staged:
    """What `advance` computed.

    Attributes:
        current: The set after it.
        files: New files (relative name → bytes), in the order in which they must appear; empty when nothing
            changed.
    """

    current: Current
    files: Mapping[str, bytes]


def advance(
    current: Current | None,
    *,
    targets: Mapping[str, TargetFile],
    assignment: bytes,
    authority: Authority,
    refresh: bool = False,
    renew_root: bool = True,
) -> Staged:
    """Return the next state of the repository.

    A role gets a new version when its content changed, when less than half of its lifetime is left, or
    (rollout, snapshot, timestamp) when `refresh` asks for it.

    Args:
        current: What there is; None creates version 1 of everything.
        targets: Every artifact that may be chosen, by target path.
        assignment: Bytes of the assignment document.
        authority: Keys, lifetimes and the time.
        refresh: Sign rollout, snapshot and timestamp again in any case.
        renew_root: Whether root may be renewed when half of its life is over (its key is often offline).

    Raises:
        TrustError: a signer's key is not the one the metadata names, or a file is larger than devices read.
    """
    if len(assignment) > MAX_ASSIGNMENT_BYTES:
        raise TrustError(f"the assignment of {len(assignment)} bytes is more than devices read")
    step = _Step(authority)
    old = current.roles() if current else {}
    bodies = dict(current.bodies) if current else {}

    def due(role: str, *because: bool) -> bool:
        return role not in old or any(because) or authority.is_old(role, old[role])

    def sign(role: str, signed: Any, delegator: Any) -> Metadata[Any]:
        signed.version = old[role].signed.version + 1 if role in old else 1
        metadata, bodies[role] = step.sign(role, signed, delegator)
        return metadata

    root = old.get("root")
    if root is None:
        fresh = _new_root(authority.public_key)
        root = sign("root", fresh, fresh)
    elif renew_root and due("root"):
        root = sign("root", copy.deepcopy(root.signed), root.signed)

    tops = old.get("targets")
    if tops is None or due("targets", _listing(tops.signed.targets) != _listing(targets)):
        delegations = tops.signed.delegations if tops else _delegations(authority.public_key(ROLE_ROLLOUT))
        tops = sign("targets", Targets(targets=dict(targets), delegations=delegations), root.signed)

    rollout = old.get(ROLE_ROLLOUT)
    listing = {ASSIGNMENT_TARGET: TargetFile.from_data(ASSIGNMENT_TARGET, assignment, ["sha256"])}
    if rollout is None or due(ROLE_ROLLOUT, refresh, _listing(rollout.signed.targets) != _listing(listing)):
        rollout = sign(ROLE_ROLLOUT, Targets(targets=listing), tops.signed)

    snapshot = old.get("snapshot")
    if snapshot is None or due("snapshot", refresh, step.signed("targets", ROLE_ROLLOUT)):
        meta = {
            f"{role}.json": _meta_file(metadata, bodies[role])
            for role, metadata in (("targets", tops), (ROLE_ROLLOUT, rollout))
        }
        snapshot = sign("snapshot", Snapshot(meta=meta), root.signed)

    timestamp = old.get("timestamp")
    # A new root is noticed only by devices that see a new timestamp.
    if timestamp is None or due("timestamp", refresh, step.signed("snapshot", "root")):
        meta_file = _meta_file(snapshot, bodies["snapshot"])
        timestamp = sign("timestamp", Timestamp(snapshot_meta=meta_file), root.signed)

    new_assignment = current is None or current.assignment != assignment
    files = {assignment_file(assignment): assignment} if new_assignment else {}
    following = Current(root, tops, rollout, snapshot, timestamp, assignment, bodies)
    return Staged(following, {**files, **step.files})


@dataclass
class _Step:
    """Signs, and remembers what it signed."""

    authority: Authority
    files: dict[str, bytes] = field(default_factory=dict)
    roles: set[str] = field(default_factory=set)

    def signed(self, *roles: str) -> bool:
        return not self.roles.isdisjoint(roles)

    def sign(self, role: str, signed: Any, delegator: Root | Targets) -> tuple[Metadata[Any], bytes]:
        signed.expires = self.authority.now + self.authority.lifetimes.of(role)
        signer = self.authority.signer(role)
        if signer.public_key.keyid not in delegator.get_delegated_role(role).keyids:
            raise TrustError(
                f"the key in {role}.key is not the one the metadata names for {role}",
                hint="use the keys this repository was created with; `edgewright keys show` lists them",
            )
        metadata: Metadata[Any] = Metadata(signed)
        metadata.sign(signer)
        body = metadata.to_bytes()
        if len(body) > MAX_TUF_BYTES:
            raise TrustError(f"{role} metadata of {len(body)} bytes is more than devices read")
        self.roles.add(role)
        self.files[file_name(role, signed.version)] = body
        return metadata, body


def _new_root(public_key: Callable[[str], Key]) -> Root:
    keys = {role: public_key(role) for role in NAMED_BY_ROOT}
    roles = {role: Role([key.keyid], 1) for role, key in keys.items()}
    return Root(keys={key.keyid: key for key in keys.values()}, roles=roles, consistent_snapshot=True)


def _delegations(key: Key) -> Delegations:
    role = DelegatedRole(ROLE_ROLLOUT, [key.keyid], 1, terminating=True, paths=[f"{ASSIGNMENT_FOLDER}/*"])
    return Delegations({key.keyid: key}, {ROLE_ROLLOUT: role})


def _meta_file(metadata: Metadata[Any], body: bytes) -> MetaFile:
    # Length and hash as well as version: a device stops reading where the file ends.
    return MetaFile.from_data(metadata.signed.version, body, ["sha256"])


def _listing(targets: Mapping[str, TargetFile]) -> str:
    return json.dumps({path: file.to_dict() for path, file in targets.items()}, sort_keys=True)
