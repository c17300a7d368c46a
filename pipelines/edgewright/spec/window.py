"""Times of the week at which devices may load or activate, as hardware sheets write them.

>>> open_minutes(["22:00-05:00", "sat,sun 00:00-24:00"])    # a week has 10,080
4980
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from edgewright.spec.base import Text
from edgewright_agent.contract import WINDOW_DAYS, WINDOW_PATTERN

MAX_WINDOWS = 16
"""As many as devices read."""

_DAY_MIN = 24 * 60
_WEEK_MIN = 7 * _DAY_MIN

WindowText = Annotated[
    str,
    Text(
        "a window of the week: days if not all, then from and to",
        WINDOW_PATTERN,
        ("22:00-05:00", "sat,sun 00:00-24:00", "mon-fri 18:00-06:00"),
        max_length=60,
        fix=lambda text: " ".join(text.lower().replace(", ", ",").replace(" - ", "-").split()),
    ),
]


def is_empty(text: str) -> bool:
    """Whether a well-formed window ends when it starts."""
    start, _, end = text.rpartition(" ")[2].partition("-")
    return start == end


def open_minutes(texts: Iterable[str]) -> int:
    """Return for how many minutes of a week at least one of some well-formed windows is open."""
    minutes: set[int] = set()
    for text in texts:
        days, _, hours = text.rpartition(" ")
        start, end = (int(clock[:2]) * 60 + int(clock[3:]) for clock in hours.split("-"))
        length = end - start if end > start else end - start + _DAY_MIN
        for day in _days(days):
            first = day * _DAY_MIN + start
            minutes.update((first + minute) % _WEEK_MIN for minute in range(length))
    return len(minutes)


def _days(text: str) -> Iterable[int]:
    if not text:
        return range(7)
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = WINDOW_DAYS.index(first), WINDOW_DAYS.index(last or first)
        found += ((start + step) % 7 for step in range((end - start) % 7 + 1))
    return found
