"""Events as OTLP: the JSON of `ExportLogsServiceRequest` and `ExportMetricsServiceRequest`.

>>> source = resource(device="pi-7", hardware_class="raspberry-pi-4", batch="pi-7/logs/41-41")
>>> request = logs(source, [(41, {"kind": "error", "code": "no-space", "at": "2030-01-01T00:00:00Z"})])
>>> request["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["body"]
{'stringValue': 'no-space: '}

Sources: opentelemetry-proto 1.x (`metrics.proto`, `logs.proto`, `resource.proto`) and its JSON mapping (OTLP 1.x, "JSON
Protobuf Encoding": lowerCamelCase, 64-bit integers as strings, enums as numbers). Names are those of the semantic
conventions where they have one (`service.*`, `device.id`, `host.arch`, `os.type`, `error.type`, `hw.temperature`,
`system.memory.usage`, `system.filesystem.usage`), else they begin with `edgewright.`.

A latency sketch becomes an exponential histogram of scale 3 without any loss: its buckets are those of OTLP, base
2^(1/8), in microseconds.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from edgewright_agent import __version__, events
from edgewright_agent.clock import from_text
from edgewright_agent.contract import LATENCY_BUCKETS_PER_DOUBLING
from edgewright_agent.degrade import RUNGS

SCOPE = "edgewright.telemetry"
DELTA, CUMULATIVE = 1, 2  # AggregationTemporality
INFO, WARN, ERROR, TRACE = (9, "INFO"), (13, "WARN"), (17, "ERROR"), (1, "TRACE")  # SeverityNumber
_MAX_DEPTH = 4  # of lists and mappings in one value
_SCALE = LATENCY_BUCKETS_PER_DOUBLING.bit_length() - 1
_MAX_BUCKETS = 512  # 64 doublings: from a microsecond to half a million years
_BOUNDS = [round(step / events.CONFIDENCE_BINS, 2) for step in range(1, events.CONFIDENCE_BINS)]
_ERRORS = {"errors": "inference", "inputErrors": "input", "crashed": "crash", "hangs": "hang"}
Numbered = tuple[int, Mapping[str, Any]]


def resource(*, device: str, hardware_class: str, batch: str) -> dict[str, Any]:
    """Return who speaks: the device, and the batch it says it in."""
    return {
        "attributes": attributes(
            {
                "service.name": "edgewright-agent",
                "service.version": __version__,
                "service.instance.id": device,
                "device.id": device,
                "edgewright.device.class": hardware_class,
                "edgewright.batch.id": batch,
                "host.arch": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os.type": platform.system().lower(),
            }
        )
    }


def logs(source: Mapping[str, Any], numbered: Iterable[Numbered]) -> dict[str, Any]:
    """Return update statuses, errors and samples as log records.

    Args:
        source: From `resource`.
        numbered: Sequence and event.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: an event is not as `events` makes it.
    """
    records = [record for sequence, event in numbered for record in _records(sequence, event)]
    scope = {"scope": {"name": SCOPE, "version": __version__}, "logRecords": records}
    return {"resourceLogs": [{"resource": source, "scopeLogs": [scope]}]}


def metrics(
    source: Mapping[str, Any], numbered: Sequence[Numbered], dropped: Mapping[str, int]
) -> dict[str, Any]:
    """Return aggregates as metrics, each with the data points of all of them.

    Args:
        source: From `resource`.
        numbered: Sequence and event.
        dropped: Records that the spool had to give up so far, by priority.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: an event is not as `events` makes it.
    """
    found: dict[str, dict[str, Any]] = {}
    for _sequence, event in numbered:
        for name, unit, kind, point in _points(event):
            _metric(found, name, unit, kind)["dataPoints"].append(point)
    if numbered:
        at = _nanos(numbered[-1][1]["to"])
        for priority, count in dropped.items():
            point = {"timeUnixNano": at, "asInt": str(count), **_with({"edgewright.priority": priority})}
            _metric(found, "edgewright.telemetry.dropped", "{record}", "total")["dataPoints"].append(point)
    listed = [found[name] for name in sorted(found)]
    scope = {"scope": {"name": SCOPE, "version": __version__}, "metrics": listed}
    return {"resourceMetrics": [{"resource": source, "scopeMetrics": [scope]}]}


def points(document: Mapping[str, Any]) -> int:
    """Return how many log records or data points a request has: what a receiver counts when it takes a part."""
    scopes = [scope for part in document.get("resourceLogs", ()) for scope in part["scopeLogs"]]
    found = sum(len(scope["logRecords"]) for scope in scopes)
    for part in document.get("resourceMetrics", ()):
        for scope in part["scopeMetrics"]:
            for metric in scope["metrics"]:
                found += sum(len(data["dataPoints"]) for data in metric.values() if isinstance(data, dict))
    return found


def attributes(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return values as a list of `KeyValue`; None is left out."""
    return [{"key": key, "value": _any(value)} for key, value in values.items() if value is not None]


# --- logs -------------------------------------------------------------------------------------------------------


def _records(sequence: int, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    kind = event["kind"]
    common = {
        "edgewright.sequence": sequence,
        "edgewright.boot.id": event.get("boot"),
        "edgewright.uptime": event.get("upS"),
    }
    if kind == events.UPDATE:
        settled = event["state"] == "ok"
        told = f"{event['state']}: {event.get('code')}: {event.get('message')}"
        yield _log(event, "edgewright.update", INFO if settled else WARN, told, common | _device(event))
        for model in event["models"]:
            words = [
                str(model[key]) for key in ("model", "state", "modelVersion", "reason") if model.get(key)
            ]
            level = INFO if model.get("state") == "running" else WARN
            yield _log(event, "edgewright.model", level, " ".join(words), common | _model(model))
    elif kind == events.ERROR:
        told = f"{event['code']}: {event.get('message', '')}"
        facts = {key: value for key, value in event.items() if key not in _ENVELOPE}
        yield _log(
            event,
            "edgewright.error",
            ERROR,
            told,
            common
            | {"error.type": event["code"]}
            | _model(facts)
            | {f"edgewright.{key}": value for key, value in facts.items() if key not in _MODEL},
        )
    elif kind == events.SAMPLE:
        # What an application calls as the agent calls something of its own gets a longer name.
        own = {
            f"edgewright.sample.{key}" if f"edgewright.{key}" in common else f"edgewright.{key}": value
            for key, value in event["sample"].items()
        }
        yield _log(event, "edgewright.sample", TRACE, "", common | own)
    else:
        raise ValueError(f"no log record is made of {kind!r}")


def _log(
    event: Mapping[str, Any], name: str, severity: tuple[int, str], body: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    at = _nanos(event["at"])
    return {
        "timeUnixNano": at,
        "observedTimeUnixNano": at,
        "severityNumber": severity[0],
        "severityText": severity[1],
        "eventName": name,
        **({"body": {"stringValue": body}} if body else {}),
        "attributes": attributes(values),
    }


_ENVELOPE = ("kind", "at", "boot", "upS", "code", "message")
_MODEL = {
    "model": "edgewright.model.name",
    "digest": "edgewright.model.digest",
    "modelVersion": "edgewright.model.version",
    "state": "edgewright.model.state",
    "since": "edgewright.model.since",
    "reason": "edgewright.model.reason",
    "outcome": "edgewright.model.outcome",
    "engine": "edgewright.runtime.engine",
    "providers": "edgewright.runtime.providers",
    "rung": "edgewright.rung",
    "candidate": "edgewright.model.candidate",
    "soakLeftS": "edgewright.model.soak_left",
}


def _model(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: facts[key] for key, name in _MODEL.items() if facts.get(key) is not None}


def _device(event: Mapping[str, Any]) -> dict[str, Any]:
    metadata, clock = event.get("metadata") or {}, event.get("clock") or {}
    vitals = event.get("vitals") or {}
    memory, disk = vitals.get("memory") or {}, vitals.get("disk") or {}
    return {
        "edgewright.state": event["state"],
        "edgewright.code": event.get("code"),
        "edgewright.exit_code": event.get("exitCode"),
        "edgewright.boots": event.get("boots"),
        "edgewright.fleet": event.get("fleet"),
        "edgewright.record.generation": event.get("generation"),
        "edgewright.rungs": event.get("rungs") or None,
        "edgewright.metadata.version": metadata.get("version"),
        "edgewright.metadata.expires_in": metadata.get("expiresInS"),
        "edgewright.metadata.checked": metadata.get("checkedS"),
        "edgewright.clock.synchronized": clock.get("synchronized"),
        "edgewright.clock.behind_signed_time": clock.get("behindSignedTime"),
        "edgewright.temperature": vitals.get("temperatureC"),
        "edgewright.memory.available": memory.get("availableBytes"),
        "edgewright.disk.free": disk.get("freeBytes"),
        "edgewright.traffic.received": (event.get("traffic") or {}).get("bytes_received"),
    }


# --- metrics ----------------------------------------------------------------------------------------------------

Point = tuple[str, str, str, dict[str, Any]]  # name, unit, kind, data point


def _points(event: Mapping[str, Any]) -> Iterator[Point]:
    if event["kind"] != events.AGGREGATE:
        raise ValueError(f"no metrics are made of {event['kind']!r}")
    until = {"timeUnixNano": _nanos(event["to"])}
    span = {"startTimeUnixNano": _nanos(event["from"]), **until}
    for model in event["models"]:
        yield from _of_model(model, span, until)
    yield from _of_device(event, until)


def _of_model(model: Mapping[str, Any], span: dict[str, Any], until: dict[str, Any]) -> Iterator[Point]:
    who = _model({"model": model["model"], "digest": model.get("digest")})
    ran = who | _model({"engine": model.get("engine"), "providers": model.get("providers")})
    prefix = "edgewright.inference."
    if "inferences" in model:
        yield f"{prefix}count", "{inference}", "sum", span | _int(model["inferences"]) | _with(ran)
    for key, what in _ERRORS.items():
        if model.get(key):
            yield (
                f"{prefix}errors",
                "{error}",
                "sum",
                span | _int(model[key]) | _with(who | {"error.type": what}),
            )
    if model.get("safeOutputs"):
        yield f"{prefix}safe_outputs", "{inference}", "sum", span | _int(model["safeOutputs"]) | _with(who)
    if model.get("latency"):
        yield (
            f"{prefix}duration",
            "us",
            "exponentialHistogram",
            span | _exponential(model["latency"]) | _with(who),
        )
    if model.get("confidence"):
        yield f"{prefix}confidence", "1", "histogram", span | _bins(model["confidence"]) | _with(who)
    if model.get("sinceSuccessS") is not None:
        yield f"{prefix}since_success", "s", "gauge", until | _double(model["sinceSuccessS"]) | _with(who)
    for key, name in (("sessions", "count"), ("hung", "hung")):
        if key in model:
            yield f"edgewright.sessions.{name}", "{session}", "gauge", until | _int(model[key]) | _with(who)
    if model.get("rung"):
        number = RUNGS.index(model["rung"])
        point = until | _int(number) | _with(who | {"edgewright.rung": model["rung"]})
        yield "edgewright.rung.depth", "1", "gauge", point
    drift = model.get("drift") or {}
    distances = {"confidence": drift.get("confidence")}
    distances |= {f"input:{name}": distance for name, distance in (drift.get("inputs") or {}).items()}
    for what, distance in distances.items():
        if distance is not None:
            where = _with(who | {"edgewright.drift.of": what})
            yield "edgewright.drift.psi", "1", "gauge", until | _double(distance) | where
    yield from _of_experiment(model.get("experiment") or {}, who, span)


def _of_experiment(told: Mapping[str, Any], who: dict[str, Any], span: dict[str, Any]) -> Iterator[Point]:
    if not told.get("name"):
        return
    here = {
        **who,
        "edgewright.experiment.name": told["name"],
        "edgewright.experiment.kind": told.get("kind"),
        "edgewright.experiment.digest": told.get("digest"),
    }
    for key in ("requests", "agree", "errors", "dropped"):
        if told.get(key) is not None:
            yield f"edgewright.experiment.{key}", "{inference}", "sum", span | _int(told[key]) | _with(here)
    if told.get("latency"):
        sketch = span | _exponential(told["latency"]) | _with(here)
        yield "edgewright.experiment.duration", "us", "exponentialHistogram", sketch


def _of_device(event: Mapping[str, Any], until: dict[str, Any]) -> Iterator[Point]:
    vitals, metadata = event.get("vitals") or {}, event.get("metadata") or {}
    if vitals.get("temperatureC") is not None:
        yield "hw.temperature", "Cel", "gauge", until | _double(vitals["temperatureC"])
    if vitals.get("load") is not None:
        yield "edgewright.device.load", "1", "gauge", until | _double(vitals["load"])
    if memory := vitals.get("memory"):
        used = memory["totalBytes"] - memory["availableBytes"]
        for state, count in (("used", used), ("free", memory["availableBytes"])):
            where = _with({"system.memory.state": state})
            yield "system.memory.usage", "By", "level", until | _int(count) | where
    if disk := vitals.get("disk"):
        for state, count in (("used", disk["totalBytes"] - disk["freeBytes"]), ("free", disk["freeBytes"])):
            where = _with({"system.filesystem.state": state})
            yield "system.filesystem.usage", "By", "level", until | _int(count) | where
    for key, name in (("expiresInS", "expires_in"), ("checkedS", "checked")):
        if metadata.get(key) is not None:
            yield f"edgewright.metadata.{name}", "s", "gauge", until | _int(metadata[key])
    if (behind := (event.get("clock") or {}).get("behindS")) is not None:
        yield "edgewright.clock.behind", "s", "gauge", until | _int(behind)
    if event.get("upS") is not None:
        where = _with({"edgewright.boot.id": event.get("boot")})
        yield "edgewright.device.uptime", "s", "gauge", until | _int(event["upS"]) | where


def _metric(found: dict[str, dict[str, Any]], name: str, unit: str, kind: str) -> dict[str, Any]:
    """Return the part of a metric that holds its data points.

    Kinds: `gauge`; `sum` of what happened in a span; `total` since ever; `level` that adds up over attributes.
    """
    sums = {"sum": (DELTA, True), "total": (CUMULATIVE, True), "level": (CUMULATIVE, False)}
    data: dict[str, Any] = {"dataPoints": []}
    if kind in sums:
        temporality, monotonic = sums[kind]
        data |= {"aggregationTemporality": temporality, "isMonotonic": monotonic}
    elif kind != "gauge":
        data["aggregationTemporality"] = DELTA
    field = "sum" if kind in sums else kind
    metric: dict[str, Any] = found.setdefault(name, {"name": name, "unit": unit, field: data})[field]
    return metric


def _exponential(sketch: Iterable[Any]) -> dict[str, Any]:
    counts = {int(bucket): int(count) for bucket, count in sketch}
    first, last = min(counts), max(counts)
    if last - first >= _MAX_BUCKETS or min(counts.values()) < 0:
        raise ValueError("no latency sketch is so wide, or counts below nothing")
    dense = [str(counts.get(bucket, 0)) for bucket in range(first, last + 1)]
    return {
        "count": str(sum(counts.values())),
        "scale": _SCALE,
        "zeroCount": "0",
        "positive": {"offset": first, "bucketCounts": dense},
    }


def _bins(counts: Sequence[Any]) -> dict[str, Any]:
    if len(counts) != events.CONFIDENCE_BINS or any(int(count) < 0 for count in counts):
        raise ValueError("not a histogram of confidences")
    return {
        "count": str(sum(int(count) for count in counts)),
        "bucketCounts": [str(int(count)) for count in counts],
        "explicitBounds": _BOUNDS,
    }


def _with(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"attributes": attributes(values)}


def _int(value: Any) -> dict[str, Any]:
    return {"asInt": str(_fits(int(value)))}


def _double(value: Any) -> dict[str, Any]:
    return {"asDouble": float(value)}


def _any(value: Any, depth: int = 0) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply for a value of OTLP")
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, int):
        return {"intValue": str(_fits(value))}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_any(one, depth + 1) for one in value if one is not None]}}
    if isinstance(value, Mapping):
        items = ((key, _any(one, depth + 1)) for key, one in value.items() if one is not None)
        return {"kvlistValue": {"values": [{"key": key, "value": one} for key, one in items]}}
    raise TypeError(f"no value of OTLP is a {type(value).__name__}")


def _fits(value: int) -> int:
    if not -(2**63) <= value < 2**63:
        raise ValueError("a number of more than 64 bits")
    return value


def _nanos(text: str) -> str:
    moment: datetime = from_text(text)
    nanos = int(moment.timestamp()) * 10**9
    if not 0 <= nanos < 2**64:
        raise ValueError("a time before 1970 or after 2554")
    return str(nanos)


# What platform.machine() says → semantic conventions, host.arch.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm32", "armv6l": "arm32", "i686": "x86"}
