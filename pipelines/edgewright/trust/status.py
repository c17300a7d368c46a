"""How a fleet's trust stands: every role's version, expiry and keys, what waits for whom, and what to do next.

>>> status = inspect(workspace)              # doctest: +SKIP
>>> status.next                              # doctest: +SKIP
('root 2 needs 1 more signature of root-b: where that key is, edgewright trust sign',)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright.errors import TrustError
from edgewright.trust.delegation import Holders, holders_in
from edgewright.trust.publication import Publication, count, opened
from edgewright.trust.repository import Current, delegated
from edgewright.trust.roles import (
    ARTIFACTS,
    PURPOSES,
    SIGNING,
    TOP,
    class_of,
    declared,
    is_class,
    is_declared,
    purposes,
)
from edgewright.trust.signers import key_fingerprint
from edgewright.trust.staged import Signing, StagedFolder

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace


@dataclass(frozen=True)
class KeyStatus:
    """A key of a role.

    Attributes:
        name: What people call it.
        fingerprint: sha256 of its SubjectPublicKeyInfo, hex.
        absence: Why it cannot sign here; None when it can.
    """

    name: str
    fingerprint: str
    absence: str | None


@dataclass(frozen=True)
class StagedStatus:
    """A version of a role that waits.

    Attributes:
        version: Its version.
        signed: Names of the keys that have signed it.
        missing: How many signatures are missing at least.
        waiting: Names of the keys whose signature would help.
    """

    version: int
    signed: tuple[str, ...]
    missing: int
    waiting: tuple[str, ...]


@dataclass(frozen=True)
class RoleStatus:
    """A role.

    Attributes:
        role: Its name.
        version: Current version; None before the first release.
        expires: When that is no longer believed, ISO 8601.
        seconds_left: Until then; negative afterwards.
        state: `valid`, `due` (less than half of its life is left), `expired` or `absent`.
        threshold: How many keys have to sign.
        keys: The keys that may.
        staged: What waits for signatures or for being taken over.
        declared: Whether fleet.yaml says something else about its keys than the metadata does: `no`, `same`, `other`.
    """

    role: str
    version: int | None
    expires: str | None
    seconds_left: float | None
    state: str
    threshold: int
    keys: tuple[KeyStatus, ...]
    staged: StagedStatus | None
    declared: str


@dataclass(frozen=True)
class TrustStatus:
    """All roles, and what to do next, most urgent first."""

    roles: tuple[RoleStatus, ...]
    next: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self)


def inspect(workspace: Workspace, *, folder: Path | None = None, now: datetime | None = None) -> TrustStatus:
    """Return how a fleet's trust stands; touches no network and asks for no passphrase.

    Args:
        workspace: The checked specs.
        folder: What is staged, when it was carried here; default `<trust.metadata>/staged`.
        now: The time (UTC).

    Raises:
        TrustError: the metadata is damaged, or what is staged does not follow it.
    """
    with opened(workspace, now) as publication:
        if folder is not None:
            staging = StagedFolder(folder)
            publication = replace(publication, staging=staging, staged=staging.read(publication.current))
        current, staged = publication.current, publication.staged
        if current is None and not staged.metadata:
            return TrustStatus((), ("nothing is signed yet: edgewright trust init, or edgewright release",))
        signing = {one.role: one for one in staged.signing(current)}
        names = [*(current.metadata if current else ())]
        if "targets" in staged.metadata:  # who will sign for classes and rollouts is decided there
            names += delegated(staged.metadata["targets"].signed)
        names = list(dict.fromkeys((*(() if current else TOP), *names, *signing)))
        roles = tuple(_role(workspace, publication, role, signing.get(role)) for role in names)
        advice = _next(workspace, publication, roles, list(signing.values()), carried=folder)
        return TrustStatus(roles, tuple(advice))


def purposes_now(workspace: Workspace) -> dict[str, str]:
    """Return name → what it is for, of every key: as metadata has it; before the first release, as fleet.yaml does.

    Raises:
        TrustError: the metadata is damaged.
    """
    trust = workspace.fleet.trust
    said = purposes(trust)
    roles = inspect(workspace).roles
    words: dict[str, dict[str, None]] = {}
    for role in roles:
        shared = is_class(role.role) and class_of(role.role) not in trust.roles.classes
        what = PURPOSES.get(ARTIFACTS if shared else role.role)
        for key in role.keys:
            words.setdefault(key.name, {})[
                what or f"says which artifacts exist for {class_of(role.role)}"
            ] = None
    if all(role.version is None for role in roles):
        named = said
    else:
        declared_ = {name for keys in trust.roles.named().values() for name in keys.names}
        # What fleet.yaml names and metadata does not is the next key of its role.
        named = {name: f"not yet: {said[name]}" for name in said if name in declared_}
        named |= {name: "; ".join(found) for name, found in words.items()}
    return {**_signing(workspace), **{name: what for name, what in named.items() if name != SIGNING}}


def _signing(workspace: Workspace) -> dict[str, str]:
    """Return the key that signs artifacts, when there is one and it is kept with the others."""
    fleet = workspace.fleet
    if fleet.signing.mode != "key":
        return {}
    path = Path(fleet.signing.public_key)
    return {path.stem: PURPOSES[SIGNING]} if path.parent == Path(fleet.trust.keys) else {}


def _role(workspace: Workspace, publication: Publication, role: str, signing: Signing | None) -> RoleStatus:
    current, authority = publication.current, publication.authority
    metadata = current.metadata.get(role) if current else None
    holders = _holders(publication, role)
    state, left = "absent", None
    if metadata is not None:
        left = (metadata.signed.expires - authority.now).total_seconds()
        state = "expired" if left <= 0 else "due" if authority.is_old(role, metadata) else "valid"
    return RoleStatus(
        role=role,
        version=metadata.signed.version if metadata else None,
        expires=f"{metadata.signed.expires:%Y-%m-%dT%H:%M:%SZ}" if metadata else None,
        seconds_left=left,
        state=state,
        threshold=holders.threshold,
        keys=tuple(_key(publication, key) for key in holders.keys),
        staged=_staged(publication, signing) if signing else None,
        declared=_declared(workspace, publication, role, holders),
    )


def _holders(publication: Publication, role: str) -> Holders:
    current: Current | None = publication.current
    parent = "root" if role in TOP else "targets"
    found = (current.metadata if current else publication.staged.metadata).get(parent)
    if found is None or (current is not None and role not in current.metadata):
        found = publication.staged.metadata.get(parent)
    return holders_in(found.signed, role) if found is not None else Holders(0, ())


def _key(publication: Publication, key: Any) -> KeyStatus:
    ring = publication.authority.ring
    name = ring.name_of(key)
    return KeyStatus(name, key_fingerprint(key), ring.absence(name))


def _staged(publication: Publication, signing: Signing) -> StagedStatus:
    name_of = publication.authority.ring.name_of
    signed, waiting = ([name_of(key) for key in keys.values()] for keys in (signing.signed, signing.waiting))
    return StagedStatus(signing.version, tuple(signed), signing.missing, tuple(waiting))


def _declared(workspace: Workspace, publication: Publication, role: str, holders: Holders) -> str:
    trust = workspace.fleet.trust
    if not is_declared(trust, role):
        return "no"
    said = declared(trust, role)
    ring = publication.authority.ring
    try:
        ids = {ring.public(name).keyid for name in said.names}
        same = ids == set(holders.ids)
    except TrustError:  # a public half is not here: names have to do
        same = set(said.names) == {ring.name_of(key) for key in holders.keys}
    return "same" if same and said.threshold == holders.threshold else "other"


def _next(
    workspace: Workspace,
    publication: Publication,
    roles: tuple[RoleStatus, ...],
    signing: list[Signing],
    *,
    carried: Path | None,
) -> Iterator[str]:
    ring = publication.authority.ring
    sign = "edgewright trust sign" + (f" --staged {carried}" if carried is not None else "")
    waits = [one for one in signing if not one.complete]
    for one in waits:
        names = [ring.name_of(key) for key in one.waiting.values()]
        here = [name for name in names if ring.absence(name) is None]
        where = "here" if here else f"where {'that key is' if len(names) == 1 else 'such a key is'}"
        asked = f"{one.role} {one.version} needs {count(one.missing)} of {', '.join(names)}"
        # Where another holder has put the folder is theirs to say.
        yield f"{asked}: {where}, {sign if here else 'edgewright trust sign'}"
    if signing and not waits:
        what = "edgewright trust refresh" if publication.current is not None else "edgewright release"
        back = f"put {carried} back where it was staged; there, " if carried is not None else ""
        yield f"everything staged has its signatures: {back}{what}"
    staged = {one.role for one in signing}
    for role in roles:
        if role.state in ("expired", "due") and role.role not in staged:
            word = "has expired" if role.state == "expired" else f"expires on {role.expires}"
            enough = sum(key.absence is None for key in role.keys) >= role.threshold
            fresh = enough or role.role in ("snapshot", "timestamp")
            yield f"{role.role} {word}: edgewright trust {'refresh' if fresh else f'renew {role.role}'}"
        # Before the first release fleet.yaml counts anyway, unless it was staged.
        if role.declared == "other" and role.version is not None and role.role not in staged:
            shared = is_class(role.role) and class_of(role.role) not in workspace.fleet.trust.roles.classes
            name = ARTIFACTS if shared else role.role
            yield (
                f"fleet.yaml names other keys for {role.role}: edgewright trust rotate {name}"
                " (git pull, where this fleet.yaml is an old one)"
            )
