"""What the `targets` role signs: who signs each class and the rollout, and the documents devices believe.

>>> targets = delegate(None, classes=["raspberry-pi-4"], documents={}, keys=keys)    # doctest: +SKIP
>>> sorted(targets.delegations.roles)                                                # doctest: +SKIP
['class-raspberry-pi-4', 'rollout']

A class that was delegated once stays so: clients refuse a snapshot that no longer lists a role (TUF 5.5.5).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, TargetFile, Targets

from edgewright.errors import TrustError
from edgewright.trust.roles import TOP, class_of
from edgewright_agent.contract import KEY_NAME_FIELD, ROLE_ROLLOUT, class_role


@dataclass(frozen=True)
class Holders:
    """Who signs a role.

    Attributes:
        threshold: How many have to.
        keys: Public keys.
    """

    threshold: int
    keys: Sequence[Key]

    def __post_init__(self) -> None:
        """Check that nobody counts twice.

        Raises:
            TrustError: two names stand for one key.
        """
        names = [str(key.unrecognized_fields.get(KEY_NAME_FIELD, key.keyid)) for key in self.keys]
        first = {keyid: name for keyid, name in zip(reversed(self.ids), reversed(names), strict=True)}
        for keyid, name in zip(self.ids, names, strict=True):
            if first[keyid] != name:
                raise TrustError(
                    f"{first[keyid]} and {name} are one key, which cannot count twice",
                    hint="edgewright keys new NAME makes another one",
                )

    @property
    def ids(self) -> list[str]:
        """Ids of the keys."""
        return [key.keyid for key in self.keys]


HoldersOf = Callable[[str, Targets | None], Holders]
"""A role that is new, and what `targets` says now → who signs it."""


def new_root(holders: HoldersOf) -> Root:
    """Return the first root."""
    roles = {role: holders(role, None) for role in TOP}
    return Root(
        keys={key.keyid: key for found in roles.values() for key in found.keys},
        roles={role: Role(found.ids, found.threshold) for role, found in roles.items()},
        consistent_snapshot=True,
    )


def delegate(
    base: Targets | None,
    *,
    classes: Iterable[str],
    documents: Mapping[str, bytes],
    holders: HoldersOf,
) -> Targets:
    """Return what `targets` has to say; who signs a role that is delegated already stays as it is.

    Args:
        base: What it says now.
        classes: Hardware classes that need a role.
        documents: Target path → bytes of the trust documents.
        holders: Who signs a new role.
    """
    old = base.delegations if base is not None else None
    keys = dict(old.keys) if old else {}
    roles: dict[str, DelegatedRole] = dict(old.roles or {}) if old else {}
    for role in (*(class_role(name) for name in classes), ROLE_ROLLOUT):
        if role not in roles:
            found = holders(role, base)
            roles[role] = _role(role, found)
            keys |= {key.keyid: key for key in found.keys}
    listing = {path: TargetFile.from_data(path, body, ["sha256"]) for path, body in documents.items()}
    return Targets(targets=listing, delegations=_delegations(keys, roles))


def with_root_role(root: Root, role: str, holders: Holders) -> Root:
    """Return root with other keys for one role; keys that no role uses any more are left out."""
    following = copy.deepcopy(root)
    following.roles[role] = Role(holders.ids, holders.threshold, following.roles[role].unrecognized_fields)
    keys = {**following.keys, **{key.keyid: key for key in holders.keys}}
    used = {keyid for one in following.roles.values() for keyid in one.keyids}
    following.keys = {keyid: key for keyid, key in keys.items() if keyid in used}
    return following


def with_delegated_role(targets: Targets, role: str, holders: Holders) -> Targets:
    """Return targets with other keys for one class role or rollout."""
    following = copy.deepcopy(targets)
    assert following.delegations is not None and following.delegations.roles is not None
    keys = {**following.delegations.keys, **{key.keyid: key for key in holders.keys}}
    roles = {**following.delegations.roles, role: _role(role, holders)}
    following.delegations = _delegations(keys, roles)
    return following


def holders_in(delegator: Root | Targets, role: str) -> Holders:
    """Return who signs a role according to metadata."""
    found = delegator.get_delegated_role(role)
    return Holders(found.threshold, [delegator.get_key(keyid) for keyid in found.keyids])


def paths_of(role: str) -> list[str]:
    """Return the target paths that are delegated to a role."""
    return ["rollout/*"] if role == ROLE_ROLLOUT else [f"artifacts/*/{class_of(role)}/*"]


def _role(role: str, holders: Holders) -> DelegatedRole:
    return DelegatedRole(role, holders.ids, holders.threshold, terminating=True, paths=paths_of(role))


def _delegations(keys: Mapping[str, Key], roles: Mapping[str, DelegatedRole]) -> Delegations:
    used = {keyid for role in roles.values() for keyid in role.keyids}
    ordered = dict(sorted(roles.items()))
    return Delegations({keyid: key for keyid, key in keys.items() if keyid in used}, ordered)
