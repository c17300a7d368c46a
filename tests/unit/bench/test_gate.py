from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.plot import headroom_png
from edgewright.bench.report import Check, GateReport
from edgewright.errors import BuildError
from edgewright_agent.contract import (
    ANNOTATION_FILE_DIGEST,
    ANNOTATION_FILE_SIZE,
    ANNOTATION_FILEPATH,
    ANNOTATION_TITLE,
    FILE_DATA,
    canonical_json,
    digest_of,
)
from unit.bench.lane import BENCHMARK, EVALUATION, LIMITS, Lane

GATE = "edgewright.bench.gate"
CHECKS = (
    "artifact-size",
    "load-time",
    "latency-p95",
    "latency-p99",
    "peak-memory",
    "accuracy-floor",
    "accuracy-drop",
    "target-outputs",
    "target-drop",
)


@pytest.fixture
def lane(tmp_path: Path) -> Lane:
    return Lane(tmp_path)


def gated(lane: Lane, **spec: Any) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(lane.run(GATE, **spec)["gate-report.json"].read_bytes())
    return report


def failed(report: dict[str, Any]) -> list[str]:
    return [check["name"] for check in report["checks"] if check["verdict"] != "pass"]


def test_a_lane_within_all_limits_passes_and_the_report_names_the_artifact(lane: Lane) -> None:
    report = gated(lane)
    assert report["verdict"] == "pass"
    assert tuple(check["name"] for check in report["checks"]) == CHECKS
    assert report["artifact"] == digest_of(lane.inputs["packaged/manifest.json"].read_bytes())
    assert (report["model"], report["hardwareClass"], report["modelVersion"]) == (
        "tiny",
        "some-class",
        "1.2.3",
    )
    assert report["calibration"] == "public-anchor"
    assert report["figures"]["evaluation"]["value"] == EVALUATION["value"]
    assert report["figures"]["benchmark"]["p95Ms"] == BENCHMARK["p95Ms"]


def test_a_check_says_which_yaml_set_its_limit(lane: Lane) -> None:
    by_name = {check["name"]: check for check in gated(lane)["checks"]}
    assert by_name["latency-p95"]["source"] == "hardware/some-class.yaml#limits.latency.p95"


@pytest.mark.parametrize(
    ("name", "benchmark", "evaluation", "size_bytes"),
    [
        ("artifact-size", {}, {}, 1001),
        ("load-time", {"loadMs": 10.01}, {}, 500),
        ("latency-p95", {"p95Ms": 2.01}, {}, 500),
        ("latency-p99", {"p99Ms": 4.01}, {}, 500),
        ("peak-memory", {"peakMemoryBytes": 8_000_001}, {}, 500),
        ("accuracy-floor", {}, {"low": 0.899}, 500),
        ("accuracy-drop", {}, {"drop": {"value": 0.0101}}, 500),
    ],
)
def test_each_limit_alone_blocks_and_the_stage_still_completes(
    lane: Lane, name: str, benchmark: dict[str, Any], evaluation: dict[str, Any], size_bytes: int
) -> None:
    lane.package(size_bytes)
    lane.benchmark(**benchmark)
    lane.evaluate(**evaluation)
    report = gated(lane)
    assert (report["verdict"], failed(report)) == ("fail", [name])
    assert lane.result.facts["failed"] == [name]


def test_everything_exactly_at_its_limit_passes(lane: Lane) -> None:
    lane.package(1000)
    lane.benchmark(loadMs=10.0, p95Ms=2.0, p99Ms=4.0, peakMemoryBytes=8_000_000)
    lane.evaluate(low=0.9, drop={"value": 0.01})
    report = gated(lane)
    assert report["verdict"] == "pass"
    figures = [check for check in report["checks"] if not check["name"].startswith("target-")]
    assert {check["headroom"] for check in figures} == {0.0}


@pytest.mark.parametrize("figure", [None, float("nan"), float("inf"), "fast", True])
def test_a_figure_that_is_no_number_blocks(lane: Lane, figure: Any) -> None:
    lane.benchmark(p95Ms=figure)
    lane.evaluate(low=figure)
    assert failed(gated(lane)) == ["latency-p95", "accuracy-floor"]


def test_a_power_cycle_is_judged_where_the_class_limits_it(lane: Lane) -> None:
    assert failed(gated(lane, limits={**LIMITS, "powerCycle": 800.0})) == ["power-cycle"]
    assert failed(gated(lane, limits={**LIMITS, "powerCycle": 900.0})) == []


def test_what_does_not_work_on_its_target_is_blocked_by_the_name_of_its_failure(lane: Lane) -> None:
    failure = {"failure": "operator-missing", "message": "no Frobnicate here", "advice": ["replace it"]}
    lane.benchmark(functional=failure)
    report = gated(lane)
    assert failed(report) == ["target-outputs", "target-drop"]
    assert [check["limit"] for check in report["checks"] if check["name"] == "target-drop"] == [0.01]
    by_name = {check["name"]: check for check in report["checks"]}
    assert by_name["target-outputs"]["detail"] == "operator-missing: no Frobnicate here → replace it"
    assert GateReport.from_json(json.dumps(report).encode()).to_json() == canonical_json(report)


def test_outputs_just_beyond_their_tolerance_are_blocked_however_they_are_rounded(lane: Lane) -> None:
    beyond = {**BENCHMARK["functional"], "failure": "outputs-differ", "message": "", "toleranceUsed": 1.0}
    lane.benchmark(functional=beyond)
    assert failed(gated(lane)) == ["target-outputs"]


def test_dropped_requests_are_held_to_what_the_workload_allows(lane: Lane) -> None:
    lane.benchmark(droppedShare=0.02)
    assert failed(gated(lane)) == [], "no workload, nothing to hold"
    assert failed(gated(lane, maxDropped=0.01)) == ["dropped-requests"]
    assert failed(gated(lane, maxDropped=0.02)) == []


def test_an_artifact_that_was_never_tried_on_its_target_is_blocked(lane: Lane) -> None:
    lane.benchmark(functional=None)
    assert failed(gated(lane)) == ["target-outputs", "target-drop"]


@pytest.mark.parametrize(
    ("drop", "resolution", "blocked"),
    [
        (0.0, 0.01, []),
        (0.01, 0.01, []),  # one sample in a hundred is the allowed drop itself
        (0.02, 0.01, ["target-drop"]),
        (-0.03, 0.01, []),
        (0.125, 0.125, []),  # of eight samples one may be a tie
        (0.25, 0.125, ["target-drop"]),
        (0.011, 0.0, ["target-drop"]),  # a cosine has no steps
        (None, 0.01, ["target-drop"]),
    ],
)
def test_the_metric_on_the_targets_path_may_fall_by_what_the_model_allows_and_never_less_than_one_sample(
    lane: Lane, drop: float | None, resolution: float, blocked: list[str]
) -> None:
    lane.benchmark(functional={"toleranceUsed": 1.0, "drop": drop, "resolution": resolution, "samples": 100})
    assert failed(gated(lane)) == blocked


def test_the_lower_end_of_the_interval_must_reach_the_floor_and_the_report_says_so(lane: Lane) -> None:
    lane.evaluate(value=0.92, low=0.899, high=0.94)
    floor = next(check for check in gated(lane)["checks"] if check["name"] == "accuracy-floor")
    assert (floor["measured"], floor["limit"], floor["verdict"]) == (0.899, 0.9, "fail")
    assert floor["detail"] == (
        "accuracy 92.00 % on 400 samples, 95 % interval 89.90 % to 94.00 %: the lower end counts"
    )


def test_a_drop_is_judged_by_its_value_with_its_interval_beside_it(lane: Lane) -> None:
    drop = next(check for check in gated(lane)["checks"] if check["name"] == "accuracy-drop")
    assert (drop["measured"], drop["verdict"]) == (0.005, "pass")
    assert drop["detail"] == "fp32 98.50 %, 95 % interval of the drop -0.30 % to 1.40 %"


def test_the_worst_label_is_judged_only_where_the_model_limits_it(lane: Lane) -> None:
    assert "label-drop" not in [check["name"] for check in gated(lane)["checks"]]
    allowed = {"floor": 0.9, "maxDrop": 0.01, "maxLabelDrop": 0.015}
    assert failed(gated(lane, metric=allowed)) == []
    report = gated(lane, metric={**allowed, "maxLabelDrop": 0.0149})
    assert failed(report) == ["label-drop"]
    check = next(check for check in report["checks"] if check["name"] == "label-drop")
    assert check["detail"] == "label 'blue': recall 97.00 % of 200 samples, fp32 98.50 %"


def test_a_limit_on_labels_without_any_label_measured_blocks(lane: Lane) -> None:
    lane.evaluate(worstLabel=None, perLabel={})
    limited = {"floor": 0.9, "maxDrop": 0.01, "maxLabelDrop": 1.0}
    assert failed(gated(lane, metric=limited)) == ["label-drop"]


def test_an_evaluation_without_an_interval_or_a_drop_blocks(lane: Lane) -> None:
    lane.evaluate(low=None, drop=None)
    assert failed(gated(lane)) == ["accuracy-floor", "accuracy-drop"]


def test_a_narrower_limit_of_the_model_is_what_counts(lane: Lane) -> None:
    assert failed(gated(lane, limits={**LIMITS, "latency": {"p95": 0.5, "p99": 4.0}})) == ["latency-p95"]


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("evaluation", r"the evaluation is about a model\.onnx"),
        ("benchmark", r"the benchmark is about a model\.onnx"),
        ("runtime", r"the benchmark is about a runtime\.json"),
    ],
)
def test_figures_about_another_file_than_the_artifact_s_stop_the_stage(
    lane: Lane, what: str, message: str
) -> None:
    other = "sha256:" + "0" * 64
    if what == "evaluation":
        lane.evaluate(model=other)
    else:
        lane.benchmark(**{"model" if what == "benchmark" else what: other})
    with pytest.raises(BuildError, match=message):
        lane.run(GATE)
    lane.package()
    assert gated(lane)["verdict"] == "pass"


@pytest.mark.parametrize("what", ["evaluation", "benchmark"])
def test_figures_and_artifact_must_agree_on_weights_in_a_file_of_their_own(lane: Lane, what: str) -> None:
    weights = "sha256:" + "d" * 64
    manifest = json.loads(lane.inputs["packaged/manifest.json"].read_bytes())
    manifest["layers"].append({"digest": weights, "size": 9, "annotations": {ANNOTATION_TITLE: FILE_DATA}})
    lane.put_json("packaged/manifest.json", manifest)
    lane.evaluate(data=None if what == "evaluation" else weights)
    lane.benchmark(data=None if what == "benchmark" else weights)
    with pytest.raises(BuildError, match=rf"the {what} is about a model\.onnx\.data with digest None"):
        lane.run(GATE)
    lane.evaluate(data=weights)
    lane.benchmark(data=weights)
    assert gated(lane)["verdict"] == "pass"


def test_a_compressed_layer_is_judged_by_the_file_in_it(lane: Lane) -> None:
    manifest = json.loads(lane.inputs["packaged/manifest.json"].read_bytes())
    model = manifest["layers"][0]
    model["mediaType"] = "application/vnd.cncf.model.weight.v1.tar+gzip"
    model["annotations"] = {
        ANNOTATION_TITLE: "model.onnx.tar.gz",
        ANNOTATION_FILEPATH: "model.onnx",
        ANNOTATION_FILE_DIGEST: model["digest"],
        ANNOTATION_FILE_SIZE: "90000",
    }
    model["digest"] = "sha256:" + "c" * 64
    lane.put_json("packaged/manifest.json", manifest)
    report = gated(lane)
    assert report["verdict"] == "pass"
    assert any("on the device its files take" in note for note in report["notes"])


def test_a_layer_that_no_device_unpacks_is_judged_by_its_own_bytes(lane: Lane) -> None:
    manifest = json.loads(lane.inputs["packaged/manifest.json"].read_bytes())
    model = manifest["layers"][0]
    model["mediaType"] = "application/vnd.cncf.model.weight.v1.raw"
    model["annotations"] |= {
        ANNOTATION_FILEPATH: "model.onnx",
        ANNOTATION_FILE_DIGEST: model["digest"],
        ANNOTATION_FILE_SIZE: "90000",
    }
    model["digest"] = "sha256:" + "c" * 64  # what a device would install, whatever the annotation says
    lane.put_json("packaged/manifest.json", manifest)
    with pytest.raises(BuildError, match="the artifact holds sha256:cccc"):
        gated(lane)


def test_figures_that_name_no_file_stop_the_stage(lane: Lane) -> None:
    lane.evaluate(model=None)
    with pytest.raises(BuildError, match="digest None"):
        lane.run(GATE)


def size_of(png: bytes) -> tuple[int, int]:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_the_picture_is_a_png_of_the_same_size_and_bytes_every_time(lane: Lane) -> None:
    first, second = (lane.run(GATE)["headroom.png"].read_bytes() for _ in range(2))
    assert first == second
    assert size_of(first)[0] == 1080
    lane.benchmark(p95Ms=None, p99Ms=1e9)
    assert size_of(lane.run(GATE)["headroom.png"].read_bytes()) == size_of(first)


def test_the_picture_has_room_for_the_longest_names_and_for_what_was_not_measured() -> None:
    name = "a" * 63
    checks = (
        Check("load-time", None, 1.0, "ms", "max", ""),
        Check("accuracy-drop", -1, 0.0, "ratio", "max", ""),
    )
    report = GateReport(name, name, "10.20.30", "sha256:" + "0" * 64, "public-anchor", checks)
    assert size_of(headroom_png(report))[0] == 1080
