"""What the daemon does by and by for other parts of the agent: one function each, so that a test can put its own.

>>> Duties().window_s(config, record)      # doctest: +SKIP
5400.0

They are imported when they are first needed: a device that sends no telemetry does not carry it in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright_agent.clock import to_text, uptime, utc_now
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

    with at_work(config, patience_s=0) as (ledger, store):
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
        if judged.fallen and config.telemetry.kept:
            from edgewright_agent import telemetry

            telemetry.note_fallen(config, judged.fallen, ledger, store)
    return Judgement(
        frozenset(proving[model] for model in judged.taken if model in proving),
        tuple((one.model, one.code, one.message) for one in judged.fallen),
        tuple(judged.proved),
    )


def note_rungs(config: Config, standing: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Record where models stand on the ladder, by what their sessions said last; writes only what changes.

    Raises:
        StorageError: `busy` when an update is at work: it is told the next time.
    """
    from edgewright_agent.degrade import from_beats
    from edgewright_agent.work import at_work

    with at_work(config, patience_s=0) as (ledger, _store):
        record, at = ledger.record, to_text(utc_now())
        for model, beats in standing.items():
            if model in record.models:
                record = record.with_model(model, from_beats(record.model(model), beats, at))
        ledger.commit(record)


def aggregate_s(config: Config) -> float | None:
    """Return how often sums over the live sessions go into the spool; None: never."""
    return config.telemetry.aggregate_s if config.telemetry.kept else None


def note_aggregate(config: Config, summary: Mapping[str, Any]) -> None:
    """Put sums over the live sessions into the spool.

    Raises:
        StorageError: the disk refused.
    """
    from edgewright_agent import telemetry

    telemetry.note_aggregate(config, summary, Ledger(config.state, Disk()))


def note_error(config: Config, code: str, message: str, **facts: str) -> None:
    """Put into the spool what went wrong with an application.

    Raises:
        StorageError: the disk refused.
    """
    if not config.telemetry.kept:
        return
    from edgewright_agent import telemetry

    telemetry.note_error(config, code, message, now=utc_now(), **facts)


def send_due_s(config: Config) -> float | None:
    """Return seconds until what is in the spool should be sent; None while there is nothing to send, or nowhere to."""
    if not config.telemetry.kept or config.telemetry.endpoint is None:
        return None
    from edgewright_agent import telemetry

    return telemetry.send_due_s(config, utc_now())


def window_s(config: Config, record: Record) -> float | None:
    """Return seconds until a window opens that something waits for; None when nothing waits."""
    from edgewright_agent.schedule import next_window_s

    return next_window_s(config, record, utc_now())


def wait_over(config: Config, record: Record) -> bool:
    """Whether something that waited may go on: "not modified" is no answer to that."""
    from edgewright_agent.schedule import due

    return due(config, record, utc_now())


def spool(config: Config) -> Mapping[str, Any] | None:
    """Return how full the spool is, for people; None where there is none."""
    if not config.telemetry.kept:
        return None
    from edgewright_agent.spool import fill

    return fill(config.state)


def vitals(config: Config) -> Mapping[str, Any] | None:
    """Return temperature, memory and disk of the device; None where nothing measures them."""
    from edgewright_agent import vitals as measured

    return measured.vitals(config.state, Disk())


@dataclass(frozen=True)
class Duties:
    """All of them."""

    judge_soak: Callable[[Config, Mapping[str, Seen]], Judgement] = judge_soak
    note_rungs: Callable[[Config, Mapping[str, Sequence[Mapping[str, Any]]]], None] = note_rungs
    aggregate_s: Callable[[Config], float | None] = aggregate_s
    note_aggregate: Callable[[Config, Mapping[str, Any]], None] = note_aggregate
    note_error: Callable[..., None] = note_error
    send_due_s: Callable[[Config], float | None] = send_due_s
    window_s: Callable[[Config, Record], float | None] = window_s
    wait_over: Callable[[Config, Record], bool] = wait_over
    spool: Callable[[Config], Mapping[str, Any] | None] = spool
    vitals: Callable[[Config], Mapping[str, Any] | None] = vitals
