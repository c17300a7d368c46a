"""Who may sign here and now, and for how long what is signed is believed.

>>> authority.is_old("root", metadata)                              # doctest: +SKIP
False
>>> add_signatures(authority.ring, "root", metadata, signing)       # doctest: +SKIP
['root-a']
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tuf.api.metadata import Metadata

from edgewright.trust.delegation import HoldersOf
from edgewright.trust.roles import Lifetimes
from edgewright.trust.signers import KeyRing
from edgewright.trust.staged import Signing


@dataclass(frozen=True)
class Authority:
    """Who may sign now, and for how long.

    Attributes:
        ring: The keys at hand.
        holders: Who signs a role that is new.
        lifetimes: Expiry of each role.
        now: The time, UTC, whole seconds.
    """

    ring: KeyRing
    holders: HoldersOf
    lifetimes: Lifetimes
    now: datetime

    def is_old(self, role: str, metadata: Metadata[Any]) -> bool:
        """Whether less than half of the role's lifetime is left."""
        left: timedelta = metadata.signed.expires - self.now
        return left < self.lifetimes.of(role) / 2


def vouched_for(ring: KeyRing, staged: Metadata[Any]) -> bool:
    """Whether somebody here has signed what is staged: what nobody has, is signed by people who have seen it.

    Its signatures were verified when it was read (`edgewright.trust.staged`).
    """
    return any(map(ring.owns, staged.signatures))


def add_signatures(ring: KeyRing, role: str, metadata: Metadata[Any], found: Signing) -> list[str]:
    """Sign with every key at hand whose signature is missing; return the names of those keys.

    Raises:
        TrustError: a key is locked or is another one.
    """
    signed = []
    keys = {keyid: key for need in found.needs for keyid, key in need.unsigned.items()}
    for key in keys.values():
        if ring.has(key):
            # Not `metadata.sign`, which hides what a signer says in an error of its own.
            metadata.signatures[key.keyid] = ring.signer(key, role).sign(metadata.signed_bytes)
            signed.append(ring.name_of(key))
    return signed
