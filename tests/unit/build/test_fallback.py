"""The model beside for the processor: chosen from the same search, held to the same figures, tried on the device."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from edgewright.bench.gate import check_binding, checks
from edgewright.build.fallback import choose_fallback, cpu_runtime
from edgewright.build.metric import Drop, Score
from edgewright.build.search.candidate import Candidate, Cost, Proposal
from edgewright.errors import BuildError
from edgewright.plan.job import Job
from edgewright.publish import package
from edgewright_agent.config import Budget
from edgewright_agent.contract import FILE_CPU_MODEL, FILE_CPU_RUNTIME, digest_of, file_of_layer
from edgewright_agent.health import check, fallback_works
from unit.build.tiny import RUNTIME, SPEC, Repository

GPU: dict[str, Any] = {
    "hardware": {
        **SPEC["hardware"],
        "emulation": {"method": "declared"},
        "runtime": {
            **RUNTIME,
            "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"],
            "cuda": {"tf32": False},
        },
    },
}


def made(name: str, precision: str, latency_ms: float, size_bytes: int, loss: float = 0.0) -> Candidate:
    band = {"value": latency_ms, "low": latency_ms, "high": latency_ms}
    cost = Cost(band, 1.0, 2.0, 2**20, 2**20, 1000)
    score = Score(0.95 - loss, 0.9, 0.99, 90)
    return Candidate(
        Proposal("trained", name, precision),
        digest_of(name.encode()),
        size_bytes,
        "target",
        score,
        Drop(loss, loss, loss),
        None,
        cost,
    )


FP32 = made("fp32", "fp32", 4.0, 400_000)
HALF = made("fp16", "fp16", 6.0, 200_000)
INT8 = made("static-int8", "int8", 1.0, 110_000)
LOSSY = made("dynamic-int8", "int8", 0.5, 100_000, loss=0.2)
ALL = [FP32, HALF, INT8, LOSSY]


def test_the_fastest_on_the_processor_that_keeps_the_accuracy_ships_beside() -> None:
    found = choose_fallback(ALL, SPEC, HALF)
    assert found.candidate == INT8
    assert found.why == "0.17 of the time that fp16 takes on the processor"


def test_limits_on_the_accelerators_time_do_not_count_for_the_processor() -> None:
    tight = {**SPEC, "limits": {**SPEC["limits"], "latency": {"p95": 0.1, "p99": 0.2}, "loadTime": 0.1}}
    assert choose_fallback(ALL, tight, HALF).candidate == INT8


def test_a_model_that_is_the_fastest_on_the_processor_itself_needs_none_beside() -> None:
    found = choose_fallback(ALL, SPEC, INT8)
    assert found.candidate is None
    assert "itself" in found.why


def test_half_precision_is_never_what_a_processor_falls_back_on() -> None:
    assert choose_fallback([FP32, replace(HALF, cost=INT8.cost)], SPEC, HALF).candidate == FP32


def test_what_fits_into_the_artifact_comes_first_and_else_the_smallest_goes_to_the_gate() -> None:
    def within(limit: int) -> str:
        limits = {**SPEC["limits"], "artifactSize": limit}
        found = choose_fallback(
            [replace(FP32, cost=LOSSY.cost), HALF, INT8], {**SPEC, "limits": limits}, HALF
        )
        return found.candidate.name if found.candidate else "none"

    assert within(700_000) == "fp32"
    assert within(400_000) == "static-int8"
    assert within(250_000) == "static-int8"


def test_without_any_accurate_candidate_the_build_says_so() -> None:
    with pytest.raises(BuildError, match="on the processor alone"):
        choose_fallback([replace(FP32, cost=replace(FP32.cost, memory_bytes=2**40))], SPEC, FP32)  # type: ignore[type-var]


def test_the_runtime_of_the_processor_has_no_other_provider_nor_its_options() -> None:
    runtime = cpu_runtime(GPU["hardware"]["runtime"])
    assert runtime == {**RUNTIME, "providers": ["CPUExecutionProvider"]}


@pytest.fixture
def lane(exported: Repository) -> Repository:
    """A lane of a class with an accelerator, whose model ships with one for the processor: size chose the first."""
    for stage in ("searched", "optimized", "evaluated"):
        exported.run(stage, **GPU, cpuFallback=True)
    return exported


def test_a_class_that_does_not_ask_for_it_gets_the_same_files_as_before(exported: Repository) -> None:
    exported.run("searched", **GPU)
    assert not {FILE_CPU_MODEL, FILE_CPU_RUNTIME} & set(exported.run("optimized", **GPU))
    evaluated = exported.run("evaluated", **GPU)
    assert "fallback" not in json.loads(evaluated["golden.json"].read_bytes())
    assert "fallback" not in json.loads(evaluated["evaluation.json"].read_bytes())


def test_it_is_another_model_with_settings_and_golden_answers_of_its_own(lane: Repository) -> None:
    model = lane.files[f"optimized/{FILE_CPU_MODEL}"].read_bytes()
    assert model != lane.files["optimized/model.onnx"].read_bytes()
    onnx.checker.check_model(onnx.load_model_from_string(model))
    settings = json.loads(lane.files[f"optimized/{FILE_CPU_RUNTIME}"].read_bytes())
    assert settings["providers"] == ["CPUExecutionProvider"]
    assert "providerOptions" not in settings
    golden = json.loads(lane.files["evaluated/golden.json"].read_bytes())
    assert set(golden["fallback"]) == {"atol", "rtol", "outputs"}
    assert golden["fallback"]["outputs"] != golden["outputs"]
    evaluation = json.loads(lane.files["evaluated/evaluation.json"].read_bytes())
    assert evaluation["fallback"]["model"] == digest_of(model)
    search = json.loads(lane.files["optimized/search.json"].read_bytes())
    assert search["fallback"]["model"] == digest_of(model)


def packed(lane: Repository, tmp_path: Path) -> dict[str, Any]:
    out = tmp_path / "packaged"
    out.mkdir()
    spec = {"modelVersion": "1.0.0", "description": "x", "license": "MIT", "hardwareClass": "some-class"}
    package.run(Job(lane.root, "tiny", "some-class", spec, lane.files, out))
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())
    return manifest


def test_it_travels_in_the_artifact_and_the_evaluation_must_be_about_it(
    lane: Repository, tmp_path: Path
) -> None:
    manifest = packed(lane, tmp_path)
    layers = {name: digest for name, digest, _ in map(file_of_layer, manifest["layers"])}
    assert {FILE_CPU_MODEL, FILE_CPU_RUNTIME} < set(layers)
    evaluation = json.loads(lane.files["evaluated/evaluation.json"].read_bytes())
    search = json.loads(lane.files["optimized/search.json"].read_bytes())
    benchmark = {"model": layers["model.onnx"], "runtime": layers["runtime.json"]}
    check_binding(manifest, evaluation, benchmark, search)
    other = {**evaluation, "fallback": {**evaluation["fallback"], "model": layers["model.onnx"]}}
    with pytest.raises(BuildError, match=FILE_CPU_MODEL):
        check_binding(manifest, other, benchmark, search)
    with pytest.raises(BuildError, match=FILE_CPU_MODEL):
        check_binding(manifest, {k: v for k, v in evaluation.items() if k != "fallback"}, benchmark, search)


def test_the_gate_holds_it_to_the_floor_and_the_drop_of_the_model(lane: Repository) -> None:
    evaluation = json.loads(lane.files["evaluated/evaluation.json"].read_bytes())
    gate = {
        "limits": SPEC["limits"],
        "sources": {"accuracy-floor": "model.yaml#metric.floor"},
        "conditions": [],
        "cpuFallback": True,
    }

    def verdicts(metric: dict[str, float], evaluation: dict[str, Any]) -> dict[str, bool]:
        found = checks({**gate, "metric": metric}, evaluation, {}, 1000)
        return {one.name: one.verdict == "pass" for one in found if one.name.startswith("fallback")}

    easy = {"floor": 0.5, "maxDrop": 0.5}
    assert verdicts(easy, evaluation) == {"fallback-floor": True, "fallback-drop": True}
    assert verdicts({"floor": 1.0, "maxDrop": 0.5}, evaluation)["fallback-floor"] is False
    found = checks({**gate, "metric": easy}, evaluation, {}, 1000)
    assert next(one.source for one in found if one.name == "fallback-floor") == "model.yaml#metric.floor"
    worse = {**evaluation["fallback"], "drop": {"value": 0.6}}
    assert verdicts(easy, {**evaluation, "fallback": worse})["fallback-drop"] is False
    alone = {k: v for k, v in evaluation.items() if k != "fallback"}
    assert verdicts(easy, alone) == {"fallback-floor": True, "fallback-drop": True}, "the model itself is it"


def installed(lane: Repository, folder: Path) -> Path:
    folder.mkdir()
    for name in ("model.onnx", "runtime.json", FILE_CPU_MODEL, FILE_CPU_RUNTIME):
        (folder / name).write_bytes(lane.files[f"optimized/{name}"].read_bytes())
    (folder / "golden.json").write_bytes(lane.files["evaluated/golden.json"].read_bytes())
    return folder


def test_a_device_tries_it_with_the_model_and_keeps_what_it_saw(lane: Repository, tmp_path: Path) -> None:
    folder = installed(lane, tmp_path / "entry")
    found = check(folder, timeout_s=60, budget=Budget()).document()
    assert found["fallback"]["code"] == ""
    assert found["fallback"]["inferenceMs"] > 0
    assert fallback_works(found)
    assert not fallback_works({**found, "fallback": None})
    assert not fallback_works(None)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        (FILE_CPU_MODEL, b"no model", "health-crash"),
        (FILE_CPU_RUNTIME, b"{}", "health-crash"),
        (FILE_CPU_RUNTIME, b"no json", "damaged"),
    ],
)
def test_one_that_does_not_work_is_told_and_does_not_cost_a_device_its_update(
    lane: Repository, tmp_path: Path, name: str, data: bytes, code: str
) -> None:
    folder = installed(lane, tmp_path / "entry")
    (folder / name).write_bytes(data)
    evidence = check(folder, timeout_s=60, budget=Budget())
    assert evidence.fallback
    assert evidence.fallback["code"] == code
    assert not fallback_works(evidence.document())
    assert any("for the processor does not work" in told for told in evidence.surprises)


def test_wrong_answers_of_it_are_told_too(lane: Repository, tmp_path: Path) -> None:
    folder = installed(lane, tmp_path / "entry")
    golden = json.loads((folder / "golden.json").read_bytes())
    golden["fallback"]["outputs"]["logits"]["data"] = golden["inputs"]["point"]["data"][:96]
    (folder / "golden.json").write_text(json.dumps(golden))
    evidence = check(folder, timeout_s=60, budget=Budget())
    assert evidence.fallback and evidence.fallback["code"] == "health-wrong-output"
