"""What stands between a device and its servers, what a policy may ask of it, what a collector answers."""

from __future__ import annotations

import functools
import json
import socket
from typing import Any

from edgewright_agent import experiments, network, pulse, update_policy
from edgewright_agent.commands.evidence import _lines, _plain
from edgewright_agent.errors import ConfigError, TransportError
from edgewright_agent.evidence import Entry
from edgewright_agent.health import parse_evidence
from edgewright_agent.spool import ERROR, Batch
from edgewright_agent.telemetry_delivery import _rejected
from edgewright_agent.transport.document import parse_json
from edgewright_agent.transport.proxy import Environment, Proxy, parse_proxy
from edgewright_agent.windows import Windows
from fuzz.mutation import document_of, seeds_of
from fuzz.target import DIGEST, scratch, target

_BATCH = Batch("pi-7-logs-1-7", "logs", ERROR, 1, 7, 7, {}, b"", 0, 7)


def _heads() -> list[bytes]:
    return [
        b"HTTP/1.1 200 Connection established\r\nVia: 1.1 squid\r\n\r\n",
        b"HTTP/1.0 407 Log in\r\nProxy-Authenticate: Basic realm=x\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>",
    ]


@target("proxy-answer", "a proxy's answer to CONNECT", TransportError, seeds=_heads)
def _proxy_answer(data: bytes) -> object:
    ours, its = socket.socketpair()
    with its:
        its.sendall(data[:32_768])
        its.shutdown(socket.SHUT_WR)
        with Proxy("proxy.example", 3128, "Basic eDp5").tunnel(
            lambda _address, _timeout_s: ours, ("registry.example", 443), 5.0
        ) as tunnel:
            head, _, rest = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.")
            assert tunnel.recv(32_768) == rest[:32_768], "what follows belongs to TLS, to the last byte"
    return None


def _urls() -> list[bytes]:
    return [
        b"http://proxy.example:3128\0corp.example,.local,10.0.0.1:8080,*",
        b"http://user:pass%20word@[2001:db8::1]:3128/\0*.example",
        b"proxy:8080\0",
    ]


@target("proxy-url", "a proxy's address, and the hosts that pass it by", ConfigError, ValueError, seeds=_urls)
def _proxy_url(data: bytes) -> object:
    url, _, passed = data.decode("utf-8", "surrogateescape").partition("\0")
    said = Environment({"https_proxy": url, "no_proxy": passed})
    try:
        said.towards("https", "registry.example", 443)
    except ConfigError as error:
        if "@" in url:
            assert "pass%20word" not in str(error)
    found = parse_proxy(url, login=True)
    for line in (found.place, *found.headers().values()):
        assert line.isascii() and line.isprintable(), "it goes into a request"
    return found


@functools.cache
def _policies() -> list[Any]:
    return [
        {
            "poll": {"intervalS": 900, "jitter": 0.2, "maxBackoffS": 21600.0},
            "diskReserveBytes": 1,
            "inodeReserve": 64,
            "bandwidthBitsPerS": 1_000_000,
            "windows": {
                "download": ["22:00-05:00", "sat,sun 00:00-24:00"],
                "activation": ["mon-fri 08:00-17:00"],
                "timeZone": "utc",
            },
            "metered": "defer",
            "meteredLink": True,
        }
    ]


@target("update-policy", "a signed policy of updates", ValueError, seeds=lambda: seeds_of(_policies()))
def _update_policy(data: bytes) -> object:
    document = parse_json(document_of(data, _policies()), "a policy")
    kept = update_policy.bounded(document if isinstance(document, dict) else {})
    assert update_policy.bounded(kept) == kept
    poll = kept.get("poll", {})
    for key in ("intervalS", "maxBackoffS"):
        assert update_policy.MIN_INTERVAL_S <= poll.get(key, 900) <= update_policy.MAX_INTERVAL_S
    for kind in update_policy.WINDOW_KINDS:
        windows = Windows.parse(kept.get("windows", {}).get(kind, ()), "utc")
        assert windows.shortest_s > 0
    json.dumps(kept, allow_nan=False)
    return kept


def _answers() -> list[Any]:
    return [
        {},
        {"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "too old"}},
        {"partialSuccess": {"rejectedDataPoints": 2}},
    ]


@target("otlp-answer", "a collector's answer", TransportError, seeds=lambda: seeds_of(_answers()))
def _otlp_answer(data: bytes) -> object:
    rejected = _rejected(document_of(data, _answers()), "https://otel.example/v1/logs", _BATCH)
    assert 0 <= rejected <= 7
    return rejected


@functools.cache
def _checks() -> list[Any]:
    return [
        {
            "load_ms": 1.5,
            "inference_ms": 0.5,
            "peak_memory_bytes": 4096,
            "providers": ["CPUExecutionProvider"],
            "engine": "onnxruntime 1.23.0",
            "samples": 8,
            "expected": {"loadMs": 2.0},
            "soak": {"seconds": 1.0, "inferences": 7, "p95_ms": 0.5, "growth_bytes": 0},
            "fallback": {"code": "", "message": "", "loadMs": 1.0},
        }
    ]


@target(
    "health-answer",
    "what the process of a model on trial says",
    ValueError,
    seeds=lambda: [*seeds_of(_checks()), b'\2{"stage":"loading","bareBytes":7}\n.\n{"stage":"done"}\n'],
)
def _health_answer(data: bytes) -> object:
    if data[:1] == b"\2":
        return pulse.read(data[1:])
    report = parse_json(document_of(data, _checks()), "an answer")
    found = parse_evidence(report if isinstance(report, dict) else {})
    json.dumps(found.document(), allow_nan=False)
    assert all(line.isprintable() for line in found.surprises)
    return found


@functools.cache
def _small_files() -> list[Any]:
    experiment = {
        "version": experiments.VERSION,
        "model": "digit-reader",
        "name": "wider",
        "kind": "shadow",
        "share": 0.5,
        "digest": DIGEST,
        "active": "sha256:" + "cd" * 32,
        "device": "pump-7",
    }
    evidence = {
        "version": 1,
        "code": "health-crash",
        "reason": "it died",
        "at": "2030-01-01T00:00:00Z",
        "boot": {"number": 7, "upS": 60},
        "tries": [{"code": "health-crash", "reason": "it died"}],
        "engine": "onnxruntime 1.23.0",
        "stderr": "one\ntwo",
    }
    return [experiment, {"version": 1, "metered": True}, evidence]


@target(
    "small-files",
    "an experiment, what was said of the link, and evidence, as they lie on the disk",
    seeds=lambda: seeds_of(_small_files(), rounds=64),
)
def _small(data: bytes) -> object:
    body, state = document_of(data, _small_files()), scratch()
    path = experiments.path_of(state, "digit-reader")
    path.parent.mkdir(exist_ok=True)
    for file in (path, state / network.LINK_FILE):
        file.write_bytes(body)
    found = experiments.read(state, "digit-reader")
    assert found is None or 0 <= found.share <= 1
    assert network.told_metered(state) in (True, False, None)
    entry = Entry("digit-reader", "ab12cd34ef56-1.json", acknowledged=False, path=path)
    shown = [_plain(line) for line in _lines(entry, entry.document())]
    assert all(line.isprintable() for line in shown)
    return shown
