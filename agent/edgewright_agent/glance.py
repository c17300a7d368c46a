"""The record and the status as they are on disk now, read again only when they have changed, or a second has passed.

>>> Glance(config.state).record.models      # doctest: +SKIP

Whoever may ask the daemon could otherwise keep a slow disk busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgewright_agent.clock import utc_now
from edgewright_agent.config import Config
from edgewright_agent.files import Disk
from edgewright_agent.record import Ledger, Record
from edgewright_agent.slots import NAMES

if TYPE_CHECKING:
    from edgewright_agent.status import Status

FRESH_S = 1.0


class Glance:
    """Reads a state directory; never writes, needs no lock."""

    def __init__(self, state: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._state, self._clock = state, clock
        self._mark: object = None
        self._ledger: Ledger | None = None
        self._status: tuple[float, Status] | None = None

    @property
    def record(self) -> Record:
        """What the newest durable slot says.

        Raises:
            StorageError: as `Ledger`.
        """
        return self.ledger.record

    @property
    def ledger(self) -> Ledger:
        """The ledger, to read from.

        Raises:
            StorageError: as `Ledger`.
        """
        mark = [_mark(self._state / name) for name in NAMES]
        if self._ledger is None or mark != self._mark:
            self._ledger = Ledger(self._state, Disk())
            self._mark = mark  # from before: what was written meanwhile is read the next time
        return self._ledger

    def status(self, config: Config) -> Status:
        """Return the status of the device, at most a second old.

        Raises:
            StorageError: as `Ledger`.
        """
        now = self._clock()
        if self._status is None or now - self._status[0] >= FRESH_S:
            from edgewright_agent.status import gather
            from edgewright_agent.store import Store

            status = gather(config, self.ledger, Store(self._state, Disk()), utc_now())
            self._status = (now, status)
        return self._status[1]


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns
