"""What a disk may hold of one file: every sector written since its last sync, old, new, zero or garbage, in any length.

>>> file = File(); file.write(0, b"new")
>>> [content.data for content in file.contents()][0], file.contents()[-1].data
(b'', b'new')
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

SECTOR = 512
PAGE = 4096
FILLS = ("old", "zero", "garbage")
# Of one file: how many tears, other orders and lengths are looked at; and how many tears of a long one.
MOST_CUTS, MIXTURES, MOST_SIZES = 24, 4, 5
LONG_BYTES, MOST_CUTS_OF_LONG = 64 * 1024, 8


@dataclass(frozen=True)
class Content:
    """Bytes of a file, and their hash, which is asked for often."""

    data: bytes = field(compare=False)
    digest: bytes

    @classmethod
    def of(cls, data: bytes) -> Content:
        return cls(data, hashlib.blake2b(data, digest_size=16).digest())


@dataclass
class File:
    """A regular file: `base` is what was synced, `data` what a process reads."""

    base: bytes = b""
    data: bytes = b""
    changed: set[int] = field(default_factory=set)
    """Sectors written (or cut off) since the sync."""
    sizes: list[int] = field(default_factory=lambda: [0])
    """Lengths since the sync, the first being that of `base`."""
    modes: list[int] = field(default_factory=lambda: [0o644])
    _contents: list[Content] | None = None

    def write(self, offset: int, data: bytes) -> None:
        end = offset + len(data)
        self.data = self.data[:offset].ljust(offset, b"\0") + data + self.data[end:]
        self._touched(offset, end)

    def allocate(self, size: int) -> None:
        """As posix_fallocate(3): longer if need be, and what is new reads as zeros, never as what lay there before.

        Its blocks may be lost until a sync; a hole reads as zeros, too.
        """
        self.data = self.data.ljust(size, b"\0")
        self.sizes.append(len(self.data))
        self._contents = None

    def truncate(self) -> None:
        self._touched(0, len(self.data))
        self.data = b""
        self.sizes.append(0)

    def sync(self) -> None:
        self.base, self.changed, self.sizes, self._contents = self.data, set(), [len(self.data)], None
        self.modes = self.modes[-1:]

    def _touched(self, start: int, end: int) -> None:
        self.changed |= set(range(start // SECTOR, -(-end // SECTOR)))
        self.sizes.append(len(self.data))
        self._contents = None

    def contents(self) -> list[Content]:
        """Everything a disk may hold of it: first as it was synced, last as it is."""
        if self._contents is None:
            found = {Content.of(data): None for data in self._possible()}
            now = Content.of(self.data)
            found.pop(now, None)
            self._contents = [*found, now]
        return self._contents

    def _possible(self) -> Iterator[bytes]:
        yield self.base
        if not self.changed and len(set(self.sizes)) == 1:
            return
        sizes = list(dict.fromkeys(self.sizes))
        if len(sizes) > MOST_SIZES:
            sizes = [*sizes[:2], sizes[len(sizes) // 2], *sizes[-2:]]
        changed = sorted(self.changed)
        for size in sizes:
            for written in _written(changed, MOST_CUTS_OF_LONG if size > LONG_BYTES else MOST_CUTS):
                for fill in FILLS:
                    yield self._mixed(size, written, fill)
        for size in {1, SECTOR, PAGE, len(self.data) // 2, len(self.data) - 1}:
            if len(self.base) <= size < len(self.data):
                yield self._mixed(
                    size, self.changed, "old"
                )  # a length that no write has left: pages went one by one

    def _mixed(self, size: int, written: Collection[int], fill: str) -> bytes:
        """Return what a disk holds when of all changed sectors `written` have arrived; the others are `fill`."""
        held = bytearray(self.base[:size].ljust(size, b"\0"))
        for number in self.changed:
            at = number * SECTOR
            if number in written:
                piece = self.data[at : at + SECTOR]
            elif fill == "old":
                continue
            else:
                piece = bytes(SECTOR) if fill == "zero" else _garbage(number)
            if at < size:
                keep = min(SECTOR, size - at)
                held[at : at + keep] = piece[:keep].ljust(keep, b"\0")
        return bytes(held)


def _written(changed: Sequence[int], most: int) -> Iterator[Collection[int]]:
    """Yield which of the changed sectors may have arrived: none, all, in order and torn, and in any other order."""
    yield ()
    yield changed
    cuts = range(1, len(changed))
    for cut in cuts if len(changed) <= most else cuts[:: len(changed) // most + 1]:
        yield changed[:cut]
        yield changed[cut:]
    chance = random.Random(len(changed))
    for _ in range(MIXTURES if len(changed) > 2 else 0):
        yield [number for number in changed if chance.random() < 0.5]


def _garbage(sector: int) -> bytes:
    return hashlib.shake_128(b"stale block %d" % sector).digest(SECTOR)
