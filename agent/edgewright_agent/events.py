"""What a device tells, as JSON: an update's outcome, an error, the sums over live inference, a sample.

>>> one = {"kind": "aggregate", "from": "2030-01-01T00:00:00Z", "to": "2030-01-01T00:15:00Z", "parts": 1,
...        "models": [{"model": "m", "digest": "d", "inferences": 3, "latency": [[80, 3]]}]}
>>> two = {**one, "from": one["to"], "to": "2030-01-01T00:30:00Z"}
>>> both = parse(merged(encode(one), encode(two)))
>>> both["from"], both["to"], both["models"][0]["inferences"], both["models"][0]["latency"]
('2030-01-01T00:00:00Z', '2030-01-01T00:30:00Z', 6, [[80, 6]])

Device id and class are added when a batch is sent, so that no record repeats them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from edgewright_agent.clock import Uptime, from_text, to_text
from edgewright_agent.contract import canonical_json
from edgewright_agent.counts import plus
from edgewright_agent.model_state import shorten
from edgewright_agent.poll import trusted_now
from edgewright_agent.transport.document import parse_json

if TYPE_CHECKING:
    from edgewright_agent.record import Record
    from edgewright_agent.report import Report
    from edgewright_agent.status import Status

VERSION = 1
UPDATE, ERROR, AGGREGATE, SAMPLE = "update", "error", "aggregate", "sample"
MAX_MODELS = 64  # as many as a device may have (`acceptance`)
# Entries of an aggregate: as many models and digests as `live` keeps count of. Two of them must fit one record.
MAX_ENTRIES = 32
MAX_WORDS = 200
_MANY, _FEWER_WORDS = 32, 80  # of more models so much each, or the event would not fit the spool
CONFIDENCE_BINS = 20
_COUNTS = ("inferences", "errors", "inputErrors", "safeOutputs", "crashed", "hangs")
_SETTLED_POLL = ("ok", "not-modified")


def encode(event: Mapping[str, Any]) -> bytes:
    """Return an event as it lies in the spool."""
    return canonical_json({**event, "version": VERSION})


def parse(payload: bytes) -> dict[str, Any]:
    """Return the event that `encode` wrote.

    Raises:
        ValueError: it is none, or of another version.
    """
    event = parse_json(payload, "an event")
    if not isinstance(event, dict) or event.pop("version", None) != VERSION:
        raise ValueError("not an event of this version")
    return event


def moment(now: datetime, up: Uptime) -> dict[str, Any]:
    """Return when something was: the clock, and what no clock can change."""
    return {"at": to_text(now), "boot": up.boot, "upS": up.seconds}


def metadata(record: Record, now: datetime) -> dict[str, Any]:
    """Return how old this device's view of the fleet is."""
    time = trusted_now(record, now)
    ends = [from_text(end) for end in record.expires.values()]
    good = record.poll is not None and record.poll.code in _SETTLED_POLL
    return {
        "expiresInS": int((min(ends) - time).total_seconds()) if ends else None,
        "checkedS": max(0, int((now - from_text(record.poll.at)).total_seconds()))
        if good and record.poll
        else None,
        "version": record.floor.get("timestamp"),
    }


def rungs(record: Record) -> dict[str, str]:
    """Return where the device and its models stand on the ladder, by `device` and model; normal is left out."""
    found = {name: rung.name for name, rung in record.rungs.items()}
    models = {f"model:{name}": state.rung.name for name, state in record.models.items() if state.rung}
    return {**{f"device:{name}": rung for name, rung in found.items()}, **models}


def update(status: Status, report: Report, record: Record) -> dict[str, Any]:
    """Return what an update brought and what runs now, without when it was."""
    outcomes = {outcome.model: outcome for outcome in report.outcomes}
    models = []
    words = MAX_WORDS if len(status.models) <= _MANY else _FEWER_WORDS
    for model in status.models[:MAX_MODELS]:
        health = model.health or {}
        outcome = outcomes.get(model.name)
        state = record.model(model.name)
        entry = {
            "model": model.name,
            "state": model.state,
            "digest": model.active,
            "modelVersion": model.version,
            "since": model.since,
            "reason": shorten(model.reason, words) if model.reason else None,
            "outcome": outcome.code if outcome else None,
            "engine": health.get("engine"),
            "providers": health.get("providers"),
            "rung": state.rung.name if state.rung else None,
            "candidate": state.candidate.digest if state.candidate else None,
            "soakLeftS": int(state.soak.left_s) if state.soak else None,
        }
        models.append({key: value for key, value in entry.items() if value is not None})
    return {
        "kind": UPDATE,
        "state": status.state,
        "code": report.poll.code,
        "message": shorten(report.poll.message, MAX_WORDS),
        "exitCode": report.exit_code,
        "models": models,
        "rungs": rungs(record),
        "boots": status.boots,
        "fleet": status.fleet,
        "generation": status.generation,
    }


def significance(event: Mapping[str, Any]) -> Any:
    """Return what of an update's event is news when it differs: not that another poll brought nothing."""
    code = "ok" if event.get("code") in _SETTLED_POLL else event.get("code")
    keys = ("model", "state", "digest", "rung", "candidate")
    models = [
        [entry.get(key) for key in keys] + [str(entry.get("reason", "")).partition(":")[0]]
        for entry in event.get("models", [])
    ]
    return [event.get("state"), code, models, event.get("rungs"), event.get("fleet")]


def error(code: str, message: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return an error, without when it was."""
    told = {key: value for key, value in facts.items() if value is not None}
    return {"kind": ERROR, **told, "code": code, "message": shorten(message, MAX_WORDS)}


def sample(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sample, without when it was; its keys are its own, whatever they are called."""
    return {"kind": SAMPLE, "sample": dict(document)}


def aggregate(
    summary: Mapping[str, Mapping[str, Any]],
    *,
    since: datetime,
    until: datetime,
    engines: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the sums over live inference in a span of time, by model and digest.

    Args:
        summary: By model: `digest`, `rung`, `providers`, `inferences`, `errors`, `inputErrors`, `safeOutputs`,
            `sinceSuccessS`, `latency`, `confidence`, `drift`, `sessions`, `hung`, `crashed`, `experiment`, and in
            `others` the counts of further digests. Counts are of this span alone.
        since: Its begin.
        until: Its end.
        engines: By digest, the engine that runs it.
    """
    models: list[dict[str, Any]] = []
    for name, told in sorted(summary.items()):
        entry = {key: value for key, value in told.items() if key != "others" and value not in (None, [], {})}
        models.append({"model": name, **entry})
        for other in told.get("others") or ():
            models.append(
                {"model": name, **{key: value for key, value in other.items() if value is not None}}
            )
    for entry in models:
        if engines and (engine := engines.get(entry.get("digest", ""))):
            entry["engine"] = engine
    return {
        "kind": AGGREGATE,
        "from": to_text(min(since, until)),
        "to": to_text(until),
        "parts": 1,
        "models": models[:MAX_ENTRIES],
    }


def merged(older: bytes, newer: bytes) -> bytes:
    """Return one aggregate for two: counts added, the state of things as it was last, the worst of what has a worst.

    What cannot be read is left out: the other one stays as it is.
    """
    first, last = _aggregate_of(older), _aggregate_of(newer)
    if first is None or last is None:
        return newer if first is None else older
    try:
        return encode(_merged(first, last))
    except (ValueError, TypeError, KeyError, AttributeError):
        return newer


def _aggregate_of(payload: bytes) -> dict[str, Any] | None:
    try:
        found = parse(payload)
    except ValueError:
        return None
    return found if found.keys() >= {"from", "to", "parts", "models"} else None


def _merged(first: dict[str, Any], last: dict[str, Any]) -> dict[str, Any]:
    entries: dict[tuple[Any, Any], dict[str, Any]] = {}
    for entry in (*first["models"], *last["models"]):
        key = (entry["model"], entry.get("digest"))
        before = entries.pop(key, None)
        entries[key] = _added(before, entry) if before else entry
    vitals = dict(last.get("vitals") or {})
    was, now = (event.get("vitals", {}).get("temperatureC") for event in (first, last))
    if was is not None and (now is None or was > now):
        vitals["temperatureC"] = was
    return {
        **last,
        "from": min(first["from"], last["from"]),
        "parts": first["parts"] + last["parts"],
        "models": [*entries.values()][-MAX_ENTRIES:],
        **({"vitals": vitals} if vitals else {}),
    }


def _added(before: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    both = {**before, **entry}
    for key in _COUNTS:
        if key in before or key in entry:
            both[key] = plus(before.get(key, 0), entry.get(key, 0))
    if "latency" in both:
        both["latency"] = _buckets((*before.get("latency", ()), *entry.get("latency", ())))
    if before.get("confidence") and entry.get("confidence"):
        both["confidence"] = [
            plus(a, b) for a, b in zip(before["confidence"], entry["confidence"], strict=True)
        ]
    if before.get("drift") or entry.get("drift"):
        both["drift"] = _drift(before.get("drift") or {}, entry.get("drift") or {})
    if before.get("experiment") and entry.get("experiment"):
        both["experiment"] = _experiment(before["experiment"], entry["experiment"])
    return both


def _experiment(before: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    if any(before.get(key) != entry.get(key) for key in ("name", "digest")):
        return entry
    both = {**before, **entry}
    for key in ("requests", "agree", "errors", "dropped"):
        both[key] = plus(before.get(key) or 0, entry.get(key) or 0)
    both["latency"] = _buckets((*(before.get("latency") or ()), *(entry.get("latency") or ())))
    return both


def _drift(before: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    confidences = [one["confidence"] for one in (before, entry) if one.get("confidence") is not None]
    inputs: dict[str, float] = {}
    for name, distance in (*before.get("inputs", {}).items(), *entry.get("inputs", {}).items()):
        inputs[name] = max(distance, inputs.get(name, distance))
    return {"confidence": max(confidences, default=None), "inputs": inputs}


def _buckets(pairs: Iterable[Any]) -> list[list[int]]:
    counts: dict[int, int] = {}
    for bucket, count in pairs:
        counts[bucket] = plus(counts.get(bucket, 0), count)
    return [[bucket, counts[bucket]] for bucket in sorted(counts)]
