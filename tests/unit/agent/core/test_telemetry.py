"""What a device records: news of updates, errors, sums over live inference; and its form for other programs."""

from __future__ import annotations

import itertools
import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from edgewright_agent import events, otlp, telemetry
from edgewright_agent.acceptance import MAX_MODELS
from edgewright_agent.cli import main
from edgewright_agent.contract import LATENCY_BUCKETS_PER_DOUBLING
from edgewright_agent.errors import ConfigError, HealthError
from edgewright_agent.evidence import Archive
from edgewright_agent.files import Disk
from edgewright_agent.model_state import Candidate, ModelState, Rung
from edgewright_agent.record import Record
from edgewright_agent.spool import AGGREGATE, ERROR, SAMPLE, UPDATE_STATUS, Spool
from edgewright_agent.spool_layout import Priority
from edgewright_agent.status import gather
from edgewright_agent.telemetry_delivery import send
from edgewright_agent.telemetry_settings import MIN_SPOOL_BYTES
from edgewright_agent.trial import Outcome
from edgewright_agent.vitals import vitals
from edgewright_agent.watchdog import Ended
from unit.agent.core.collector import Collector
from unit.agent.core.workbench import MODEL, NOW, Bench, make_artifact

DIGEST, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32


class Telling(Bench):
    """A bench whose device records."""

    def __init__(self, folder: Path, **told: Any) -> None:
        super().__init__(folder)
        self.document["telemetry"] = told

    def tell(self) -> None:
        telemetry.note_report(self.config, self.once(), self.ledger, self.store, now=self.now)

    @property
    def spool(self) -> Spool:
        return telemetry.spool_of(self.config)

    def events(self, priority: Priority) -> list[dict[str, Any]]:
        return [events.parse(record.payload) for record in self.spool.waiting(priority)]


@pytest.fixture
def bench(tmp_path: Path) -> Telling:
    return Telling(tmp_path)


def live(inferences: int = 10, **told: Any) -> dict[str, dict[str, Any]]:
    """What the daemon's `Live.take` gives."""
    model = {
        "digest": DIGEST,
        "rung": "normal",
        "codes": [],
        "providers": ["CPUExecutionProvider"],
        "sessions": 1,
        "hung": 0,
        "sinceSuccessS": 3.5,
        "drift": {"confidence": 0.125, "inputs": {"image": 0.5}},
        "inferences": inferences,
        "errors": 1,
        "inputErrors": 0,
        "safeOutputs": 2,
        "crashed": 0,
        "latency": [[80, 7], [83, 3]],
        "confidence": [0] * 18 + [4, 6],
        "experiment": None,
        "others": [],
        **told,
    }
    return {MODEL: model}


# --- update statuses and errors -------------------------------------------------------------------------------------


def test_an_update_tells_what_runs_under_what_and_how_the_device_is(bench: Telling) -> None:
    bench.publish(make_artifact("1.0.0"))
    bench.tell()
    (event,) = bench.events(UPDATE_STATUS)
    (model,) = event["models"]
    assert model["digest"] == bench.ledger.record.model(MODEL).active.digest  # type: ignore[union-attr]
    assert (model["engine"], model["providers"]) == ("onnxruntime 1.31.1", ["CPUExecutionProvider"])
    assert (model["state"], model["outcome"], event["state"], event["code"]) == (
        "running",
        "installed",
        "ok",
        "ok",
    )
    assert event["metadata"] == {"expiresInS": 7 * 86400, "checkedS": 0, "version": 2}
    assert event["clock"].keys() == {"synchronized", "behindSignedTime"}
    assert event["at"] == "2030-01-01T00:00:00Z" and isinstance(event["upS"], int) and event["fleet"] == "f"
    assert event["vitals"]["disk"]["freeBytes"] > 0
    assert bench.events(ERROR) == []


def test_a_poll_that_brought_nothing_new_is_no_news_for_a_day(bench: Telling) -> None:
    bench.publish(make_artifact("1.0.0"))
    for _ in range(3):
        bench.tell()
    assert len(bench.events(UPDATE_STATUS)) == 1
    bench.now += timedelta(hours=25)
    bench.tell()
    assert len(bench.events(UPDATE_STATUS)) == 2


def test_a_failure_is_told_once_with_its_code_and_the_model_it_is_about(bench: Telling) -> None:
    bench.publish(make_artifact("1.0.0"))
    bench.tell()
    two = make_artifact("2.0.0")
    bench.publish(two)
    bench.doctor.verdicts["2.0.0"] = HealthError("health-wrong-output", "differs from golden outputs")
    for _ in range(4):
        bench.tell()
    told = [event["models"][0] for event in bench.events(UPDATE_STATUS)]
    assert [(model["state"], model.get("reason", "").partition(" ")[0]) for model in told] == [
        ("running", ""),
        ("rolled-back", "health-wrong-output"),
        ("rolled-back", "tombstoned"),
    ]
    (error,) = bench.events(ERROR)
    assert (error["code"], error["model"], error["digest"]) == ("health-wrong-output", MODEL, two.digest)


def test_a_link_that_is_down_is_told_once_and_its_end_too(bench: Telling) -> None:
    bench.publish(make_artifact("1.0.0"))
    bench.tell()
    bench.shelf.down = True
    for _ in range(5):
        bench.now += timedelta(minutes=15)
        bench.tell()
    bench.shelf.down = False
    bench.tell()
    assert [event["state"] for event in bench.events(UPDATE_STATUS)] == ["ok", "failing", "ok"]
    assert [event["code"] for event in bench.events(ERROR)] == ["network"]


def test_without_a_section_nothing_is_recorded_and_no_file_is_made(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.publish(make_artifact("1.0.0"))
    telemetry.note_report(bench.config, bench.once(), bench.ledger, bench.store)
    telemetry.note_error(bench.config, "x", "y")
    telemetry.note_aggregate(bench.config, live(), bench.ledger)
    telemetry.note_sample(bench.config, {"x": 1})
    assert not (bench.state / "spool").exists()


def test_samples_are_recorded_where_they_are_wanted(tmp_path: Path) -> None:
    for wanted in (False, True):
        bench = Telling(tmp_path / str(wanted), samples=wanted)
        telemetry.note_sample(bench.config, {"scores": [0.5]}, now=NOW)
        assert len(bench.events(SAMPLE)) == wanted


def test_a_sample_is_told_whatever_its_keys_are_called(tmp_path: Path) -> None:
    bench = Telling(tmp_path, samples=True)
    names = ("version", "kind", "at", "boot", "upS", "code", "message", "sample", "sequence", "uptime")
    telemetry.note_sample(bench.config, dict.fromkeys(names, 7), now=NOW)
    (event,) = bench.events(SAMPLE)
    document = otlp.logs(SOURCE, [(41, event)])
    (record,) = document["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    told = {entry["key"]: entry["value"].get("intValue") for entry in record["attributes"]}
    assert {key: value for key, value in told.items() if value == "7"} == dict.fromkeys(
        [f"edgewright.{name}" for name in names[:-2]]
        + ["edgewright.sample.sequence", "edgewright.sample.uptime"],
        "7",
    )
    assert told["edgewright.sequence"] == "41"


def test_an_update_tells_of_as_many_models_as_a_device_may_have(bench: Telling) -> None:
    draw = random.Random(7)  # noqa: S311  no secret

    def words(count: int) -> str:
        return "".join(draw.choices("abcdefghijklmnopqrstuvwxyz0123456789-", k=count))

    bench.publish(make_artifact("1.0.0"))
    report = bench.once()
    status = gather(bench.config, bench.ledger, bench.store, NOW)
    (model,) = status.models
    engine = {"engine": "onnxruntime 1.31.1", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    fullest = [
        replace(
            model,
            name=words(63),
            active=f"sha256:{draw.getrandbits(256):064x}",
            reason=f"soak-errors (10.20.30): {words(300)}",
            health=engine,
        )
        for _ in range(MAX_MODELS)
    ]
    candidate = Candidate("", "10.20.31", "shadow", 0.5, "night-shift", "")
    states = {
        one.name: ModelState(
            candidate=replace(candidate, digest=f"sha256:{draw.getrandbits(256):064x}"),
            rung=Rung("previous", "soak-errors", ""),
        )
        for one in fullest
    }
    event = events.update(replace(status, models=tuple(fullest)), report, Record(models=states))
    assert len(event["models"]) == MAX_MODELS == events.MAX_MODELS
    event |= {**events.moment(NOW, bench.up), "vitals": vitals(bench.state, Disk()), "traffic": words(300)}
    assert bench.spool.append(UPDATE_STATUS, events.encode(event), now=NOW), "it fits the spool"


def test_the_command_once_records_what_it_brought(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = Telling(tmp_path, spoolBytes=MIN_SPOOL_BYTES)
    (tmp_path / "agent.json").write_text(json.dumps(bench.document))
    assert main(["once", "--config", str(tmp_path / "agent.json")]) != 0  # there is no such registry
    assert len(bench.events(UPDATE_STATUS)) == len(bench.events(ERROR)) == 1
    capsys.readouterr()


# --- aggregates -----------------------------------------------------------------------------------------------------


def test_an_aggregate_has_the_counts_of_its_span_and_how_things_are(bench: Telling) -> None:
    bench.publish(make_artifact("1.0.0"))
    bench.once()
    active = bench.ledger.record.model(MODEL).active
    assert active
    telemetry.note_aggregate(bench.config, live(digest=active.digest), bench.ledger, now=NOW)
    other = {"digest": OTHER, "inferences": 2, "errors": 2, "experiment": None}
    telemetry.note_aggregate(
        bench.config, live(others=[other]), bench.ledger, now=NOW + timedelta(seconds=60)
    )
    first, second = bench.events(AGGREGATE)
    assert (first["from"], first["to"]) == ("2029-12-31T23:45:00Z", "2030-01-01T00:00:00Z")
    assert (second["from"], second["to"]) == ("2030-01-01T00:00:00Z", "2030-01-01T00:01:00Z")
    assert first["models"][0]["engine"] == "onnxruntime 1.31.1"
    assert "engine" not in second["models"][0], "nobody knows what runs that one"
    assert [model["digest"] for model in second["models"]] == [DIGEST, OTHER]
    assert second["models"][1] == {"model": MODEL, "digest": OTHER, "inferences": 2, "errors": 2}
    assert second["clock"] == {"behindS": 0}


def test_a_device_without_live_sessions_still_tells_how_it_is(bench: Telling) -> None:
    telemetry.note_aggregate(bench.config, {}, bench.ledger, now=NOW)
    (event,) = bench.events(AGGREGATE)
    assert event["models"] == [] and event["vitals"]["memory"]["totalBytes"] > 0


def aggregate_of(summary: dict[str, dict[str, Any]], minute: int, celsius: float | None = None) -> bytes:
    since = NOW + timedelta(minutes=minute)
    event = events.aggregate(summary, since=since, until=since + timedelta(minutes=15))
    return events.encode(event | {"vitals": {"temperatureC": celsius}, **events.moment(since, UP)})


UP = telemetry.uptime()


def test_merging_adds_counts_and_keeps_the_worst(bench: Telling) -> None:
    older = aggregate_of(live(drift={"confidence": 0.9, "inputs": {"image": 0.1}}), 0, celsius=80.0)
    newer = aggregate_of(live(inferences=5, latency=[[83, 1], [90, 4]], rung="previous"), 15, celsius=40.0)
    both = events.parse(events.merged(older, newer))
    (model,) = both["models"]
    assert (both["from"], both["to"], both["parts"]) == ("2030-01-01T00:00:00Z", "2030-01-01T00:30:00Z", 2)
    assert (model["inferences"], model["errors"], model["safeOutputs"]) == (15, 2, 4)
    assert model["latency"] == [[80, 7], [83, 4], [90, 4]]
    assert model["confidence"] == [0] * 18 + [8, 12]
    assert model["drift"] == {"confidence": 0.9, "inputs": {"image": 0.5}}
    assert model["rung"] == "previous" and both["vitals"]["temperatureC"] == 80.0


def test_merging_keeps_digests_apart_and_adds_experiments() -> None:
    told = {
        "name": "e",
        "kind": "shadow",
        "digest": OTHER,
        "requests": 5,
        "agree": 4,
        "errors": 0,
        "dropped": 1,
    }
    older = aggregate_of(live(experiment={**told, "latency": [[80, 5]]}), 0)
    newer = aggregate_of(live(experiment={**told, "latency": [[81, 5]]}), 15)
    (model,) = events.parse(events.merged(older, newer))["models"]
    assert model["experiment"] == {
        **told,
        "requests": 10,
        "agree": 8,
        "dropped": 2,
        "latency": [[80, 5], [81, 5]],
    }
    apart = events.parse(events.merged(older, aggregate_of(live(digest=OTHER), 15)))
    assert [entry["digest"] for entry in apart["models"]] == [DIGEST, OTHER]


@pytest.mark.parametrize("foreign", [b"not json", b"{}", b'{"version":1,"models":7}', b'{"version":1}'])
def test_merging_with_what_cannot_be_read_keeps_the_other(foreign: bytes) -> None:
    good = aggregate_of(live(), 0)
    assert events.merged(foreign, good) == good
    assert events.merged(good, foreign) == good


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=9), st.integers(0, 2**32))
def test_merging_in_any_order_loses_no_count(counts: list[int], seed: int) -> None:
    parts = [aggregate_of(live(inferences=count), 15 * at) for at, count in enumerate(counts)]
    while len(parts) > 1:
        at = seed % (len(parts) - 1)
        parts[at : at + 2] = [events.merged(parts[at], parts[at + 1])]
    event = events.parse(parts[0])
    assert event["parts"] == len(counts) and event["models"][0]["inferences"] == sum(counts)


# --- OpenTelemetry --------------------------------------------------------------------------------------------------

SOURCE = otlp.resource(device="pi-7", hardware_class="raspberry-pi-4", batch="pi-7/x/1-2")


def metrics_of(*payloads: bytes, dropped: dict[str, int] | None = None) -> dict[str, Any]:
    """Metrics by name, as protobuf reads them."""
    numbered = [(at, events.parse(payload)) for at, payload in enumerate(payloads, 1)]
    document = otlp.metrics(SOURCE, numbered, dropped or {})
    parsed = Parse(json.dumps(document), ExportMetricsServiceRequest())
    return {metric.name: metric for metric in parsed.resource_metrics[0].scope_metrics[0].metrics}


def test_a_latency_sketch_is_the_same_as_an_exponential_histogram() -> None:
    found = metrics_of(aggregate_of(live(), 0))["edgewright.inference.duration"]
    (point,) = found.exponential_histogram.data_points
    assert found.unit == "us" and (point.scale, point.count, point.zero_count) == (3, 10, 0)
    base = 2 ** (2**-point.scale)
    bounds = {
        point.positive.offset + at: (base ** (point.positive.offset + at), count)
        for at, count in enumerate(point.positive.bucket_counts)
    }
    for bucket, count in ((80, 7), (83, 3)):
        lower, found_count = bounds[bucket]
        assert math.isclose(lower, 2 ** (bucket / LATENCY_BUCKETS_PER_DOUBLING)) and found_count == count
    assert sum(count for _, count in bounds.values()) == 10


def test_confidences_drift_and_counts_keep_their_values() -> None:
    found = metrics_of(aggregate_of(live(), 0), aggregate_of(live(inferences=7), 15), dropped={"sample": 3})
    first, second = found["edgewright.inference.count"].sum.data_points
    assert (first.as_int, second.as_int) == (10, 7)
    assert first.time_unix_nano == second.start_time_unix_nano == int((NOW.timestamp() + 900) * 10**9)
    assert found["edgewright.inference.count"].sum.aggregation_temporality == otlp.DELTA
    histogram = found["edgewright.inference.confidence"].histogram.data_points[0]
    assert list(histogram.bucket_counts) == [0] * 18 + [4, 6] and histogram.count == 10
    assert len(histogram.explicit_bounds) == 19 and histogram.explicit_bounds[-1] == 0.95
    drifts = {
        entry.value.string_value: point.as_double
        for point in found["edgewright.drift.psi"].gauge.data_points
        for entry in point.attributes
        if entry.key == "edgewright.drift.of"
    }
    assert drifts == {"confidence": 0.125, "input:image": 0.5}
    (dropped,) = found["edgewright.telemetry.dropped"].sum.data_points
    assert dropped.as_int == 3 and found["edgewright.telemetry.dropped"].sum.is_monotonic


def test_every_event_of_a_real_device_is_understood_by_protobuf(bench: Telling) -> None:
    bench.publish(make_artifact("1.0.0"))
    bench.tell()
    bench.publish(make_artifact("2.0.0"))
    bench.doctor.verdicts["2.0.0"] = HealthError("health-crash", "died of SIGSEGV")
    bench.tell()
    telemetry.note_error(
        bench.config, "session-hung", "no answer for 60 s", model=MODEL, pid=7, ageS=60.5, now=NOW
    )
    numbered = [
        (record.sequence, events.parse(record.payload))
        for priority in (UPDATE_STATUS, ERROR)
        for record in bench.spool.waiting(priority)
    ]
    parsed = Parse(json.dumps(otlp.logs(SOURCE, numbered)), ExportLogsServiceRequest())
    records = parsed.resource_logs[0].scope_logs[0].log_records
    assert {record.event_name for record in records} == {
        "edgewright.update",
        "edgewright.model",
        "edgewright.error",
    }
    told = {entry.key: entry.value for record in records for entry in record.attributes}
    for key in ("edgewright.model.digest", "edgewright.runtime.engine", "edgewright.state", "error.type"):
        assert told[key].string_value
    assert told["edgewright.pid"].int_value == 7 and told["edgewright.ageS"].double_value == 60.5
    assert [entry.string_value for entry in told["edgewright.runtime.providers"].array_value.values] == [
        "CPUExecutionProvider"
    ]
    levels = {record.severity_text for record in records}
    assert levels == {"INFO", "WARN", "ERROR"}


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"kind": "error"},
        {"kind": "error", "code": "x"},
        {"kind": "error", "code": "x", "at": "yesterday"},
        {"kind": "error", "code": "x", "at": "1900-01-01T00:00:00Z"},
        {"kind": "error", "code": 10**30, "at": "2030-01-01T00:00:00Z"},
        {"kind": "sample", "at": "2030-01-01T00:00:00Z"},
        {"kind": "sample", "at": "2030-01-01T00:00:00Z", "sample": {"deep": [[[[[[1]]]]]]}},
        {"kind": "aggregate"},
    ],
)
def test_what_is_no_event_of_ours_is_refused(event: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        otlp.logs(SOURCE, [(1, event)])


@pytest.mark.parametrize(
    "spoiled",
    [
        {"latency": [[-(2**40), 1], [2**40, 1]]},
        {"latency": [[80, -1]]},
        {"confidence": [1, 2]},
        {"inferences": 2**70},
        {"rung": "upstairs"},
        {"drift": {"confidence": "much"}},
    ],
)
def test_figures_that_make_no_sense_are_refused(spoiled: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        metrics_of(aggregate_of(live(**spoiled), 0))


# --- how the device is ----------------------------------------------------------------------------------------------


def test_vitals_are_those_of_the_kernel_and_none_where_it_has_none(tmp_path: Path) -> None:
    sensors = {
        "sys/class/thermal/thermal_zone0/temp": "48312",
        "sys/class/hwmon/hwmon1/temp1_input": "61000",
        "sys/class/hwmon/hwmon1/temp2_input": "-273000",  # not connected
        "sys/class/hwmon/hwmon1/temp3_input": "broken",
        "proc/meminfo": "MemTotal:  1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n",
    }
    for name, text in sensors.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    found = vitals(tmp_path, Disk(), sys=tmp_path / "sys", proc=tmp_path / "proc")
    assert found["temperatureC"] == 61.0
    assert found["memory"] == {"totalBytes": 1_024_000, "availableBytes": 409_600}
    none = vitals(tmp_path / "nowhere", Disk(), sys=tmp_path / "none", proc=tmp_path / "none")
    assert (none["temperatureC"], none["memory"], none["disk"]) == (None, None, None)


# --- configuration and command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"endpoint": "ftp://x"}, "telemetry.endpoint must be an https"),
        ({"endpoint": "https://user:word@x"}, "must not carry a password"),
        ({"endpoint": "https://x/v1?y"}, "must be the base URL"),
        ({"endpoint": "http://far.example", "headers": {"Authorization": "env:T"}}, "must be https"),
        ({"headers": {"Authorization": "Bearer s3cret"}}, "telemetry.headers.Authorization must say where"),
        ({"headers": {"Content-Type": "env:T"}}, "the agent sets itself"),
        ({"headers": {"a b": "env:T"}}, "no name of a header"),
        ({"intervalS": 1}, "telemetry.intervalS must be a number from 10"),
        ({"spoolBytes": 1000}, "telemetry.spoolBytes must be a number from 262144"),
        ({"samples": "yes"}, "telemetry.samples must be true or false"),
        ({"endpoints": []}, "telemetry.endpoints is unknown"),
    ],
)
def test_a_wrong_section_is_refused_with_what_is_wrong(
    bench: Telling, told: dict[str, Any], problem: str
) -> None:
    bench.document["telemetry"] = told
    with pytest.raises(ConfigError, match=problem) as refused:
        _ = bench.config
    assert "s3cret" not in str(refused.value) and "word" not in str(refused.value).replace("password", "")


def test_a_section_says_where_how_often_and_how_much(bench: Telling) -> None:
    bench.document["telemetry"] = {
        "endpoint": "https://otel.example/base/",
        "headers": {"X-Tenant": "file:tenant"},
        "intervalS": 600,
        "aggregateS": 60,
        "spoolBytes": 1000_000,
        "caFile": "ca.pem",
        "samples": True,
    }
    found = bench.config.telemetry
    assert found.kept and found.endpoint == "https://otel.example/base" and found.samples
    assert (found.interval_s, found.aggregate_s, found.spool_bytes) == (600, 60, 1_000_000)
    assert found.ca_file == bench.folder / "ca.pem"
    assert str(found.headers["X-Tenant"]) == f"file:{bench.folder / 'tenant'}"


def test_the_verb_shows_what_waits_what_was_lost_and_how_delivery_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Telling(tmp_path, endpoint="http://127.0.0.1:9")
    config = tmp_path / "agent.json"
    config.write_text(json.dumps(bench.document))
    assert main(["telemetry", "--config", str(config)]) == 0
    assert "never tried" in capsys.readouterr().out
    telemetry.note_error(bench.config, "x", "y")
    assert main(["telemetry", "--config", str(config), "--send", "--json"]) == 3
    told = capsys.readouterr()
    assert "network" in told.err and json.loads(told.out)["classes"]["error"]["waiting"] == 1
    with Collector() as collector:
        bench.document["telemetry"]["endpoint"] = collector.url
        config.write_text(json.dumps(bench.document))
        assert main(["telemetry", "--config", str(config), "--send"]) == 0
        assert len(collector.taken) == 1
    told = capsys.readouterr()
    (line,) = (line for line in told.out.splitlines() if line.startswith("error"))
    assert line.split()[:5] == ["error", "0", "0", "1", "0"]
    assert "1 batches, 1 records" in told.out


def test_the_sender_is_a_process_of_its_own(tmp_path: Path) -> None:
    bench = Telling(tmp_path)
    with Collector() as collector:
        bench.document["telemetry"] = {"endpoint": collector.url}
        (tmp_path / "agent.json").write_text(json.dumps(bench.document))
        telemetry.note_error(bench.config, "x", "y")
        command = [sys.executable, "-m", "edgewright_agent.telemetry", str(tmp_path / "agent.json")]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert ran.returncode == 0, ran.stderr
        assert json.loads(ran.stdout)["records"] == len(collector.taken) == 1


def test_what_the_daemon_calls_imports_neither_keys_nor_tls() -> None:
    program = (
        "import sys\nfrom edgewright_agent import telemetry\n"
        "print([name for name in ('cryptography', 'ssl', 'tuf', 'ctypes', 'gzip', 'random') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout.strip() == "[]"


def test_sequences_of_a_device_are_one_row_over_all_it_tells(bench: Telling) -> None:
    now = datetime(2030, 1, 1, tzinfo=timezone.utc)
    telemetry.note_error(bench.config, "x", "y", now=now)
    telemetry.note_aggregate(bench.config, {}, bench.ledger, now=now)
    telemetry.note_error(bench.config, "x", "y", now=now)
    numbers = [[r.sequence for r in bench.spool.waiting(p)] for p in (ERROR, AGGREGATE)]
    (first, third), (second,) = numbers
    assert [second - first, third - second] == [1, 1]
    assert len(set(itertools.chain(*numbers))) == 3


SECRET = "input [0.12, 0.98] of /home/op/plant-7/line.onnx"


def test_a_failure_tells_why_and_where_its_evidence_lies_and_nothing_that_was_printed(tmp_path: Path) -> None:
    facts = {
        "stage": "replaying",
        "seconds": 1.5,
        "peakProcessBytes": 4096,
        "exit": {"signal": "SIGSEGV"},
        "stderr": f"first line\n{SECRET}",
        "figures": {"loadMs": 2.5, "soak": {"p95Ms": 1.25}, "fallback": {"message": SECRET}, "providers": [SECRET]},
        "bareBytes": SECRET,  # a sign of a child that has been taken over
    }  # fmt: skip
    message = Ended(-11, b"", facts["stderr"].encode(), facts).obituary()  # type: ignore[attr-defined]
    assert SECRET in message, "people on the device read it"
    with Collector() as collector:
        bench = Telling(tmp_path, endpoint=collector.url)
        bench.publish(make_artifact("1.0.0"))
        bench.tell()
        bench.doctor.verdicts["2.0.0"] = HealthError("health-crash", message, facts)
        bench.publish(make_artifact("2.0.0"))
        bench.tell()
        assert send(bench.config, metered=False, now=lambda: bench.now).outcome == "ok"
        sent = b"".join(request.text for request in collector.taken)
    assert b"health-crash" in sent and b"the health check died of SIGSEGV" in sent
    assert b"plant-7" not in sent and b"0.98" not in sent and b"first line" not in sent
    (record,) = (
        record
        for request in collector.taken
        for record in request.message.resource_logs[0].scope_logs[0].log_records
        if record.event_name == "edgewright.error"
    )
    told = {entry.key: entry.value for entry in record.attributes}["edgewright.evidence"]
    values = {entry.key: entry.value for entry in told.kvlist_value.values}
    (entry,) = Archive(bench.state, Disk()).entries()
    assert values.keys() == {
        "agent", "at", "attemptsLeft", "boot", "bootsDuringTrial", "code", "engine", "exit", "figures", "kernel",
        "memory", "name", "peakProcessBytes", "python", "reason", "seconds", "stage", "trialStarted", "tries",
    }  # fmt: skip
    assert values["name"].string_value == f"{MODEL}/{entry.name}"
    assert values["reason"].string_value == "the health check died of SIGSEGV"
    assert values["exit"].kvlist_value.values[0].value.string_value == "SIGSEGV"
    assert {one.key for one in values["figures"].kvlist_value.values} == {"loadMs", "soak"}
    assert entry.document()["stderr"].endswith(SECRET), "all of it stays here"


def test_evidence_is_kept_until_a_person_has_taken_note_whoever_has_heard_of_it(tmp_path: Path) -> None:
    with Collector() as collector:
        bench = Telling(tmp_path, endpoint=collector.url)
        bench.publish(make_artifact("1.0.0"))
        bench.tell()
        bench.doctor.verdicts["2.0.0"] = HealthError("health-wrong-output", "differs from golden outputs")
        bench.publish(make_artifact("2.0.0"))
        bench.tell()
        archive = Archive(bench.state, Disk())
        (entry,) = archive.entries()
        (told,) = bench.events(ERROR)
        assert (told["code"], told["evidence"]["name"]) == ("health-wrong-output", f"{MODEL}/{entry.name}")
        assert told["evidence"]["reason"] == "differs from golden outputs"
        assert send(bench.config, metered=False, now=lambda: bench.now).outcome == "ok"
        assert bench.events(ERROR) == [] and [one.acknowledged for one in archive.entries()] == [False]
        assert main_of(bench, "acknowledge", MODEL) == 0
        assert [one.acknowledged for one in archive.entries()] == [True]


@pytest.mark.parametrize(
    "spoiled", [{"tries": 7}, {"tries": [7], "exit": [1]}, {"figures": "x", "memory": None}]
)
def test_evidence_that_a_bad_disk_has_changed_stops_no_error(bench: Telling, spoiled: dict[str, Any]) -> None:
    archive = Archive(bench.state, Disk())
    name = archive.keep(MODEL, DIGEST, {"version": 1, "code": "health-crash", "reason": "x", **spoiled})
    failed = Outcome(MODEL, "health-crash", "x", 2, DIGEST, "2.0.0")
    telemetry._note_failure(bench.config, failed, events.moment(NOW, UP), NOW)
    (told,) = bench.events(ERROR)
    assert told["evidence"] == {"name": f"{MODEL}/{name}", "code": "health-crash", "reason": "x"}


def main_of(bench: Bench, *words: str) -> int:
    (bench.folder / "agent.json").write_text(json.dumps(bench.document))
    return main([*words, "--config", str(bench.folder / "agent.json")])
