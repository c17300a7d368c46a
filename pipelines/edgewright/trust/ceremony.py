"""What people do with keys: begin, replace, renew, sign. Each writes `staged/` and nothing else.

>>> rotate(workspace, ["timestamp"]).made           # doctest: +SKIP
('timestamp-2',)
>>> sign(workspace)                                 # doctest: +SKIP
{'root': ('root-b',)}

`edgewright trust refresh` (or the next release) takes over what is completely signed, and publishes it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuf.api.metadata import Metadata, Root, Targets

from edgewright.errors import TrustError
from edgewright.trust.delegation import Holders, holders_in, with_delegated_role, with_root_role
from edgewright.trust.documents import trust_documents
from edgewright.trust.keys import create_key, next_name
from edgewright.trust.publication import Publication, opened
from edgewright.trust.repository import Current, delegated
from edgewright.trust.revision import Wanted, add_signatures, begin
from edgewright.trust.roles import ARTIFACTS, TOP, class_of, declared, is_class, is_declared, setting
from edgewright.trust.staged import Signing, Staged, StagedFolder
from edgewright_agent.contract import ROLE_ROLLOUT

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace


@dataclass(frozen=True)
class Ceremony:
    """What a command staged.

    Attributes:
        staged: Everything that is staged after it.
        signing: How far each staged role is.
        made: Names of keys that were made.
        folder: Where it is staged.
    """

    staged: Staged
    signing: tuple[Signing, ...]
    made: tuple[str, ...]
    folder: Path


def initialise(workspace: Workspace, *, now: datetime | None = None) -> Ceremony:
    """Stage version 1 of root and targets, signed by the keys at hand.

    Raises:
        TrustError: there is metadata already, or a public half is missing.
    """
    with opened(workspace, now) as publication:
        if publication.current is not None:
            raise TrustError(
                "this fleet has its metadata already", hint="edgewright trust status says what it is"
            )
        if publication.staged.metadata:
            raise TrustError(
                f"version 1 is staged already in {publication.staging.folder}",
                hint="edgewright trust sign adds signatures; remove that folder to begin anew",
            )
        classes: Mapping[str, Mapping[str, Any]] = {name: {} for name in workspace.hardware}
        wanted = Wanted(classes, trust_documents(workspace), b"")
        following = begin(None, publication.staged, wanted=wanted, authority=publication.authority)
        return _stage(publication, following.staged)


def rotate(
    workspace: Workspace,
    roles: Sequence[str],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
    threshold: int | None = None,
    passphrase: str | None = None,
    now: datetime | None = None,
) -> Ceremony:
    """Stage other keys for some roles.

    A role that fleet.yaml names the keys of gets those. Any other gets a fresh key in place of each of its keys, or
    what `add`, `remove` and `threshold` say; keys that are not there yet are made.

    Args:
        workspace: The checked specs.
        roles: `root`, `targets`, `snapshot`, `timestamp`, `rollout`, `artifacts` or `class-<name>`.
        add: Names of keys the role gets (one role only), as the next two.
        remove: Names of keys it loses.
        threshold: How many have to sign.
        passphrase: Encrypts keys that are made.
        now: The time (UTC).

    Raises:
        TrustError: nothing has been released yet, or what is asked contradicts fleet.yaml or itself.
    """
    if len(roles) != 1 and (add or remove or threshold is not None):
        raise TrustError("--add, --remove and --threshold are about one role; name just one")
    with opened(workspace, now) as publication:
        current = _require_current(publication)
        change = _Change(workspace, publication, passphrase)
        concerned = [change.concerned(role, current) for role in roles]  # all of them before a key is made
        for group in concerned:
            change.rotate(group, current, add, remove, threshold)
        return _stage(publication, change.staged(current), tuple(change.made.values()))


def renew(workspace: Workspace, role: str, *, now: datetime | None = None) -> Ceremony:
    """Stage the next version of a role's metadata that differs in its expiry only.

    Raises:
        TrustError: the role signs itself anew at every release, or something of it is staged already.
    """
    with opened(workspace, now) as publication:
        current = _require_current(publication)
        if role not in current.metadata or role in ("snapshot", "timestamp"):
            raise TrustError(
                f"'{role}' is not a role that is renewed by hand", hint="edgewright trust refresh"
            )
        staged = publication.staged
        if role in staged.metadata:
            raise TrustError(
                f"{role} is staged already", hint="edgewright trust status says what it waits for"
            )
        following = _next(publication, role, copy.deepcopy(current.metadata[role].signed))
        metadata = {**staged.metadata, role: following}
        return _stage(
            publication, _signed(publication, Staged(metadata, {**current.files, **staged.files}), [role])
        )


@dataclass(frozen=True)
class Review:
    """What somebody is about to sign.

    Attributes:
        role: The role.
        version: The version it would have.
        changes: Sentences: old → new.
        signers: Names of the keys here that can sign it and are still asked.
    """

    role: str
    version: int
    changes: tuple[str, ...]
    signers: tuple[str, ...]


def sign(
    workspace: Workspace,
    *,
    folder: Path | None = None,
    confirm: Callable[[Sequence[Review]], bool] = lambda _reviews: True,
    now: datetime | None = None,
) -> tuple[Ceremony, Mapping[str, tuple[str, ...]]]:
    """Add the signatures of the keys at hand to what is staged, after verifying it against what is current.

    Args:
        workspace: The checked specs.
        folder: Where it is staged, when it was carried here; default `<trust.metadata>/staged`.
        confirm: Asked with what is about to be signed; False signs nothing.
        now: The time (UTC).

    Returns:
        What is staged after it, and role → names of the keys that signed now.

    Raises:
        TrustError: nothing is staged, it does not follow what is current, or no key here is asked.
    """
    with opened(workspace, now) as publication:
        staging = StagedFolder(folder) if folder is not None else publication.staging
        staged = staging.read(publication.current)
        if not staged.metadata:
            raise TrustError(
                f"nothing waits for signatures in {staging.folder}", hint="edgewright trust status"
            )
        reviews = [*_reviews(publication, staged)]
        asked = [review for review in reviews if review.signers]
        added: dict[str, tuple[str, ...]] = {}
        if not asked:
            ring = publication.authority.ring
            waiting = {
                ring.name_of(key)
                for one in staged.signing(publication.current)
                for key in one.waiting.values()
            }
            if waiting:
                raise TrustError(
                    f"no key here is asked: the signatures of {', '.join(sorted(waiting))} are missing",
                    hint="run this where one of those keys is",
                )
        elif confirm(asked):
            for one in staged.signing(publication.current):
                if not one.complete:
                    names = add_signatures(
                        publication.authority.ring, one.role, staged.metadata[one.role], one
                    )
                    added[one.role] = tuple(names)
            staging.write(staged)
        signing = tuple(staged.signing(publication.current))
        return Ceremony(staged, signing, (), staging.folder), added


def exported_root(workspace: Workspace, version: int | None = None) -> tuple[int, bytes]:
    """Return version and bytes of a root to give to devices: the newest, or the one asked for.

    Raises:
        TrustError: there is none that has all its signatures.
    """
    with opened(workspace) as publication:
        current = publication.current
        if current is not None:
            wanted = version or current.root.version
            path = publication.folder.folder / f"{wanted}.root.json"
            if wanted > current.root.version or not path.is_file():
                raise TrustError(f"there is no root {wanted}; the newest is {current.root.version}")
            return wanted, path.read_bytes()
        for one in publication.staged.signing(None):
            if one.role == "root" and one.complete and version in (None, 1):
                return 1, publication.staged.metadata["root"].to_bytes()
        raise TrustError("there is no root with all its signatures yet", hint="edgewright trust status")


@dataclass
class _Change:
    """Other keys for some roles, in the making."""

    workspace: Workspace
    publication: Publication
    passphrase: str | None
    made: dict[str, str] = field(default_factory=dict)
    root: Root | None = None
    targets: Targets | None = None

    def concerned(self, role: str, current: Current) -> list[str]:
        """Return the roles somebody means by `role`: `artifacts` is every class without keys of its own."""
        trust = self.workspace.fleet.trust
        known = delegated(self._base("targets", current))
        if role == ARTIFACTS:
            concerned = [one for one in known if is_class(one) and class_of(one) not in trust.roles.classes]
        elif is_class(role) and role in known and class_of(role) not in trust.roles.classes:
            raise TrustError(
                f"{role} is signed by the keys that sign for every class",
                hint=f"edgewright trust rotate artifacts, or name its own in fleet.yaml:"
                f" trust.roles.classes.{class_of(role)}",
            )
        else:
            concerned = [role] if role in (*TOP, *known) else []
        if not concerned:
            raise TrustError(
                f"there is no role '{role}'", hint=f"roles are {', '.join((*TOP, ROLE_ROLLOUT, ARTIFACTS))}"
            )
        return concerned

    def rotate(
        self,
        concerned: Sequence[str],
        current: Current,
        add: Sequence[str],
        remove: Sequence[str],
        threshold: int | None,
    ) -> None:
        """Give roles that share their keys other ones."""
        root, targets = self._base("root", current), self._base("targets", current)
        delegator = root if concerned[0] in TOP else targets
        holders = self._holders(concerned[0], holders_in(delegator, concerned[0]), add, remove, threshold)
        for one in concerned:
            if one in TOP:
                self.root = root = with_root_role(root, one, holders)
            else:
                self.targets = targets = with_delegated_role(targets, one, holders)

    def staged(self, current: Current) -> Staged:
        """Return what is staged with this change in it, signed by the keys at hand."""
        before = self.publication.staged
        metadata = dict(before.metadata)
        if self.root is not None:
            metadata["root"] = _next(self.publication, "root", self.root)
        root: Root = (metadata.get("root") or current.metadata["root"]).signed
        if self.targets is None and root.roles["targets"] != current.root.roles["targets"]:
            self.targets = copy.deepcopy(self._base("targets", current))  # its new keys have to sign it
        if self.targets is not None:
            # Rollouts and artifacts that wait were signed by keys that may not count any more: `release` redoes them.
            metadata = {role: one for role, one in metadata.items() if role in ("root", "targets")}
            metadata["targets"] = _next(self.publication, "targets", self.targets)
        changed = [role for role, new in (("root", self.root), ("targets", self.targets)) if new is not None]
        files = {**current.files, **before.files}
        return _signed(self.publication, Staged(metadata, files), changed)

    def _base(self, role: str, current: Current) -> Any:
        made: Any = self.root if role == "root" else self.targets
        return made or (self.publication.staged.metadata.get(role) or current.metadata[role]).signed

    def _holders(
        self, role: str, old: Holders, add: Sequence[str], remove: Sequence[str], threshold: int | None
    ) -> Holders:
        ring, trust = self.publication.authority.ring, self.workspace.fleet.trust
        known = {ring.name_of(key): key for key in old.keys}
        if is_declared(trust, role):
            said = declared(trust, role)
            where = setting(role, trust)
            if add or remove or threshold is not None:
                raise TrustError(
                    f"fleet.yaml says who signs {role}",
                    hint=f"change {where} there, and leave the options out",
                )
            keys = [ring.public(name) for name in said.names]
            if ({key.keyid for key in keys}, said.threshold) == (set(old.ids), old.threshold):
                raise TrustError(
                    f"the keys that fleet.yaml names for {role} are the ones that sign it already",
                    hint=f"edgewright keys new NAME, name it in {where}, and run this again",
                )
            return Holders(said.threshold, keys)
        if not (add or remove or threshold is not None):
            names = [self._fresh(name) for name in known]
            return Holders(old.threshold, [ring.public(name) for name in names])
        if unknown := [name for name in remove if name not in known]:
            raise TrustError(f"{unknown[0]} does not sign {role}; {', '.join(known)} does")
        if double := [name for name in add if name in known]:
            raise TrustError(f"{double[0]} signs {role} already")
        left = [name for name in known if name not in remove]
        needed = threshold if threshold is not None else old.threshold
        if not 1 <= needed <= len(left) + len(add):
            raise TrustError(f"{needed} signatures cannot be asked of {len(left) + len(add)} keys of {role}")
        added = [ring.public(self._there(name)) for name in add]
        return Holders(needed, [*(known[name] for name in left), *added])

    def _fresh(self, name: str) -> str:
        """Return the name of the key that takes the place of `name`; one that signs several roles is replaced once."""
        if name not in self.made:
            following = next_name(self.publication.authority.ring.folder, name)
            create_key(self.publication.authority.ring.folder, following, self.passphrase)
            self.made[name] = following
        return self.made[name]

    def _there(self, name: str) -> str:
        folder = self.publication.authority.ring.folder
        if not (folder / f"{name}.pub").is_file():
            create_key(folder, name, self.passphrase)
            self.made[name] = name
        return name


def _require_current(publication: Publication) -> Current:
    if publication.current is None:
        raise TrustError(
            "nothing has been released yet: change fleet.yaml or the keys, and begin anew",
            hint="edgewright trust status",
        )
    return publication.current


def _next(publication: Publication, role: str, signed: Any) -> Metadata[Any]:
    current = _require_current(publication)
    signed.version = current.versions[role] + 1
    signed.expires = publication.authority.now + publication.authority.lifetimes.of(role)
    return Metadata(signed)


def _signed(publication: Publication, staged: Staged, roles: Sequence[str]) -> Staged:
    for one in staged.signing(publication.current):
        if one.role in roles:
            add_signatures(publication.authority.ring, one.role, staged.metadata[one.role], one)
    return staged


def _stage(publication: Publication, staged: Staged, made: tuple[str, ...] = ()) -> Ceremony:
    publication.staging.write(staged)
    signing = tuple(staged.signing(publication.current))
    return Ceremony(staged, signing, made, publication.staging.folder)


def _reviews(publication: Publication, staged: Staged) -> Iterator[Review]:
    from edgewright.trust.review import changes

    ring = publication.authority.ring
    for one in staged.signing(publication.current):
        here = (
            []
            if one.complete
            else [key for need in one.needs for key in need.unsigned.values() if ring.has(key)]
        )
        names = tuple(dict.fromkeys(ring.name_of(key) for key in here))
        former = publication.current.metadata.get(one.role) if publication.current else None
        said = changes(one.role, former, staged.metadata[one.role], staged, publication.current, ring)
        yield Review(one.role, one.version, tuple(said), names)
