"""Windows of the week: midnight, weekdays, and the two nights of the year on which clocks jump."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright_agent.contract import WINDOW_DAYS, WINDOW_PATTERN
from edgewright_agent.windows import Windows, is_window, parse_window

BERLIN = ZoneInfo("Europe/Berlin")
MINUTE = timedelta(minutes=1)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def windows(*texts: str, zone: ZoneInfo | None = None) -> Windows:
    return Windows(tuple(map(parse_window, texts)), zone or timezone.utc)


def test_without_any_window_it_is_always_open() -> None:
    assert Windows().is_open(utc("2030-01-07T12:00"))
    assert Windows().next_open(utc("2030-01-07T12:00")) == utc("2030-01-07T12:00")


@pytest.mark.parametrize(
    ("when", "is_open"),
    [
        ("2030-01-07T21:59", False),
        ("2030-01-07T22:00", True),
        ("2030-01-08T00:00", True),
        ("2030-01-08T04:59", True),
        ("2030-01-08T05:00", False),
    ],
)
def test_a_window_crosses_midnight_and_its_end_is_outside(when: str, is_open: bool) -> None:
    assert windows("22:00-05:00").is_open(utc(when)) is is_open


@pytest.mark.parametrize(
    ("text", "when", "is_open"),
    [
        ("fri 22:00-05:00", "2030-01-11T23:00", True),
        ("fri 22:00-05:00", "2030-01-12T03:00", True),  # Saturday morning still belongs to Friday
        ("fri 22:00-05:00", "2030-01-11T03:00", False),  # Friday morning belongs to Thursday
        ("sun 22:00-05:00", "2030-01-07T01:00", True),  # over the end of the week
        ("sat,sun 00:00-24:00", "2030-01-12T00:00", True),
        ("sat,sun 00:00-24:00", "2030-01-13T23:59", True),
        ("sat,sun 00:00-24:00", "2030-01-14T00:00", False),
        ("mon-fri 08:00-17:00", "2030-01-11T12:00", True),
        ("mon-fri 08:00-17:00", "2030-01-12T12:00", False),
        ("sat-mon,wed 08:00-17:00", "2030-01-13T12:00", True),
        ("sat-mon,wed 08:00-17:00", "2030-01-08T12:00", False),
    ],
)
def test_weekdays_are_those_on_which_a_window_starts(text: str, when: str, is_open: bool) -> None:
    assert windows(text).is_open(utc(when)) is is_open


@pytest.mark.parametrize(
    "text",
    [
        *("", "always", "22:00", "22-05", "24:00-05:00", "22:60-23:00", "25:00-26:00", "9:00-10:00"),
        *(
            "12:00-12:00",
            "Mon 08:00-09:00",
            "mon, tue 08:00-09:00",
            "mon-fri  08:00-09:00",
            "day 08:00-09:00",
        ),
        *(" 08:00-09:00", "08:00-09:00\n", "08:00 - 09:00", "mon-tue-wed 08:00-09:00", "０8:00-09:00"),
        "mon,tue,wed,thu,fri,sat,sun,mon 08:00-09:00",
    ],
)
def test_what_is_no_window_is_refused(text: str) -> None:
    assert not is_window(text)
    with pytest.raises(ValueError, match="window|empty"):
        parse_window(text)


@pytest.mark.parametrize("value", [None, 7, True, ["08:00-09:00"], {}])
def test_what_is_no_text_is_no_window(value: object) -> None:
    assert not is_window(value)


def test_an_hour_that_is_skipped_opens_nothing_but_what_begins_in_it_begins_after_it() -> None:
    # On 31 March 2030 clocks in Berlin go from 02:00 to 03:00, which is 01:00 UTC.
    assert windows("02:30-05:00", zone=BERLIN).next_open(utc("2030-03-31T00:10")) == utc("2030-03-31T01:00")
    inside = windows("02:15-02:45", zone=BERLIN)
    assert inside.next_open(utc("2030-03-31T00:10")) == utc("2030-04-01T00:15")
    only_then = windows("sun 02:15-02:45", zone=BERLIN)
    assert only_then.next_open(utc("2030-03-30T12:00")) == utc("2030-04-07T00:15")


def test_an_hour_that_comes_twice_is_open_twice() -> None:
    # On 27 October 2030 clocks in Berlin go from 03:00 back to 02:00, which is 01:00 UTC.
    found = windows("02:30-03:00", zone=BERLIN)
    assert found.next_open(utc("2030-10-27T00:00")) == utc("2030-10-27T00:30")
    assert not found.is_open(utc("2030-10-27T01:00"))
    assert found.next_open(utc("2030-10-27T01:00")) == utc("2030-10-27T01:30")


def test_local_time_moves_with_the_season() -> None:
    night = windows("22:00-05:00", zone=BERLIN)
    assert night.next_open(utc("2030-01-07T12:00")) == utc("2030-01-07T21:00")
    assert night.next_open(utc("2030-07-07T12:00")) == utc("2030-07-07T20:00")


def test_the_systems_own_zone_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        for when in ("2030-01-07T12:00", "2030-03-31T00:10", "2030-07-07T12:00", "2030-10-27T01:00"):
            for text in ("22:00-05:00", "02:30-03:00"):
                by_system, by_name = Windows.parse([text]), windows(text, zone=BERLIN)
                assert by_system.next_open(utc(when)) == by_name.next_open(utc(when))
    finally:
        monkeypatch.undo()
        time.tzset()


CLOCK = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
DAYS = st.lists(st.sampled_from(WINDOW_DAYS), min_size=1, max_size=3).map(",".join)
TEXTS = st.builds(
    lambda days, start, end: f"{days} {start}-{end}" if days else f"{start}-{end}",
    st.none() | DAYS,
    CLOCK,
    CLOCK | st.just("24:00"),
).filter(is_window)
# Around the two changes of clocks in Berlin, and any other time.
MOMENTS = st.one_of(
    st.integers(0, 3 * 1440).map(lambda minute: utc("2030-03-30T00:00") + minute * MINUTE),
    st.integers(0, 3 * 1440).map(lambda minute: utc("2030-10-26T00:00") + minute * MINUTE),
    st.integers(0, 366 * 1440).map(lambda minute: utc("2030-01-01T00:00") + minute * MINUTE),
)


@given(
    st.lists(TEXTS, min_size=1, max_size=3),
    MOMENTS,
    st.sampled_from(["Europe/Berlin", "UTC", "Asia/Kolkata"]),
)
def test_the_next_opening_is_open_and_nothing_before_it_is(
    texts: list[str], now: datetime, zone: str
) -> None:
    found = windows(*texts, zone=ZoneInfo(zone))
    opens = found.next_open(now)
    assert opens >= now
    assert found.is_open(opens)
    assert opens - now <= timedelta(days=14)
    step = now
    while step < min(opens, now + timedelta(days=2)):
        assert not found.is_open(step)
        step += MINUTE


@given(st.lists(TEXTS, min_size=1, max_size=2), MOMENTS)
def test_in_utc_a_window_opens_within_a_week(texts: list[str], now: datetime) -> None:
    assert windows(*texts).next_open(now) - now <= timedelta(days=7)


@given(st.text(alphabet="0123456789:-, monfrisatu", max_size=24) | TEXTS)
def test_the_parser_takes_what_the_pattern_of_the_contract_takes_unless_it_is_empty(text: str) -> None:
    start, _, end = text.rpartition(" ")[2].partition("-")
    assert is_window(text) == (re.fullmatch(WINDOW_PATTERN, text) is not None and start != end)
