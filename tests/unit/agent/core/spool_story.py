"""What a device's telemetry spool goes through, for whoever cuts the power in it: every kind of write that it does.

>>> story = Told()                                        # doctest: +SKIP
>>> write_story(Disk(recording), folder, story)           # doctest: +SKIP
>>> check(crashed_folder, story.up_to(operation))         # doctest: +SKIP
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgewright_agent.files import Disk
from edgewright_agent.spool import AGGREGATE, ERROR, SAMPLE, UPDATE_STATUS, Batch, Spool
from edgewright_agent.spool_head import Head
from edgewright_agent.spool_layout import MIN_BYTES, Priority, Record

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
SIZES = (MIN_BYTES, MIN_BYTES + 64 * 1024)
_CHARS = 14_000  # one record to a segment: the file is full soon

# What must hold once it was told: kind and number. `status` and `error`: it is durable. `done`: nothing up to that
# number of that priority is sent again. `sending`: a batch up to that number is in the outbox until it is done.
Fact = tuple[str, int]


def write_story(disk: Disk, folder: Path, told: Callable[[Fact], None] = lambda _fact: None) -> None:
    """Fill a spool, deliver from it, fill it until it thins and drops, and give it another size on the way.

    Args:
        disk: Does all that is done.
        folder: Of the spool; may hold what an earlier story left.
        told: Called with each fact as soon as it holds, whatever comes then.
    """
    spool = Spool(folder, disk, size=SIZES[0], merge=join)
    step = 0

    def keep(priority: Priority, kind: str = "") -> None:
        nonlocal step
        step += 1
        number = spool.append(priority, event(step, 1, _CHARS), now=NOW + timedelta(seconds=step))
        if kind and number is not None:
            told((kind, number))

    keep(UPDATE_STATUS, "status")
    keep(ERROR, "error")
    for _ in range(4):
        keep(AGGREGATE)
        keep(SAMPLE)
    keep(UPDATE_STATUS, "status")
    _deliver(spool, AGGREGATE, 2, told)
    for _ in range(6):
        keep(AGGREGATE)
    keep(ERROR, "error")
    _deliver(spool, UPDATE_STATUS, 1, told)
    under_way = _send(spool, AGGREGATE, 1, told)
    _deliver(spool, ERROR, 1, told)
    _send(spool, UPDATE_STATUS, 1, told)
    spool = Spool(folder, disk, size=SIZES[1], merge=join)
    keep(UPDATE_STATUS, "status")
    _done(spool, under_way, told)


@dataclass(frozen=True)
class Found:
    """What the next start finds in a spool, and the number it gives then.

    Attributes:
        waiting: What waits for delivery.
        head: What it knows about itself.
        outbox: The batch whose delivery is under way.
        fresh: The number of a status that was appended, with a clock that has fallen far behind.
        after: Numbers of the statuses and errors that wait after that.
    """

    waiting: dict[Priority, list[Record]]
    head: Head
    outbox: Batch | None
    fresh: int | None
    after: frozenset[int]


def look(folder: Path) -> Found:
    """Open the spool as the next start does, of the size that it began with, and go on."""
    spool = Spool(folder, Disk(), size=SIZES[0], merge=join)
    found = {priority: spool.waiting(priority) for priority in Priority}
    head, outbox = spool.head(), spool.outbox()
    fresh = spool.append(UPDATE_STATUS, event(0, 1), now=NOW - timedelta(days=400))
    after = {record.sequence for priority in (UPDATE_STATUS, ERROR) for record in spool.waiting(priority)}
    return Found(found, head, outbox, fresh, frozenset(after))


def wrong(found: Found, facts: Sequence[Fact] = ()) -> Iterator[str]:
    """Yield what does not hold after a power cut.

    Args:
        found: What was found.
        facts: What was told before the cut.
    """
    numbers = [record.sequence for records in found.waiting.values() for record in records]
    if len(numbers) != len(set(numbers)):
        yield f"a number is given twice: {sorted(numbers)}"
    for record in (record for records in found.waiting.values() for record in records):
        if not _is_event(record.payload):
            yield f"what is read as {record.sequence} is not what was written"
    kept = {
        "status": {record.sequence for record in found.waiting[UPDATE_STATUS]},
        "error": {record.sequence for record in found.waiting[ERROR]},
    }
    for kind, number in facts:
        if kind in kept:
            priority = UPDATE_STATUS if kind == "status" else ERROR
            if not found.head.is_acknowledged(priority, number) and number not in kept[kind]:
                yield f"{kind} {number} was durable and is lost"
        elif kind.startswith("sending"):
            priority = Priority[kind.partition(" ")[2]]
            there = found.outbox  # of two the one that is worth more, and of one priority the last
            if not found.head.is_acknowledged(priority, number) and (
                there is None or (there.priority, there.last) > (priority, number)
            ):
                yield f"what was sent of {priority.word} up to {number} would not be the same when it is sent again"
        else:
            priority = Priority[kind.partition(" ")[2]]
            if again := [r.sequence for r in found.waiting[priority] if r.sequence <= number]:
                yield f"{priority.word} {again[0]} was delivered, and would be sent again"
    for priority in (UPDATE_STATUS, ERROR):
        if dropped := found.head.dropped[priority]:
            yield f"{dropped} of {priority.word} were dropped: lesser ones should have made room for them"
    highest = max([*numbers, *(number for _kind, number in facts)], default=0)
    if found.fresh is None or found.fresh <= highest:
        yield f"the next number is {found.fresh}, {highest} has been given"
    if gone := ({*kept["status"], *kept["error"], found.fresh} - found.after):
        yield f"{sorted(map(str, gone))[0]} is lost by going on"


def check(folder: Path, facts: Sequence[Fact] = ()) -> None:
    """Assert what must hold after a power cut, and that the spool goes on without help.

    Args:
        folder: As the next start finds it.
        facts: What was told before the cut.
    """
    faults = list(wrong(look(folder), facts))
    assert not faults, "; ".join(faults)


def _is_event(payload: bytes) -> bool:
    try:
        return bool(json.loads(payload)["count"] >= 1)
    except (ValueError, KeyError, TypeError):
        return False


def event(step: int, count: int, chars: int = 7000) -> bytes:
    """Return a payload that compresses to three quarters of itself at best, so that a file is full after few."""
    stream = b"".join(hashlib.sha256(b"%d %d" % (step, block)).digest() for block in range(chars // 40))
    filler = base64.b64encode(stream).decode()[:chars]
    return json.dumps({"count": count, "filler": filler}).encode()


def join(older: bytes, newer: bytes) -> bytes:
    """Return one payload that counts for both."""
    first, last = json.loads(older), json.loads(newer)
    return json.dumps({**last, "count": first["count"] + last["count"]}).encode()


def _deliver(spool: Spool, priority: Priority, count: int, told: Callable[[Fact], None]) -> None:
    _done(spool, _send(spool, priority, count, told), told)


def _send(spool: Spool, priority: Priority, count: int, told: Callable[[Fact], None]) -> Batch:
    records = spool.waiting(priority)[:count]
    first, last = records[0].sequence, records[-1].sequence
    batch = Batch(f"d/logs/{first}-{last}", "logs", priority, first, last, count, {"X": "y"}, b"body")
    spool.put_outbox(batch)
    assert spool.outbox() == batch
    told((f"sending {priority.name}", last))
    return batch


def _done(spool: Spool, batch: Batch, told: Callable[[Fact], None]) -> None:
    spool.acknowledge(batch, delivered=batch.count, rejected=0)
    told((f"done {batch.priority.name}", batch.last))
