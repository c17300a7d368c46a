"""Other keys for a role: a new holder, a lost key, a stolen one.

>>> rotate(workspace, ["timestamp"]).made           # doctest: +SKIP
('timestamp-2',)

Root names the keys of root, targets, snapshot and timestamp; targets those of class roles and rollout. So the change
is a new version of one of these two (of both when targets' own keys change), staged for those who sign it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from edgewright.errors import TrustError
from edgewright.trust.ceremony import Ceremony, next_version, require_current, stage, with_signatures
from edgewright.trust.delegation import Holders, holders_in, with_delegated_role, with_root_role
from edgewright.trust.keys import create_key, next_name
from edgewright.trust.publication import Publication, opened
from edgewright.trust.repository import Current, delegated
from edgewright.trust.roles import ARTIFACTS, TOP, class_of, declared, is_class, is_declared, setting
from edgewright.trust.staged import Staged
from edgewright_agent.contract import ROLE_ROLLOUT

if TYPE_CHECKING:
    from edgewright.spec.workspace import Workspace


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
        current = require_current(publication)
        change = _Change(workspace, publication, passphrase)
        concerned = [change.concerned(role, current) for role in roles]  # all of them before a key is made
        for group in concerned:
            change.rotate(group, current, add, remove, threshold)
        done = stage(publication, change.staged(current), tuple(change.made.values()))
        return replace(done, notes=tuple(change.leftovers(current)))


@dataclass
class _Change:
    """Other keys for some roles, in the making."""

    workspace: Workspace
    publication: Publication
    passphrase: str | None
    made: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, Key] = field(default_factory=dict)
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
            lost = (key for key in holders_in(delegator, one).keys if key.keyid not in holders.ids)
            self.replaced |= {key.keyid: key for key in lost}
            if one in TOP:
                self.root = root = with_root_role(root, one, holders)
            else:
                self.targets = targets = with_delegated_role(targets, one, holders)

    def staged(self, current: Current) -> Staged:
        """Return what is staged with this change in it, signed by the keys at hand."""
        before = self.publication.staged
        metadata = dict(before.metadata)
        if self.root is not None:
            metadata["root"] = next_version(self.publication, "root", self.root)
        root: Root = (metadata.get("root") or current.metadata["root"]).signed
        if self.targets is None and root.roles["targets"] != current.root.roles["targets"]:
            self.targets = copy.deepcopy(self._base("targets", current))  # its new keys have to sign it
        if self.targets is not None:
            # Rollouts and artifacts that wait were signed by keys that may not count any more: `release` redoes them.
            metadata = {role: one for role, one in metadata.items() if role in ("root", "targets")}
            metadata["targets"] = next_version(self.publication, "targets", self.targets)
        changed = [role for role, new in (("root", self.root), ("targets", self.targets)) if new is not None]
        files = {**current.files, **before.files}
        return with_signatures(self.publication, Staged(metadata, files), changed)

    def leftovers(self, current: Current) -> Iterator[str]:
        """Yield where a key that some role has lost still signs: a stolen one is stolen for every role."""
        root, targets = self._base("root", current), self._base("targets", current)
        signs: dict[str, list[str]] = {}
        for delegator, roles in ((root, TOP), (targets, delegated(targets))):
            for role in roles:
                for key in holders_in(delegator, role).keys:
                    signs.setdefault(key.keyid, []).append(role)
        for key in self.replaced.values():
            name = self.publication.authority.ring.name_of(key)
            if key.keyid in signs:
                yield f"{name} still signs {', '.join(signs[key.keyid])}"

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
            raise TrustError(f"{unknown[0]} is none of the keys of {role}: {', '.join(known)}")
        if double := [name for name in add if name in known]:
            raise TrustError(f"{double[0]} signs {role} already")
        left = [name for name in known if name not in remove]
        needed = threshold if threshold is not None else old.threshold
        if not 1 <= needed <= len(left) + len(add):
            raise TrustError(
                f"{role} would have {len(left) + len(add)} of the {needed} keys that have to sign"
            )
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
