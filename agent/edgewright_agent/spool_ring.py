"""The file of the telemetry spool, open under its lock: where the next record goes, and what has to go for it.

>>> ring = Ring(path, Disk())                         # doctest: +SKIP
>>> ring.append(Priority.ERROR, payload, now_ms=…)    # doctest: +SKIP

Room is given out in segments. Each priority has a reserve that no other can take. Beyond the reserves, whoever needs a
segment takes a free one, or the oldest of the lowest priority that is not above its own: samples push out samples only.
Aggregates are not pushed out as long as two segments of them can be merged into one. One segment is kept free for that.

What is given up is counted first: one durable head says how many records went and which segments held them. Only
then are those wiped. Whatever a power cut takes of the wiping, they are not read again and not counted again, because
the two newest heads name them: the wiping of one head is durable with the next.

A sector that cannot be read costs what lies in its page. Its segment is left as it is: nothing is written there, and it
counts as no room.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk, faults
from edgewright_agent.spool_head import MAX_DROPPING, Head, from_slots, to_slot
from edgewright_agent.spool_layout import (
    HEAD_BYTES,
    OUTBOX_BYTES,
    SECTOR_BYTES,
    Layout,
    Priority,
    Record,
    SegmentHeader,
    encode_record,
    layout_of,
    scan,
)

# Shares of the segments that are a priority's own, in 16ths; the other six are for whoever needs them.
_RESERVES = {Priority.UPDATE_STATUS: 3, Priority.ERROR: 3, Priority.AGGREGATE: 3, Priority.SAMPLE: 1}
_SPARE = 1
_DROPPED_AT_ONCE = (
    4  # of the segments of samples, one in so many: a flood of them does not sync for every segment
)
Merge = Callable[[bytes, bytes], bytes]
Kept = tuple[Priority, int, int]  # of records that are being sent: priority, first and last number


@dataclass(frozen=True)
class Segment:
    """A segment in use."""

    index: int
    header: SegmentHeader


@dataclass(frozen=True)
class Held:
    """What a segment in use holds: its records that wait for delivery, and the highest number in it."""

    segment: Segment
    waiting: tuple[Record, ...]
    highest: int

    @property
    def priority(self) -> Priority:
        """Of all its records."""
        return self.segment.header.priority


class Ring:
    """An open spool file. The caller holds the lock.

    Args:
        path: The file; it has a layout.
        disk: Changes it.
        merge: Makes one aggregate of two, the older first; None: they are never thinned.

    Raises:
        StorageError: `damaged` when it is no spool, or it cannot be opened.
    """

    def __init__(self, path: Path, disk: Disk, merge: Merge | None = None) -> None:
        self.path, self._disk, self._merge = path, disk, merge
        self._unreadable: set[int] = (
            set()
        )  # segments with a page that cannot be read: neither in use nor free
        with faults(path, "read"):
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                layout = layout_of(os.fstat(self._fd).st_size)
                if layout is None:
                    raise StorageError("damaged", f"{path} is no telemetry spool")
                self.layout: Layout = layout
                slots = [self._pages(at, HEAD_BYTES) for at in (0, HEAD_BYTES)]
                self._lost = {parity for parity, (_, whole) in enumerate(slots) if not whole}
                self._generation, self.head = from_slots(b"".join(page for page, _ in slots))
                self.segments = self._in_use()
            except BaseException:
                os.close(self._fd)
                raise

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)

    # --- reading ------------------------------------------------------------------------------------------------

    def survey(self) -> list[Held]:
        """Return what every segment in use holds, the oldest segment first."""
        found = [self._held(segment) for segment in self.segments]
        return sorted(found, key=lambda held: (held.highest, held.segment.header.generation))

    def waiting(self, priority: Priority) -> list[Record]:
        """Return the records of a priority that wait for delivery, the oldest first."""
        found = {
            record.sequence: record
            for segment in self.segments
            if segment.header.priority == priority
            for record in self._held(segment).waiting
        }
        return [found[sequence] for sequence in sorted(found)]

    def newest(self, priority: Priority) -> Record | None:
        """Return the newest record of a priority that still lies here, delivered or not."""
        for segment in self._appended(priority):
            records = list(scan(self._read(segment), segment.header))
            if records:
                return max(records, key=lambda record: record.sequence)
            # Its first record was torn: the one before has the newest.
        return None

    def last_sequence(self) -> int:
        """Return the highest number that was given, as far as this file knows.

        Merged segments hold older numbers than the open one of their priority, which is why that is enough.
        """
        newest = (self.newest(priority) for priority in Priority)
        return max(self.head.sequence, *(record.sequence if record else 0 for record in newest))

    def outbox(self) -> bytes:
        """Return the bytes of the outbox."""
        return self._pages(self.layout.outbox_at, OUTBOX_BYTES)[0]

    # --- writing ------------------------------------------------------------------------------------------------

    def append(
        self,
        priority: Priority,
        payload: bytes,
        *,
        now_ms: int,
        sync: bool,
        keep: Sequence[Kept] = (),
    ) -> int:
        """Write a record and return its number, above every one before.

        Args:
            priority: What it is worth.
            payload: UTF-8 text.
            now_ms: The clock: numbers follow it where it is ahead.
            sync: Whether it, and all that was written before, must be durable on return.
            keep: Which records are being sent: they are not merged, and not counted as dropped.

        Raises:
            StorageError: it was not written.
            ValueError: it is too large.
        """
        sequence = max(self.last_sequence() + 1, now_ms)
        self.place(priority, sequence, payload, sync=sync, keep=keep)
        return sequence

    def place(
        self,
        priority: Priority,
        sequence: int,
        payload: bytes,
        *,
        sync: bool,
        keep: Sequence[Kept] = (),
    ) -> None:
        """Write a record under a number."""
        segment = self._open_segment(priority)
        found = self._read(segment) if segment else b""
        if segment is not None and segment.index not in self._unreadable:
            records = scan(found, segment.header)
            at = max((record.end for record in records), default=SECTOR_BYTES)
            record = encode_record(segment.header, sequence, payload)
            if at + len(record) <= self.layout.segment_bytes:
                self._write(record, self.layout.segment_at(segment.index) + at, sync=sync)
                return
        encode_record(
            SegmentHeader(1, bytes(8), priority), sequence, payload
        )  # is it one, before room is made
        index = self._room(priority, sequence, keep)
        header = SegmentHeader(self._next_generation(), os.urandom(8), priority)
        start = header.encode() + encode_record(header, sequence, payload)
        self._write(start, self.layout.segment_at(index), sync=sync)
        self._note(Segment(index, header))

    def commit(self, head: Head) -> None:
        """Make a head durable, and with it all that was written before.

        Raises:
            StorageError: the head before still holds.
        """
        generation = self._generation + 1
        if generation % 2 in self._lost:
            # Writing may have mended it, or not: nobody knows before it is read another time. So both have it.
            with contextlib.suppress(StorageError):
                self._put_head(generation, head)
            generation += 1
        self._put_head(generation, head)
        self._generation = generation
        self.head = head

    def _put_head(self, generation: int, head: Head) -> None:
        self._write(to_slot(generation, head), generation % 2 * HEAD_BYTES, sync=True)

    def put_outbox(self, region: bytes, at: int = 0) -> None:
        """Make a batch durable before it is sent, `at` so many bytes into the outbox.

        Raises:
            StorageError: it is not; the outbox may be torn.
        """
        self._write(region, self.layout.outbox_at + at, sync=True)

    # --- room ---------------------------------------------------------------------------------------------------

    def _room(self, priority: Priority, sequence: int, keep: Sequence[Kept]) -> int:
        """Return the index of a segment that may be overwritten."""
        while True:
            survey = self.survey()
            free = self._free(survey)
            held = {one: [h for h in survey if h.priority == one and h.waiting] for one in Priority}
            owed = sum(max(0, self._reserve(one) - len(held[one])) for one in Priority if one != priority)
            if len(free) > _SPARE + (owed if len(held[priority]) >= self._reserve(priority) else 0):
                return free[0]
            victim = self._victim(priority, held)
            if not held[victim]:
                raise StorageError("io-error", f"too many segments of {self.path} cannot be read")
            if victim != Priority.AGGREGATE or not self._thin(held[victim], free, keep):
                self._drop(victim, held[victim], sequence, keep)

    def _free(self, survey: list[Held]) -> list[int]:
        """Return what may be overwritten: segments that were never used first, then those delivered longest ago."""
        used = {held.segment.index for held in survey} | self._unreadable
        done = [held.segment.index for held in survey if not held.waiting]
        done = [index for index in done if index not in self._unreadable]
        return [index for index in range(self.layout.segments) if index not in used] + done

    def _reserve(self, priority: Priority) -> int:
        return max(1, (self.layout.segments - _SPARE) * _RESERVES[priority] // 16)

    def _victim(self, priority: Priority, held: dict[Priority, list[Held]]) -> Priority:
        for one in reversed(Priority):
            if one == priority and held[one]:
                return one
            if one > priority and len(held[one]) > self._reserve(one):
                return one
        # Only in a file that somebody else has filled: take from whoever has most beyond its own.
        return max(Priority, key=lambda one: (len(held[one]) - self._reserve(one), one))

    def _drop(self, priority: Priority, held: list[Held], sequence: int, keep: Sequence[Kept]) -> None:
        count = max(1, len(held) // _DROPPED_AT_ONCE) if priority == Priority.SAMPLE else 1
        gone = held[: min(count, MAX_DROPPING)]
        # What is in the outbox is not lost with its segment: it is counted when it was delivered, or refused.
        lost = sum(1 for one in gone for record in one.waiting if not _is_kept(record, keep))
        generations = tuple(one.segment.header.generation for one in gone)
        head = replace(self.head, sequence=max(self.head.sequence, sequence - 1, self.last_sequence()))
        self.commit(head.counted("dropped", priority, lost).without(generations))
        self._wipe([one.segment for one in gone])

    def _thin(self, held: list[Held], free: list[int], keep: Sequence[Kept]) -> bool:
        """Merge two neighbouring segments of aggregates into one; return whether there were two."""
        pair = self._thinnest(held, keep)
        if self._merge is None or pair is None or not free:
            return False
        records = [record for one in pair for record in one.waiting]
        header = SegmentHeader(
            self._next_generation(),
            os.urandom(8),
            Priority.AGGREGATE,
            level=min(255, 1 + max(one.segment.header.level for one in pair)),
            replaces=(pair[0].segment.header.generation, pair[1].segment.header.generation),
        )
        while True:
            merged = _halved(records, self._merge)
            try:
                body = b"".join(encode_record(header, record.sequence, record.payload) for record in merged)
            except ValueError:  # two that have grown too large for one: the newer stays
                return False
            if SECTOR_BYTES + len(body) <= self.layout.segment_bytes:
                break
            if len(merged) == 1:
                return False
            records = merged
        header = replace(header, sealed=len(body), body=sha256(body).digest())
        self._write(header.encode() + body, self.layout.segment_at(free[0]), sync=True)
        waiting = sum(len(one.waiting) for one in pair)
        self.commit(replace(self.head, thinned=self.head.thinned + waiting - len(merged)))
        self._note(Segment(free[0], header))
        self._wipe([one.segment for one in pair])
        return True

    def _thinnest(self, held: list[Held], keep: Sequence[Kept]) -> tuple[Held, Held] | None:
        """Return the two neighbours that were merged least often, the oldest of such; never the open segment."""
        newest = self._open_segment(Priority.AGGREGATE)
        closed = [one for one in held if newest is None or one.segment.index != newest.index]
        closed = [one for one in closed if not any(_is_kept(record, keep) for record in one.waiting)]
        pairs = list(zip(closed, closed[1:], strict=False))
        return min(pairs, key=lambda pair: max(one.segment.header.level for one in pair), default=None)

    # --- segments -----------------------------------------------------------------------------------------------

    def _in_use(self) -> list[Segment]:
        found = []
        for index in range(self.layout.segments):
            try:
                sector = os.pread(self._fd, SECTOR_BYTES, self.layout.segment_at(index))
            except OSError:
                self._unreadable.add(index)
                continue
            header = SegmentHeader.decode(sector)
            if header is not None:
                found.append(Segment(index, header))
        self._highest_generation = max((one.header.generation for one in found), default=0)
        if self._unreadable:  # they may be the newest, and be read another time
            self._highest_generation += self.layout.segments
        given_up = {*self.head.dropping, *self.head.dropping_before}
        found = [one for one in found if one.header.generation not in given_up]
        present = {one.header.generation for one in found}
        replaced: set[int] = set()
        torn: set[int] = set()
        for one in found:
            # A power cut may have come between a merged segment and the wiping of those it was made of. If all of
            # it is there they are out of date, else it is: they were to be wiped only after it was durable.
            sources = present & {*one.header.replaces}
            if one.header.sealed and sources:
                if one.header.is_whole(self._read(one)):
                    replaced |= sources
                else:
                    torn.add(one.header.generation)
        return [one for one in found if one.header.generation not in replaced | torn]

    def _open_segment(self, priority: Priority) -> Segment | None:
        return next(iter(self._appended(priority)), None)

    def _appended(self, priority: Priority) -> list[Segment]:
        """Return the segments of a priority that were filled record by record, the newest first."""
        own = [one for one in self.segments if one.header.priority == priority and not one.header.sealed]
        return sorted(own, key=lambda one: one.header.generation, reverse=True)

    def _held(self, segment: Segment) -> Held:
        records = list(scan(self._read(segment), segment.header))
        priority = segment.header.priority
        waiting = [r for r in records if not self.head.is_acknowledged(priority, r.sequence)]
        return Held(segment, tuple(waiting), max((record.sequence for record in records), default=0))

    def _read(self, segment: Segment) -> bytes:
        found, whole = self._pages(self.layout.segment_at(segment.index), self.layout.segment_bytes)
        if not whole:
            self._unreadable.add(segment.index)
        return found

    def _pages(self, at: int, length: int) -> tuple[bytes, bool]:
        """Return what lies there, with zeros for pages that cannot be read, and whether there are none of those."""
        try:
            return os.pread(self._fd, length, at), True
        except OSError:
            return b"".join(self._page(page) for page in range(at, at + length, HEAD_BYTES)), False

    def _page(self, at: int) -> bytes:
        try:
            return os.pread(self._fd, HEAD_BYTES, at)
        except OSError:
            return bytes(HEAD_BYTES)

    def _write(self, data: bytes, offset: int, *, sync: bool) -> None:
        self._disk.write_at(self.path, data, offset, sync=sync)

    def _wipe(self, segments: list[Segment]) -> None:
        for one in segments:
            self._write(bytes(SECTOR_BYTES), self.layout.segment_at(one.index), sync=False)
        gone = {one.index for one in segments}
        self.segments = [one for one in self.segments if one.index not in gone]

    def _note(self, segment: Segment) -> None:
        others = [one for one in self.segments if one.index != segment.index]
        self.segments = [*others, segment]
        self._highest_generation = max(self._highest_generation, segment.header.generation)

    def _next_generation(self) -> int:
        named = (0, *self.head.dropping, *self.head.dropping_before)
        return max(self._highest_generation, *named) + 1


def _is_kept(record: Record, keep: Sequence[Kept]) -> bool:
    return any(record.priority == one and first <= record.sequence <= last for one, first, last in keep)


def _halved(records: list[Record], merge: Merge) -> list[Record]:
    return list(_pairs(records, merge))


def _pairs(records: list[Record], merge: Merge) -> Iterator[Record]:
    for at in range(0, len(records), 2):
        last = records[min(at + 1, len(records) - 1)]
        both = at + 1 < len(records)
        yield replace(last, payload=merge(records[at].payload, last.payload)) if both else last
