"""Delivery of telemetry over real sockets: what is taken is done with, nothing else, and the same bytes come again."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authority import Authority
from edgewright.collect.report import Refused
from edgewright.collect.store import BATCHES_KEPT, Store
from edgewright.collect.telemetry import verify_batch
from edgewright_agent import telemetry
from edgewright_agent.clock import to_text
from edgewright_agent.config import Config, Origin, parse
from edgewright_agent.contract import TELEMETRY_SIGNATURE
from edgewright_agent.errors import ConfigError, StorageError, TransportError
from edgewright_agent.files import Calls, Disk
from edgewright_agent.lock import exclusive
from edgewright_agent.spool import AGGREGATE, ERROR, SAMPLE, UPDATE_STATUS, Priority, Spool
from edgewright_agent.spool_layout import BESIDE_AT, MAX_BYTES
from edgewright_agent.telemetry_delivery import BATCHES_PER_ROUND, REFUSALS, Delivery, send
from edgewright_agent.transport.proxy import parse_proxy
from edgewright_agent.transport.wire import Wire
from unit.agent.core.collector import Collector, Request
from unit.devices.plant import START, Device, Plant


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


class Pump:
    """A device that has something to tell."""

    def __init__(self, plant: Plant, url: str, **told: Any) -> None:
        self.device: Device = plant.device("pump-7")
        self.now = START
        document = {**self.device.document, "telemetry": {"endpoint": url, "samples": True, **told}}
        self.config: Config = parse(document, base=self.device.folder)

    @property
    def spool(self) -> Spool:
        return telemetry.spool_of(self.config)

    def errs(self, *codes: str) -> None:
        for code in codes:
            telemetry.note_error(self.config, code, "something happened", now=self.now, model="digit-reader")

    def status(self, message: str) -> None:
        event = {"kind": "update", "state": "ok", "code": "ok", "message": message, "models": []}
        event |= {"at": to_text(self.now)}
        self.spool.append(UPDATE_STATUS, telemetry.events.encode(event), now=self.now)

    def aggregates(self, count: int) -> None:
        summary = {"digit-reader": {"digest": "sha256:" + "ab" * 32, "inferences": 4, "latency": [[80, 4]]}}
        ledger = telemetry_ledger(self.config)
        for _ in range(count):
            self.now += timedelta(minutes=15)
            telemetry.note_aggregate(self.config, summary, ledger, now=self.now)

    def send(self, *, metered: bool = False) -> Delivery:
        return send(self.config, metered=metered, now=lambda: self.now, chance=random.Random(1))

    def waiting(self, priority: Priority = ERROR) -> int:
        return len(self.spool.waiting(priority))


def telemetry_ledger(config: Config) -> Any:
    from edgewright_agent.record import Ledger

    return Ledger(config.state, Disk())


@pytest.fixture
def pump(plant: Plant, collector: Collector) -> Pump:
    return Pump(plant, collector.url)


# --- what arrives -------------------------------------------------------------------------------------------


def test_a_plain_collector_understands_every_batch(pump: Pump, collector: Collector) -> None:
    pump.status("installed")
    pump.errs("no-space", "health-crash")
    pump.aggregates(3)
    telemetry.note_sample(pump.config, {"scores": [0.25, 0.75], "nested": {"a": [1]}}, now=pump.now)
    assert pump.send() == Delivery("ok", "4 batches, 7 records", 4, 7)
    assert [request.path for request in collector.taken] == [
        "/v1/logs",
        "/v1/logs",
        "/v1/metrics",
        "/v1/logs",
    ]
    for request in collector.taken:
        assert request.message.ByteSize() > 100
        (part,) = (
            request.message.resource_logs if "logs" in request.path else request.message.resource_metrics
        )
        told = {entry.key: entry.value.string_value for entry in part.resource.attributes}
        assert told["device.id"] == told["service.instance.id"] == "pump-7"
        assert told["edgewright.device.class"] == "board"
        assert told["edgewright.batch.id"] == request.batch
    assert pump.send() == Delivery("ok", "0 batches, 0 records"), "once is enough"


def test_each_batch_is_signed_and_is_kept_once(
    pump: Pump, plant: Plant, collector: Collector, tmp_path: Path
) -> None:
    plant.enroll(pump.device)
    pump.errs("no-space")
    pump.aggregates(1)
    pump.send()
    with Store(tmp_path / "collect.sqlite") as store:
        for request in collector.taken:
            header = request.headers[TELEMETRY_SIGNATURE]
            batch = verify_batch(request.body, header, plant.workspace.devices, fleet="edge")
            assert batch.device == "pump-7" and batch.id == request.batch
            assert batch.document == request.document
            assert verify_batch(request.text, header, plant.workspace.devices, fleet="edge") == batch
            assert store.receive(batch) and not store.receive(batch)


def test_a_device_without_an_identity_sends_without_a_signature(plant: Plant, collector: Collector) -> None:
    pump = Pump(plant, collector.url)
    pump.device.identity.key.unlink()
    pump.errs("no-space")
    assert pump.send().records == 1
    assert TELEMETRY_SIGNATURE not in collector.taken[0].headers


def test_a_key_that_cannot_be_used_keeps_what_waits(pump: Pump, collector: Collector) -> None:
    pump.device.identity.key.write_text("no key")
    pump.device.identity.key.chmod(0o600)
    pump.errs("no-space")
    assert pump.send().outcome == "bad-key" and pump.waiting() == 1
    assert collector.asked == [] and pump.spool.head().outcome == "bad-key"


def test_headers_carry_secrets_that_are_read_when_they_are_sent(
    plant: Plant, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pump = Pump(plant, collector.url, headers={"Authorization": "env:OTEL_TOKEN"})
    pump.errs("no-space")
    monkeypatch.delenv("OTEL_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="OTEL_TOKEN"):
        pump.send()
    monkeypatch.setenv("OTEL_TOKEN", "Bearer s3cret")
    assert pump.send().records == 1
    assert collector.taken[0].headers["Authorization"] == "Bearer s3cret"
    assert b"s3cret" not in (pump.config.state / "spool" / "ring").read_bytes()


# --- again, and the same ------------------------------------------------------------------------------------


def test_a_lost_answer_makes_the_same_bytes_come_again_whatever_happened_since(
    pump: Pump, collector: Collector
) -> None:
    pump.errs("no-space", "health-crash")
    collector.takes(status=0)
    assert pump.send().outcome == "bad-response"
    pump.errs("later")
    pump.aggregates(200)
    telemetry._spool.cache_clear()  # as a new process
    assert pump.send().outcome == "ok"
    lost, again, *_ = collector.taken
    assert (again.body, again.batch, again.headers[TELEMETRY_SIGNATURE]) == (
        lost.body,
        lost.batch,
        lost.headers[TELEMETRY_SIGNATURE],
    )
    numbers = [
        number for request in collector.taken[1:] if "logs" in request.path for number in request.sequences()
    ]
    assert len(numbers) == len(set(numbers)) == 3


def test_a_receiver_keeps_a_repeated_batch_once(
    pump: Pump, plant: Plant, collector: Collector, tmp_path: Path
) -> None:
    plant.enroll(pump.device)
    pump.errs("no-space")
    for _ in range(3):
        collector.takes(status=0)
        pump.send()
    pump.send()
    with Store(tmp_path / "collect.sqlite") as store:
        news = [
            store.receive(
                verify_batch(r.body, r.headers[TELEMETRY_SIGNATURE], plant.workspace.devices, fleet="edge")
            )
            for r in collector.taken
        ]
    assert news == [True, False, False, False]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_be_better_later_is_tried_later(pump: Pump, collector: Collector, status: int) -> None:
    pump.errs("no-space")
    collector.fails(status)
    assert pump.send().outcome == "busy" and pump.waiting() == 1
    head = pump.spool.head()
    assert head.failures == 1 and pump.now.timestamp() + 30 <= head.next_try <= pump.now.timestamp() + 91
    assert pump.send().records == 1 and pump.spool.head().failures == 0


def test_retry_after_is_honoured_and_spread(plant: Plant, collector: Collector) -> None:
    tries = set()
    pump = Pump(plant, collector.url, intervalS=600)
    pump.errs("no-space")
    for seed in range(8):
        collector.fails(429, Retry_After="1800")
        send(pump.config, metered=False, now=lambda: pump.now, chance=random.Random(seed))
        tries.add(pump.spool.head().next_try - int(pump.now.timestamp()))
        due_s = telemetry.send_due_s(pump.config, pump.now)
        assert due_s is not None and due_s >= 1800
    assert min(tries) >= 1800 and max(tries) <= 2401 and len(tries) > 4


def test_tries_become_rarer_up_to_the_interval(plant: Plant) -> None:
    pump = Pump(plant, "http://127.0.0.1:9", intervalS=1800)
    pump.errs("no-space")
    waits = []
    for _ in range(9):
        assert pump.send().outcome == "network"
        waits.append(pump.spool.head().next_try - pump.now.timestamp())
    assert waits[0] <= 91 and 900 <= waits[-1] <= 2701
    assert pump.spool.head().failures == 9


@pytest.mark.parametrize("status", [301, 401, 403, 404, 405, 407])
def test_an_answer_about_the_sender_costs_no_record(pump: Pump, collector: Collector, status: int) -> None:
    pump.errs("no-space")
    collector.fails(status, Location="http://elsewhere.example/")
    assert pump.send().outcome in ("denied", "bad-response") and pump.waiting() == 1
    assert pump.send().records == 1


@pytest.mark.parametrize(
    "page", [b"<html>Log in to the hotel's network</html>", b"[]", b'{"partialSuccess": 7}']
)
def test_a_captive_portal_that_says_200_takes_nothing(pump: Pump, collector: Collector, page: bytes) -> None:
    pump.errs("no-space")
    collector.fails(200, page)
    assert pump.send().outcome == "bad-response" and pump.waiting() == 1


def test_an_answer_without_end_is_not_read(pump: Pump, collector: Collector) -> None:
    pump.errs("no-space")
    collector.fails(200, b"{" + b" " * 200_000)
    assert pump.send().outcome == "too-large" and pump.waiting() == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"partialSuccess":{}}',
        b'{"partialSuccess":{"rejectedLogRecords":"0"}}',
    ],
)
def test_what_is_taken_is_done_with(pump: Pump, collector: Collector, body: bytes) -> None:
    pump.errs("no-space")
    collector.takes(200, body)
    assert pump.send() == Delivery("ok", "1 batches, 1 records", 1, 1)
    assert pump.waiting() == 0


def test_partial_success_is_counted_and_never_sent_again(pump: Pump, collector: Collector) -> None:
    pump.errs("a", "b", "c")
    collector.takes(200, b'{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"no"}}')
    assert pump.send() == Delivery("ok", "1 batches, 1 records, 2 rejected", 1, 1, 2)
    told = pump.spool.look().fills[ERROR]
    assert (told.waiting, told.delivered, told.rejected) == (0, 1, 2)


@pytest.mark.parametrize(("points", "aggregates"), [(1, 1), (3, 1), (10**9, 3), (-1, 0)])
def test_rejected_data_points_are_counted_as_a_share_of_the_aggregates_they_come_from(
    pump: Pump, collector: Collector, points: int, aggregates: int
) -> None:
    pump.aggregates(3)
    collector.takes(200, b'{"partialSuccess":{"rejectedDataPoints":"%d"}}' % points)
    assert pump.send().rejected == aggregates
    told = pump.spool.look().fills[AGGREGATE]
    assert (told.waiting, told.delivered, told.rejected) == (0, 3 - aggregates, aggregates)


def test_what_a_batch_consists_of_is_known_when_it_is_sent_again(pump: Pump, collector: Collector) -> None:
    for step in range(4):
        model = {"model": "digit-reader", "state": "running"}
        event = {"kind": "update", "state": "ok", "code": "ok", "message": str(step), "models": [model] * 3}
        pump.spool.append(
            UPDATE_STATUS, telemetry.events.encode({**event, "at": to_text(pump.now)}), now=pump.now
        )
    collector.fails(503)
    pump.send()
    collector.takes(200, b'{"partialSuccess":{"rejectedLogRecords":"5"}}')
    assert pump.send().rejected == 2, "5 of 16 log records of 4 statuses"


# --- refused for good ---------------------------------------------------------------------------------------


def until_done(pump: Pump, rounds: int = 60) -> list[Delivery]:
    found = []
    for _ in range(rounds):
        found.append(pump.send())
        if not found[-1].more and found[-1].outcome == "ok":
            return found
    raise AssertionError(f"not done after {rounds} rounds")


def test_a_refused_batch_is_halved_until_what_is_refused_is_alone(pump: Pump, collector: Collector) -> None:
    collector.refuses = lambda request: b"poison" in request.text
    pump.errs(*("ok" for _ in range(9)), "poison", *("ok" for _ in range(21)))
    rounds = until_done(pump)
    assert all(delivery.batches <= BATCHES_PER_ROUND for delivery in rounds)
    told = pump.spool.look().fills[ERROR]
    assert (told.waiting, told.delivered, told.rejected) == (0, 30, 1)
    numbers = [number for request in collector.taken for number in request.sequences()]
    assert len(numbers) == len(set(numbers)) == 30


def test_a_receiver_that_refuses_everything_is_not_flooded(pump: Pump, collector: Collector) -> None:
    collector.refuses = lambda _request: True
    pump.errs(*("x" for _ in range(20)))
    rounds = until_done(pump)
    assert pump.spool.look().fills[ERROR].rejected == 20
    assert all(delivery.batches <= BATCHES_PER_ROUND for delivery in rounds) and len(collector.asked) <= 60


def test_a_receiver_that_breaks_on_a_batch_gets_past_it(pump: Pump, collector: Collector) -> None:
    pump.errs("poison")
    collector.fails(500, times=REFUSALS)
    outcomes = [pump.send().outcome for _ in range(REFUSALS)]
    assert outcomes == ["busy"] * (REFUSALS - 1) + ["ok"]
    assert pump.spool.look().fills[ERROR].rejected == 1
    pump.errs("fine")
    assert pump.send().records == 1


def test_a_receiver_that_is_not_available_for_long_costs_nothing(pump: Pump, collector: Collector) -> None:
    pump.errs("no-space")
    collector.fails(503, times=REFUSALS + 2)
    assert {pump.send().outcome for _ in range(REFUSALS + 2)} == {"busy"} and pump.waiting() == 1


def test_what_cannot_be_read_any_more_does_not_stop_the_rest(pump: Pump, collector: Collector) -> None:
    pump.errs("first")
    for foreign in (b"not json", b"{}", b'{"version":1,"kind":"error"}', b'{"version":9}'):
        pump.spool.append(ERROR, foreign, now=pump.now)
    pump.spool.append(AGGREGATE, b'{"version":1,"kind":"aggregate"}', now=pump.now)
    pump.errs("last")
    assert pump.send().rejected == 5
    assert pump.waiting() == pump.waiting(AGGREGATE) == 0
    assert len(collector.taken) == 1 and len(collector.taken[0].sequences()) == 2


# --- when the link returns ----------------------------------------------------------------------------------


def test_the_newest_status_comes_first_and_then_history_the_oldest_first(
    plant: Plant, collector: Collector
) -> None:
    pump = Pump(plant, collector.url, spoolBytes=2**20)
    chance = random.Random(6)
    for step in range(160):  # more than one batch holds
        pump.status(f"{step} {chance.getrandbits(4000):x}")
    pump.errs("old")
    pump.send()
    paths = [request.sequences() for request in collector.taken]
    numbers = sorted(number for batch in paths for number in batch)
    assert paths[0][-1] == max(record for batch in paths[:-1] for record in batch), (
        "the newest is in the first"
    )
    assert paths[1][0] == numbers[0], "then the oldest"
    assert pump.waiting(UPDATE_STATUS) == 0 and len(numbers) == len(set(numbers)) == 161


def test_a_long_outage_is_caught_up_in_bounded_rounds(plant: Plant, collector: Collector) -> None:
    pump = Pump(plant, collector.url, spoolBytes=4 * 2**20)
    chance = random.Random(6)
    for _ in range(400):
        event = {
            "code": "x",
            "message": f"{chance.getrandbits(5000):x}",
            "kind": "error",
            "at": "2030-01-01T00:00:00Z",
        }
        pump.spool.append(ERROR, telemetry.events.encode(event), now=pump.now)
    first = pump.send()
    assert first.batches == BATCHES_PER_ROUND and first.more
    head = pump.spool.head()
    assert 60 <= head.next_try - pump.now.timestamp() <= 76, (
        "the next round comes a minute later, not at once"
    )
    assert telemetry.send_due_s(pump.config, pump.now + timedelta(seconds=80)) == 0
    until_done(pump)
    numbers = [number for request in collector.taken for number in request.sequences()]
    assert numbers == sorted(numbers) and len(numbers) == 400


def test_on_a_metered_link_only_statuses_and_errors_go(pump: Pump, collector: Collector) -> None:
    pump.aggregates(1)
    collector.fails(503)
    pump.send()  # it is in the outbox now
    pump.status("installed")
    pump.errs("no-space")
    telemetry.note_sample(pump.config, {"x": 1}, now=pump.now)
    delivery = pump.send(metered=True)
    assert delivery.records == 2 and not delivery.more
    assert {request.path for request in collector.taken} == {"/v1/logs"}
    assert pump.send().records == 2 and pump.waiting(AGGREGATE) == pump.waiting(SAMPLE) == 0
    assert collector.asked[0].body == collector.taken[2].body, "the same bytes, after all"


@pytest.mark.parametrize("status", [404, 503, 500])
def test_metrics_that_nobody_takes_keep_no_status_and_no_error_back(
    pump: Pump, collector: Collector, status: int
) -> None:
    collector.answers["/v1/metrics"] = status
    pump.aggregates(1)
    assert pump.send().outcome != "ok"
    (first,) = collector.asked
    for step in range(3):
        due_s = telemetry.send_due_s(pump.config, pump.now)
        assert due_s is not None and due_s >= 30, "aggregates alone wait longer and longer"
        pump.now += timedelta(seconds=29)
        pump.status(f"step {step}")
        pump.errs("no-space")
        due_s = telemetry.send_due_s(pump.config, pump.now)
        assert due_s is not None and due_s <= 120, "as if nothing had failed"
        assert pump.send().outcome != "ok"
        assert pump.waiting(UPDATE_STATUS) == pump.waiting(ERROR) == 0
    collector.answers.clear()
    pump.aggregates(1)
    assert pump.send() == Delivery("ok", "2 batches, 2 records", 2, 2)
    last, fresh = collector.taken[-2:]
    assert (last.body, last.headers) == (first.body, first.headers), "the same bytes, whatever went before it"
    assert fresh.batch != first.batch


@pytest.mark.parametrize("link", ["asks for rest", "is down"])
def test_where_everything_has_to_wait_statuses_and_errors_do_too(
    plant: Plant, collector: Collector, link: str
) -> None:
    pump = Pump(plant, "http://127.0.0.1:9" if link == "is down" else collector.url)
    pump.aggregates(1)
    collector.fails(429, times=6, Retry_After="3000")
    for _ in range(6):
        assert pump.send().outcome in ("network", "busy")
    pump.errs("no-space")
    due_s = telemetry.send_due_s(pump.config, pump.now)
    assert due_s is not None and due_s > 120


def test_a_status_that_goes_before_a_batch_under_way_is_the_same_when_its_answer_was_lost(
    pump: Pump, collector: Collector
) -> None:
    pump.aggregates(1)
    collector.takes(status=0)
    pump.send()
    pump.status("installed")
    collector.takes(status=0)
    pump.send()
    pump.status("and more")
    telemetry._spool.cache_clear()  # as a new process
    assert pump.send() == Delivery("ok", "3 batches, 3 records", 3, 3)
    aggregate, status, again, more, same = collector.taken
    assert (again.body, again.headers) == (status.body, status.headers)
    assert (same.body, same.headers) == (aggregate.body, aggregate.headers)
    assert not {*again.sequences()} & {*more.sequences()}


def test_an_error_that_breaks_a_receiver_is_got_past_also_while_metrics_wait(
    pump: Pump, collector: Collector
) -> None:
    collector.answers["/v1/metrics"] = 503
    pump.aggregates(1)
    collector.answers["/v1/logs"] = 500
    pump.send()
    pump.errs("poison")
    assert {pump.send().outcome for _ in range(REFUSALS)} == {"busy"}
    assert pump.spool.look().fills[ERROR].rejected == 1 and pump.waiting() == 0
    collector.answers.clear()
    assert pump.send().records == 1


def test_a_broken_receiver_of_metrics_costs_no_error_that_comes_then(
    pump: Pump, collector: Collector
) -> None:
    pump.aggregates(1)
    collector.fails(500, times=REFUSALS - 1)
    for _ in range(REFUSALS - 1):
        pump.send()
    pump.errs("no-space")
    collector.fails(500)
    assert pump.send().outcome == "busy" and pump.waiting() == 1
    assert pump.send().records == 2 and pump.spool.look().fills[ERROR].rejected == 0


def test_metrics_that_a_receiver_fails_at_are_given_up_also_while_errors_go_on_arriving(
    pump: Pump, collector: Collector
) -> None:
    pump.aggregates(1)
    collector.answers["/v1/metrics"] = 500
    for _ in range(REFUSALS):
        pump.errs("no-space")
        pump.send()
        assert pump.waiting() == 0
    assert pump.spool.look().fills[AGGREGATE].waiting == 0
    assert pump.spool.look().fills[AGGREGATE].rejected == 1
    assert pump.spool.look().fills[ERROR].rejected == 0


@pytest.mark.parametrize("broken", [False, True])
def test_refused_aggregates_and_refused_errors_are_both_halved(
    pump: Pump, collector: Collector, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    if broken:  # no batch can be made durable: halves are kept in memory only
        monkeypatch.setattr(Spool, "put_outbox", lambda _self, _batch: False)
    pump.aggregates(8)
    collector.answers["/v1/metrics"] = 503
    pump.send()
    collector.answers.clear()
    pump.errs(*("ok" for _ in range(7)), "poison")
    collector.refuses = lambda request: b"poison" in request.text
    until_done(pump)
    told = pump.spool.look().fills
    assert (told[ERROR].waiting, told[ERROR].delivered, told[ERROR].rejected) == (0, 7, 1)
    assert (told[AGGREGATE].waiting, told[AGGREGATE].delivered) == (0, 8)
    numbers = [n for request in collector.taken if "logs" in request.path for n in request.sequences()]
    assert len(numbers) == len(set(numbers)) == 7


def test_what_had_to_make_room_from_a_batch_that_is_refused_is_counted_as_refused(
    plant: Plant, collector: Collector
) -> None:
    pump = Pump(plant, collector.url, spoolBytes=2**18)
    chance = random.Random(6)
    made = 0

    def fill(count: int) -> None:
        nonlocal made
        for _ in range(count):
            told = f"{chance.getrandbits(16_000):x}"
            event = {"code": "x", "message": told, "kind": "error", "at": to_text(pump.now)}
            pump.spool.append(ERROR, telemetry.events.encode(event), now=pump.now)
            made += 1

    fill(20)
    collector.takes(status=0)
    pump.send()
    fill(200)
    collector.refuses = lambda request: request.batch == collector.taken[0].batch
    until_done(pump)
    told = pump.spool.look().fills[ERROR]
    assert told.waiting == 0 and told.rejected >= 1
    assert told.delivered + told.dropped + told.rejected == made


# --- around it ----------------------------------------------------------------------------------------------


def test_without_an_endpoint_nothing_is_sent(pump: Pump) -> None:
    document = {**pump.device.document, "telemetry": {}}
    config = parse(document, base=pump.device.folder)
    telemetry.note_error(config, "x", "y", now=START)
    with pytest.raises(ConfigError, match="endpoint"):
        send(config)
    assert telemetry.send_due_s(config, START) is None
    assert len(telemetry.spool_of(config).waiting(ERROR)) == 1


def test_one_sender_at_a_time(pump: Pump, collector: Collector) -> None:
    pump.errs("x")
    with exclusive(pump.config.state / "spool" / "sending.lock"), pytest.raises(StorageError) as refused:
        pump.send()
    assert refused.value.code == "busy" and collector.asked == []


def test_a_read_only_disk_sends_the_same_batch_and_keeps_it(
    pump: Pump, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    pump.errs("x", "y")

    def refuse(_self: Calls, _path: Path, _flags: int) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(Calls, "open", refuse)
        assert {pump.send().outcome for _ in range(2)} == {"read-only"}
    first, second = collector.taken
    assert first.batch == second.batch and first.text == second.text
    assert pump.send().records == 2


def test_it_speaks_tls_with_its_own_authority(plant: Plant, tmp_path: Path) -> None:
    authority = Authority.create(tmp_path)
    with Collector(authority.server) as collector:
        pump = Pump(plant, collector.url)
        pump.errs("x")
        assert pump.send().outcome == "network" and "caFile" in pump.spool.head().message
        told = {"endpoint": collector.url, "caFile": str(authority.ca_file)}
        config = parse({**pump.device.document, "telemetry": told}, base=pump.device.folder)
        delivery = send(config, metered=False)
        assert delivery.outcome == "ok" and len(collector.taken) == 1


# --- when it is due -----------------------------------------------------------------------------------------


def test_it_is_due_when_there_is_something_and_then_by_interval(pump: Pump) -> None:
    assert telemetry.send_due_s(pump.config, pump.now) is None
    pump.aggregates(1)
    assert telemetry.send_due_s(pump.config, pump.now) == 0
    pump.send()
    assert telemetry.send_due_s(pump.config, pump.now) is None
    pump.aggregates(1)
    due_s = telemetry.send_due_s(pump.config, pump.now)
    assert due_s is not None and 2700 <= due_s <= 3600


def test_a_status_or_an_error_goes_within_two_minutes_but_not_into_a_failing_link(
    pump: Pump, collector: Collector
) -> None:
    pump.aggregates(1)
    pump.send()
    pump.errs("no-space")
    due_s = telemetry.send_due_s(pump.config, pump.now)
    assert due_s is not None and due_s <= 120
    collector.fails(503, Retry_After="3000")
    pump.send()
    due_s = telemetry.send_due_s(pump.config, pump.now)
    assert due_s is not None and due_s >= 3000


@pytest.mark.parametrize("days", [2, 3, 7])
def test_an_interval_of_days_is_kept_and_a_clock_that_was_wrong_still_found(
    plant: Plant, collector: Collector, days: int
) -> None:
    pump = Pump(plant, collector.url, intervalS=days * 86400)
    pump.aggregates(1)
    pump.send()
    pump.aggregates(1)
    due_s = telemetry.send_due_s(pump.config, pump.now)
    assert due_s is not None and (days - 0.1) * 86400 <= due_s <= 1.25 * days * 86400
    collector.fails(503)
    pump.now += timedelta(days=30)
    pump.send()
    due_s = telemetry.send_due_s(pump.config, pump.now)
    assert due_s is not None and 0 < due_s <= 91
    pump.now -= timedelta(days=30)
    assert telemetry.send_due_s(pump.config, pump.now) == 0, "the clock was ahead when it was tried"


@pytest.mark.parametrize("jump", [timedelta(days=-400), timedelta(days=400)])
def test_a_clock_that_was_wrong_delays_nothing_for_long(pump: Pump, jump: timedelta) -> None:
    pump.errs("x")
    pump.now += jump
    pump.send()
    pump.errs("y")
    due_s = telemetry.send_due_s(pump.config, START)
    assert due_s is not None and due_s <= 120


# --- the other side -----------------------------------------------------------------------------------------


@pytest.fixture
def sent(pump: Pump, plant: Plant, collector: Collector) -> Request:
    plant.enroll(pump.device)
    pump.errs("no-space")
    pump.send()
    return collector.taken[0]


def refusal(plant: Plant, body: bytes, header: str, fleet: str = "edge") -> str:
    with pytest.raises(Refused) as refused:
        verify_batch(body, header, plant.workspace.devices, fleet=fleet)
    return refused.value.reason


def test_a_batch_is_believed_only_as_it_was_signed(plant: Plant, sent: Request) -> None:
    import base64
    import gzip

    header = sent.headers[TELEMETRY_SIGNATURE]
    assert refusal(plant, sent.text.replace(b"no-space", b"on-space"), header) == "bad-signature"
    assert refusal(plant, sent.body[:-9], header) == "malformed"
    assert refusal(plant, sent.body + b"x", header) == "malformed"
    assert refusal(plant, gzip.compress(bytes(2 * 2**20)), header) == "too-large"
    assert refusal(plant, sent.body, "A" * 9000) == "too-large"
    assert refusal(plant, sent.body, "no base64!") == "malformed"
    envelope = base64.b64decode(header)
    flipped = base64.b64encode(envelope.replace(b'"sig":"M', b'"sig":"N')).decode()
    assert refusal(plant, sent.body, flipped) in ("bad-signature", "malformed")


def test_a_report_is_no_batch_and_a_batch_no_report(plant: Plant, pump: Pump, sent: Request) -> None:
    import base64

    from edgewright.collect.report import verify
    from edgewright_agent.identity.command import report

    envelope = report(pump.config, plant.now)
    assert refusal(plant, sent.body, base64.b64encode(envelope).decode()) == "wrong-type"
    with pytest.raises(Refused, match="wrong-type"):
        verify(base64.b64decode(sent.headers[TELEMETRY_SIGNATURE]), plant.workspace.devices, fleet="edge")


def test_no_device_speaks_for_another_and_a_revoked_one_for_none(plant: Plant, sent: Request) -> None:
    from edgewright.devices.enrolment import revoke

    header = sent.headers[TELEMETRY_SIGNATURE]
    with pytest.raises(Refused, match="unknown-device"):
        verify_batch(sent.body, header, {}, fleet="edge")
    renamed = {"valve-1": plant.workspace.devices["pump-7"]}
    with pytest.raises(Refused, match="wrong-device"):
        verify_batch(sent.body, header, renamed, fleet="edge")
    revoke(plant.workspace, "pump-7", reason="key-compromise", note=None, now=plant.now)
    assert refusal(plant, sent.body, header) == "revoked"


def test_other_bytes_under_a_known_id_are_refused(plant: Plant, sent: Request, tmp_path: Path) -> None:
    from dataclasses import replace

    batch = verify_batch(sent.body, sent.headers[TELEMETRY_SIGNATURE], plant.workspace.devices, fleet="edge")
    with Store(tmp_path / "collect.sqlite") as store:
        assert store.receive(batch)
        with pytest.raises(Refused, match="conflict"):
            store.receive(replace(batch, sha256="0" * 64))


def test_of_old_batches_as_many_are_known_as_a_device_may_still_repeat(
    plant: Plant, sent: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgewright.collect.store.BATCHES_KEPT", 8)
    one = verify_batch(sent.body, sent.headers[TELEMETRY_SIGNATURE], plant.workspace.devices, fleet="edge")
    batches = [replace(one, id=f"{one.id} {step}") for step in range(30)]
    other = replace(one, device="valve-1")
    with Store(tmp_path / "collect.sqlite") as store:
        assert store.receive(other) and store.receive(one)
        for batch in batches:
            assert store.receive(batch)
            assert not store.receive(one), "its answer is lost again and again: it is not forgotten"
        assert not store.receive(other), "others push out nothing of it"
        assert not any(store.receive(batch) for batch in batches[-7:])
        assert all(store.receive(batch) for batch in batches[:3]), "forgotten long ago"
        with pytest.raises(Refused, match="conflict"):
            store.receive(replace(batches[2], sha256="0" * 64))
    with sqlite3.connect(tmp_path / "collect.sqlite") as database:
        counts = database.execute("SELECT device, count(*) FROM batches GROUP BY device").fetchall()
    assert dict(counts) == {"pump-7": 8, "valve-1": 1}


def test_more_batches_are_known_than_the_largest_spool_of_a_device_makes() -> None:
    assert BATCHES_KEPT > MAX_BYTES / (BESIDE_AT - 4096)


def test_a_collector_on_the_device_itself_is_not_asked_through_the_proxy(
    pump: Pump, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = replace(
        pump.config.origin.mirrors[0], url="https://registry.example", proxy="http://127.0.0.1:9"
    )
    monkeypatch.setattr(pump, "config", replace(pump.config, origin=Origin((source,))))
    pump.errs("no-space")
    assert pump.send().outcome == "ok"
    assert len(collector.taken) == 1


def test_what_is_no_secret_goes_through_a_proxy_in_plain_http_and_a_secret_does_not(
    collector: Collector,
) -> None:
    """A refresh token in a form is one; a batch to a collector that was named with http:// is none."""
    through = parse_proxy(collector.url)
    wire = Wire(timeout_s=5, proxy=through)
    with contextlib.closing(wire):
        with pytest.raises(TransportError) as failed:
            wire.get("http://collector.example/token", {}, ceiling=1, form=b"refresh_token=x")
        assert failed.value.code == "denied"
        with pytest.raises(TransportError) as failed:
            wire.post("http://collector.example/v1/logs", {"X-Key": "x"}, b"{}", ceiling=1, secret=True)
        assert failed.value.code == "denied"
        assert not collector.asked
        with wire.post("http://collector.example/v1/logs", {}, b"{}", ceiling=9999, secret=False) as answer:
            assert answer.status
