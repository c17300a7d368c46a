"""The telemetry spool: bounded, ordered by worth, and whole whatever happens while it is written."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from edgewright_agent.errors import StorageError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.spool import AGGREGATE, ERROR, RING, SAMPLE, SYNC_S, UPDATE_STATUS, Batch, Spool, fill
from edgewright_agent.spool_head import HEAD_BYTES, MAX_SPANS, Head, from_slots, to_slot
from edgewright_agent.spool_layout import (
    MAX_BYTES,
    MAX_PAYLOAD_BYTES,
    MIN_BYTES,
    SECTOR_BYTES,
    Layout,
    Priority,
    SegmentHeader,
    scan,
)
from real import ROOT
from unit.agent.core import spool_story
from unit.agent.core.spool_story import NOW, event, join
from unit.agent.core.workbench import DyingCalls, PowerCut


def spool_at(folder: Path, calls: Calls | None = None, *, size: int = MIN_BYTES) -> Spool:
    return Spool(folder / "spool", Disk(calls), size=size, merge=join)


def small(text: str = "x") -> bytes:
    return json.dumps({"count": 1, "text": text}).encode()


def payloads(spool: Spool, priority: Priority) -> list[bytes]:
    return [record.payload for record in spool.waiting(priority)]


def delivered(spool: Spool, priority: Priority, records: slice) -> None:
    chosen = spool.waiting(priority)[records]
    first, last = chosen[0].sequence, chosen[-1].sequence
    spool.acknowledge(
        Batch("b", "logs", priority, first, last, len(chosen), {}, b""), delivered=len(chosen), rejected=0
    )


# --- order and numbers --------------------------------------------------------------------------------------------


def test_what_was_put_in_comes_out_in_order_also_in_the_next_process(tmp_path: Path) -> None:
    for step in range(5):
        spool_at(tmp_path).append(ERROR, small(str(step)), now=NOW)
    assert payloads(spool_at(tmp_path), ERROR) == [small(str(step)) for step in range(5)]


def test_numbers_grow_over_priorities_restarts_and_clocks_that_go_back(tmp_path: Path) -> None:
    numbers = [
        spool_at(tmp_path).append(Priority(step % 4), small(), now=NOW + timedelta(days=days))
        for step, days in enumerate((0, 0, 9, -400, 0, 9, 0, 0))
    ]
    found = [number for number in numbers if number is not None]
    assert len(found) == 8 and found == sorted(set(found))


def test_a_device_that_lost_its_spool_goes_on_above_its_past(tmp_path: Path) -> None:
    before = [spool_at(tmp_path).append(ERROR, small(), now=NOW) for _ in range(50)]
    (tmp_path / "spool" / RING).unlink()
    after = spool_at(tmp_path).append(ERROR, small(), now=NOW + timedelta(seconds=1))
    assert after is not None and all(number is not None and number < after for number in before)


def test_a_number_that_left_the_device_is_not_given_again_when_its_record_is_gone(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for _ in range(20):
        last = spool.append(SAMPLE, small(), now=NOW)
    delivered(spool, SAMPLE, slice(None))
    for _ in range(200):  # until the segment with that number belongs to somebody else
        spool.append(AGGREGATE, event(1, 1), now=NOW - timedelta(days=400))
    fresh = spool.append(SAMPLE, small(), now=NOW - timedelta(days=400))
    assert fresh is not None and last is not None and fresh > last


def test_a_payload_too_large_is_counted_and_nothing_else(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.append(ERROR, small(), now=NOW)
    assert spool.append(ERROR, os.urandom(40_000).hex().encode(), now=NOW) is None
    assert spool.append(ERROR, b"x" * (MAX_PAYLOAD_BYTES + 1), now=NOW) is None
    assert spool.append(ERROR, b"x" * MAX_PAYLOAD_BYTES, now=NOW) is not None, "it compresses"
    assert spool.look().fills[ERROR].dropped == 2 and len(payloads(spool, ERROR)) == 2


# --- torn and damaged ---------------------------------------------------------------------------------------------


def test_a_write_torn_at_any_byte_costs_that_record_and_no_other(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for text in ("first", "second"):
        spool.append(ERROR, small(text), now=NOW)
    ring = tmp_path / "spool" / RING
    before = ring.read_bytes()
    spool.append(ERROR, small("last" * 200), now=NOW)
    after = ring.read_bytes()
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    start, end = changed[0], changed[-1] + 1
    for cut in range(start, end):
        ring.write_bytes(after[:cut] + before[cut:])
        assert payloads(spool, ERROR) == [small("first"), small("second")]
        if cut % 16 == 0:
            spool_at(tmp_path).append(ERROR, small("next"), now=NOW)
            assert payloads(spool, ERROR) == [small("first"), small("second"), small("next")]
    ring.write_bytes(after)
    assert len(payloads(spool, ERROR)) == 3


def test_a_new_segment_torn_at_any_byte_costs_its_record_and_no_other(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.append(UPDATE_STATUS, small("kept"), now=NOW)
    ring = tmp_path / "spool" / RING
    before = ring.read_bytes()
    spool.append(ERROR, small("torn"), now=NOW)
    after = ring.read_bytes()
    changed = [at for at in range(len(before)) if before[at] != after[at]]
    for cut in range(changed[0], changed[-1] + 1):
        ring.write_bytes(after[:cut] + before[cut:])
        assert payloads(spool, UPDATE_STATUS) == [small("kept")] and payloads(spool, ERROR) == []
    assert spool_at(tmp_path).append(ERROR, small(), now=NOW)
    assert payloads(spool, ERROR) == [small()]


def test_every_damaged_sector_costs_the_record_it_belongs_to(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for step in range(6):
        spool.append(ERROR, small(str(step)), now=NOW)
    ring = tmp_path / "spool" / RING
    whole = ring.read_bytes()
    start = Layout(len(whole)).segment_at(0)
    for step in range(6):
        at = start + (1 + step) * SECTOR_BYTES
        ring.write_bytes(whole[:at] + os.urandom(SECTOR_BYTES) + whole[at + SECTOR_BYTES :])
        assert payloads(spool, ERROR) == [small(str(other)) for other in range(6) if other != step]


@pytest.mark.parametrize("damage", [b"", b"\0" * MIN_BYTES, b"\xff" * MIN_BYTES, b"x" * 5000])
def test_a_file_that_is_no_spool_becomes_one(tmp_path: Path, damage: bytes) -> None:
    spool_at(tmp_path).append(ERROR, small(), now=NOW)
    (tmp_path / "spool" / RING).write_bytes(damage)
    spool = spool_at(tmp_path)
    assert spool.append(ERROR, small("new"), now=NOW) is not None
    assert payloads(spool, ERROR) == [small("new")]


def test_a_torn_head_falls_back_to_the_one_before(tmp_path: Path) -> None:
    pages = to_slot(2, Head(sequence=7)) + to_slot(3, Head(sequence=9))
    assert from_slots(pages) == (3, Head(sequence=9))
    for cut in range(HEAD_BYTES, len(pages.rstrip(b"\0"))):
        torn = pages[:cut] + bytes(len(pages) - cut)
        assert from_slots(torn)[1].sequence == 7


def test_a_record_of_an_earlier_life_of_its_segment_is_none() -> None:
    from edgewright_agent.spool_layout import encode_record

    old, new = (SegmentHeader(7, nonce, ERROR) for nonce in (b"before..", b"now....."))
    segment = new.encode() + encode_record(old, 1, small("old")) + encode_record(new, 2, small("new"))
    assert [record.payload for record in scan(segment, new)] == [small("new")]


# --- power cuts and kills ---------------------------------------------------------------------------------------------


def test_a_cut_at_every_operation_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    counting = DyingCalls()
    spool_story.write_story(Disk(counting), tmp_path / "whole")
    assert counting.count > 60
    facts: list[spool_story.Fact] = []
    for dies_at in range(1, counting.count + 1):
        folder, facts = tmp_path / str(dies_at), []
        with pytest.raises(PowerCut):
            spool_story.write_story(Disk(DyingCalls(dies_at)), folder, facts.append)
        spool_story.check(folder, facts)
    spool_story.check(tmp_path / "whole", facts)


WRITER = """
import sys
from pathlib import Path
from unit.agent.core.spool_story import NOW, event
from unit.agent.core.test_spool import small, spool_at
from edgewright_agent.spool import AGGREGATE, UPDATE_STATUS
spool = spool_at(Path(sys.argv[1]))
for step in range(10_000):
    print(spool.append(UPDATE_STATUS, small(), now=NOW), flush=True)
    spool.append(AGGREGATE, event(step, 1), now=NOW)
"""


def writer(folder: Path, program: str = WRITER) -> subprocess.Popen[str]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("agent", "pipelines", "tests"))
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([paths, os.environ.get("PYTHONPATH", "")])},
    )


def test_a_writer_killed_at_any_moment_has_kept_what_it_said(tmp_path: Path) -> None:
    said: list[int] = []
    for lines in (1, 7, 20):
        process = writer(tmp_path)
        assert process.stdout is not None
        said += [int(process.stdout.readline()) for _ in range(lines)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout if line.endswith("\n")]
        process.wait()
    assert len(said) == len(set(said)) and said == sorted(said)
    kept = {record.sequence for record in spool_at(tmp_path).waiting(UPDATE_STATUS)}
    assert set(said) <= kept


def test_two_processes_never_give_one_number_twice(tmp_path: Path) -> None:
    program = WRITER.replace("10_000", "40")
    processes = [writer(tmp_path, program) for _ in range(2)]
    said = [int(line) for process in processes for line in process.communicate()[0].splitlines()]
    assert len(said) == len(set(said)) == 80
    assert {record.sequence for record in spool_at(tmp_path).waiting(UPDATE_STATUS)} == set(said)


class Counting(Calls):
    """Counts syncs."""

    def __init__(self) -> None:
        self.syncs = 0

    def sync_data(self, path: Path, fd: int) -> None:
        self.syncs += 1
        super().sync_data(path, fd)


def test_important_records_are_synced_at_once_and_others_by_and_by(tmp_path: Path) -> None:
    calls, clock = Counting(), [0.0]
    spool = Spool(tmp_path, Disk(calls), size=MIN_BYTES, clock=lambda: clock[0])
    for _ in range(20):
        spool.append(AGGREGATE, small(), now=NOW)
        spool.append(SAMPLE, small(), now=NOW)
    assert calls.syncs == 0
    spool.append(ERROR, small(), now=NOW)
    assert calls.syncs == 1, "and with it all before"
    clock[0] += SYNC_S - 1
    spool.append(SAMPLE, small(), now=NOW)
    assert calls.syncs == 1
    clock[0] += 1
    spool.append(SAMPLE, small(), now=NOW)
    assert calls.syncs == 2


# --- bounds -------------------------------------------------------------------------------------------------------


def test_no_flood_of_samples_pushes_out_anything_better(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for step in range(6):
        for priority in (UPDATE_STATUS, ERROR, AGGREGATE):
            spool.append(priority, event(step, 1), now=NOW)
    kept = {priority: payloads(spool, priority) for priority in (UPDATE_STATUS, ERROR, AGGREGATE)}
    for step in range(300):
        spool.append(SAMPLE, event(step, 1), now=NOW)
    assert {priority: payloads(spool, priority) for priority in kept} == kept
    look = spool.look()
    assert look.fills[SAMPLE].dropped + look.fills[SAMPLE].waiting == 300
    assert look.fills[SAMPLE].waiting >= 1


@pytest.mark.parametrize("flood", list(Priority))
def test_every_priority_keeps_room_of_its_own_under_a_flood_of_another(
    tmp_path: Path, flood: Priority
) -> None:
    spool = spool_at(tmp_path)
    for step in range(60):
        spool.append(flood, event(step, 1), now=NOW)
    for priority in Priority:
        spool.append(priority, small(priority.word), now=NOW)
    for priority in Priority:
        assert payloads(spool, priority)[-1] == small(priority.word)


def test_what_goes_is_the_oldest_and_counted(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for step in range(100):
        spool.append(UPDATE_STATUS, event(step, 1), now=NOW)
    left = payloads(spool, UPDATE_STATUS)
    assert left == [event(step, 1) for step in range(100 - len(left), 100)]
    assert spool.look().fills[UPDATE_STATUS].dropped == 100 - len(left)


def test_months_offline_fit_their_bound_and_lose_no_status_and_no_count(tmp_path: Path) -> None:
    spool = spool_at(tmp_path, size=2 * MIN_BYTES)
    statuses, hours = [], 24 * 100
    chance = random.Random(6)
    for hour in range(hours):
        now = NOW + timedelta(hours=hour)
        # As large as a real one, and as incompressible: 640 characters.
        payload = json.dumps({"count": 1, "filler": f"{chance.getrandbits(2560):0640x}"}).encode()
        spool.append(AGGREGATE, payload, now=now)
        if hour % 240 == 0:
            statuses.append(small(str(hour)))
            spool.append(UPDATE_STATUS, statuses[-1], now=now)
    assert {entry.name: entry.stat().st_size for entry in (tmp_path / "spool").iterdir()} == {
        RING: 2 * MIN_BYTES,
        "lock": 0,
    }
    assert payloads(spool, UPDATE_STATUS) == statuses
    aggregates = [json.loads(payload)["count"] for payload in payloads(spool, AGGREGATE)]
    assert sum(aggregates) == hours, "merged, none lost"
    assert max(aggregates) <= 32 and len(aggregates) > 150, (
        "and evenly: no span is much longer than it must be"
    )
    look = spool.look()
    assert look.head.thinned == hours - len(aggregates) and not any(look.head.dropped)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_done_the_books_balance(tmp_path: Path, seed: int) -> None:
    """Appended = waiting + delivered + dropped + merged, of each priority, through wraps, restarts and resizes."""
    chance = random.Random(seed)
    put = dict.fromkeys(Priority, 0)
    spool = spool_at(tmp_path)
    for step in range(250):
        what = chance.random()
        if what < 0.85:
            priority = chance.choice(list(Priority))
            assert spool.append(priority, event(step, 1), now=NOW + timedelta(seconds=chance.randrange(100)))
            put[priority] += 1
        elif what < 0.92:
            priority = chance.choice(list(Priority))
            waiting = len(spool.waiting(priority))
            if waiting:
                first = chance.randrange(waiting)
                delivered(spool, priority, slice(first, first + 9))
        else:
            spool = spool_at(tmp_path, size=chance.choice((MIN_BYTES, MIN_BYTES, 2 * MIN_BYTES)))
    look = spool.look()
    assert sum(look.head.dropped) > 20, "it was full"
    for priority in Priority:
        told, merged = look.fills[priority], look.head.thinned if priority == AGGREGATE else 0
        assert told.waiting + told.delivered + told.dropped + merged == put[priority]
        assert told.waiting == len(payloads(spool, priority))


def test_another_size_takes_what_waits_along(tmp_path: Path) -> None:
    spool = spool_at(tmp_path, size=4 * MIN_BYTES)
    for step in range(60):
        spool.append(AGGREGATE, event(step, 1), now=NOW)
    spool.append(UPDATE_STATUS, small("kept"), now=NOW)
    smaller = spool_at(tmp_path)
    smaller.append(ERROR, small(), now=NOW)
    assert (tmp_path / "spool" / RING).stat().st_size == MIN_BYTES
    assert payloads(smaller, UPDATE_STATUS) == [small("kept")]
    assert sum(json.loads(payload)["count"] for payload in payloads(smaller, AGGREGATE)) == 60


def test_a_large_spool_has_larger_segments_and_not_more() -> None:
    for size in (MIN_BYTES, 4 * 2**20, 16 * 2**20, MAX_BYTES):
        layout = Layout(size)
        assert 8 <= layout.segments <= 256
        assert layout.segment_at(layout.segments) <= size
    with pytest.raises(ValueError, match="no spool"):
        Spool(Path("/nowhere"), Disk(), size=MIN_BYTES - 1)


# --- done with ----------------------------------------------------------------------------------------------------


def test_the_cursor_is_durable_and_spans_grow_together(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for step in range(10):
        spool.append(ERROR, small(str(step)), now=NOW)
    delivered(spool, ERROR, slice(6, 10))  # the newest first
    assert payloads(spool_at(tmp_path), ERROR) == [small(str(step)) for step in range(6)]
    delivered(spool, ERROR, slice(0, 3))
    delivered(spool, ERROR, slice(0, 3))
    again = spool_at(tmp_path)
    assert payloads(again, ERROR) == [] and len(again.head().acked[ERROR]) == 1
    again.append(ERROR, small("new"), now=NOW)
    assert payloads(again, ERROR) == [small("new")]


def test_more_spans_than_are_kept_are_sent_again_and_never_lost() -> None:
    head, waiting = Head(), list(range(1, 101))
    for number in range(2, 60, 2):
        head = head.acknowledged(ERROR, number, number, waiting=waiting)
    assert len(head.acked[ERROR]) == MAX_SPANS
    assert not any(head.is_acknowledged(ERROR, number) for number in waiting if number % 2)


def test_the_batch_in_the_outbox_is_there_until_it_is_done(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for _ in range(3):
        spool.append(ERROR, small(), now=NOW)
    first, *_, last = (record.sequence for record in spool.waiting(ERROR))
    batch = Batch(
        "d/logs/1", "logs", ERROR, first, last, 3, {"Edgewright-Batch": "d/logs/1"}, b"\x1f\x8bbody", 1
    )
    assert spool.put_outbox(batch) and spool_at(tmp_path).outbox() == batch
    assert not spool.put_outbox(Batch("d", "logs", ERROR, 1, 1, 1, {}, bytes(70_000))), "it would not fit"
    assert spool.outbox() == batch
    spool.acknowledge(batch, delivered=2, rejected=1)
    assert spool.outbox() is None
    assert spool.look().fills[ERROR].delivered == 2 and spool.look().fills[ERROR].rejected == 1


def test_aggregates_under_way_are_not_merged_with_others(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for step in range(6):
        spool.append(AGGREGATE, event(step, 1), now=NOW)
    chosen = spool.waiting(AGGREGATE)[:4]
    batch = Batch("d", "metrics", AGGREGATE, chosen[0].sequence, chosen[-1].sequence, 4, {}, b"x")
    assert spool.put_outbox(batch)
    for step in range(6, 60):
        spool.append(AGGREGATE, event(step, 1), now=NOW)
    assert payloads(spool, AGGREGATE)[:4] == [record.payload for record in chosen]
    spool.acknowledge(batch, delivered=4, rejected=0)
    assert sum(json.loads(payload)["count"] for payload in payloads(spool, AGGREGATE)) == 56


def batch_of(spool: Spool, priority: Priority, count: int, body: bytes = b"body") -> Batch:
    chosen = spool.waiting(priority)[:count]
    first, last = chosen[0].sequence, chosen[-1].sequence
    return Batch(f"d/{first}-{last}", "logs", priority, first, last, len(chosen), {"X": "y"}, body)


def test_an_error_has_room_beside_aggregates_that_are_under_way(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    for priority in Priority:
        spool.append(priority, small(), now=NOW)
    aggregates = batch_of(spool, AGGREGATE, 1, bytes(20_000))
    status, error = (batch_of(spool, priority, 1, bytes(25_000)) for priority in (UPDATE_STATUS, ERROR))
    assert spool.put_outbox(aggregates) and spool.put_outbox(status)
    assert spool_at(tmp_path).outbox() == status, "what is worth more"
    assert not spool.put_outbox(error) and not spool.put_outbox(batch_of(spool, SAMPLE, 1)), (
        "both places are taken"
    )
    smaller = batch_of(spool, UPDATE_STATUS, 1, b"half of it")
    assert spool.put_outbox(smaller) and spool.outbox() == smaller, "a half replaces the whole"
    spool.acknowledge(smaller, delivered=1, rejected=0)
    assert spool.outbox() == aggregates
    assert spool.put_outbox(error) and spool.outbox() == error
    spool.acknowledge(error, delivered=1, rejected=0)
    spool.acknowledge(aggregates, delivered=1, rejected=0)
    assert spool_at(tmp_path).outbox() is None


def test_a_batch_as_large_as_an_earlier_version_made_them_leaves_no_room_beside_it(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.append(AGGREGATE, small(), now=NOW)
    spool.append(ERROR, small(), now=NOW)
    large = batch_of(spool, AGGREGATE, 1, bytes(60_000))
    assert spool.put_outbox(large) and not spool.put_outbox(batch_of(spool, ERROR, 1))
    assert spool.outbox() == large


@pytest.mark.parametrize("flood", [ERROR, SAMPLE])
def test_what_is_under_way_is_not_counted_as_dropped_when_it_makes_room(
    tmp_path: Path, flood: Priority
) -> None:
    spool = spool_at(tmp_path)
    for step in range(10):
        spool.append(flood, event(step, 1), now=NOW)
    batch = batch_of(spool, flood, len(spool.waiting(flood)))
    already = spool.look().fills[flood].dropped
    assert spool.put_outbox(batch)
    for step in range(60):
        spool.append(flood, event(step, 1), now=NOW)
    assert spool.waiting(flood)[0].sequence > batch.last, "it is only in the outbox now"
    spool.acknowledge(batch, delivered=batch.count, rejected=0)
    told = spool.look().fills[flood]
    assert told.waiting + told.delivered + told.dropped == 70 and told.delivered == 10 - already


@pytest.mark.parametrize("sizes", [(MIN_BYTES, 2 * MIN_BYTES), (4 * MIN_BYTES, MIN_BYTES)])
def test_another_size_takes_along_what_is_under_way(tmp_path: Path, sizes: tuple[int, int]) -> None:
    spool = spool_at(tmp_path, size=sizes[0])
    spool.append(ERROR, small(), now=NOW)
    for step in range(10):
        spool.append(AGGREGATE, event(step, 1), now=NOW)
    batches = [batch_of(spool, AGGREGATE, 4), batch_of(spool, ERROR, 1)]
    kept = payloads(spool, AGGREGATE)[:4]
    assert all([spool.put_outbox(batch) for batch in batches])
    for step in range(10, 40 if sizes[0] > sizes[1] else 12):
        spool.append(AGGREGATE, event(step, 1), now=NOW)
    other = spool_at(tmp_path, size=sizes[1])
    other.append(SAMPLE, small(), now=NOW)
    assert (tmp_path / "spool" / RING).stat().st_size == sizes[1]
    assert payloads(other, AGGREGATE)[:4] == kept, "none is merged with what has not been sent"
    for batch in reversed(batches):
        assert other.outbox() == batch
        other.acknowledge(batch, delivered=batch.count, rejected=0)
    assert other.outbox() is None


# --- disks that say no -----------------------------------------------------------------------------------------------


class Refusing(Calls):
    """Refuses operations with an error number, as long as `number` is set."""

    def __init__(self, number: int, *operations: str) -> None:
        self.number: int | None = number
        self._operations = operations

    def __getattribute__(self, name: str) -> object:
        found = super().__getattribute__(name)
        if name in ("number", "_operations") or name.startswith("__"):
            return found
        if self.number is not None and name in self._operations:
            return self._refuse
        return found

    def _refuse(self, *_arguments: object) -> None:
        raise OSError(self.number or 0, os.strerror(self.number or 0))


def test_a_full_disk_from_the_start_costs_records_until_there_is_space(tmp_path: Path) -> None:
    calls = Refusing(errno.ENOSPC, "allocate")
    spool = spool_at(tmp_path, calls)
    assert [spool.append(priority, small(), now=NOW) for priority in Priority] == [None] * 4
    assert not (tmp_path / "spool" / RING).exists() and fill(tmp_path) is None
    calls.number = None
    assert spool.append(ERROR, small(), now=NOW) is not None
    assert spool_at(tmp_path).head().dropped == (1, 1, 1, 1), "counted, durably"


def test_a_disk_that_is_full_later_does_not_matter(tmp_path: Path) -> None:
    spool_at(tmp_path).append(ERROR, small(), now=NOW)

    class Full(Calls):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            if offset + len(data) > os.fstat(fd).st_size:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(path, fd, data, offset)

        def open(self, path: Path, flags: int) -> int:
            if flags & os.O_CREAT:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().open(path, flags)

        def mkdir(self, path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    spool = spool_at(tmp_path, Full())
    for step in range(60):
        assert spool.append(AGGREGATE, event(step, 1), now=NOW) is not None
    resized = spool_at(tmp_path, Full(), size=2 * MIN_BYTES)
    assert resized.append(ERROR, small("still"), now=NOW), "in the file it has"
    assert payloads(resized, ERROR)[-1] == small("still")


def test_a_read_only_disk_can_be_read_and_what_comes_is_counted_in_memory(tmp_path: Path) -> None:
    spool_at(tmp_path).append(ERROR, small("before"), now=NOW)
    spool = spool_at(tmp_path, Refusing(errno.EROFS, "open", "mkdir", "rename"))
    assert spool.append(ERROR, small(), now=NOW) is None
    assert payloads(spool, ERROR) == [small("before")]
    assert spool.look().fills[ERROR].dropped == 1
    batch = Batch("d", "logs", ERROR, 1, 2**52, 1, {}, b"x")
    with pytest.raises(StorageError) as refused:
        spool.acknowledge(batch, delivered=1, rejected=0)
    assert refused.value.code == "read-only"
    spool.note(tried=1)


@pytest.mark.parametrize("operation", ["sync_data", "write", "open"])
def test_a_failing_disk_raises_nothing_and_is_forgiven_when_it_works_again(
    tmp_path: Path, operation: str
) -> None:
    spool_at(tmp_path).append(ERROR, small("before"), now=NOW)
    calls = Refusing(errno.EIO, operation)
    spool = spool_at(tmp_path, calls)
    assert spool.append(ERROR, small("lost"), now=NOW) is None
    calls.number = None
    assert spool.append(ERROR, small("after"), now=NOW) is not None
    found = payloads(spool, ERROR)
    assert found[0] == small("before") and found[-1] == small("after")
    assert spool.head().dropped[ERROR] == 1


class BadSector:
    """Answers reads of one sector with EIO, as a disk does that has lost it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.at: int | None = None
        read = os.pread

        def pread(fd: int, length: int, at: int) -> bytes:
            if self.at is not None and at < self.at + SECTOR_BYTES and self.at < at + length:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(fd, length, at)

        monkeypatch.setattr(os, "pread", pread)


@pytest.fixture
def bad_sector(monkeypatch: pytest.MonkeyPatch) -> BadSector:
    return BadSector(monkeypatch)


def test_a_sector_that_cannot_be_read_costs_at_most_what_lies_in_its_page(
    tmp_path: Path, bad_sector: BadSector
) -> None:
    layout = Layout(MIN_BYTES)
    spool = spool_at(tmp_path)
    for step in range(6):
        spool.append(UPDATE_STATUS, small(str(step)), now=NOW)
        spool.append(ERROR, event(step, 1), now=NOW)
    statuses, errors = payloads(spool, UPDATE_STATUS), payloads(spool, ERROR)
    batch = batch_of(spool, ERROR, 1)
    for at in range(0, MIN_BYTES, 4096):
        folder = tmp_path / str(at)
        shutil.copytree(tmp_path / "spool", folder / "spool")
        bad_sector.at = at
        spool = spool_at(folder)
        missing = [
            payload
            for payload in statuses + errors
            if payload not in payloads(spool, UPDATE_STATUS) + payloads(spool, ERROR)
        ]
        assert len(missing) <= 6 and (at >= layout.segment_at(0) or not missing)
        for step in range(20):
            assert spool.append(UPDATE_STATUS, small(f"after {step}"), now=NOW), at
            assert spool.append(ERROR, event(step, 1), now=NOW), at
        assert payloads(spool, UPDATE_STATUS)[-20:] == [small(f"after {step}") for step in range(20)]
        assert spool.look().fills[ERROR].waiting > 1 and spool.glance()[1] == {UPDATE_STATUS, ERROR}
        assert spool.put_outbox(batch)
        delivered(spool, UPDATE_STATUS, slice(None))
        assert payloads(spool, UPDATE_STATUS) == []


def test_nothing_is_written_over_what_cannot_be_read_now(tmp_path: Path, bad_sector: BadSector) -> None:
    spool = spool_at(tmp_path)
    for step in range(3):
        spool.append(ERROR, small(str(step)), now=NOW)
    before = spool.waiting(ERROR)
    for page in (0, 1):
        bad_sector.at = Layout(MIN_BYTES).segment_at(0) + page * 4096
        for step in range(60):
            assert spool_at(tmp_path).append(AGGREGATE, event(step, 1), now=NOW)
        assert spool_at(tmp_path).append(ERROR, small(f"page {page}"), now=NOW)
    bad_sector.at = None
    found = spool_at(tmp_path).waiting(ERROR)
    assert found[:3] == before and [one.payload for one in found[3:]] == [small("page 0"), small("page 1")]


def test_a_disk_that_reads_nothing_any_more_costs_records_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool_at(tmp_path).append(ERROR, small("before"), now=NOW)
    with monkeypatch.context() as patched:

        def pread(fd: int, length: int, at: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        patched.setattr(os, "pread", pread)
        spool = spool_at(tmp_path)
        assert spool.append(ERROR, small(), now=NOW) is None
        assert spool.waiting(ERROR) == [] and spool.look().fills[ERROR].dropped == 1
    assert payloads(spool, ERROR) == [small("before")]


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_where_nothing_can_be_allocated_zeros_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def cannot(fd: int, offset: int, length: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    spool_at(tmp_path).append(ERROR, small(), now=NOW)
    found = (tmp_path / "spool" / RING).stat()
    assert found.st_size == MIN_BYTES and found.st_blocks * 512 >= MIN_BYTES


def test_its_space_is_its_own_from_the_start(tmp_path: Path) -> None:
    spool_at(tmp_path).append(ERROR, small(), now=NOW)
    assert (tmp_path / "spool" / RING).stat().st_blocks * 512 >= MIN_BYTES


def test_people_and_programs_can_see_how_full_it_is(tmp_path: Path) -> None:
    spool = spool_at(tmp_path)
    spool.append(ERROR, small(), now=NOW)
    told = fill(tmp_path)
    assert told and told["bytes"] == MIN_BYTES
    assert told["classes"]["error"]["waiting"] == 1 and told["classes"]["update-status"]["waiting"] == 0
    spool.note(tried=2**62, outcome="network", message="no route")
    assert (fill(tmp_path) or {})["delivery"]["triedAt"] is None, "a clock beyond every calendar"


class Platters(Calls):
    """Keeps apart what is durable and what a power cut may take: sectors of writes that no sync has followed.

    Renames are durable when they return: the directory is synced with them, which other tests cut.
    """

    def __init__(self) -> None:
        self.durable: dict[str, bytearray] = {}
        self.pending: dict[str, list[tuple[int, bytes]]] = {}
        self.operations = 0

    def allocate(self, path: Path, fd: int, size: int) -> None:
        super().allocate(path, fd, size)
        self.durable[path.name] = bytearray(size)
        self.pending[path.name] = []

    def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
        super().write(path, fd, data, offset)
        self.operations += 1
        for at in range(0, len(data), SECTOR_BYTES):
            self.pending[path.name].append((offset + at, data[at : at + SECTOR_BYTES]))

    def _synced(self, path: Path) -> None:
        self.operations += 1
        for offset, data in self.pending[path.name]:
            self.durable[path.name][offset : offset + len(data)] = data
        self.pending[path.name] = []

    def sync(self, path: Path, fd: int) -> None:
        super().sync(path, fd)
        self._synced(path)

    def sync_data(self, path: Path, fd: int) -> None:
        super().sync_data(path, fd)
        self._synced(path)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.durable[new.name] = self.durable.pop(old.name)
        self.pending[new.name] = self.pending.pop(old.name)

    def after_a_cut(self, chance: random.Random) -> bytes:
        """The ring as the next start may find it: any of the pending sectors there, in any order, one of them torn."""
        image = bytearray(self.durable[RING])
        for offset, data in self.pending[RING]:
            fate = chance.random()
            if fate < 0.5:
                image[offset : offset + len(data)] = data
            elif fate < 0.6:
                torn = chance.randrange(len(data))
                image[offset : offset + torn] = data[:torn]
            elif fate < 0.65:
                image[offset : offset + len(data)] = bytes(len(data))
        return bytes(image)


@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_may_lose_tear_and_reorder_whatever_was_not_synced(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    facts: list[spool_story.Fact] = []
    states = 0

    class Cut(Platters):
        def write(self, path: Path, fd: int, data: bytes, offset: int) -> None:
            super().write(path, fd, data, offset)
            self.look()

        def look(self) -> None:
            nonlocal states
            if RING in self.durable and chance.random() < 0.3:
                states += 1
                folder = tmp_path / f"cut {states}"
                folder.mkdir()
                (folder / RING).write_bytes(self.after_a_cut(chance))
                spool_story.check(folder, list(facts))

    spool_story.write_story(Disk(Cut()), tmp_path / "story", facts.append)
    assert states > 0 and len(facts) == 14
