"""Whether an update may load and try now: windows, metered links, and the cap on bandwidth.

>>> permission = Permission(config, ledger, utc_now, Allowance())       # doctest: +SKIP
>>> permission.activation_wait()                                      # doctest: +SKIP
Wait(code='waits-for-window', message='waits for its activation window, which opens …')
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from edgewright_agent import schedule
from edgewright_agent.config import Config
from edgewright_agent.errors import LinkClosedError
from edgewright_agent.record import Ledger
from edgewright_agent.transport.allowance import Allowance


@dataclass
class Permission:
    """What the device's owner and its class allow at the moment.

    Attributes:
        at_once: Wait for nothing: a person who stands by asks.
    """

    config: Config
    ledger: Ledger
    now: Callable[[], datetime]
    allowance: Allowance
    at_once: bool = False

    def __post_init__(self) -> None:
        self.allowance.permit = self.require_link

    def limit(self) -> None:
        """Cap downloads as the record's policy says by now."""
        self.allowance.limit(schedule.bandwidth_bits_per_s(self.config, self.ledger.record))

    def may_go_on(self) -> bool:
        """Whether something that waited may go on."""
        record = self.ledger.record
        return schedule.waits(record) if self.at_once else schedule.due(self.config, record, self.now())

    def link_wait(self) -> schedule.Wait | None:
        """Return what loading has to wait for; None: nothing."""
        return None if self.at_once else schedule.link_wait(self.config, self.ledger.record, self.now())

    def activation_wait(self) -> schedule.Wait | None:
        """Return what trying has to wait for; None: nothing."""
        return None if self.at_once else schedule.activation_wait(self.config, self.ledger.record, self.now())

    def require_link(self) -> None:
        """End a download when its window closes or the link begins to cost money; the part stays.

        Raises:
            LinkClosedError: `waits-for-window`, `waits-for-link`.
        """
        if wait := self.link_wait():
            raise LinkClosedError(wait.code, wait.message)
