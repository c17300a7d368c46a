"""The link's part of a hardware sheet: windows and metered links, and what devices are told of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewright.spec.load import load_fleet
from edgewright.spec.window import open_minutes
from edgewright.trust.assignment import policies_of
from edgewright_agent.contract import WINDOW_DAYS
from edgewright_agent.update_policy import bounded
from edgewright_agent.windows import is_window, parse_window
from unit.spec.conftest import Repository, only

SHEET = "hardware/board.yaml"
WINDOWS = """\
  windows:
    download: [22:00-05:00, "sat,sun 00:00-24:00"]
    activation: [mon-fri 05:00-06:00]
    timeZone: utc
"""


def with_policy(repository: Repository, text: str) -> Repository:
    repository.edit(SHEET, "  diskReserve: 1GB\n", f"  diskReserve: 1GB\n{text}")
    return repository


def signed(repository: Repository) -> dict[str, object]:
    policy: dict[str, object] = policies_of(load_fleet(repository.root).hardware["board"])["updatePolicy"]
    return policy


def test_windows_reach_devices_as_the_sheet_writes_them(repository: Repository) -> None:
    policy = signed(with_policy(repository, WINDOWS))
    assert policy["windows"] == {
        "download": ["22:00-05:00", "sat,sun 00:00-24:00"],
        "activation": ["mon-fri 05:00-06:00"],
        "timeZone": "utc",
    }
    assert bounded(policy) == policy, "and a device obeys all of it"


def test_without_windows_none_are_signed(repository: Repository) -> None:
    assert "windows" not in signed(repository)
    assert "windows" not in signed(with_policy(repository, "  windows: {timeZone: utc}\n"))


@pytest.mark.parametrize(
    ("window", "told"),
    [
        (
            "25:00-26:00",
            "must be a window of the week: days if not all, then from and to, such as 22:00-05:00",
        ),
        ('"Mon, Tue 08:00 - 09:00"', "write mon,tue 08:00-09:00"),
        ("12:00-12:00", "ends when it starts; the whole day is 00:00-24:00"),
        ("nightly", "must be a window of the week"),
    ],
)
def test_what_is_no_window_is_told_with_its_place(repository: Repository, window: str, told: str) -> None:
    problem = only(with_policy(repository, f"  windows: {{activation: [{window}]}}\n"))
    assert told in problem
    assert problem.startswith(f"{SHEET}:")


def test_more_windows_than_a_device_reads_are_refused(repository: Repository) -> None:
    many = ", ".join(f"{hour:02}:00-{hour:02}:30" for hour in range(17))
    assert "16" in only(with_policy(repository, f"  windows: {{activation: [{many}]}}\n"))


def test_windows_too_short_for_a_model_are_told(repository: Repository) -> None:
    # One minute a week at 1 Mbit/s is 7.5 MB; an artifact may have 32 MB.
    text = "  bandwidth: 1Mbit/s\n  windows: {download: [sun 03:00-03:01]}\n"
    assert "a week of these windows carries" in only(with_policy(repository, text))


@pytest.mark.parametrize(
    ("own", "link", "metered", "metered_link"),
    [
        ("", "", "metadata", None),
        ("", "true", "allow", True),
        ("defer", "true", "defer", True),
        ("allow", "", "allow", None),
    ],
)
def test_a_class_that_is_always_metered_was_planned_so(
    repository: Repository, own: str, link: str, metered: str, metered_link: bool | None
) -> None:
    if own:
        with_policy(repository, f"  metered: {own}\n")
    if link:
        repository.edit(SHEET, "connectivity: {mode: always", "connectivity: {metered: true, mode: always")
    policy = signed(repository)
    assert (policy["metered"], policy.get("meteredLink")) == (metered, metered_link)


CLOCK = st.integers(0, 1439).map(lambda minute: f"{minute // 60:02}:{minute % 60:02}")
TEXTS = st.builds(
    lambda days, start, end: f"{','.join(days)} {start}-{end}" if days else f"{start}-{end}",
    st.lists(st.sampled_from(WINDOW_DAYS), max_size=2),
    CLOCK,
    CLOCK | st.just("24:00"),
).filter(is_window)


@given(st.lists(TEXTS, min_size=1, max_size=2))
def test_a_week_is_as_long_open_as_a_device_says(texts: list[str]) -> None:
    minutes = set()
    for window in map(parse_window, texts):
        for day in window.days:
            minutes |= {(day * 1440 + minute) % 10080 for minute in range(window.start_min, window.end_min)}
    assert open_minutes(texts) == len(minutes)
