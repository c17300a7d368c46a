"""When a device does what: how often it polls, when it may load and try, and how fast.

>>> polling(config, record).interval_s                           # doctest: +SKIP
300.0
>>> link_wait(config, record, utc_now()).message                 # doctest: +SKIP
'is loaded when the download window opens, at 2030-01-07T22:00:00Z'

What the device's own configuration says counts; where it says nothing, the class's signed policy; else a default. The
one exception is the cap on bandwidth, where the lower of both counts. A clock that is behind the time that signed
metadata proves to have come is taken to show that time.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from edgewright_agent.config import Config, Polling
from edgewright_agent.model_state import ModelState
from edgewright_agent.network import is_metered
from edgewright_agent.record import Record

if TYPE_CHECKING:
    from edgewright_agent.windows import Windows

WAITS_FOR_WINDOW, WAITS_FOR_LINK = "waits-for-window", "waits-for-link"
WAITS = (WAITS_FOR_WINDOW, WAITS_FOR_LINK)
DEFER_EVERY = 8  # intervals, on a metered link whose policy is `defer`
_MAX_DEFERRED_S = 24 * 3600.0
_KEYS = {"intervalS": "interval_s", "jitter": "jitter", "maxBackoffS": "max_backoff_s"}


@dataclass(frozen=True)
class Wait:
    """Why something is not done now.

    Attributes:
        code: One of `WAITS`.
        message: What completes "2.0.0 …".
        until: When a window opens; None when nobody knows.
    """

    code: str
    message: str
    until: datetime | None = None


def polling(config: Config, record: Record) -> Polling:
    """Return how often to ask."""
    signed = record.policy.get("poll", {})
    taken = {_KEYS[key]: value for key, value in signed.items() if key in _KEYS.keys() - config.poll.said}
    found = replace(config.poll, **taken)
    if record.policy.get("metered") == "defer" and _metered(config, record):
        longer_s = max(found.interval_s, min(DEFER_EVERY * found.interval_s, _MAX_DEFERRED_S))
        found = replace(found, interval_s=longer_s)
    return found


def wait_s(polling: Polling, failures: int, *, retry_after_s: float | None, share: float) -> float:
    """Return how long to wait for the next poll, in seconds.

    From the second failure in a row on it is drawn from the upper half of a bound that doubles ("equal jitter":
    Brooker, "Exponential Backoff And Jitter", AWS 2015), never below the interval. So devices that lost a registry at
    one moment are not back at one moment. One that asked to be left alone for a while gets them over a whole interval
    after it.

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


def bandwidth_bits_per_s(config: Config, record: Record) -> int | None:
    """Return what models may take of the link: the device's own cap or the signed one, whichever is lower."""
    caps = [
        cap for cap in (config.network.bandwidth_bits_per_s, record.policy.get("bandwidthBitsPerS")) if cap
    ]
    return min(caps, default=None)


def link_wait(config: Config, record: Record, now: datetime) -> Wait | None:
    """Return why no layer may be loaded now; None when one may.

    Args:
        config: The device's configuration.
        record: What it knows.
        now: Its clock.
    """
    if wait := _window_wait(config, record, now, "download", "is loaded when the download window opens"):
        return wait
    if record.policy.get("metered", "metadata") != "allow" and _metered(config, record):
        how = "`edgewright-agent metered off`" if config.network.metered == "ask" else "`network.metered`"
        return Wait(WAITS_FOR_LINK, f"is loaded over a link that is not metered: {how}")
    return None


def activation_wait(config: Config, record: Record, now: datetime) -> Wait | None:
    """Return why a stored model may not be tried now; None when it may."""
    return _window_wait(
        config, record, now, "activation", "is stored, and tried when the activation window opens"
    )


def model_wait(config: Config, record: Record, model: str, now: datetime) -> Wait | None:
    """Return what a model waits for, as of now; None when it does not, or need not any longer."""
    state = record.model(model)
    if state.waiting is not None:
        return activation_wait(config, record, now)
    return link_wait(config, record, now) if _waits_for_link(state) else None


def waits(record: Record) -> bool:
    """Whether any model waits for a window or a link."""
    return any(state.waiting or _waits_for_link(state) for state in record.models.values())


def due(config: Config, record: Record, now: datetime) -> bool:
    """Whether something that waited may go on: "not modified" is no answer to that."""
    return any(
        (state.waiting or _waits_for_link(state)) and model_wait(config, record, model, now) is None
        for model, state in record.models.items()
    )


def next_window_s(config: Config, record: Record, now: datetime) -> float | None:
    """Return seconds until something that waits for a window may go on; None when nothing waits.

    Devices come one after the other, each at its own moment of the first interval or of half the window: what opens
    at ten for all of them must not be a crowd at ten. What may go on already is left to the next poll.
    """
    if not waits(record):
        return None
    from edgewright_agent.poll import trusted_now

    opens = []
    for model, state in record.models.items():
        wait = model_wait(config, record, model, now)
        if wait is not None and wait.until is not None:
            kind = "activation" if state.waiting else "download"
            spread_s = min(polling(config, record).interval_s, _windows(config, record, kind).shortest_s / 2)
            away_s = (wait.until - trusted_now(record, now)).total_seconds()
            opens.append(max(0.0, away_s) + 1 + spread_s * _place(config.device.id))
    return min(opens, default=None)


def _window_wait(config: Config, record: Record, now: datetime, kind: str, message: str) -> Wait | None:
    from edgewright_agent.clock import to_text
    from edgewright_agent.poll import trusted_now

    windows, moment = _windows(config, record, kind), trusted_now(record, now)
    if windows.is_open(moment):
        return None
    until = windows.next_open(moment)
    return Wait(WAITS_FOR_WINDOW, f"{message}, at {to_text(until)}", until)


def _windows(config: Config, record: Record, kind: str) -> Windows:
    from edgewright_agent.windows import Windows  # a device without windows does not need it

    # A process keeps the zone that it began with (tzset(3)); a daemon lives for years, and devices move.
    time.tzset()
    own = config.network.download if kind == "download" else config.network.activation
    if own:
        return Windows.parse(own, config.network.time_zone)
    signed = record.policy.get("windows", {})
    return Windows.parse(signed.get(kind, ()), signed.get("timeZone", "local"))


def _waits_for_link(state: ModelState) -> bool:
    return state.waiting is None and state.last is not None and state.last.code in WAITS


def _metered(config: Config, record: Record) -> bool:
    return is_metered(config.network, config.state, signed=record.policy.get("meteredLink", False))


def _place(device: str) -> float:
    """Return a device's own place in [0, 1)."""
    return int.from_bytes(hashlib.sha256(device.encode()).digest()[:4], "big") / 2**32
