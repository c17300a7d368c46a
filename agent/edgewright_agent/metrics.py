"""What the health endpoint says to Prometheus: its text format, version 0.0.4.

>>> print(exposition([Metric("edgewright_up", "gauge", "It runs.", [({}, 1)])]), end="")
# HELP edgewright_up It runs.
# TYPE edgewright_up gauge
edgewright_up 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgewright_agent import __version__
from edgewright_agent.clock import from_text
from edgewright_agent.contract import LATENCY_BUCKETS_PER_DOUBLING
from edgewright_agent.latency import middle_us
from edgewright_agent.probe import Totals, health, rung_of

if TYPE_CHECKING:
    from edgewright_agent.record import Record
    from edgewright_agent.status import Status

KIND = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS = range(6, 26)  # powers of two of a microsecond: 64 µs to 34 s
Sample = tuple[Mapping[str, str], float]


@dataclass(frozen=True)
class Metric:
    """A family: its samples are labels and a value; of a histogram, the name has what follows the family's."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]
    suffixes: Sequence[str] = ()


def exposition(metrics: Sequence[Metric]) -> str:
    """Return the text; families without samples are left out."""
    lines = []
    for metric in metrics:
        if not metric.samples:
            continue
        lines += [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
        suffixes = metric.suffixes or [""] * len(metric.samples)
        for suffix, (labels, value) in zip(suffixes, metric.samples, strict=True):
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{metric.name}{suffix}{'{' + inside + '}' if inside else ''} {_figure(value)}")
    return "\n".join(lines) + "\n"


def of_device(status: Status, record: Record, live: Totals, vitals: Mapping[str, Any]) -> list[Metric]:
    """Return what is told about the device, its models and their sessions."""
    vital = health(status, record, live)
    failing = {entry["model"] for entry in vital["reasons"]}
    installed = [
        ({"model": m.name, "version": m.version or "", "digest": m.active or "", "state": m.state}, 1)
        for m in status.models
    ]
    figures = (
        (
            "memory_available_bytes",
            "Memory that can be had.",
            (vitals.get("memory") or {}).get("availableBytes"),
        ),
        (
            "disk_free_bytes",
            "Free in the state directory's file system.",
            (vitals.get("disk") or {}).get("freeBytes"),
        ),
        ("temperature_celsius", "Hottest sensor.", vitals.get("temperatureC")),
    )
    return [
        Metric(
            "edgewright_agent_info",
            "gauge",
            "The agent and the device.",
            [({"version": __version__, "device": status.device, "class": status.hardware_class}, 1)],
        ),
        Metric("edgewright_device_state", "gauge", "State of the device.", [({"state": status.state}, 1)]),
        Metric(
            "edgewright_events_total",
            "counter",
            "Events since the record began.",
            [({"event": name}, number) for name, number in sorted(status.counters.items())],
        ),
        Metric(
            "edgewright_metadata_expires_timestamp_seconds",
            "gauge",
            "When signed metadata ends.",
            [({"role": role}, from_text(end).timestamp()) for role, end in sorted(status.expires.items())],
        ),
        *(
            Metric(f"edgewright_device_{name}", "gauge", text, [({}, value)])
            for name, text, value in figures
            if value is not None
        ),
        Metric("edgewright_model_info", "gauge", "What is installed.", installed),
        Metric(
            "edgewright_model_healthy",
            "gauge",
            "Whether a model runs as it should.",
            [({"model": model.name}, model.name not in failing) for model in status.models],
        ),
        Metric(
            "edgewright_model_rung",
            "gauge",
            "Where on the degraded-mode ladder a model stands.",
            [({"model": m.name, "rung": rung_of(m.name, record, live)}, 1) for m in status.models],
        ),
        *_sessions(live),
    ]


def _sessions(live: Totals) -> list[Metric]:
    def of(name: str, kind: str, text: str, key: str) -> Metric:
        samples = [
            ({"model": model, "digest": totals["digest"]}, totals[key])
            for model, totals in sorted(live.items())
            if totals[key] is not None
        ]
        return Metric(f"edgewright_model_{name}", kind, text, samples)

    drift = [
        ({"model": model, "of": name}, distance)
        for model, totals in sorted(live.items())
        for name, distance in _distances(totals)
    ]
    return [
        of("sessions", "gauge", "Live sessions.", "sessions"),
        of("hung_sessions", "gauge", "Sessions with an inference that hangs.", "hung"),
        of("since_success_seconds", "gauge", "Age of the last good answer.", "sinceSuccessS"),
        of("inferences_total", "counter", "Inferences since the agent started.", "inferences"),
        of("errors_total", "counter", "Inferences that failed.", "errors"),
        of("input_errors_total", "counter", "Inputs that were refused.", "inputErrors"),
        of("safe_outputs_total", "counter", "Answers that were the declared safe output.", "safeOutputs"),
        of("crashes_total", "counter", "Processes that ended in the middle.", "crashed"),
        of("hangs_total", "counter", "Inferences that took longer than any should.", "hangs"),
        Metric("edgewright_model_drift_psi", "gauge", "Distance from the model's reference.", drift),
        *([_latency(live)] if live else []),
    ]


def _latency(live: Totals) -> Metric:
    samples: list[Sample] = []
    suffixes: list[str] = []
    for model, totals in sorted(live.items()):
        labels = {"model": model, "digest": totals["digest"]}
        sketch = totals["latency"]
        for power in _BOUNDS:
            below = sum(n for bucket, n in sketch if bucket < power * LATENCY_BUCKETS_PER_DOUBLING)
            samples.append(({**labels, "le": repr(2.0**power / 1e6)}, below))
        count = sum(n for _bucket, n in sketch)
        seconds = sum(n * middle_us(b) for b, n in sketch) / 1e6
        samples += [({**labels, "le": "+Inf"}, count), (labels, seconds), (labels, count)]
        suffixes += ["_bucket"] * (len(_BOUNDS) + 1) + ["_sum", "_count"]
    return Metric("edgewright_model_latency_seconds", "histogram", "Time of an inference.", samples, suffixes)


def _distances(totals: Mapping[str, Any]) -> list[tuple[str, float]]:
    inputs = ((f"input:{name}", distance) for name, distance in totals["drift"]["inputs"].items())
    found = [("confidence", totals["drift"]["confidence"]), *inputs]
    return [(name, distance) for name, distance in found if distance is not None]


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _figure(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
