"""What other processes of the device send to the daemon's sockets."""

from __future__ import annotations

import functools
from typing import Any

from edgewright_agent import beat, endpoint
from edgewright_agent.live import Live
from fuzz.mutation import document_of, seeds_of
from fuzz.target import DIGEST, target


@functools.cache
def _beats() -> list[Any]:
    full = {
        "version": 1,
        "pid": 4711,
        "session": "00ff00ff00ff00ff",
        "model": "digit-reader",
        "digest": DIGEST,
        "event": "beat",
        "rung": "cpu-model",
        "code": "provider-failed",
        "providers": ["CPUExecutionProvider"],
        "inferences": 7,
        "errors": 1,
        "inputErrors": 2,
        "safeOutputs": 3,
        "inFlightS": 0.5,
        "sinceSuccessS": 1.5,
        "latency": [[80, 6], [96, 1]],
        "confidence": [0] * 19 + [7],
        "drift": {"confidence": 0.02, "inputs": {"image": 0.1}},
        "experiment": {
            "name": "wider",
            "kind": "shadow",
            "digest": DIGEST,
            "requests": 3,
            "agree": 2,
            "errors": 0,
            "latency": [[81, 3]],
        },
    }
    return [full, {**full, "event": "open", "experiment": None, "confidence": None}]


@target(
    "beat", "a datagram from a session, and what becomes of it", ValueError, seeds=lambda: seeds_of(_beats())
)
def _beat(data: bytes) -> object:
    document = document_of(data, _beats())
    parsed = beat.parse(document)
    live = Live()
    live.hear(document_of(b"\0" + document, []), 0)
    live.hear(document, 0)
    live.check()
    live.totals()
    live.observations()
    live.take()
    live.close()
    return parsed


def _requests() -> list[bytes]:
    return [
        b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n",
        b"HEAD /metrics?x=1 HTTP/1.0\r\n\r\n",
        b"GET http://localhost/v1/status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX:" + b" \t" * 1500 + b"x" + b" " * 1500 + b"\r\n\r\n",
    ]


@target("request", "a request to the health endpoint", endpoint.RefusedError, seeds=_requests)
def _request(data: bytes) -> object:
    found = endpoint.parse(data)
    if found is not None:
        assert found.method in ("GET", "HEAD")
        assert found.path.isprintable()
    return found
