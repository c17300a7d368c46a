"""What a device must not fall below: a version per TUF role, and a time, with the keys that established them.

>>> before = Floor({"root": 1, "timestamp": 900, "targets": 4}, {"timestamp": keys_of(["stolen"], 1)})
>>> after = before.released(root=2, keys={"timestamp": keys_of(["fresh"], 1)})
>>> sorted(after.versions.items())
[('root', 1), ('targets', 4)]

A floor that nothing could ever lower would make a thief's version number permanent. So a floor holds against everybody
but the holders of the offline root keys: when they take a key away from a role, what that key has established goes too
(fast-forward recovery, TUF 5.3.11). See docs/adr/0011.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from edgewright_agent.clock import from_text, to_text

ROOT, TIMESTAMP, SNAPSHOT = "root", "timestamp", "snapshot"
_KEY_CHARS = 16


def keys_of(keyids: Iterable[str], threshold: int) -> str:
    """Return who may sign for a role, in the form the record keeps: the threshold, and a short digest per key."""
    # python-tuf checks neither that a key id is text nor that a threshold is whole; a root may be signed all the same.
    names = (str(keyid).encode(errors="replace") for keyid in keyids)
    short = sorted(hashlib.sha256(name).hexdigest()[:_KEY_CHARS] for name in names)
    return f"{int(threshold)}:" + ",".join(short)


def rotated(before: str | None, after: str | None) -> bool:
    """Whether somebody who could sign alone before may not be able to now: a key is gone, or more must sign.

    A key that was only added takes nothing back: all that was signed before is still valid, and so is its floor.
    """
    if before is None or after is None:
        return False
    was, is_now = before.partition(":"), after.partition(":")
    return int(is_now[0]) > int(was[0]) or not set(was[2].split(",")) <= set(is_now[2].split(","))


@dataclass(frozen=True)
class Floor:
    """The lowest a device still accepts.

    Attributes:
        versions: By role.
        keys: By role, who could sign it when its floor was set (`keys_of`); absent where that is not known.
        clock: Latest time that signed metadata proves to have come (RFC 3339); no clock below it is believed.
    """

    versions: Mapping[str, int] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    clock: str | None = None

    def released(self, *, root: int, keys: Mapping[str, str]) -> Floor:
        """Return what is left of this floor under a root of version `root` that gives roles these `keys`.

        Only a higher root releases anything. Other keys of timestamp or snapshot release both; other snapshot keys
        release also what only snapshots list (targets and its delegations); other timestamp keys release the clock.
        The floor of root itself stays for ever.
        """
        if root <= self.versions.get(ROOT, 0):
            return self
        gone = {role for role in (TIMESTAMP, SNAPSHOT) if rotated(self.keys.get(role), keys.get(role))}
        if not gone:
            return self
        kept = {ROOT} if SNAPSHOT in gone else set(self.versions) - {TIMESTAMP, SNAPSHOT}
        return Floor(
            {role: version for role, version in self.versions.items() if role in kept},
            {role: who for role, who in self.keys.items() if role not in gone},
            None if TIMESTAMP in gone else self.clock,
        )

    def raised(
        self,
        versions: Mapping[str, int],
        *,
        keys: Mapping[str, str] | None = None,
        clock: datetime | None = None,
    ) -> Floor:
        """Return this floor lifted to what was verified; nothing sinks.

        Args:
            versions: By role.
            keys: Who may sign each role now.
            clock: A time that signed metadata proves to have come.
        """
        lifted = {role: max(version, self.versions.get(role, 0)) for role, version in versions.items()}
        return Floor(
            {**self.versions, **lifted},
            {**self.keys, **(keys or {})},
            to_text(now) if (now := self.time(clock)) else None,
        )

    def time(self, clock: datetime | None) -> datetime | None:
        """Return the later of a clock and the clock floor."""
        if self.clock is None:
            return clock
        floor = from_text(self.clock)
        return floor if clock is None else max(clock, floor)
