"""The registry of sessions: what it believes, what it counts, whom it misses, and how much it keeps."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from edgewright_agent import events, otlp
from edgewright_agent import live as module
from edgewright_agent.beat import Beat, Share, encode, parse
from edgewright_agent.clock import Uptime
from edgewright_agent.contract import MAX_LIVE_BYTES
from edgewright_agent.latency import percentile_ms
from edgewright_agent.live import MAX_SESSIONS, MAX_TALLIES, Live, Seen
from edgewright_agent.model_state import ModelState, Slot, Terms
from edgewright_agent.peers import Peer
from edgewright_agent.soak import Failure, Observation, begin, observe
from unit.agent.core.beats import DIGEST, OTHER, SESSION, beat

OURS = 4711


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _living(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that exist in these tests only; those tests that need real ones undo it."""
    monkeypatch.setattr(module, "Peer", Imagined)


class Imagined(Peer):
    """A process that lives until it is among `dead`; whose number is among `reused` by then is another's."""

    dead: set[int] = set()  # noqa: RUF012
    reused: set[int] = set()  # noqa: RUF012

    @classmethod
    def of(cls, pid: int) -> Imagined:
        return cls(pid, 1 + (pid in cls.reused), None)

    def alive(self) -> bool | None:
        return None if not self.pid else self.started == 2 or self.pid not in self.dead

    def replaced(self) -> bool:
        return self.alive() is False and self.pid in self.reused


@pytest.fixture
def live(clock: Clock) -> Live:
    Imagined.dead, Imagined.reused = set(), set()
    return Live(clock)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.wait()
    assert process.stdin
    process.stdin.close()


def model(document: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return document["digit-reader"]


def test_counts_are_what_is_new_since_the_last_take(live: Live) -> None:
    live.hear(beat("open"), OURS)
    live.hear(beat(inferences=10, errors=1, latency=[[80, 10]], confidence=[0] * 19 + [10]), OURS)
    first = model(live.take())
    assert (first["inferences"], first["errors"], first["latency"]) == (10, 1, [[80, 10]])
    live.hear(beat(inferences=15, errors=1, latency=[[80, 12], [96, 3]], confidence=[0] * 19 + [15]), OURS)
    second = model(live.take())
    assert (second["inferences"], second["errors"], second["latency"]) == (5, 0, [[80, 2], [96, 3]])
    assert second["confidence"] == [0] * 19 + [5]
    assert model(live.take())["inferences"] == 0
    assert model(live.totals())["inferences"] == 15


def test_sessions_of_one_model_are_added_up_and_the_worst_of_them_shows(live: Live, clock: Clock) -> None:
    for number, pid in enumerate((1, 2)):
        live.hear(beat("open", session=f"{number:016x}"), pid)
    live.hear(beat(session=f"{0:016x}", inferences=3, sinceSuccessS=4.0), 1)
    clock.now += 1
    live.hear(
        beat(
            session=f"{1:016x}",
            inferences=4,
            rung="cpu-model",
            code="provider-failed",
            drift={"confidence": 0.3, "inputs": {"image": 0.1}},
        ),
        2,
    )
    told = model(live.take())
    assert (told["inferences"], told["sessions"], told["rung"]) == (7, 2, "cpu-model")
    assert (told["codes"], told["sinceSuccessS"]) == (["provider-failed"], 5.0)
    assert told["drift"] == {"confidence": 0.3, "inputs": {"image": 0.1}}


def test_what_an_earlier_daemon_has_counted_is_not_counted_again(live: Live) -> None:
    live.hear(beat(inferences=1_000_000, errors=40), OURS)
    assert model(live.take())["inferences"] == 0
    live.hear(beat(inferences=1_000_007, errors=41), OURS)
    told = model(live.take())
    assert (told["inferences"], told["errors"]) == (7, 1)


def test_after_a_swap_counters_begin_anew_and_the_old_digest_keeps_its_own(live: Live) -> None:
    live.hear(beat("open"), OURS)
    live.hear(beat(inferences=9, errors=9), OURS)
    live.hear(beat("swap", digest=OTHER, inferences=2), OURS)
    told = model(live.take())
    assert (told["digest"], told["inferences"], told["errors"]) == (OTHER, 2, 0)
    assert [(other["digest"], other["errors"]) for other in told["others"]] == [(DIGEST, 9)]


def test_an_experiment_is_counted_apart(live: Live) -> None:
    def share(requests: int, agree: int, name: str = "wider") -> dict[str, Any]:
        return {
            "name": name,
            "kind": "shadow",
            "digest": OTHER,
            "requests": requests,
            "agree": agree,
            "errors": 0,
            "latency": [[90, requests]],
        }

    live.hear(beat("open"), OURS)
    live.hear(beat(experiment=share(10, 9)), OURS)
    live.take()
    live.hear(beat(experiment=share(14, 12)), OURS)
    told = model(live.take())["experiment"]
    assert (told["requests"], told["agree"], told["latency"]) == (4, 3, [[90, 4]])
    live.hear(beat(experiment=share(1, 1, "narrower")), OURS)
    assert model(live.take())["experiment"]["requests"] == 1


def test_no_process_speaks_for_another(live: Live) -> None:
    live.hear(beat("open"), OURS)
    live.hear(beat(inferences=5), OURS)
    live.hear(beat("close"), OURS + 1)
    assert len(live) == 1
    live.hear(beat(inferences=999, errors=999), OURS + 1)
    assert model(live.totals())["errors"] == 0
    Imagined.dead = {OURS}
    assert [lost.pid for lost in live.check()] == [OURS]


def test_a_process_that_ends_in_the_middle_has_crashed_and_one_that_was_idle_has_vanished(live: Live) -> None:
    live.hear(beat("open", session="1" * 16), 1)
    live.hear(beat("open", session="2" * 16, inFlightS=0.5), 2)
    Imagined.dead = {1, 2}
    assert sorted((lost.pid, lost.code) for lost in live.check()) == [(1, "vanished"), (2, "crashed")]
    assert model(live.take())["crashed"] == 1
    assert len(live) == 0


def test_while_a_model_has_to_prove_itself_whoever_ends_without_a_word_has_crashed(live: Live) -> None:
    live.soaking = frozenset({DIGEST})
    live.hear(beat("open", session="1" * 16), 1)
    live.hear(beat("open", session="2" * 16), 2)
    live.hear(beat("close", session="2" * 16), 2)
    Imagined.dead = {1, 2}
    assert [lost.code for lost in live.check()] == ["crashed"]
    assert live.observations() == [Seen(DIGEST, crashes=1)]
    assert live.observations() == []


def test_inferences_that_fail_are_inferences_to_whoever_judges_the_model(live: Live) -> None:
    live.hear(beat("open"), OURS)
    live.hear(beat(errors=500), OURS)
    (seen,) = live.observations()
    assert seen == Seen(DIGEST, errors=500, inferences=500)
    up = Uptime("b", 100)
    state = begin(ModelState(active=Slot(DIGEST, "1", "x")), DIGEST, Terms(soak_s=50), up)
    found = observe(state, Observation(DIGEST, errors=seen.errors, inferences=seen.inferences), up)
    assert isinstance(found, Failure), "a model that answers nothing at all must not pass its soak"
    assert (found.code, found.message) == ("soak-errors", "500 of 500 inferences of applications failed")
    live.hear(beat(errors=500, inferences=18), OURS)
    live.hear(beat(errors=502, inferences=36), OURS)
    assert live.observations() == [Seen(DIGEST, errors=2, inferences=38)]


def test_an_inference_that_goes_on_and_on_is_a_hang_once(live: Live, clock: Clock) -> None:
    live.hear(beat("open"), OURS)
    live.hear(beat(inFlightS=20.0), OURS)
    assert live.check() == []
    clock.now += 41
    assert [lost.code for lost in live.check()] == ["hung"]
    assert live.check() == []
    live.hear(beat(inFlightS=75.0), OURS)
    assert live.check() == []
    assert model(live.totals())["hung"] == 1
    live.hear(beat(inferences=1), OURS)
    assert model(live.totals())["hung"] == 0
    assert live.observations() == [Seen(DIGEST, hangs=1, inferences=1)]
    clock.now += 3000
    assert live.check() == [], "silence while nothing is under way says nothing"


def test_how_long_is_too_long_depends_on_the_model(clock: Clock) -> None:
    live = Live(clock, hang_s=lambda digest: 600.0 if digest == OTHER else 60.0)
    assert live.hear(beat("open", session="1" * 16, inFlightS=100.0, digest=OTHER), 1) == []
    lost = live.hear(beat("open", session="2" * 16, inFlightS=100.0), 2)
    assert [(one.digest, one.code) for one in lost] == [(DIGEST, "hung")]
    assert live.check() == []


def test_a_number_that_another_process_has_now_is_another_process(live: Live) -> None:
    live.hear(beat("open", inFlightS=1.0), OURS)
    Imagined.dead = Imagined.reused = {OURS}
    assert [lost.code for lost in live.hear(beat("open"), OURS)] == ["crashed"]
    assert len(live) == 1
    assert live.check() == []


def test_what_a_process_said_before_its_end_counts_when_it_is_heard_after_it(live: Live) -> None:
    live.soaking = frozenset({DIGEST})
    live.hear(beat("open", session="1" * 16), OURS)
    Imagined.dead = {OURS}
    for event in ("open", "close"):
        assert live.hear(beat(event, session="2" * 16), OURS) == []
    assert live.hear(beat("close", session="1" * 16, inferences=3), OURS) == []
    assert (len(live), live.observations()) == (0, [Seen(DIGEST, inferences=3)])


def test_a_process_that_cannot_be_seen_from_here_is_forgotten_after_an_hour(live: Live, clock: Clock) -> None:
    live.hear(beat("open"), 0)
    clock.now += 3599
    assert (live.check(), len(live)) == ([], 1)
    clock.now += 2
    assert (live.check(), len(live)) == ([], 0)


def test_sessions_are_bounded_and_one_process_cannot_crowd_out_the_others(live: Live, clock: Clock) -> None:
    live.hear(beat("open", inferences=1), 1)
    for number in range(3 * MAX_SESSIONS):
        clock.now += 1
        live.hear(beat("open", session=f"{number:016x}"), 666)
    assert len(live) == MAX_SESSIONS
    assert live.dropped == 2 * MAX_SESSIONS + 1
    live.hear(beat(inferences=2), 1)
    assert model(live.take())["inferences"] == 2


def test_what_is_kept_of_models_is_bounded_and_those_in_use_stay(live: Live) -> None:
    live.hear(beat("open"), OURS)
    for number in range(2 * MAX_TALLIES):
        name = f"{number:016x}"
        live.hear(beat("open", session=name, model=f"m-{number}"), 666)
        live.hear(beat("close", session=name, model=f"m-{number}"), 666)
    totals = live.totals()
    assert len(totals) == MAX_TALLIES
    assert "digit-reader" in totals


def test_figures_for_people_are_those_of_the_last_minutes(live: Live, clock: Clock) -> None:
    live.hear(beat("open"), OURS)
    clock.now += 10
    live.hear(beat(inferences=50, latency=[[80, 50]], confidence=[0] * 19 + [50]), OURS)
    recent = model(live.totals())["recent"]
    assert (recent["perS"], recent["p50Ms"], recent["confidence"]) == (5.0, 1.069, 0.975)
    clock.now += 31
    assert model(live.totals())["recent"]["perS"] == 0
    clock.now += 700
    recent = model(live.totals())["recent"]
    assert (recent["p50Ms"], recent["confidence"]) == (None, None)
    assert model(live.totals())["inferences"] == 50


def test_percentiles_of_the_sketch() -> None:
    sketch = {80: 90, 104: 9, 160: 1}
    assert [percentile_ms(sketch, share) for share in (0.5, 0.95, 1.0)] == [1.069, 8.555, 1095.0]


def test_the_end_of_a_real_process_is_seen_with_and_without_its_descriptor(
    monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes], clock: Clock
) -> None:
    monkeypatch.setattr(module, "Peer", Peer)
    attached: list[Peer] = []
    detached: list[Peer] = []
    live = Live(clock, attach=attached.append, detach=detached.append)
    live.hear(beat("open", inFlightS=1.0), child.pid)
    plain = Peer(child.pid, Peer.of(child.pid).started, None)
    assert live.check() == []
    assert plain.alive()
    child.kill()
    child.wait()
    assert not plain.alive()
    assert [lost.code for lost in live.check()] == ["crashed"]
    assert [peer.pid for peer in attached] == [peer.pid for peer in detached] == [child.pid]


def test_another_process_with_the_same_number_is_not_taken_for_the_first(
    child: subprocess.Popen[bytes],
) -> None:
    started = Peer.of(child.pid).started
    assert started
    earlier = Peer(child.pid, started - 1, None)
    assert (earlier.alive(), earlier.replaced()) == (False, True)
    ended = Peer.of(child.pid)
    child.kill()
    child.wait()
    assert (ended.alive(), ended.replaced()) == (False, False)
    ended.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"session": "x" * 16},
        {"session": "00ff"},
        {"model": "../etc"},
        {"digest": "sha256:00"},
        {"event": "explode"},
        {"rung": "basement"},
        {"code": "a\nb"},
        {"providers": ["a"] * 17},
        {"providers": ["\x1b[31m"]},
        {"inferences": -1},
        {"inferences": True},
        {"inferences": 1.5},
        {"inferences": 2**60},
        {"inFlightS": "long"},
        {"sinceSuccessS": -0.5},
        {"latency": [[1, 2], [1, 3]]},
        {"latency": [[321, 1]]},
        {"latency": [[1]]},
        {"latency": {"1": 2}},
        {"confidence": [1] * 19},
        {"drift": []},
        {"drift": {"inputs": {"": 0.1}}},
        {"drift": {"inputs": {f"i{n}": 0.1 for n in range(65)}}},
        {"experiment": {"name": "x", "kind": "both", "digest": DIGEST}},
    ],
    ids=str,
)
def test_a_datagram_that_is_not_as_it_should_be_is_refused_and_counted(
    live: Live, changes: dict[str, Any]
) -> None:
    data = beat(**changes)
    with pytest.raises(ValueError, match=r"."):
        parse(data)
    live.hear(data, OURS)
    assert (live.refused, live.heard, len(live)) == (1, 0, 0)


def test_what_a_newer_runtime_adds_is_left_alone_and_what_an_older_one_lacks_is_none() -> None:
    assert parse(beat(colour="blue")).inferences == 0
    short = f'{{"version":1,"session":"{SESSION}","model":"m","digest":"{DIGEST}","event":"open"}}'
    assert parse(short.encode()).rung == "normal"
    with pytest.raises(ValueError, match="more than"):
        parse(b" " * (MAX_LIVE_BYTES + 1))


def test_a_peer_leaves_no_descriptor_behind(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, child: Any
) -> None:
    monkeypatch.setattr(module, "Peer", Peer)
    before = len(list(Path("/proc/self/fd").iterdir()))
    live = Live(clock)
    for number in range(200):
        live.hear(beat("open", session=f"{number:016x}"), child.pid)
    live.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_a_session_sends_is_understood_to_the_last_field() -> None:
    told = Beat(
        SESSION,
        "digit-reader",
        DIGEST,
        "swap",
        "cpu-model",
        "provider-failed",
        ("CPUExecutionProvider",),
        7,
        1,
        2,
        3,
        0.25,
        0.5,
        {80: 6, 96: 1},
        (0,) * 19 + (7,),
        0.02,
        {"image": 0.1},
        Share("wider", "ab", OTHER, 4, 3, 1, 2, {81: 4}),
    )
    assert parse(encode(told)) == told


def test_an_application_that_counts_to_the_end_again_and_again_makes_no_number_that_nobody_takes(
    live: Live,
) -> None:
    most = 2**53 - 1
    live.hear(beat("open"), 7)
    for _ in range(3):
        live.hear(beat(inferences=most, errors=most, latency=[[80, most]], confidence=[most] * 20), 7)
        live.hear(beat("open", inferences=0, errors=0), 7)
    told = live.take()["digit-reader"]
    assert (told["inferences"], told["errors"], told["latency"]) == (most, most, [[80, most]])
    span = {
        "since": datetime(2030, 1, 1, tzinfo=timezone.utc),
        "until": datetime(2030, 1, 2, tzinfo=timezone.utc),
    }
    event = events.encode({"at": "2030-01-02T00:00:00Z", **events.aggregate({"digit-reader": told}, **span)})
    for _ in range(12):
        event = events.merged(event, event)
    document = otlp.metrics({}, [(1, {**events.parse(event), "upS": 1, "boot": "b"})], {})
    Parse(json.dumps({"resourceMetrics": document["resourceMetrics"]}), ExportMetricsServiceRequest())
