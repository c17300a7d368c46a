"""What the daemon does by and by for other parts of the agent: one function each, so that a test can put its own.

>>> Duties().window_s(config, record)      # doctest: +SKIP
5400.0

They are imported when they are first needed. Where a part is not installed, its duty is none.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from edgewright_agent.clock import uptime, utc_now
from edgewright_agent.config import Config
from edgewright_agent.files import Disk
from edgewright_agent.live import Seen
from edgewright_agent.record import Ledger, Record


@dataclass(frozen=True)
class Judgement:
    """What came of what was seen of models that have to prove themselves.

    Attributes:
        taken: Digests whose observations count from now on; others are given again, with what is seen meanwhile.
        fallen: Model, code and sentence of those that failed.
        proved: Models that have proved themselves.
    """

    taken: frozenset[str] = frozenset()
    fallen: tuple[tuple[str, str, str], ...] = ()
    proved: tuple[str, ...] = ()


def judge_soak(config: Config, seen: Mapping[str, Seen]) -> Judgement:
    """Let the models that still have to prove themselves be judged by what was seen of them, by digest.

    Raises:
        StorageError: `busy` when an update is at work: the same observations are judged the next time.
    """
    from edgewright_agent.soak import Observation, judge
    from edgewright_agent.work import at_work

    with at_work(config) as (ledger, store):
        proving = {
            model: state.proving.digest for model, state in ledger.record.models.items() if state.proving
        }
        observations = {
            model: Observation(
                digest,
                crashes=seen[digest].crashes,
                hangs=seen[digest].hangs,
                errors=seen[digest].errors,
                inferences=seen[digest].inferences,
            )
            for model, digest in proving.items()
            if digest in seen
        }
        judged = judge(ledger, store, observations, now=utc_now(), up=uptime())
    return Judgement(
        frozenset(proving[model] for model in judged.taken if model in proving),
        tuple((one.model, one.code, one.message) for one in judged.fallen),
        tuple(judged.proved),
    )


def aggregate_s(config: Config) -> float | None:
    """Return how often sums over the live sessions go into the spool; None: never."""
    if not getattr(config.telemetry, "kept", False):
        return None
    return getattr(config.telemetry, "aggregate_s", None)


def note_aggregate(config: Config, summary: Mapping[str, Any]) -> None:
    """Put sums over the live sessions into the spool.

    Raises:
        StorageError: the disk refused.
    """
    telemetry = _part("telemetry")
    if telemetry is not None:
        telemetry.note_aggregate(config, summary, Ledger(config.state, Disk()))


def note_error(config: Config, code: str, message: str, **facts: str) -> None:
    """Put into the spool what went wrong with an application.

    Raises:
        StorageError: the disk refused.
    """
    telemetry = _part("telemetry") if getattr(config.telemetry, "kept", False) else None
    if telemetry is not None:
        telemetry.note_error(config, code, message, **facts)


def send_due_s(config: Config) -> float | None:
    """Return seconds until what is in the spool should be sent; None while there is nothing to send, or nowhere to."""
    telemetry = _part("telemetry")
    found: float | None = telemetry.send_due_s(config, utc_now()) if telemetry is not None else None
    return found


def window_s(config: Config, record: Record) -> float | None:
    """Return seconds until a window opens that something waits for; None when nothing waits."""
    from edgewright_agent.schedule import next_window_s

    return next_window_s(config, record, utc_now())


def wait_over(config: Config, record: Record) -> bool:
    """Whether something that waited may go on: "not modified" is no answer to that."""
    due = getattr(_part("schedule"), "due", None)
    return bool(due(config, record, utc_now())) if due else False


def spool(config: Config) -> Mapping[str, Any] | None:
    """Return how full the spool is, for people; None where there is none."""
    part = _part("spool")
    found: Mapping[str, Any] | None = part.fill(config.state) if part is not None else None
    return found


def vitals(config: Config) -> Mapping[str, Any] | None:
    """Return temperature, memory and disk of the device; None where nothing measures them."""
    part = _part("vitals")
    found: Mapping[str, Any] | None = part.vitals(config.state, Disk()) if part is not None else None
    return found


@dataclass(frozen=True)
class Duties:
    """All of them."""

    judge_soak: Callable[[Config, Mapping[str, Seen]], Judgement] = judge_soak
    aggregate_s: Callable[[Config], float | None] = aggregate_s
    note_aggregate: Callable[[Config, Mapping[str, Any]], None] = note_aggregate
    note_error: Callable[..., None] = note_error
    send_due_s: Callable[[Config], float | None] = send_due_s
    window_s: Callable[[Config, Record], float | None] = window_s
    wait_over: Callable[[Config, Record], bool] = wait_over
    spool: Callable[[Config], Mapping[str, Any] | None] = spool
    vitals: Callable[[Config], Mapping[str, Any] | None] = vitals


def _part(name: str) -> ModuleType | None:
    full = f"{__package__}.{name}"
    try:
        return importlib.import_module(full)
    except ModuleNotFoundError as error:
        if error.name != full:  # the part is there, and lacks something
            raise
        return None
