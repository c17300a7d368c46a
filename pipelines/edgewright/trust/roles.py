"""Which TUF roles a fleet has, and who signs each according to fleet.yaml.

>>> declared(Trust(), "class-raspberry-pi-4").names
('artifacts',)
>>> setting("class-raspberry-pi-4", Trust())
'trust.roles.artifacts'
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from edgewright.spec.fleet import Expiry, RoleKeys, Trust
from edgewright_agent.contract import ROLE_CLASS_PREFIX, ROLE_ROLLOUT, class_role

TOP = ("root", "targets", "snapshot", "timestamp")
"""Roles that root names."""

ARTIFACTS = "artifacts"
"""How people call all class roles that share their keys."""

SIGNING = "signing"
PURPOSES: Mapping[str, str] = {
    SIGNING: "signs artifacts and gate reports; devices and cosign pin it",
    "root": "names the other TUF keys; keep it offline after the first release",
    "targets": "names who signs artifacts and rollouts, and what devices believe; may be offline",
    ARTIFACTS: "says which artifacts exist, class by class",
    ROLE_ROLLOUT: "says which devices should run which of them",
    "snapshot": "ties the versions of all metadata together",
    "timestamp": "says how fresh that is; used most often",
}


@dataclass(frozen=True)
class Lifetimes:
    """How long each role's metadata is believed."""

    expiry: Expiry

    def of(self, role: str) -> timedelta:
        """Return the lifetime of one role."""
        return timedelta(seconds=getattr(self.expiry, ARTIFACTS if is_class(role) else role))


def is_class(role: str) -> bool:
    """Whether a role lists the artifacts of one hardware class."""
    return role.startswith(ROLE_CLASS_PREFIX)


def class_of(role: str) -> str:
    """Return the hardware class of a class role."""
    return role.removeprefix(ROLE_CLASS_PREFIX)


def declared(trust: Trust, role: str) -> RoleKeys:
    """Return who signs a role as fleet.yaml has it, or by default."""
    place = _place(role, trust)
    return trust.roles.named().get(place) or RoleKeys.model_validate({"keys": (place[0],)})


def is_declared(trust: Trust, role: str) -> bool:
    """Whether fleet.yaml says who signs a role, rather than leaving it to the default."""
    return _place(role, trust) in trust.roles.named()


def setting(role: str, trust: Trust) -> str:
    """Return the words in fleet.yaml that decide who signs a role."""
    return ".".join(("trust", "roles", *_place(role, trust)))


def addresses(trust: Trust) -> dict[str, str]:
    """Return name → address of every key that a token or a key service holds."""
    keys = (key for role in trust.roles.named().values() for key in role.keys)
    return {key.name: key.uri for key in keys if not isinstance(key, str)}


def purposes(trust: Trust) -> dict[str, str]:
    """Return name → what it is for, of every key that fleet.yaml names or leaves to the default."""
    classes = [class_role(name) for name in trust.roles.classes]
    found = {SIGNING: PURPOSES[SIGNING]}
    for role in (*(name for name in PURPOSES if name != SIGNING), *classes):
        words = PURPOSES.get(role) or f"says which artifacts exist for {class_of(role)}"
        for name in declared(trust, role).names:
            found[name] = f"{found[name]}; {words}" if name in found else words
    return found


def _place(role: str, trust: Trust) -> tuple[str, ...]:
    if is_class(role):
        return ("classes", class_of(role)) if class_of(role) in trust.roles.classes else (ARTIFACTS,)
    return (role,)
