"""What goes when an artifact does not fit on the disk, and in which order; never a model that a slot holds.

>>> space = Space(store, collect=lambda staged: None, turns=["sha256:" + "a" * 64])          # doctest: +SKIP
>>> space.make(artifact.digest, lambda spare: store.shortage(artifact, reserve_bytes=0, spare=spare))   # doctest: +SKIP

1. What nothing names any more.
2. What execution providers have built (`engines/`), the longest untouched first: it is built again at the next load.
3. Downloads that have begun: first those that cannot go on themselves, because they do not fit either or are refused,
   then those whose turn comes later, the last first. None whose turn comes before: so whatever others have begun,
   the first in line arrives in the end, then the second, and no two of them take each other's room for ever.

Of 2 and 3 nothing goes that would not be enough: an artifact that never fits costs the others neither an engine nor a
byte that was paid for. What has arrived of it stays, as long as nobody needs the room (`give_back`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgewright_agent.errors import StorageError
from edgewright_agent.store import Room, Store, room_of


@dataclass
class Space:
    """The room in one store, and who waits for it.

    Attributes:
        collect: Removes what neither a slot nor one of the given downloads needs; of None, all downloads stay.
        turns: Digests of what this poll may download, in the order in which it does.
        given_up: Of those, what does not go on in this poll, but for a line that dropped.
    """

    store: Store
    collect: Callable[[Collection[str] | None], None]
    turns: Sequence[str] = ()
    given_up: list[str] = field(default_factory=list)

    def clear(self) -> None:
        """Remove what nothing names any more; every download of this poll stays."""
        self.collect(self.turns)

    def make(self, digest: str, short: Callable[[Room], str | None]) -> str | None:
        """Remove just so much that an artifact fits, or nothing; return why it does not, or None when it does.

        Args:
            digest: The artifact.
            short: Why it does not fit, if so much room were made.
        """
        victims, spare = self._victims(digest), Room()
        for count in range(len(victims) + 1):
            if not short(spare):
                for victim in victims[:count]:
                    with contextlib.suppress(StorageError):  # what stays is seen in the room that is missing
                        self._remove(victim)
                return short(Room())
            if count < len(victims):
                spare += room_of(victims[count])
        self.give_up(digest)
        return short(Room())

    def give_up(self, digest: str) -> None:
        """Note that a download does not go on: what has arrived of it may make way for others."""
        if digest not in self.given_up:
            self.given_up.append(digest)

    def give_back(self, enough: Callable[[], bool], *, first: Collection[str]) -> None:
        """Remove downloads that have begun until the reserve is free again: it is not the agent's.

        Args:
            enough: Whether it is.
            first: Digests of those that were told not to fit; then the longest untouched.
        """
        stuck = {self.store.staging(digest) for digest in first}
        for staging in sorted(self.store.stagings(), key=lambda path: path not in stuck):
            if enough():
                return
            with contextlib.suppress(StorageError):
                self.store.disk.remove_tree(staging)

    def _victims(self, digest: str) -> list[Path]:
        turns = list(dict.fromkeys(self.turns))  # what is named twice has its turn when it is named first
        own = turns.index(digest) if digest in turns else len(turns)
        order = [*self.given_up, *reversed(turns[own + 1 :])]
        parts = [self.store.staging(other) for other in dict.fromkeys(order) if other != digest]
        return [*self.store.caches(), *(part for part in parts if part.is_dir())]

    def _remove(self, victim: Path) -> None:
        if victim.parent == self.store.engines:
            self.store.empty_cache(victim)
        else:
            self.store.disk.remove_tree(victim)
