"""The next revision of the TUF metadata, computed and signed in memory: only what changed gets a new version.

>>> following = advance(current, staged, wanted=wanted, authority=authority)            # doctest: +SKIP
>>> list(following.files)                                                               # doctest: +SKIP
['rollout/5c….assignment.json', '3.class-raspberry-pi-4.json', '3.rollout.json', '5.snapshot.json', 'timestamp.json']

What cannot be signed by as many keys as it needs stops the revision before anything is written: it becomes
`following.staged`, with the signatures there are, and `following.pending` says who is asked.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from edgewright.errors import TrustError
from edgewright.trust.authority import Authority, add_signatures, vouched_for
from edgewright.trust.delegation import delegate, holders_in, new_root
from edgewright.trust.repository import Current, delegated, file_name, target_file
from edgewright.trust.roles import TOP, class_of, is_class
from edgewright.trust.staged import Signing, Staged, signing
from edgewright_agent.contract import (
    ASSIGNMENT_TARGET,
    ISSUED_FIELD,
    MAX_ASSIGNMENT_BYTES,
    MAX_TUF_BYTES,
    ROLE_ROLLOUT,
)

FRESHNESS = frozenset({"snapshot", "timestamp"})


@dataclass(frozen=True)
class Wanted:
    """What the metadata should say.

    Attributes:
        classes: Hardware class → target path → artifact that may be chosen.
        documents: Target path → bytes of the trust documents.
        assignment: Bytes of the assignment document.
    """

    classes: Mapping[str, Mapping[str, TargetFile]]
    documents: Mapping[str, bytes]
    assignment: bytes


@dataclass(frozen=True)
class Following:
    """What `advance` computed.

    Attributes:
        current: The set after it; the former one when something is pending.
        files: New files (relative name → bytes), in the order in which they must appear; empty when nothing
            changed or something is pending.
        staged: What waits for signatures after it.
        pending: What could not be completed and is needed.
    """

    current: Current | None
    files: Mapping[str, bytes]
    staged: Staged
    pending: tuple[Signing, ...]


def advance(
    current: Current | None,
    staged: Staged,
    *,
    wanted: Wanted | None,
    authority: Authority,
    again: Set[str] = frozenset(),
) -> Following:
    """Return the next state of the repository.

    Staged changes that have all their signatures are taken over. Beyond that a role gets a new version when its
    content changed, when its keys did, when less than half of its lifetime is left and its keys are at hand, or
    when `again` names it.

    Args:
        current: What there is; None creates version 1 of everything.
        staged: What waits for signatures.
        wanted: What it should say; None: what it says now.
        authority: Keys, lifetimes and the time.
        again: Roles to sign again in any case, of rollout, snapshot and timestamp.

    Raises:
        TrustError: a key of snapshot or timestamp is missing, a signer's key is not the one the metadata names,
            or a file is larger than devices read.
    """
    if wanted is not None and len(wanted.assignment) > MAX_ASSIGNMENT_BYTES:
        raise TrustError(f"the assignment of {len(wanted.assignment)} bytes is more than devices read")
    step = _Step(current, staged, wanted, authority, again)
    step.root()
    step.targets()
    if "targets" not in step.blocked:
        for role in delegated(step.work["targets"].signed):
            step.delegated(role)
    if step.blocked:
        return step.waiting()
    step.freshness()
    return step.finished()


def begin(current: Current | None, staged: Staged, *, wanted: Wanted, authority: Authority) -> Following:
    """Return the first root and targets as something staged, signed by the keys at hand, for a key ceremony.

    Raises:
        TrustError: as for `advance`.
    """
    step = _Step(current, staged, wanted, authority, frozenset())
    step.root()
    step.targets()
    return step.waiting()


@dataclass
class _Step:
    """One revision in the making."""

    current: Current | None
    staged: Staged
    wanted: Wanted | None
    authority: Authority
    again: Set[str]
    work: dict[str, Metadata[Any]] = field(default_factory=dict)
    taken: dict[str, Metadata[Any]] = field(default_factory=dict)
    blocked: dict[str, Signing] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.old: Mapping[str, Metadata[Any]] = self.current.metadata if self.current else {}
        self.work = dict(self.old)

    def root(self) -> None:
        old, staged = self.old.get("root"), self.staged.metadata.get("root")
        if staged is not None:
            if old is None:
                self._require_declared(staged.signed)
            # Without its signatures it only waits: the former root goes on, if there is one.
            if self._signing("root", staged, staged.signed).complete:
                self._take("root", staged)
            elif old is None:
                self._block("root", staged, staged.signed)
        elif old is None:
            fresh = new_root(self.authority.holders)
            self._settle("root", self._sign("root", fresh, fresh), fresh)
        elif self.authority.is_old("root", old):
            following = copy.deepcopy(old.signed)
            self._renew("root", following, following)

    def _require_declared(self, root: Root) -> None:
        """Refuse a first root, which vouches for itself, whose keys are not those that fleet.yaml names.

        Raises:
            TrustError: they are not, or a public half is not here to tell.
        """
        for role in TOP:
            said, found = self.authority.holders(role, None), holders_in(root, role)
            if (set(said.ids), said.threshold) != (set(found.ids), found.threshold):
                raise TrustError(
                    f"the staged root names other keys for {role} than fleet.yaml",
                    hint="edgewright trust status shows which; remove what is staged, and edgewright trust init",
                )

    def targets(self) -> None:
        root: Root = self.work["root"].signed
        base, staged = self.old.get("targets"), self.staged.metadata.get("targets")
        if staged is not None and self._signing("targets", staged, root).complete:
            self._take("targets", staged)
            base, staged = staged, None
        says = self._delegations(base)
        if base is not None and _same(says, base.signed) and self._signing("targets", base, root).complete:
            if "targets" not in self.taken and self.authority.is_old("targets", base):
                self._renew("targets", says, root)
            return
        if staged is not None and _same(self._delegations(staged), staged.signed):
            # Somebody else's change is in it as well when it says more than this one: signed with `trust sign`.
            if _same(says, staged.signed) and self._seen("targets", staged):
                staged = self._sign("targets", staged.signed, root, staged)
            self._settle("targets", staged, root)
            return
        if staged is not None:
            says = self._delegations(staged)
            if not vouched_for(self.authority.ring, staged):
                self._settle("targets", self._next("targets", says), root)
                return
        self._settle("targets", self._sign("targets", says, root), root)

    def delegated(self, role: str) -> None:
        targets: Targets = self.work["targets"].signed
        old, staged = self.old.get(role), self.staged.metadata.get(role)
        says = self._listing(role, old)
        same = staged is not None and (self.wanted is None or _same(says, staged.signed))
        if same and staged is not None and self._signing(role, staged, targets).complete:
            self._take(role, staged)
            return
        stands = old is not None and _same(says, old.signed) and self._signing(role, old, targets).complete
        if stands and role not in self.again:
            assert old is not None
            if self.authority.is_old(role, old):
                self._renew(role, says, targets)
            return
        if not same or staged is None or staged.signed.expires <= self.authority.now:
            self._settle(role, self._sign(role, says, targets), targets)
        elif self._seen(role, staged):
            self._settle(role, self._sign(role, staged.signed, targets, staged), targets)
        elif self.wanted is None:
            self._settle(role, staged, targets)
        else:
            self._settle(role, self._sign(role, says, targets), targets)

    def freshness(self) -> None:
        """Sign snapshot and timestamp; their keys are online, so a missing one is an error and nothing waits."""
        root: Root = self.work["root"].signed
        targets: Targets = self.work["targets"].signed
        roles = ("targets", *delegated(targets))
        if self._stale("snapshot", root, roles):
            meta = {f"{role}.json": self._meta_file(role) for role in roles}
            # A client refuses a snapshot that no longer lists what it listed (TUF 5.5.5).
            assert "snapshot" not in self.old or set(self.old["snapshot"].signed.meta) <= set(meta)
            self._sign_now("snapshot", Snapshot(meta=meta), root)
        # A new root is noticed only by devices that see a new timestamp.
        if self._stale("timestamp", root, ("snapshot", "root")):
            issued = {ISSUED_FIELD: f"{self.authority.now:%Y-%m-%dT%H:%M:%SZ}"}
            meta_file = self._meta_file("snapshot")
            self._sign_now("timestamp", Timestamp(snapshot_meta=meta_file, unrecognized_fields=issued), root)

    def waiting(self) -> Following:
        """Return what has to be staged: all that is new, so that it is signed and becomes current together."""
        metadata = {**self._left(), **self.taken}
        ordered = {role: metadata[role] for role in _ordered(metadata)}
        return Following(self.current, {}, Staged(ordered, self._files()), tuple(self.blocked.values()))

    def finished(self) -> Following:
        order = ("root", "targets", *delegated(self.work["targets"].signed), "snapshot", "timestamp")
        bodies = {role: self._body(role) for role in order}
        files = self._files()
        current = Current(
            {role: self.work[role] for role in order},
            bodies,
            {path: files[path] for path in (*self.work["targets"].signed.targets, ASSIGNMENT_TARGET)},
        )
        known = self.current.files if self.current else {}
        listed = {**self.work["targets"].signed.targets, **self.work[ROLE_ROLLOUT].signed.targets}
        new = {
            target_file(listed[path]): body for path, body in current.files.items() if known.get(path) != body
        }
        new |= {
            file_name(role, self.work[role].signed.version): bodies[role]
            for role in order
            if role in self.taken
        }
        left = self._left()
        return Following(current, new, Staged(left, files), ())

    # --- what the roles should say -------------------------------------------------------------------------------

    def _delegations(self, base: Metadata[Any] | None) -> Targets:
        if self.wanted is None:
            if base is None:
                raise TrustError("nothing has been released yet", hint="edgewright release")
            says: Targets = copy.deepcopy(base.signed)
            return says
        return delegate(
            base.signed if base is not None else None,
            classes=sorted(self.wanted.classes),
            documents=self.wanted.documents,
            holders=self.authority.holders,
        )

    def _listing(self, role: str, old: Metadata[Any] | None) -> Targets:
        if self.wanted is None:
            if role == ROLE_ROLLOUT and old is None and role not in self.staged.metadata:
                raise TrustError("nothing has been released yet", hint="edgewright release")
            return copy.deepcopy(old.signed) if old is not None else Targets()
        if is_class(role):
            return Targets(targets=dict(self.wanted.classes.get(class_of(role), {})))
        target = TargetFile.from_data(ASSIGNMENT_TARGET, self.wanted.assignment, ["sha256"])
        return Targets(targets={ASSIGNMENT_TARGET: target})

    def _files(self) -> dict[str, bytes]:
        known = {**(self.current.files if self.current else {}), **self.staged.files}
        if self.wanted is not None:
            known |= {**self.wanted.documents, ASSIGNMENT_TARGET: self.wanted.assignment}
        return known

    # --- signing -------------------------------------------------------------------------------------------------

    def _signing(self, role: str, metadata: Metadata[Any], delegator: Root | Targets) -> Signing:
        former = self.old["root"].signed if role == "root" and "root" in self.old else None
        return signing(role, metadata, delegator, former)

    def _sign(
        self, role: str, signed: Any, delegator: Root | Targets, staged: Metadata[Any] | None = None
    ) -> Metadata[Any]:
        """Sign with every key at hand, on top of the signatures there are."""
        metadata = self._next(role, signed) if staged is None else Metadata(signed, dict(staged.signatures))
        add_signatures(self.authority.ring, role, metadata, self._signing(role, metadata, delegator))
        return metadata

    def _next(self, role: str, signed: Any) -> Metadata[Any]:
        """Return the next version of a role, with a whole lifetime before it and no signature."""
        signed.version = self.old[role].signed.version + 1 if role in self.old else 1
        signed.expires = self.authority.now + self.authority.lifetimes.of(role)
        return Metadata(signed)

    def _seen(self, role: str, staged: Metadata[Any]) -> bool:
        """Whether the keys here may finish what is staged and says what is wanted.

        Whoever can write to the folder has no key: what nobody here has signed must be what would be signed anyway,
        and live no longer.
        """
        latest = self.authority.now + self.authority.lifetimes.of(role)
        ours = self.wanted is not None and staged.signed.expires <= latest
        return ours or vouched_for(self.authority.ring, staged)

    def _sign_now(self, role: str, signed: Any, delegator: Root) -> None:
        metadata = self._sign(role, signed, delegator)
        found = self._signing(role, metadata, delegator)
        if not found.complete:
            ring = self.authority.ring
            names = [ring.name_of(key) for key in found.waiting.values()]
            raise TrustError(
                f"{role} cannot be signed here: " + "; ".join(str(ring.absence(name)) for name in names),
                hint=f"{role} is signed at every release: put {found.missing} of {', '.join(names)} here, or"
                f" run this where it is",
            )
        self._take(role, metadata)

    def _renew(self, role: str, signed: Any, delegator: Root | Targets) -> None:
        """Extend a role's life if that can be done here; otherwise its expiry is `trust status`'s to tell."""
        former = self.old["root"].signed if role == "root" else delegator
        for one in (delegator, former):
            keys = [one.get_key(keyid) for keyid in one.get_delegated_role(role).keyids]
            if sum(map(self.authority.ring.has, keys)) < one.get_delegated_role(role).threshold:
                return
        self._take(role, self._sign(role, signed, delegator))

    def _settle(self, role: str, metadata: Metadata[Any], delegator: Root | Targets) -> None:
        if self._signing(role, metadata, delegator).complete:
            self._take(role, metadata)
        else:
            self._block(role, metadata, delegator)

    def _take(self, role: str, metadata: Metadata[Any]) -> None:
        _body(role, metadata)
        self.work[role] = self.taken[role] = metadata

    def _block(self, role: str, metadata: Metadata[Any], delegator: Root | Targets) -> None:
        self.blocked[role] = self._signing(role, metadata, delegator)
        self._take(role, metadata)

    def _body(self, role: str) -> bytes:
        if role in self.taken or self.current is None:
            return _body(role, self.work[role])
        return self.current.bodies[role]

    def _meta_file(self, role: str) -> MetaFile:
        # Length and hash as well as version: a device stops reading where the file ends.
        return MetaFile.from_data(self.work[role].signed.version, self._body(role), ["sha256"])

    def _left(self) -> dict[str, Metadata[Any]]:
        """Return what was staged and still waits; what another revision has overtaken is dropped."""
        kept = ("root", "targets") if self.wanted is not None else tuple(self.staged.metadata)
        return {
            role: self.staged.metadata[role]
            for role in self.staged.metadata
            if role in kept and role not in self.taken
        }

    def _stale(self, role: str, root: Root, below: tuple[str, ...]) -> bool:
        old = self.old.get(role)
        return (
            old is None
            or role in self.again
            or not self.taken.keys().isdisjoint(below)
            or self.authority.is_old(role, old)
            or not self._signing(role, old, root).complete
        )


def _ordered(roles: Mapping[str, Any]) -> list[str]:
    return sorted(roles, key=lambda role: ({"root": 0, "targets": 1, ROLE_ROLLOUT: 3}.get(role, 2), role))


def _body(role: str, metadata: Metadata[Any]) -> bytes:
    body: bytes = metadata.to_bytes()
    if len(body) > MAX_TUF_BYTES:
        raise TrustError(f"{role} metadata of {len(body)} bytes is more than devices read")
    return body


def _same(one: Targets, other: Targets) -> bool:
    return _content(one) == _content(other)


def _content(targets: Targets) -> str:
    document = targets.to_dict()
    return json.dumps({key: document.get(key) for key in ("targets", "delegations")}, sort_keys=True)
