"""What a device's telemetry spool goes through, for whoever cuts the power in it: every kind of write that it does.

>>> story = Told()                                        # doctest: +SKIP
>>> write_story(Disk(recording), folder, story)           # doctest: +SKIP
>>> check(crashed_folder, story.up_to(operation))         # doctest: +SKIP
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgewright_agent.files import Disk
from edgewright_agent.spool import AGGREGATE, ERROR, SAMPLE, UPDATE_STATUS, Batch, Spool
from edgewright_agent.spool_layout import MIN_BYTES, Priority

NOW = datetime(2030, 1, 1, tzinfo=timezone.utc)
SIZES = (MIN_BYTES, MIN_BYTES + 64 * 1024)
_CHARS = 14_000  # one record to a segment: the file is full soon

# What must hold once it was told: kind and number. `status` and `error`: it is durable. `done`: nothing up to that
# number of that priority is sent again.
Fact = tuple[str, int]


def write_story(disk: Disk, folder: Path, told: Callable[[Fact], None] = lambda _fact: None) -> None:
    """Fill a spool, deliver from it, fill it until it thins and drops, and give it another size.

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
    spool = Spool(folder, disk, size=SIZES[1], merge=join)
    keep(UPDATE_STATUS, "status")


def check(folder: Path, facts: Sequence[Fact] = ()) -> None:
    """Assert what must hold after a power cut, and that the spool goes on without help.

    Args:
        folder: As the next start finds it.
        facts: What was told before the cut.
    """
    spool = Spool(folder, Disk(), size=SIZES[0], merge=join)
    found = {priority: spool.waiting(priority) for priority in Priority}
    numbers = [record.sequence for records in found.values() for record in records]
    assert len(numbers) == len(set(numbers)), "no number is given twice"
    for records in found.values():
        for record in records:
            assert json.loads(record.payload)["count"] >= 1, "what is read is what was written"
    kept = {
        "status": {record.sequence for record in found[UPDATE_STATUS]},
        "error": {record.sequence for record in found[ERROR]},
    }
    head = spool.head()
    for kind, number in facts:
        if kind in kept:
            priority = UPDATE_STATUS if kind == "status" else ERROR
            done = head.is_acknowledged(priority, number)
            assert done or number in kept[kind], f"{kind} {number} was durable and is lost"
        else:
            priority = Priority[kind.partition(" ")[2]]
            assert all(record.sequence > number for record in found[priority]), (
                "what was delivered is not sent again"
            )
    assert not any(head.dropped[priority] for priority in (UPDATE_STATUS, ERROR)), (
        "lesser ones made room for them"
    )
    highest = max([*numbers, *(number for _kind, number in facts)], default=0)
    fresh = spool.append(UPDATE_STATUS, event(0, 1), now=NOW - timedelta(days=400))
    assert fresh is not None and fresh > highest, "numbers go on above all that were given"
    assert fresh in {record.sequence for record in spool.waiting(UPDATE_STATUS)}


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
    records = spool.waiting(priority)[:count]
    first, last = records[0].sequence, records[-1].sequence
    batch = Batch(f"d/logs/{first}-{last}", "logs", priority, first, last, count, {"X": "y"}, b"body")
    spool.put_outbox(batch)
    assert spool.outbox() == batch
    spool.acknowledge(batch, delivered=count, rejected=0)
    told((f"done {priority.name}", last))
