"""How often a device asks: its own word, the fleet's signed one, and how a whole fleet keeps from asking at once."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright_agent.config import Polling
from edgewright_agent.record import Record
from edgewright_agent.schedule import activation_wait, polling, wait_s
from edgewright_agent.update_policy import bounded
from unit.agent.core.workbench import MODEL, NOW, PI, Bench, make_artifact

POLLING = Polling(interval_s=900, jitter=0.2, max_backoff_s=21600)
ONE = make_artifact("1.0.0")


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_wait_is_never_shorter_than_the_interval_nor_longer_than_the_bound(
    failures: int, share: float
) -> None:
    assert 900 <= wait_s(POLLING, failures, retry_after_s=None, share=share) <= 21600


def test_failures_double_the_longest_wait_and_a_success_ends_that() -> None:
    waits = [wait_s(POLLING, n, retry_after_s=None, share=1) for n in range(7)]
    assert waits == [1080, 1080, 1800, 3600, 7200, 14400, 21600]


@given(st.floats(0, 1, exclude_max=True))
def test_what_the_registry_asks_for_is_honoured(share: float) -> None:
    assert 5000 <= wait_s(POLLING, 1, retry_after_s=5000, share=share) <= 5900
    assert wait_s(POLLING, 1, retry_after_s=5, share=0) == 900


def test_windows_follow_the_devices_time_zone_while_the_agent_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path)
    bench.document["network"] = {"windows": {"activation": ["22:00-23:00"]}}
    opens = []
    try:
        for zone in ("UTC", "CET-1"):  # the clock of a device that is moved, or whose zone is put right
            monkeypatch.setenv("TZ", zone)
            wait = activation_wait(bench.config, Record(), NOW)
            opens.append(wait and wait.until and wait.until.hour)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert opens == [22, 21]


def _busiest_minute(moments: list[float]) -> int:
    minutes = [int(moment // 60) for moment in moments]
    return max(minutes.count(minute) for minute in set(minutes))


def test_a_fleet_that_was_asked_to_wait_comes_back_over_a_whole_interval() -> None:
    shares = random.Random(6)
    back = [wait_s(POLLING, 1, retry_after_s=7200, share=shares.random()) for _ in range(3000)]
    assert _busiest_minute(back) < 1.5 * 3000 * 60 / POLLING.interval_s


@pytest.mark.parametrize("out_s", [600, 3600, 6 * 3600])
def test_a_registry_that_comes_back_is_not_met_by_a_herd(out_s: float) -> None:
    """Devices that all failed at one moment, the worst case: who asks in which minute after the registry is back."""
    shares = random.Random(out_s)
    back = []
    for _ in range(3000):
        now_s, failures = 0.0, 1
        while now_s < out_s:
            now_s += wait_s(POLLING, failures, retry_after_s=None, share=shares.random())
            failures += 1
        back.append(now_s)
    spread_s = max(back) - min(back)
    least_s = POLLING.interval_s * POLLING.jitter if out_s < POLLING.interval_s else POLLING.interval_s
    assert spread_s >= 0.9 * least_s
    assert _busiest_minute(back) < 2.5 * 3000 * 60 / least_s


def test_the_signed_policy_counts_where_the_device_says_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    signed = Record(policy={"poll": {"intervalS": 300.0, "jitter": 0.5, "maxBackoffS": 7200.0}})
    assert polling(bench.config, signed) == Polling(300, 0.5, 7200)
    assert polling(bench.config, Record()) == Polling()
    bench.document["poll"] = {"intervalS": 60}
    counts = polling(bench.config, signed)
    assert (counts.interval_s, counts.jitter, counts.max_backoff_s) == (60, 0.5, 7200)


def _signed(bench: Bench, policy: dict[str, Any]) -> None:
    groups = bench.trust.assignment["groups"]
    groups[0]["models"][MODEL]["artifacts"][PI]["updatePolicy"] = policy
    bench.assign(groups)


def test_an_accepted_assignment_leaves_its_policy_in_the_record(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(ONE)
    _signed(bench, {"poll": {"intervalS": 300}, "bandwidthBitsPerS": 8000})
    bench.once()
    assert bench.ledger.record.policy == {"poll": {"intervalS": 300}, "bandwidthBitsPerS": 8000}
    _signed(bench, {"poll": {"intervalS": 600}})
    bench.once()
    assert bench.ledger.record.policy == {"poll": {"intervalS": 600}}
    bench.assign([])
    bench.once()
    assert bench.ledger.record.policy == {"poll": {"intervalS": 600}}, "nothing said anything else"


def test_no_signature_silences_a_device_for_more_than_a_day_nor_makes_it_a_flood(tmp_path: Path) -> None:
    config = Bench(tmp_path).config
    for asked, counts in ((1e9, 86400), (0, 10), (-5, 10)):
        record = Record(policy=bounded({"poll": {"intervalS": asked, "maxBackoffS": asked}}))
        assert polling(config, record).interval_s == counts
        for failures in (0, 1, 50):
            assert (
                10 <= wait_s(polling(config, record), failures, retry_after_s=None, share=0.99) <= 2 * 86400
            )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ("poll", "diskReserveBytes", "bandwidthBitsPerS", "windows", "metered", "meteredLink")


@given(
    st.dictionaries(st.sampled_from(KEYS), JSON)
    | st.fixed_dictionaries(
        {
            "poll": st.dictionaries(st.sampled_from(("intervalS", "jitter", "maxBackoffS")), JSON),
            "windows": st.dictionaries(st.sampled_from(("download", "activation", "timeZone")), JSON),
        }
    )
)
def test_whatever_is_signed_as_policy_is_bounded_and_bounding_changes_nothing_twice(
    policy: dict[str, Any],
) -> None:
    kept = bounded(policy)
    assert kept.keys() <= set(KEYS)
    assert bounded(kept) == kept
    assert all(0 <= number <= 86400 for number in kept.get("poll", {}).values())


def test_the_defaults_of_a_configuration_that_says_nothing_are_not_its_word(tmp_path: Path) -> None:
    assert Bench(tmp_path).config.poll == Polling()
    assert replace(Polling(), said=frozenset({"jitter"})) != Polling()
