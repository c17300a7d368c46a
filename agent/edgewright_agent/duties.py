"""What the daemon does by and by for other parts of the agent: one function each, so that a test can put its own.

>>> Duties().window_s(config, record)      # doctest: +SKIP
5400.0

They are imported when they are first needed. Where a part is not installed, its duty is none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgewright_agent.clock import uptime, utc_now
from edgewright_agent.config import Config
from edgewright_agent.files import Disk
from edgewright_agent.live import Seen
from edgewright_agent.record import Ledger, Record


def judge_soak(config: Config, seen: Sequence[Seen]) -> None:
    """Let the models that still have to prove themselves be judged by what was seen of them.

    Raises:
        StorageError: `busy` when an update is at work: the same observations are judged the next time.
    """
    soak = _part("soak")
    if soak is None:
        return
    from edgewright_agent.work import at_work

    with at_work(config) as (ledger, store):
        observations = [
            soak.Observation(
                digest=one.digest,
                crashes=one.crashes,
                hangs=one.hangs,
                errors=one.errors,
                inferences=one.inferences,
                boots=ledger.record.boots,
            )
            for one in seen
        ]
        soak.judge(ledger, store, observations, utc_now(), uptime())


def aggregate_s(config: Config) -> float | None:
    """Return how often sums over the live sessions go into the spool; None: never."""
    return getattr(config.telemetry, "aggregate_s", None) if _part("telemetry") else None


def note_aggregate(config: Config, summary: Mapping[str, Any]) -> None:
    """Put sums over the live sessions into the spool.

    Raises:
        StorageError: the disk refused.
    """
    telemetry = _part("telemetry")
    if telemetry is not None:
        telemetry.note_aggregate(config, summary, Ledger(config.state, Disk()))


def send_due_s(config: Config) -> float | None:
    """Return seconds until what is in the spool should be sent; None while there is nothing to send, or nowhere to."""
    telemetry = _part("telemetry")
    found: float | None = telemetry.send_due_s(config, utc_now()) if telemetry is not None else None
    return found


def window_s(config: Config, record: Record) -> float | None:
    """Return seconds until a window opens that something waits for; None when nothing waits."""
    from edgewright_agent.schedule import next_window_s

    return next_window_s(config, record, utc_now())


def spool(config: Config) -> Mapping[str, Any] | None:
    """Return how full the spool is, for people; None where there is none."""
    part = _part("spool")
    fill = getattr(part, "fill", None)
    found: Mapping[str, Any] | None = fill(config.state) if fill else None
    return found


@dataclass(frozen=True)
class Duties:
    """All of them."""

    judge_soak: Callable[[Config, Sequence[Seen]], None] = judge_soak
    aggregate_s: Callable[[Config], float | None] = aggregate_s
    note_aggregate: Callable[[Config, Mapping[str, Any]], None] = note_aggregate
    send_due_s: Callable[[Config], float | None] = send_due_s
    window_s: Callable[[Config, Record], float | None] = window_s
    spool: Callable[[Config], Mapping[str, Any] | None] = spool


def _part(name: str) -> ModuleType | None:
    full = f"{__package__}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:  # the part is there, and lacks something
            raise
        return None
