"""The telemetry spool: what a device has to tell, kept until somebody has taken it, in a file that never grows.

>>> spool = Spool(Path("/var/lib/edgewright/spool"), Disk())            # doctest: +SKIP
>>> spool.append(UPDATE_STATUS, b'{"kind":"update"}', now=utc_now())    # doctest: +SKIP
1893456000000
>>> [record.payload for record in spool.waiting(UPDATE_STATUS)]         # doctest: +SKIP
[b'{"kind":"update"}']

It is allocated once, so a full disk later does not matter (but for copy-on-write file systems). Update statuses and
errors are durable when `append` returns. Aggregates and samples are synced at most every `SYNC_S` seconds or with the
next record that is: a power cut may cost those of that time, and nothing else. What makes room is counted, durably.

Numbers only grow, over all priorities, restarts, and the loss of the file: they follow the clock (milliseconds since
1970) where it is ahead. Daemon, its children and applications may use one spool: each operation holds a lock file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgewright_agent.clock import to_text
from edgewright_agent.contract import canonical_json
from edgewright_agent.errors import StorageError
from edgewright_agent.files import Disk, faults, fresh_of
from edgewright_agent.lock import open_lock
from edgewright_agent.spool_head import Head, to_slot
from edgewright_agent.spool_layout import (
    BESIDE_AT,
    DEFAULT_BYTES,
    HEAD_BYTES,
    MAX_SEQUENCE,
    OUTBOX_BYTES,
    Priority,
    Record,
    decode_outbox,
    encode_outbox,
    layout_of,
)
from edgewright_agent.spool_ring import Held, Kept, Merge, Ring
from edgewright_agent.transport.document import parse_json

UPDATE_STATUS, ERROR, AGGREGATE, SAMPLE = Priority
FOLDER = "spool"  # in the state directory
RING, LOCK = "ring", "lock"
SYNC_S = 1800.0
_LOCK_TRIES, _LOCK_PAUSE_S = 100, 0.05  # nobody holds it for longer than a few writes and syncs


@dataclass(frozen=True)
class Batch:
    """What is sent as one, the same however often: `body` and `headers` as they travel.

    Attributes:
        id: Device, signal and numbers; a receiver that has seen it needs to do nothing.
        signal: `logs` or `metrics`, the end of the path.
        priority: Of its records.
        first: Number of its first record.
        last: Number of its last one; all that waited between are in it.
        count: How many records are in it.
        headers: With names as HTTP has them.
        body: Compressed.
        unreadable: How many between could not be put into it.
        points: How many log records or data points they have become; 0 when an earlier version made it.
    """

    id: str
    signal: str
    priority: Priority
    first: int
    last: int
    count: int
    headers: dict[str, str]
    body: bytes
    unreadable: int = 0
    points: int = 0


@dataclass(frozen=True)
class Fill:
    """What a priority has in the spool."""

    waiting: int
    oldest: int | None
    segments: int
    dropped: int
    rejected: int
    delivered: int


@dataclass(frozen=True)
class Look:
    """The spool as a person asks for it; `bytes` is 0 where there is none yet."""

    bytes: int
    segments: int
    fills: dict[Priority, Fill]
    head: Head

    def document(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "bytes": self.bytes,
            "segments": self.segments,
            "classes": {
                priority.word: {**asdict(fill), "cursor": cursor_of(self.head, priority)}
                for priority, fill in self.fills.items()
            },
            "thinned": self.head.thinned,
            "delivery": {
                "outcome": self.head.outcome or None,
                "message": self.head.message or None,
                "triedAt": _moment(self.head.tried),
                "succeededAt": _moment(self.head.succeeded),
                "nextAt": _moment(self.head.next_try),
                "failures": self.head.failures,
            },
        }


class Spool:
    """A spool in a folder. Objects are cheap; one that lives longer batches syncs.

    Args:
        folder: Made when it is missing.
        disk: Changes it.
        size: Bytes of the file, from 256 KiB to 64 MiB, a multiple of 4 KiB. Another size than the file has is given
            to it as soon as there is space, and what waits moves over, the most important first.
        merge: Makes one aggregate of two, the older first; None: the oldest are dropped instead of thinned.
        clock: Seconds from an arbitrary start, never going back.
    """

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        *,
        size: int = DEFAULT_BYTES,
        merge: Merge | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._disk, self._merge, self._clock = folder, disk, merge, clock
        self._size = size // HEAD_BYTES * HEAD_BYTES
        if layout_of(self._size) is None:
            raise ValueError(f"no spool has {size} bytes")
        self._synced_s = clock()
        self._swept = False
        self.lost = dict.fromkeys(Priority, 0)
        """Records that could not be written and are not counted on the disk yet."""

    def append(self, priority: Priority, payload: bytes, *, now: datetime) -> int | None:
        """Keep a record.

        Args:
            priority: `UPDATE_STATUS`, `ERROR`, `AGGREGATE` or `SAMPLE`.
            payload: UTF-8 text of at most 64 KiB, 15 KiB compressed.
            now: The clock's time.

        Returns:
            Its number; None when it could not be kept, which is counted: what a device does never depends on this.
        """
        try:
            with self._ring() as ring:
                self._count_lost(ring)
                due = priority <= ERROR or self._clock() - self._synced_s >= SYNC_S
                number = ring.append(
                    priority,
                    payload,
                    now_ms=min(int(now.timestamp() * 1000), MAX_SEQUENCE - 2**32),
                    sync=due,
                    keep=_spans(ring),
                )
                if due:
                    self._synced_s = self._clock()
                return number
        except (StorageError, ValueError):
            self.lost[priority] += 1
            return None

    def waiting(self, priority: Priority) -> list[Record]:
        """Return what waits for delivery, the oldest first.

        Raises:
            StorageError: it cannot be read.
        """
        if not self._exists():
            return []
        with self._reading() as ring:
            found = ring.waiting(priority)
            if found and ring.head.sequence < found[-1].sequence:
                # Its number is about to leave this device, and must never be given again.
                with contextlib.suppress(StorageError):
                    ring.commit(replace(ring.head, sequence=ring.last_sequence()))
            return found

    def newest(self, priority: Priority) -> Record | None:
        """Return the newest record that is still there, delivered or not; None also when nothing can be read."""
        try:
            with self._reading() as ring:
                return ring.newest(priority)
        except StorageError:
            return None

    def head(self) -> Head:
        """Return what the spool knows about itself; an empty head where there is none."""
        try:
            with self._reading() as ring:
                return ring.head
        except StorageError:
            return Head()

    def glance(self) -> tuple[Head, frozenset[Priority]]:
        """Return the head, and the priorities whose newest record waits for delivery; cheap, and never raises."""
        try:
            with self._reading() as ring:
                newest = {priority: ring.newest(priority) for priority in Priority}
                waiting = (
                    priority
                    for priority, record in newest.items()
                    if record and not ring.head.is_acknowledged(priority, record.sequence)
                )
                return ring.head, frozenset(waiting)
        except StorageError:
            return Head(), frozenset()

    def outbox(self) -> Batch | None:
        """Return the batch whose delivery is under way, of two the one that is worth more, or None.

        Raises:
            StorageError: it cannot be read.
        """
        if not self._exists():
            return None
        with self._reading() as ring:
            first, beside = _outbox_of(ring)
            return beside or first

    def put_outbox(self, batch: Batch) -> bool:
        """Make a batch durable before it is first sent, in place of the last one of its priority.

        An update status or an error has room beside a batch of aggregates or samples: that one may have been taken
        already, and must be the same when it is sent again.

        Returns:
            Whether it fits.

        Raises:
            StorageError: it cannot be written.
        """
        with self._ring() as ring:
            first, beside = _outbox_of(ring)
            urgent = batch.priority <= ERROR
            if urgent and (beside is not None or (first is not None and first.priority > ERROR)):
                at, end, there = BESIDE_AT, OUTBOX_BYTES, beside
                if first is not None and _region_of(first, BESIDE_AT) is None:
                    return False  # there is no room beside that one
            else:
                at, end, there = 0, OUTBOX_BYTES if beside is None else BESIDE_AT, first
            region = _region_of(batch, end - at)
            if region is None or (there is not None and there.priority != batch.priority):
                return False
            ring.put_outbox(region, at)
        return True

    def acknowledge(self, batch: Batch, *, delivered: int, rejected: int) -> None:
        """Have a batch done with, durably.

        Args:
            batch: What was sent, or given up.
            delivered: How many of its records were taken.
            rejected: How many were refused for good.

        Raises:
            StorageError: it is not: the batch will be sent again.
        """
        with self._ring() as ring:
            waiting = [record.sequence for record in ring.waiting(batch.priority)]
            head = ring.head.acknowledged(batch.priority, batch.first, batch.last, waiting=waiting)
            head = head.counted("delivered", batch.priority, delivered)
            head = head.counted("rejected", batch.priority, rejected)
            ring.commit(replace(head.tried_again(batch.priority), sequence=ring.last_sequence()))

    def note(self, **changes: Any) -> None:
        """Keep how a try to deliver went (fields of `Head`); a disk that refuses is no reason to fail."""
        with contextlib.suppress(StorageError), self._ring() as ring:
            ring.commit(replace(ring.head, **changes))

    def look(self) -> Look:
        """Return how full it is.

        Raises:
            StorageError: it cannot be read.
        """
        survey, head, size, segments = list[Held](), Head(), 0, 0
        if self._exists():
            with self._reading() as ring:
                survey, head = ring.survey(), ring.head
                size, segments = ring.layout.size, ring.layout.segments
        fills = {}
        for priority in Priority:
            own = [held for held in survey if held.priority == priority and held.waiting]
            numbers = sorted({record.sequence for held in own for record in held.waiting})
            fills[priority] = Fill(
                waiting=len(numbers),
                oldest=numbers[0] if numbers else None,
                segments=len(own),
                dropped=head.dropped[priority] + self.lost[priority],
                rejected=head.rejected[priority],
                delivered=head.delivered[priority],
            )
        return Look(size, segments, fills, head)

    def _exists(self) -> bool:
        return (self._folder / RING).exists()

    def _count_lost(self, ring: Ring) -> None:
        head = ring.head
        for priority in Priority:
            head = head.counted("dropped", priority, self.lost[priority])
        if head != ring.head:
            ring.commit(head)
            self.lost = dict.fromkeys(Priority, 0)

    @contextlib.contextmanager
    def _ring(self) -> Iterator[Ring]:
        """Open the file for writing, making it if need be.

        Raises:
            StorageError: there is no space, or the disk is read-only.
        """
        self._disk.make_dir(self._folder)
        with self._lock():
            path = self._folder / RING
            with faults(path, "look at"):
                try:
                    size = path.stat().st_size
                except FileNotFoundError:
                    size = 0
            if layout_of(size) is None:
                self._begin(path)
            elif size != self._size:
                self._resize(path)
            elif not self._swept:
                # A power cut may have left it: before the rename, or under both names.
                self._disk.remove(fresh_of(path))
            self._swept = True
            with contextlib.closing(Ring(path, self._disk, self._merge)) as ring:
                yield ring

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Ring]:
        """Open the file to read; on a disk that cannot be written, and for another user, without the lock."""
        locked = self._lock() if os.access(self._folder / LOCK, os.R_OK) else contextlib.nullcontext()
        with locked, contextlib.closing(Ring(self._folder / RING, self._disk, self._merge)) as ring:
            yield ring

    def _begin(self, path: Path) -> None:
        fresh = fresh_of(path)
        self._disk.preallocate(fresh, self._size, to_slot(0, Head()))
        self._disk.rename(fresh, path)

    def _resize(self, path: Path) -> None:
        """Move what waits into a file of another size; when there is no space, the present one goes on.

        With it goes the outbox: what may have been taken already must be the same when it is sent again.
        """
        fresh = fresh_of(path)
        try:
            with contextlib.closing(Ring(path, self._disk)) as old:
                head = replace(old.head, sequence=old.last_sequence(), dropping=(), dropping_before=())
                self._disk.preallocate(fresh, self._size, to_slot(0, head))
                keep = _spans(old)
                with contextlib.closing(Ring(fresh, self._disk, self._merge)) as new:
                    if keep:
                        new.put_outbox(old.outbox())
                    for priority in reversed(Priority):
                        for record in old.waiting(priority):
                            new.place(priority, record.sequence, record.payload, sync=False, keep=keep)
                    new.commit(new.head)
            self._disk.rename(fresh, path)
        except StorageError:
            with contextlib.suppress(StorageError):
                self._disk.remove(fresh)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        path = self._folder / LOCK
        with faults(path, "lock"):
            fd = open_lock(path)
        try:
            for _ in range(_LOCK_TRIES):
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_LOCK_PAUSE_S)
                else:
                    yield
                    return
            raise StorageError("busy", f"somebody has held {path} for too long")
        finally:
            os.close(fd)


def fill(state: Path) -> dict[str, Any] | None:
    """Return how full a device's spool is, for people and programs; None where there is none that can be read."""
    try:
        look = Spool(state / FOLDER, Disk()).look()
    except StorageError:
        return None
    return look.document() if look.bytes else None


def _spans(ring: Ring) -> tuple[Kept, ...]:
    """Return whose records are being sent."""
    return tuple((one.priority, one.first, one.last) for one in _outbox_of(ring) if one)


def cursor_of(head: Head, priority: Priority) -> int:
    """Return the number up to which all is done."""
    return head.acked[priority][0][1] if head.acked[priority] else 0


def _moment(seconds: int) -> str | None:
    try:
        return to_text(datetime.fromtimestamp(seconds, timezone.utc)) if seconds else None
    except (ValueError, OverflowError, OSError):  # a clock that was far beyond every calendar
        return None


def _outbox_of(ring: Ring) -> tuple[Batch | None, Batch | None]:
    """Return the batch in the outbox and the one beside it, each unless it is done with."""
    region = ring.outbox()
    first, beside = _batch_of(region, ring.head), _batch_of(region[BESIDE_AT:], ring.head)
    return first, beside


def _region_of(batch: Batch, room: int) -> bytes | None:
    meta = canonical_json(
        {
            "id": batch.id,
            "signal": batch.signal,
            "priority": int(batch.priority),
            "span": [batch.first, batch.last],
            "count": [batch.count, batch.unreadable],
            "points": batch.points,
            "headers": batch.headers,
        }
    )
    return encode_outbox(meta, batch.body, room)


def _batch_of(region: bytes, head: Head) -> Batch | None:
    """Return the batch in an outbox unless it is done with."""
    found = decode_outbox(region)
    if found is None:
        return None
    meta, body = found
    try:
        told = parse_json(meta, "the outbox")
        priority, (first, last) = Priority(told["priority"]), map(int, told["span"])
        (count, unreadable), points = map(int, told["count"]), int(told.get("points", 0))
        headers = {str(name): str(value) for name, value in told["headers"].items()}
        name, signal = str(told["id"]), str(told["signal"])
        batch = Batch(name, signal, priority, first, last, count, headers, body, unreadable, points)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return None if head.is_acknowledged(priority, batch.last) else batch
