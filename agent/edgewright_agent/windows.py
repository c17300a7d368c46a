"""Times of the week at which something may happen, as a clock on the wall shows them.

>>> nights = Windows.parse(["22:00-05:00", "sat,sun 00:00-24:00"], "utc")
>>> from datetime import datetime, timezone
>>> monday_noon = datetime(2030, 1, 7, 12, tzinfo=timezone.utc)
>>> nights.is_open(monday_noon), nights.next_open(monday_noon).isoformat()
(False, '2030-01-07T22:00:00+00:00')

A window that ends before it starts crosses midnight and belongs to the day on which it starts. Local time is the
system's (`/etc/localtime`), or any zone of `zoneinfo`: an hour that is skipped opens nothing, but what should have
begun in it begins with the first minute there is; an hour that comes twice counts twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo

from edgewright_agent.clock import later
from edgewright_agent.contract import WINDOW_DAYS, WINDOW_PATTERN

MAX_WINDOWS = 16
_FORM = re.compile(WINDOW_PATTERN)
_DAY_MIN = 24 * 60
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        days: Weekdays on which it starts; Monday is 0.
        start_min: Minutes since midnight.
        end_min: The same; beyond 1440 it lies on the next day.
    """

    days: frozenset[int]
    start_min: int
    end_min: int

    def holds(self, wall: datetime) -> bool:
        """Whether it is open when a clock shows `wall` (naive)."""
        minute = wall.hour * 60 + wall.minute
        today = wall.weekday() in self.days and self.start_min <= minute < self.end_min
        return today or ((wall.weekday() - 1) % 7 in self.days and minute + _DAY_MIN < self.end_min)


@dataclass(frozen=True)
class Windows:
    """Some windows in one time zone; none at all is always open.

    Attributes:
        each: The windows.
        zone: Whose clock; None is the system's own.
    """

    each: tuple[Window, ...] = ()
    zone: tzinfo | None = None

    @classmethod
    def parse(cls, texts: Sequence[str], zone: str = "local") -> Windows:
        """Read windows as configuration and policy write them.

        Args:
            texts: Such as `22:00-05:00` or `mon-fri 08:00-17:00`.
            zone: `local` or `utc`.

        Raises:
            ValueError: says which is none.
        """
        return cls(tuple(map(parse_window, texts)), timezone.utc if zone == "utc" else None)

    @property
    def shortest_s(self) -> float:
        """Length of the shortest of them, in seconds; infinite without any."""
        return min((60.0 * (window.end_min - window.start_min) for window in self.each), default=float("inf"))

    def is_open(self, now: datetime) -> bool:
        """Whether one of them is open now."""
        wall = self._wall(now)
        return not self.each or any(window.holds(wall) for window in self.each)

    def next_open(self, now: datetime) -> datetime:
        """Return the first moment from `now` on, in UTC, at which one is open."""
        if self.is_open(now):
            return now.astimezone(timezone.utc)
        # A week and a day: the only window of a week may fall into the hour that is skipped in spring.
        openings = (moment for moment in self._openings(now) if moment > now and self.is_open(moment))
        return min(openings, default=later(now.astimezone(timezone.utc), 8 * 86400))

    def _openings(self, now: datetime) -> Iterator[datetime]:
        today = self._wall(now).date()
        for ahead in range(-1, min(16, (date.max - today).days)):
            day = today + timedelta(days=ahead)
            for window in self.each:
                if day.weekday() not in window.days:
                    continue
                wall = datetime.combine(day, time(window.start_min // 60, window.start_min % 60))
                first, second = self._moment(wall), self._moment(wall.replace(fold=1))
                yield first
                yield second
                if second < first:  # the clock never shows it (PEP 495): the change lies between the two
                    yield self._change(second, first)

    def _change(self, low: datetime, high: datetime) -> datetime:
        shift = self._offset(low)
        while low < high and self._offset(low) == shift:
            low += _MINUTE
        return low

    def _offset(self, moment: datetime) -> timedelta:
        return self._wall(moment) - moment.astimezone(timezone.utc).replace(tzinfo=None)

    def _wall(self, moment: datetime) -> datetime:
        try:
            return moment.astimezone(self.zone).replace(tzinfo=None)
        except OverflowError:  # the last hours that there is a way to write
            return moment.replace(tzinfo=None)

    def _moment(self, wall: datetime) -> datetime:
        return (wall if self.zone is None else wall.replace(tzinfo=self.zone)).astimezone(timezone.utc)


def is_window(text: object) -> bool:
    """Whether `text` is a window."""
    try:
        parse_window(text)
    except ValueError:
        return False
    return True


def parse_window(text: object) -> Window:
    """Read one window.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or len(text) > 100 or _FORM.fullmatch(text) is None:
        raise ValueError(f"{str(text)[:40]!r} is no window such as 22:00-05:00 or mon-fri 08:00-17:00")
    days, _, hours = text.rpartition(" ")
    start_min, end_min = (int(clock[:2]) * 60 + int(clock[3:]) for clock in hours.split("-"))
    if start_min == end_min:
        raise ValueError(f"{text!r} is empty; the whole day is 00:00-24:00")
    return Window(_days(days), start_min, end_min if end_min > start_min else end_min + _DAY_MIN)


def _days(text: str) -> frozenset[int]:
    if not text:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = WINDOW_DAYS.index(first), WINDOW_DAYS.index(last or first)
        found.update((start + step) % 7 for step in range((end - start) % 7 + 1))
    return frozenset(found)
