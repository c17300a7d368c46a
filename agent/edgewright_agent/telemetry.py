"""Telemetry: what happens on this device goes into a spool, and from there to an OpenTelemetry collector.

    $ python -m edgewright_agent.telemetry /etc/edgewright/agent.json
    {"batches": 2, "message": "2 batches, 14 records", "outcome": "ok", "records": 14}

>>> note_report(config, report, ledger, store)          # after an update          # doctest: +SKIP
>>> note_aggregate(config, live.take(), ledger)         # every telemetry.aggregateS    # doctest: +SKIP
>>> send_due_s(config, utc_now())                                                  # doctest: +SKIP
1432.0

Nothing here raises because of telemetry: a device works without. As `python -m` it is the short-lived child that sends,
so that an idle daemon has neither TLS nor keys in memory.
"""

from __future__ import annotations

import functools
import json
import sys
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgewright_agent import events
from edgewright_agent.clock import from_text, uptime, utc_now
from edgewright_agent.errors import AgentError
from edgewright_agent.files import Disk
from edgewright_agent.poll import trusted_now
from edgewright_agent.spool import AGGREGATE, ERROR, FOLDER, SAMPLE, UPDATE_STATUS, Spool
from edgewright_agent.vitals import vitals

if TYPE_CHECKING:
    from edgewright_agent.config import Config
    from edgewright_agent.record import Ledger, Record
    from edgewright_agent.report import Report
    from edgewright_agent.soak import Fallen
    from edgewright_agent.store import Store
    from edgewright_agent.trial import Outcome

SAY_AGAIN = timedelta(hours=24)  # an update status that has not changed
URGENT_S = 60.0  # after the last try, for update statuses and errors; as much again to spread them
EVIDENCE = "evidence"  # the fact of an error that carries it
_SAID_ANYWAY = ("version", "model", "digest", "modelVersion")
_FAILED_HERE = ("health-", "soak-")
MAX_AHEAD_S = 2 * 86400  # a next try further away comes from a clock that was wrong


def spool_of(config: Config) -> Spool:
    """Return the spool of a device: in one process always the same, which knows when it last synced."""
    return _spool(config.state / FOLDER, config.telemetry.spool_bytes)


def note_report(
    config: Config, report: Report, ledger: Ledger, store: Store, *, now: datetime | None = None
) -> None:
    """Record what an update brought, if that is news or a day old, and what failed in it."""
    if not config.telemetry.kept:
        return
    from edgewright_agent.report_signing import clock_quality
    from edgewright_agent.status import gather

    now = now or utc_now()
    spool, disk = spool_of(config), Disk()
    when = events.moment(now, uptime())
    for outcome in report.outcomes:
        if outcome.code.startswith(_FAILED_HERE):  # each time: it was tried again
            _note_failure(config, outcome, when, now)
    try:
        status = gather(config, ledger, store, now)
    except AgentError:
        return  # whoever asks for the status is told why
    record = ledger.record
    event = events.update(status, report, record)
    if not _is_news(spool, event, now):
        return
    floor = record.lowest(uptime()).clock
    event |= {
        **when,
        "metadata": events.metadata(record, now),
        "clock": clock_quality(floor, now),
        "vitals": vitals(config.state, disk),
        "traffic": dict(report.traffic),
    }
    spool.append(UPDATE_STATUS, events.encode(event), now=now)
    if report.exit_code and report.poll.code not in ("ok", "not-modified"):
        _note_error(spool, report.poll.code, report.poll.message, when, now)
    for outcome in report.outcomes:
        if outcome.exit_code and not outcome.code.startswith(_FAILED_HERE):
            facts = {"model": outcome.model, "digest": outcome.digest, "modelVersion": outcome.version}
            _note_error(spool, outcome.code, outcome.message, {**when, **facts}, now)


def note_fallen(config: Config, fallen: Sequence[Fallen], ledger: Ledger, store: Store) -> None:
    """Record that models have failed their live soak, each with its evidence, and what runs instead."""
    if not config.telemetry.kept or not fallen:
        return
    from edgewright_agent.record import Poll
    from edgewright_agent.report import Report

    now = utc_now()
    for one in fallen:
        _note_failure(config, one, events.moment(now, uptime()), now)
    poll = ledger.record.poll or Poll("", "ok", "not polled yet")
    note_report(config, Report(poll, (), 0), ledger, store, now=now)


def _note_failure(config: Config, failed: Outcome | Fallen, when: Mapping[str, Any], now: datetime) -> None:
    """Record a model's failure with the evidence against it, which counts as noted once it is delivered."""
    from edgewright_agent.evidence import Archive

    facts: dict[str, Any] = {
        **when, "model": failed.model, "digest": failed.digest, "modelVersion": failed.version,
    }  # fmt: skip
    entry = Archive(config.state, Disk()).last(failed.model, failed.digest or "")
    if entry and not entry.acknowledged:
        document = {key: value for key, value in entry.document().items() if key not in _SAID_ANYWAY}
        told = events.error(
            failed.code,
            failed.message,
            facts | {EVIDENCE: {"name": f"{entry.model}/{entry.name}", **document}},
        )
        if spool_of(config).append(ERROR, events.encode(told), now=now) is not None:
            return
    # None is kept, or it is too large for the spool: it stays until a person has seen it.
    _note_error(spool_of(config), failed.code, failed.message, facts, now)


def evidence_in(payload: bytes) -> str | None:
    """Return the name of the evidence that a record of the spool carries: `<model>/<file>`."""
    try:
        found = events.parse(payload).get(EVIDENCE)
    except ValueError:
        return None
    name = found.get("name") if isinstance(found, dict) else None
    return name if isinstance(name, str) else None


def note_error(
    config: Config, code: str, message: str, *, now: datetime | None = None, **facts: str | int | float | None
) -> None:
    """Record an error.

    Args:
        config: The device.
        code: A stable code.
        message: A sentence.
        now: The clock's time; None asks for it.
        facts: More to know, such as `model` and `digest`.
    """
    if config.telemetry.kept:
        now = now or utc_now()
        _note_error(spool_of(config), code, message, {**events.moment(now, uptime()), **facts}, now)


def note_aggregate(
    config: Config,
    live_summary: Mapping[str, Mapping[str, Any]],
    ledger: Ledger,
    *,
    now: datetime | None = None,
) -> None:
    """Record the sums over live inference since the last call; see `events.aggregate`."""
    if not config.telemetry.kept:
        return
    now, up, record = now or utc_now(), uptime(), ledger.record
    ended = _ENDED.get(config.state)
    _ENDED[config.state] = now
    since = ended if ended and ended <= now else now - timedelta(seconds=config.telemetry.aggregate_s)
    event = events.aggregate(live_summary, since=since, until=now, engines=_engines(record)) | {
        **events.moment(now, up),
        "metadata": events.metadata(record, now),
        "clock": {"behindS": max(0, int((trusted_now(record, now) - now).total_seconds()))},
        "rungs": events.rungs(record),
        "vitals": vitals(config.state, Disk()),
    }
    spool_of(config).append(AGGREGATE, events.encode(event), now=now)


def note_sample(config: Config, document: Mapping[str, Any], *, now: datetime | None = None) -> None:
    """Record a single sample, where the owner wants samples."""
    if config.telemetry.kept and config.telemetry.samples:
        now = now or utc_now()
        event = {**events.sample(document), **events.moment(now, uptime())}
        spool_of(config).append(SAMPLE, events.encode(event), now=now)


def send_due_s(config: Config, now: datetime) -> float | None:
    """Return seconds until the sender should run, 0 for now; None when there is nothing to send, or nowhere to."""
    if config.telemetry.endpoint is None:
        return None
    head, new = spool_of(config).glance()
    if not new and not head.more:
        return None
    moment = now.timestamp()
    # Many devices may see one event at one moment: each has a place of its own in the time that follows.
    spread_s = URGENT_S * (zlib.crc32(f"{config.device.id} {head.tried}".encode()) % 1000) / 1000
    due = float(head.next_try) if head.tried else moment
    if not head.failures and (UPDATE_STATUS in new or ERROR in new):
        due = min(due, head.tried + URGENT_S + spread_s)
    if due - moment > MAX_AHEAD_S or head.tried - moment > MAX_AHEAD_S:
        return 0.0
    return max(0.0, due - moment)


def main(arguments: list[str]) -> int:
    """Send what is due; returns the exit code."""
    from edgewright_agent.config import load
    from edgewright_agent.telemetry_delivery import send

    try:
        delivery = send(load(Path(arguments[0])))
    except AgentError as error:
        print(f"edgewright-agent: {error.code}: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps(delivery.document(), sort_keys=True))
    return delivery.exit_code


_ENDED: dict[Path, datetime] = {}  # until when the last aggregate reached, by state directory


@functools.lru_cache(maxsize=8)
def _spool(folder: Path, size: int) -> Spool:
    return Spool(folder, Disk(), size=size, merge=events.merged)


def _note_error(spool: Spool, code: str, message: str, facts: Mapping[str, Any], now: datetime) -> None:
    spool.append(ERROR, events.encode(events.error(code, message, facts)), now=now)


def _engines(record: Record) -> dict[str, str]:
    """Return which engine ran the trial of each artifact that is in use, by digest."""
    slots = (
        slot for state in record.models.values() for slot in (state.active, state.previous, state.factory)
    )
    return {
        slot.digest: slot.health["engine"]
        for slot in slots
        if slot and slot.health and "engine" in slot.health
    }


def _is_news(spool: Spool, event: Mapping[str, Any], now: datetime) -> bool:
    last = spool.newest(UPDATE_STATUS)
    if last is None:
        return True
    try:
        before = events.parse(last.payload)
        age = now - from_text(before["at"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return True
    changed = events.significance(before) != events.significance(event)
    return changed or not timedelta(0) <= age < SAY_AGAIN


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
