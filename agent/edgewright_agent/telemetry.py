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
import re
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
from edgewright_agent.model_state import shorten
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
EVIDENCE = "evidence"  # the fact of an error that says what is known, and where the rest lies on the device
# Of evidence no more leaves the device than this: nothing that a check printed (stderr), no reasons of single tries.
_WORDS = (
    "code",
    "reason",
    "at",
    "trialStarted",
    "exit",
    "stage",
    "engine",
    "agent",
    "python",
    "kernel",
    "boot",
    "soak",
)
_FIGURES = (
    "seconds",
    "peakProcessBytes",
    "oomKills",
    "memory",
    "figures",
    "attemptsLeft",
    "bootsDuringTrial",
)
_OF_A_TRY = ("code", "at", "exit", "stage", "seconds", "peakProcessBytes")
# What a child printed last, as `watchdog.Ended.obituary` quotes it after how it ended.
_LAST_WORDS = re.compile(r"(the health check (?:ended with|died of) [^:]*): .*", re.DOTALL)
_FAILED_HERE = ("health-", "soak-")
_MAX_DEPTH = 2  # of mappings in a fact: OTLP takes no more of them than a figure of a soak needs
MAX_AHEAD_S = 2 * 86400  # a next try further away, or than two intervals, comes from a clock that was wrong


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
    for model in event["models"]:
        if "reason" in model:
            model["reason"] = _without_last_words(model["reason"])
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
    """Record a model's failure with what may be told of the evidence against it.

    All of it stays on the device, under the name that is told, until a person has taken note.
    """
    from edgewright_agent.evidence import Archive

    facts: dict[str, Any] = {
        **when, "model": failed.model, "digest": failed.digest, "modelVersion": failed.version,
    }  # fmt: skip
    entry = Archive(config.state, Disk()).last(failed.model, failed.digest or "")
    if entry and not entry.acknowledged:
        facts[EVIDENCE] = {"name": f"{entry.model}/{entry.name}", **_told_of(entry.document())}
    _note_error(spool_of(config), failed.code, failed.message, facts, now)


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
    if not (head.failures and head.more) and (UPDATE_STATUS in new or ERROR in new):
        due = min(due, head.tried + URGENT_S + spread_s)
    ahead_s = max(MAX_AHEAD_S, 2 * config.telemetry.interval_s)
    if due - moment > ahead_s or head.tried - moment > ahead_s:
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
    event = events.error(code, _without_last_words(message), facts)
    spool.append(ERROR, events.encode(event), now=now)


def _without_last_words(text: str) -> str:
    """Return a sentence without the line of a child's output in it, which may hold anything."""
    return _LAST_WORDS.sub(r"\1", text)


def _told_of(evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of evidence may leave the device: codes, figures, and names that the agent itself gave."""
    told = {key: _plain(evidence[key]) for key in _WORDS if key in evidence}
    told |= {key: _plain(evidence[key], words=False) for key in _FIGURES if key in evidence}
    tries = evidence.get("tries")
    told["tries"] = [
        {key: _plain(one[key]) for key in _OF_A_TRY if key in one}
        for one in (tries if isinstance(tries, list) else ())
        if isinstance(one, dict)
    ]
    return {key: value for key, value in told.items() if value not in (None, {}, [])}


def _plain(value: Any, *, words: bool = True, depth: int = 0) -> Any:
    """Return a number, a sentence (if `words`), or a mapping of such; None for anything else.

    A model that has taken its trial over may have written what lies there.
    """
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and words:
        return shorten(_without_last_words(value), events.MAX_WORDS)
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        found = {key: _plain(one, words=words, depth=depth + 1) for key, one in value.items()}
        return {key: one for key, one in found.items() if one not in (None, {})}
    return None


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
