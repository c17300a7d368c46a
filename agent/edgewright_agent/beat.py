"""What a session tells the daemon: one datagram, as the session writes it and as the daemon reads it.

>>> beat = parse(b'{"version":1,"session":"00ff00ff00ff00ff","model":"digit-reader","digest":"sha256:%s",'
...              b'"event":"beat","inferences":7}' % (b"a" * 64))
>>> beat.inferences, beat.rung
(7, 'normal')

>>> parse(encode(beat)) == beat
True

It may come from any application of the group, so it is read strictly, and bounded. Counters are cumulative since the
session opened on this digest. Keys that are not known here are left alone: an application may carry a newer runtime
than the daemon. What its `pid` says is not believed, the kernel says it.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgewright_agent.contract import MAX_LIVE_BYTES, is_digest, is_name
from edgewright_agent.degrade import RUNGS
from edgewright_agent.latency import MAX_BUCKET
from edgewright_agent.transport.document import parse_json

EVENTS = ("open", "beat", "swap", "close")
CONFIDENCE_BINS = 20
_MAX_COUNT = 2**53
_MAX_PROVIDERS = 16
_MAX_INPUTS = 64
_MAX_NAME_CHARS = 128
_SESSION = re.compile(r"[0-9a-f]{16}")
_CODE = re.compile(r"[a-z0-9-]{0,64}")


@dataclass(frozen=True)
class Share:
    """What a session knows of its experiment, cumulative like everything else.

    Attributes:
        name, kind, digest: As the device has it.
        requests: Requests that the candidate has seen.
        agree: Of a shadow's: those it answered like the active model.
        errors: Those it could not answer.
        dropped: Of a shadow's: requests it should have seen and had no time for.
        latency: Of the candidate, by bucket of the latency sketch.
    """

    name: str
    kind: str
    digest: str
    requests: int = 0
    agree: int = 0
    errors: int = 0
    dropped: int = 0
    latency: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Beat:
    """One datagram.

    Attributes:
        session: Random name of the session.
        model: What it was opened for.
        digest: What it runs.
        event: One of `EVENTS`.
        rung: Where it stands on the ladder, and the code of why.
        in_flight_s: Age of the oldest inference under way; 0 when none is.
        since_success_s: Age of the last good answer; None: there was none.
        latency: Inferences by bucket of the latency sketch.
        confidence: Inferences by bin of the confidence histogram.
        drift_confidence: Population stability index against the model's reference, of confidences.
        drift_inputs: The same, by input.
    """

    session: str
    model: str
    digest: str
    event: str
    rung: str = "normal"
    code: str = ""
    providers: tuple[str, ...] = ()
    inferences: int = 0
    errors: int = 0
    input_errors: int = 0
    safe_outputs: int = 0
    in_flight_s: float = 0.0
    since_success_s: float | None = None
    latency: Mapping[int, int] = field(default_factory=dict)
    confidence: tuple[int, ...] | None = None
    drift_confidence: float | None = None
    drift_inputs: Mapping[str, float] = field(default_factory=dict)
    experiment: Share | None = None


def encode(beat: Beat) -> bytes:
    """Return a beat as a datagram, at most `MAX_LIVE_BYTES` long: drift and latency go before what counts."""
    tried = beat.experiment
    # What the daemon would take for no name must not cost the whole datagram.
    named = {name: drift for name, drift in beat.drift_inputs.items() if _is_name(name)}
    document: dict[str, Any] = {
        "version": 1,
        "pid": os.getpid(),
        "session": beat.session,
        "model": beat.model,
        "digest": beat.digest,
        "event": beat.event,
        "rung": beat.rung,
        "code": beat.code,
        "providers": list(beat.providers[:_MAX_PROVIDERS]),
        "inferences": beat.inferences,
        "errors": beat.errors,
        "inputErrors": beat.input_errors,
        "safeOutputs": beat.safe_outputs,
        "inFlightS": math.ceil(beat.in_flight_s * 1000) / 1000,  # 0 means that there is none
        "sinceSuccessS": None if beat.since_success_s is None else round(beat.since_success_s, 3),
        "latency": _pairs(beat.latency),
        "confidence": None if beat.confidence is None else list(beat.confidence),
        "drift": {
            "confidence": None if beat.drift_confidence is None else round(beat.drift_confidence, 6),
            "inputs": {name: round(drift, 6) for name, drift in sorted(named.items())[:_MAX_INPUTS]},
        },
        "experiment": None
        if tried is None
        else {
            "name": tried.name,
            "kind": tried.kind,
            "digest": tried.digest,
            "requests": tried.requests,
            "agree": tried.agree,
            "errors": tried.errors,
            "dropped": tried.dropped,
            "latency": _pairs(tried.latency),
        },
    }
    body = _json(document)
    for name, less in (("drift", None), ("experiment", None), ("latency", [])):
        if len(body) <= MAX_LIVE_BYTES:
            break
        document[name] = less
        body = _json(document)
    return body


def parse(data: bytes) -> Beat:
    """Read a datagram.

    Raises:
        ValueError: it is not one of ours; the message says why.
    """
    if len(data) > MAX_LIVE_BYTES:
        raise ValueError(f"a datagram has more than {MAX_LIVE_BYTES} bytes")
    document = parse_json(data, "a datagram")
    if not isinstance(document, dict) or document.get("version") != 1:
        raise ValueError("a datagram is not a version 1 object")
    drift = _object(document.get("drift"), "drift")
    return Beat(
        _text(document, "session", _SESSION),
        _model(document.get("model")),
        _digest(document.get("digest")),
        _one_of(document.get("event"), EVENTS, "event"),
        _one_of(document.get("rung", "normal"), RUNGS, "rung"),
        _text(document, "code", _CODE, ""),
        tuple(_name(entry, "providers") for entry in _list(document.get("providers"), _MAX_PROVIDERS)),
        _count(document.get("inferences", 0), "inferences"),
        _count(document.get("errors", 0), "errors"),
        _count(document.get("inputErrors", 0), "inputErrors"),
        _count(document.get("safeOutputs", 0), "safeOutputs"),
        _number(document.get("inFlightS", 0.0), "inFlightS"),
        _optional_number(document.get("sinceSuccessS"), "sinceSuccessS"),
        _sketch(document.get("latency")),
        _confidence(document.get("confidence")),
        _optional_number(drift.get("confidence"), "drift"),
        _inputs(drift.get("inputs")),
        _share(document.get("experiment")),
    )


def _share(value: Any) -> Share | None:
    if value is None:
        return None
    found = _object(value, "experiment")
    return Share(
        _name(found.get("name"), "experiment"),
        _one_of(found.get("kind"), ("shadow", "ab"), "experiment"),
        _digest(found.get("digest")),
        _count(found.get("requests", 0), "experiment"),
        _count(found.get("agree", 0), "experiment"),
        _count(found.get("errors", 0), "experiment"),
        _count(found.get("dropped", 0), "experiment"),
        _sketch(found.get("latency")),
    )


def _sketch(value: Any) -> dict[int, int]:
    sketch: dict[int, int] = {}
    for pair in _list(value, MAX_BUCKET + 1):
        if not isinstance(pair, list) or len(pair) != 2:
            raise ValueError("latency is not a list of [bucket, count]")
        bucket = _count(pair[0], "latency")
        if bucket > MAX_BUCKET or bucket in sketch:
            raise ValueError("latency has a bucket twice, or one that there is not")
        sketch[bucket] = _count(pair[1], "latency")
    return sketch


def _confidence(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    bins = tuple(_count(entry, "confidence") for entry in _list(value, CONFIDENCE_BINS))
    if len(bins) != CONFIDENCE_BINS:
        raise ValueError(f"confidence has not {CONFIDENCE_BINS} bins")
    return bins


def _inputs(value: Any) -> dict[str, float]:
    found = _object(value, "drift")
    if len(found) > _MAX_INPUTS:
        raise ValueError(f"drift has more than {_MAX_INPUTS} inputs")
    return {
        _name(name, "drift"): _number(distance, "drift")
        for name, distance in found.items()
        if distance is not None
    }


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{what} is not an object")
    return value


def _list(value: Any, most: int) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > most:
        raise ValueError(f"a list is none, or has more than {most} entries")
    return value


def _text(document: dict[str, Any], key: str, pattern: re.Pattern[str], default: str | None = None) -> str:
    value = document.get(key, default)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key} is not what it should be")
    return value


def _pairs(sketch: Mapping[int, int]) -> list[list[int]]:
    return [[bucket, count] for bucket, count in sorted(sketch.items())]


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()


def _is_name(value: str) -> bool:
    return 0 < len(value) <= _MAX_NAME_CHARS and value.isprintable()


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not _is_name(value):
        raise ValueError(f"{what} has a name that is none")
    return value


def _model(value: Any) -> str:
    if not is_name(value):
        raise ValueError("model is not a model name")
    return str(value)


def _digest(value: Any) -> str:
    if not is_digest(value):
        raise ValueError("digest is not a digest")
    return str(value)


def _one_of(value: Any, choices: tuple[str, ...], what: str) -> str:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{what} is not one of {', '.join(choices)}")
    return value


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX_COUNT:
        raise ValueError(f"{what} is not a count")
    return value


def _number(value: Any, what: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _MAX_COUNT:
        raise ValueError(f"{what} is not a number from 0")
    return float(value)


def _optional_number(value: Any, what: str) -> float | None:
    return None if value is None else _number(value, what)
