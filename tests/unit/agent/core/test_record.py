"""The durable record: two slots, of which one may be torn at any time."""

from __future__ import annotations

import errno
import json
import os
import random
import tempfile
import time
import zlib
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewright_agent.acceptance import MAX_LANES, MAX_MODELS
from edgewright_agent.clock import Uptime
from edgewright_agent.config import Budget
from edgewright_agent.counts import MOST
from edgewright_agent.errors import StorageError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.floor import Floor
from edgewright_agent.model_state import (
    MAX_TOMBSTONES,
    Candidate,
    ModelState,
    Pin,
    Rung,
    Slot,
    Soak,
    Terms,
    Tombstone,
    Trial,
    Verdict,
)
from edgewright_agent.record import MAX_UNPACKED_BYTES, Ledger, Poll, Record, Seen, from_bytes, to_bytes
from edgewright_agent.slots import MAX_PAYLOAD_BYTES, SLOT_BYTES, Slots, decode, encode
from unit.agent.core.workbench import Bench, make_artifact

DIGEST = "sha256:" + "a" * 64
AT = "2030-01-01T00:00:00Z"


def anchored(folder: Path, disk: Disk | None = None) -> Ledger:
    """The ledger of a device that `init` has given its first record."""
    ledger = Ledger(folder, disk or Disk())
    if ledger.record.quarantined:
        ledger.reanchor(Record())
    return ledger


def counted(ledger: Ledger, times: int) -> None:
    for _ in range(times):
        ledger.commit(ledger.record.counted(polls=1))


def polls(folder: Path) -> int:
    return Ledger(folder, Disk()).record.counters.get("polls", 0)


def test_a_record_survives_the_disk_whole(tmp_path: Path) -> None:
    state = ModelState(
        active=Slot(DIGEST, "1.0.0", AT, {"loadMs": 1.5}),
        trial=Trial(DIGEST, "1.1.0", 2, AT, 60.0),
        tombstones=(Tombstone(DIGEST, "0.9.0", "health-crash", "died", AT),),
        last=Verdict("unsigned", "no", AT, DIGEST, "1.1.0"),
    )
    record = Record(
        models={"digit-reader": state},
        floor={"root": 1, "timestamp": 9},
        expires={"root": AT},
        seen=Seen('"etag"', "f"),
        poll=Poll(AT, "busy", "later", 7.0),
        counters={"polls": 3},
        boots=2,
        boot_id="b",
        clock_floor=AT,
        clock_since=Uptime("b", 9),
        floor_keys={"timestamp": "1:ab"},
        sequences={"raspberry-pi-4/digit-reader": 7},
        fleet="acme",
    )
    anchored(tmp_path).commit(record)
    assert Ledger(tmp_path, Disk()).record == record


@given(st.binary(max_size=5000), st.integers(1, 2**60))
def test_a_slot_gives_back_what_it_was_given(payload: bytes, generation: int) -> None:
    assert decode(encode(generation, payload)) == (generation, payload)


@given(st.data(), st.binary(min_size=1, max_size=3000))
def test_any_damage_to_a_slot_is_seen(data: st.DataObject, payload: bytes) -> None:
    slot = bytearray(encode(5, payload))
    used = 20 + 32 + len(payload)
    at = data.draw(st.integers(0, used - 1))
    slot[at] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(slot)) is None


@given(st.binary(max_size=3000), st.binary(max_size=3000), st.integers(0, 4096))
def test_a_slot_torn_anywhere_between_old_and_new_is_either_of_them_or_nothing(
    old: bytes, new: bytes, written: int
) -> None:
    before, after = encode(4, old), encode(6, new)
    torn = after[:written] + before[written:]
    assert decode(torn) in (None, (4, old), (6, new))


def test_a_slot_takes_no_more_than_it_holds() -> None:
    assert len(encode(1, b"x" * MAX_PAYLOAD_BYTES)) == SLOT_BYTES
    with pytest.raises(StorageError, match="record needs"):
        encode(1, b"x" * (MAX_PAYLOAD_BYTES + 1))


@settings(max_examples=40, deadline=None)
@given(commits=st.integers(2, 5), written=st.integers(0, SLOT_BYTES), reordered=st.booleans())
def test_a_torn_write_costs_only_itself(commits: int, written: int, reordered: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = anchored(folder)
        counted(ledger, commits)
        path = folder / f"state.{(ledger.generation + 1) % 2}"
        old = path.read_bytes()
        after = to_bytes(ledger.record.counted(polls=1))
        new = encode(ledger.generation + 1, after).ljust(SLOT_BYTES, b"\0")
        torn = old[:written] + new[written:] if reordered else new[:written] + old[written:]
        path.write_bytes(torn)
        assert polls(folder) in (commits, commits + 1)


@pytest.mark.parametrize("damage", [b"", b"\0" * SLOT_BYTES, b"\xff" * SLOT_BYTES, None])
@pytest.mark.parametrize("slot", ["newest", "older"])
def test_one_damaged_slot_of_any_kind_is_survived_and_mended(
    tmp_path: Path, damage: bytes | None, slot: str
) -> None:
    ledger = anchored(tmp_path)
    counted(ledger, 4)
    path = tmp_path / f"state.{(ledger.generation + (slot == 'older')) % 2}"
    path.unlink() if damage is None else path.write_bytes(damage)
    again = Ledger(tmp_path, Disk())
    assert again.record.counters["polls"] == (4 if slot == "older" else 3)
    counted(again, 2)
    assert {p.stat().st_size for p in tmp_path.glob("state.?")} == {SLOT_BYTES}
    assert polls(tmp_path) == again.record.counters["polls"]


@pytest.mark.parametrize(("lost", "code"), [("damaged", "state-damaged"), ("gone", "state-missing")])
def test_a_record_that_is_lost_is_a_quarantine_that_only_reanchoring_ends(
    tmp_path: Path, lost: str, code: str
) -> None:
    counted(anchored(tmp_path), 3)
    for name in ("state.0", "state.1"):
        if lost == "gone":
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_bytes(b"junk")
    ledger = Ledger(tmp_path, Disk())
    assert ledger.record.quarantined == code
    with pytest.raises(StorageError, match="nothing is installed; .*`edgewright-agent reanchor`") as refused:
        ledger.commit(ledger.record.counted(polls=1))
    assert refused.value.code == code
    ledger.reanchor(Record(counters={"reanchors": 1}))
    assert Ledger(tmp_path, Disk()).record == Record(counters={"reanchors": 1})
    if lost == "damaged":
        assert (tmp_path / "state.0.damaged").read_bytes() == b"junk"


def test_an_empty_directory_is_no_first_boot_but_a_record_that_is_missing(tmp_path: Path) -> None:
    assert Ledger(tmp_path, Disk()).record.quarantined == "state-missing"


def test_a_record_from_before_sequences_and_keys_still_counts(tmp_path: Path) -> None:
    old = (
        b'{"boot_id":"b","boots":2,"clock_floor":"2030-01-01T00:00:00Z","counters":{},"expires":{},'
        b'"floor":{"timestamp":9},"models":{},"version":1}'
    )
    Slots(tmp_path, Disk()).write(1, old)
    record = Ledger(tmp_path, Disk()).record
    assert record.lowest(Uptime("b", 9)) == Floor({"timestamp": 9}, {}, "2030-01-01T00:00:00Z")
    assert (record.sequences, record.fleet, record.quarantined) == ({}, None, None)


def test_a_clock_floor_at_the_end_of_all_time_stays_there_and_ends_no_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = "9999-12-31T23:59:59Z"
    record = Record().with_floor(Floor({}, {}, last), Uptime("b", 60))
    assert record.lowest(Uptime("b", 61)).clock == last
    assert record.lowest(Uptime("c", 90 * 365 * 86400)).clock == last
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        bench = Bench(tmp_path)
        bench.ledger.commit(record)
        windows = {"timeZone": "local", "activation": ["05:00-06:00"], "download": ["sun 05:00-06:00"]}
        for network in ({}, {"windows": windows}):
            bench.document["network"] = network
            bench.publish(make_artifact("1.0.0", size=5000))
            bench.now += timedelta(hours=1)
            assert bench.once().poll.code == "ok"
        assert bench.ledger.record.clock_floor == last
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_record_with_a_field_of_a_newer_agent_is_not_touched_lest_a_floor_be_lost(tmp_path: Path) -> None:
    newer = json.loads(to_bytes(Record()))
    Slots(tmp_path, Disk()).write(1, json.dumps({**newer, "another_floor": 7}).encode())
    with pytest.raises(StorageError) as refused:
        Ledger(tmp_path, Disk())
    assert refused.value.code == "state-version"


def test_a_record_that_would_not_fit_gives_up_words_before_anything_that_decides(tmp_path: Path) -> None:
    state = ModelState(
        active=Slot(DIGEST, "1.0.0", AT, {"loadMs": 1.5}), last=Verdict("held", "x" * 300, AT, DIGEST)
    )
    for number in range(MAX_TOMBSTONES):
        state = state.entomb(Tombstone(f"sha256:{number:064x}", "1.0.0", "health-crash", "y" * 300, AT))
    models = {f"model-{number}": state for number in range(24)}
    record = Record(models=models, floor={"timestamp": 9}, sequences=dict.fromkeys(models, 7))
    assert len(to_bytes(record)) > MAX_PAYLOAD_BYTES
    anchored(tmp_path).commit(record)
    kept = Ledger(tmp_path, Disk()).record
    assert (kept.floor, kept.sequences) == (record.floor, record.sequences)
    assert [[s.digest for s in m.tombstones] for m in kept.models.values()] == [
        [s.digest for s in state.tombstones]
    ] * 24
    assert all(m.active == state.active for m in kept.models.values())


def test_a_device_with_as_many_models_as_it_may_have_can_record_all_of_them(tmp_path: Path) -> None:
    slot = Slot(DIGEST, "10.20.30", AT, {"loadMs": 123.5, "inferenceMs": 12.25, "peakMemoryBytes": 123456789})
    state = ModelState(slot, slot, slot, last=Verdict("installed", "x" * 300, AT, DIGEST, "10.20.30"))
    for number in range(MAX_TOMBSTONES):
        state = state.entomb(Tombstone(f"sha256:{number:064x}", "10.20.31", "health-crash", "y" * 300, AT))
    models = {f"{number:02d}-{'m' * 60}": state for number in range(MAX_MODELS)}
    anchored(tmp_path).commit(Record(models=models, sequences=dict.fromkeys(models, 7)))
    kept = Ledger(tmp_path, Disk()).record
    assert kept.sequences == dict.fromkeys(models, 7)
    for model in kept.models.values():
        assert [s and s.digest for s in (model.active, model.previous, model.factory)] == [DIGEST] * 3
        assert model.tombstones[-1].digest == state.tombstones[-1].digest, "the newest stays"


def fullest(draw: random.Random) -> ModelState:
    """A model with everything a record can hold of one, and nothing that repeats."""

    def digest() -> str:
        return f"sha256:{draw.getrandbits(256):064x}"

    def words() -> str:
        return "".join(draw.choices("abcdefghij klmno", k=300))

    def slot() -> Slot:
        figures = {
            "loadMs": draw.random(),
            "inferenceMs": draw.random(),
            "providers": ["CPUExecutionProvider"],
        }
        return Slot(digest(), f"{draw.randrange(99)}.{draw.randrange(999)}.0", AT, figures)

    def trial() -> Trial:
        terms = Terms(Budget(1000.5, 20.5, draw.randrange(1 << 40)), 60, 86400, 10.0)
        return Trial(digest(), "10.20.30", 3, AT, 60.0, terms, 7)

    def stone() -> Tombstone:
        name = f"{draw.getrandbits(48):012x}-7.json"
        return Tombstone(digest(), "10.20.31", "health-wrong-output", words(), AT, name)

    active, up = slot(), Uptime(f"{draw.getrandbits(128):032x}", draw.randrange(1 << 20))
    return ModelState(
        active,
        slot(),
        slot(),
        trial(),
        trial(),
        Soak(
            active.digest,
            draw.random(),
            9,
            2,
            up,
            1,
            10.0,
            "soak-hang",
            draw.randrange(MOST),
            draw.randrange(MOST),
        ),
        Candidate(
            digest(), "10.20.32", "shadow", draw.random(), "night-shift", AT, {"loadMs": draw.random()}
        ),
        Pin(active.digest, active.version, AT),
        Rung("next-provider", "provider-down", AT, "session: " + words()[:200], 1),
        tuple(stone() for _ in range(MAX_TOMBSTONES)),
        Verdict("health-wrong-output", words(), AT, digest(), "10.20.31"),
    )


def test_the_fullest_record_there_can_be_still_fits_and_keeps_all_that_decides(tmp_path: Path) -> None:
    draw = random.Random(7)  # noqa: S311  no secret
    models = {f"{number:02d}-{'m' * 60}": fullest(draw) for number in range(MAX_MODELS)}
    weekly = ["mon,tue,wed,thu,fri,sat,sun 22:00-05:00"] * 16
    record = Record(
        models=models,
        floor=dict.fromkeys(("root", "timestamp", "snapshot", "targets", "rollout"), 9),
        sequences={f"{number:03d}-{'c' * 59}/{'m' * 63}": 7 for number in range(MAX_LANES)},
        policy={"windows": {"timeZone": "utc", "download": weekly, "activation": weekly}},
    )
    anchored(tmp_path).commit(record)
    kept = Ledger(tmp_path, Disk()).record
    assert (kept.floor, kept.sequences, kept.policy) == (record.floor, record.sequences, record.policy)
    for name, state in models.items():
        found = kept.model(name)
        for slots in zip(found.slots(), state.slots(), strict=True):
            assert slots[0].digest == slots[1].digest
        assert (found.trial, found.waiting, found.soak, found.pin) == (
            state.trial,
            state.waiting,
            state.soak,
            state.pin,
        )
        assert found.rung
        assert found.rung.reason.startswith("session: ")
        assert found.tombstones[-1].digest == state.tombstones[-1].digest
        assert found.tombstones[-1].evidence == state.tombstones[-1].evidence


def test_a_record_that_is_compressed_says_no_more_than_a_record_may(tmp_path: Path) -> None:
    for number, bytes_ in enumerate((zlib.compress(b" " * (MAX_UNPACKED_BYTES + 1)), b"x\x9c", b"")):
        folder = tmp_path / str(number)
        folder.mkdir()
        Slots(folder, Disk()).write(1, bytes_)
        with pytest.raises(StorageError) as refused:
            Ledger(folder, Disk())
        assert refused.value.code == "state-version"


@pytest.mark.parametrize(
    "place",
    ["active", "waiting", "soak", "candidate", "pin", "rung", "last"],
    ids=lambda place: f"in {place}",
)
def test_a_field_of_a_newer_agent_anywhere_in_a_model_is_not_lost_either(tmp_path: Path, place: str) -> None:
    state = fullest(random.Random(7))  # noqa: S311  no secret
    newer = json.loads(to_bytes(Record(models={"digit-reader": state})))
    newer["models"]["digit-reader"][place]["anotherField"] = 7
    Slots(tmp_path, Disk()).write(1, json.dumps(newer).encode())
    with pytest.raises(StorageError) as refused:
        Ledger(tmp_path, Disk())
    assert refused.value.code == "state-version"


def test_a_record_from_before_windows_soaks_pins_and_rungs_still_counts(tmp_path: Path) -> None:
    slot = {"digest": DIGEST, "version": "1.0.0", "since": AT}
    trial = {"digest": DIGEST, "version": "1.1.0", "attempts_left": 2, "started": AT, "timeout_s": 60.0}
    stone = {"digest": DIGEST, "version": "0.9.0", "code": "health-crash", "reason": "died", "at": AT}
    old = {"version": 1, "models": {"m": {"active": slot, "trial": trial, "tombstones": [stone]}}}
    Slots(tmp_path, Disk()).write(1, json.dumps(old).encode())
    state = Ledger(tmp_path, Disk()).record.model("m")
    assert state.trial == Trial(DIGEST, "1.1.0", 2, AT, 60.0)
    assert (state.waiting, state.soak, state.pin, state.rung) == (None, None, None, None)
    assert state.tombstones[0].evidence is None


def test_a_record_of_another_format_is_not_touched(tmp_path: Path) -> None:
    Slots(tmp_path, Disk()).write(1, b'{"version":2}')
    with pytest.raises(StorageError) as refused:
        Ledger(tmp_path, Disk())
    assert refused.value.code == "state-version"


def test_slots_are_allocated_once_and_then_overwritten_in_place(tmp_path: Path) -> None:
    ledger = anchored(tmp_path)
    counted(ledger, 2)
    inodes = [(tmp_path / name).stat().st_ino for name in ("state.0", "state.1")]
    counted(ledger, 5)
    assert [(tmp_path / name).stat().st_ino for name in ("state.0", "state.1")] == inodes


def test_a_failed_sync_throws_the_slot_away_and_keeps_the_generation_before(tmp_path: Path) -> None:
    class Failing(Calls):
        def sync_data(self, path: Path, fd: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    counted(anchored(tmp_path), 4)
    ledger = Ledger(tmp_path, Disk(Failing()))
    with pytest.raises(StorageError) as failed:
        counted(ledger, 1)
    assert failed.value.code == "io-error"
    assert ledger.record.counters["polls"] == 4
    assert not (tmp_path / f"state.{(ledger.generation + 1) % 2}").exists(), (
        "its pages may look clean and be lost"
    )
    counted(Ledger(tmp_path, Disk()), 1)
    assert polls(tmp_path) == 5


def test_an_unchanged_record_is_not_written(tmp_path: Path) -> None:
    ledger = anchored(tmp_path)
    counted(ledger, 1)
    before = ledger.generation
    ledger.commit(replace(ledger.record))
    assert ledger.generation == before


def test_tombstones_are_bounded_newest_kept_and_the_fullest_record_fits_its_slot() -> None:
    record = Record()
    for model in range(15):
        state = ModelState(active=Slot(DIGEST, "1.0.0", AT), previous=Slot(DIGEST, "0.9.0", AT))
        for number in range(MAX_TOMBSTONES + 3):
            digest = f"sha256:{number:064x}"
            state = state.entomb(Tombstone(digest, "1.0.0", "health-wrong-output", "x" * 5000, AT))
        assert [int(s.digest[7:], 16) for s in state.tombstones] == list(range(3, MAX_TOMBSTONES + 3))
        record = record.with_model(f"a-model-with-a-long-name-{model}", state)
    assert len(to_bytes(record)) < MAX_PAYLOAD_BYTES
    assert from_bytes(to_bytes(record)) == record
