"""When a device does what: how often it polls, when it may load and try, and how fast.

>>> polling(config, record).interval_s       # doctest: +SKIP
300.0

What the device's own configuration says counts; where it says nothing, the class's signed policy; else a default.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from edgewright_agent.config import Config, Polling
from edgewright_agent.record import Record

_KEYS = {"intervalS": "interval_s", "jitter": "jitter", "maxBackoffS": "max_backoff_s"}


def polling(config: Config, record: Record) -> Polling:
    """Return how often to ask."""
    signed = record.policy.get("poll", {})
    taken = {_KEYS[key]: value for key, value in signed.items() if key in _KEYS.keys() - config.poll.said}
    return replace(config.poll, **taken)


def wait_s(polling: Polling, failures: int, *, retry_after_s: float | None, share: float) -> float:
    """Return how long to wait for the next poll, in seconds.

    From the second failure in a row on it is drawn from the upper half of a bound that doubles ("equal jitter": Brooker,
    "Exponential Backoff And Jitter", AWS 2015), never below the interval. So devices that lost a registry at one moment
    are not back at one moment. One that asked to be left alone for a while gets them over a whole interval after it.

    Args:
        polling: What counts for this device.
        failures: Failed polls in a row.
        retry_after_s: What the source asked for last, if it did.
        share: Uniform in [0, 1): this device's place in the jitter.
    """
    interval_s = polling.interval_s
    usual_s = interval_s * (1 + polling.jitter * share)
    if failures > 1:
        bound_s = min(interval_s * 2.0 ** min(failures - 1, 30), max(polling.max_backoff_s, interval_s))
        usual_s = max(usual_s, bound_s * (1 + share) / 2)
    return usual_s if retry_after_s is None else max(usual_s, retry_after_s + interval_s * share)


def next_window_s(config: Config, record: Record, now: datetime) -> float | None:
    """Return seconds until something that waits for a window may go on; None when nothing waits."""
    return None
