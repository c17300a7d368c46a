"""When a device does what: how often it polls, and when the next window opens.

>>> polling(config, record).interval_s       # doctest: +SKIP
300.0
"""

from __future__ import annotations

from datetime import datetime

from edgewright_agent.config import Config, Polling
from edgewright_agent.record import Record


def polling(config: Config, record: Record) -> Polling:
    """Return how often to ask."""
    return config.poll


def next_window_s(config: Config, record: Record, now: datetime) -> float | None:
    """Return seconds until something that waits for a window may go on; None when nothing waits."""
    return None
