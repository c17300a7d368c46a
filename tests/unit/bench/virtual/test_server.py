from __future__ import annotations

from edgewright.bench.virtual.server import Server
from edgewright.bench.virtual.workload import Workload

MS = 1_000_000


def server(*, period_ms: int = 100, work_ms: int = 30, queue: int = 0, burst: int = 1) -> Server:
    """Periodic requests, and services of `work_ms` at clock 1."""
    return Server(Workload("periodic", 1000 * burst / period_ms, queue, burst), work_ms * MS, "any")


def test_an_idle_server_answers_after_one_service() -> None:
    served = server()
    assert served.advance(1000 * MS, clock=1) == 9 * 30 * MS
    assert served.sojourns_ns == served.services_ns == [30 * MS] * 9


def test_a_request_that_finds_the_queue_full_is_dropped_and_the_one_in_service_is_not() -> None:
    served = server(period_ms=100, work_ms=250, queue=1)
    served.advance(
        401 * MS, clock=1
    )  # requests at 100 (served), 200 (waits), 300 (dropped), 400 (waits again)
    assert (served.requests, served.dropped, served.pending) == (4, 1, 2)
    assert served.sojourns_ns == [250 * MS]


def test_without_a_queue_whoever_comes_during_a_service_is_dropped() -> None:
    served = server(period_ms=100, work_ms=150, queue=0)
    served.advance(460 * MS, clock=1)  # requests at 100 (served), 200 (dropped), 300 (served), 400 (dropped)
    assert (served.requests, served.dropped, served.pending) == (4, 2, 0)
    assert served.services_ns == [150 * MS, 150 * MS]


def test_the_place_an_answer_frees_can_be_taken_in_the_same_moment() -> None:
    served = server(period_ms=100, work_ms=100, queue=0)
    served.advance(1001 * MS, clock=1)
    assert (served.requests, served.dropped) == (10, 0)


def test_a_wait_ends_when_the_service_before_it_does() -> None:
    served = server(period_ms=100, work_ms=150, queue=5)
    served.advance(450 * MS, clock=1)  # starts at 100, 250, 400
    assert served.sojourns_ns == [150 * MS, 200 * MS]
    assert served.services_ns == [150 * MS, 150 * MS]


def test_half_the_clock_makes_half_as_fast() -> None:
    served = Server(Workload("periodic", 10.0, 0), 30 * MS * 2, "any")
    served.advance(1000 * MS, clock=1)
    assert set(served.services_ns) == {60 * MS}


def test_a_clock_that_changes_within_a_service_slows_down_only_what_is_left_of_it() -> None:
    served = Server(Workload("periodic", 10.0, 0), 40 * MS * 2, "any")
    served.advance(110 * MS, clock=2)  # 10 of 40 ms done
    served.advance(190 * MS, clock=1)  # the other 30 take 60
    assert served.services_ns == [70 * MS]


def test_looking_more_often_changes_nothing() -> None:
    load = Workload("poisson", 30.0, 4)
    seldom, often = Server(load, 30 * MS, "x"), Server(load, 30 * MS, "x")
    busy_ns = seldom.advance(7_000 * MS, clock=1)
    assert sum(often.advance(end_ms * MS, clock=1) for end_ms in range(7, 7_001, 7)) == busy_ns
    assert (often.sojourns_ns, often.services_ns, often.dropped) == (
        seldom.sojourns_ns,
        seldom.services_ns,
        seldom.dropped,
    )
