"""ONNX Runtime with OpenVINO, as `edgewright targets provision` made it: that provider itself, on this machine."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from e2e.journey import Journey
from edgewright.bench.functional import INTEGER_KERNELS, SATURATES, check
from edgewright.bench.sample import sample_of
from edgewright.bench.target import emulator
from edgewright.bench.target.ask import ask
from edgewright.bench.target.emulator import Target
from edgewright.bench.target.processor import host_flags
from edgewright.bench.target.provider import OPENVINO, absent, provider_target
from edgewright.bench.target.userland import inspect, targets_cache
from edgewright.build.entry import ModelCode
from edgewright.build.golden import decoded
from edgewright.build.metric import metric
from edgewright.build.samples import load
from edgewright.plan.cache import open_cache
from edgewright.plan.lane import StepId
from edgewright.plan.resolve import before, resolve
from edgewright.plan.slices import dump
from edgewright.spec.hardware import HardwareClass, Isa
from edgewright.spec.load import load_fleet
from real import ROOT, require_target
from unit.bench.target import models

DETECTOR = "intel-lowpower-detector"
CPU = "CPUExecutionProvider"
PROVIDERS = [OPENVINO, CPU]


def detector(*isa: Isa) -> HardwareClass:
    """The class, with other instructions where some are given."""
    hardware = load_fleet(ROOT).hardware[DETECTOR]
    return (
        hardware.model_copy(update={"cpu": hardware.cpu.model_copy(update={"isa": isa})}) if isa else hardware
    )


def target_of(hardware: HardwareClass) -> Target:
    require_target("amd64-openvino")
    found = provider_target(hardware, targets_cache())
    assert found is not None
    return found


@pytest.fixture
def target() -> Target:
    return target_of(detector())


def test_it_runs_on_openvino_and_claims_no_speed(target: Target, tmp_path: Path) -> None:
    case = models.relu()
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    found = check(target, model, runtime, case.golden)
    assert found.verdict == "pass", found
    assert (found.providers[0], found.placement) == (OPENVINO, {OPENVINO: {"Relu": 1}})
    assert found.target.startswith(f"native, {OPENVINO}, ")
    assert "declared, not emulated" in found.notes[0] and "not claimed" in found.notes[0]


def test_fp32_differs_by_rounding_at_most(target: Target, tmp_path: Path) -> None:
    case = models.weighing(1)
    model, _ = case.write(tmp_path)
    request = {
        "model": str(model),
        "inputs": case.golden["inputs"],
        "providers": PROVIDERS,
        "placement": True,
    }
    answer = ask(target, request, timeout_s=120)
    assert list(answer["placement"]) == [OPENVINO]
    np.testing.assert_allclose(decoded(answer["outputs"]["y"]), case.y, rtol=1e-6)


def test_the_built_artifact_answers_on_openvino_as_it_should(built: Journey, target: Target) -> None:
    workspace, cache = load_fleet(built.fleet), open_cache(built.fleet)
    last = StepId("evaluated", "digit-reader", DETECTOR)
    records = resolve(workspace, cache, steps=[*before(workspace, last), last]).records
    optimized = records[dataclasses.replace(last, stage="optimized")].files
    model, runtime = (cache.verified(optimized[name]) for name in ("model.onnx", "runtime.json"))
    golden = json.loads(cache.verified(records[last].files["golden.json"]).read_bytes())
    spec = workspace.models["digit-reader"]
    code = ModelCode(built.fleet / "models" / "digit-reader")
    held_out = load(code, spec.data.test, dump(spec.signature))
    found = check(target, model, runtime, golden, sample_of(held_out, model.read_bytes(), metric("accuracy")))
    assert (json.loads(runtime.read_bytes())["precision"], found.verdict) == ("int8", "pass"), found
    assert found.placement and list(found.placement) == [OPENVINO]
    assert found.compared is not None and found.compared.agreement == 1.0


def test_the_classs_own_options_are_given_to_openvino(target: Target, tmp_path: Path) -> None:
    case = models.relu()
    told = {"device_type": "CPU", "precision": "ACCURACY", "num_of_threads": "2", "num_streams": "1"}
    model, runtime = case.write(tmp_path, providers=PROVIDERS, providerOptions={OPENVINO: told})
    assert check(target, model, runtime, case.golden).verdict == "pass"
    # Its provider starts on no key that it does not know: so the options do arrive.
    model, runtime = case.write(tmp_path, providers=PROVIDERS, providerOptions={OPENVINO: {"nonsense": "1"}})
    assert check(target, model, runtime, case.golden).failure == "provider-missing"


def test_openvino_saturates_where_the_class_has_no_vnni(target: Target, tmp_path: Path) -> None:
    case = models.saturating()
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    found = check(target, model, runtime, case.golden)
    assert found.failure == "outputs-differ", found
    # That it is saturation is proven by a run with VNNI; without that the advice says less.
    assert found.advice == ((INTEGER_KERNELS if absent(["vnni"], host_flags()) else SATURATES),)
    assert (
        check(target, model, case.write(tmp_path)[1], case.golden).verdict == "pass"
    )  # ONNX Runtime's kernels


def test_it_does_not_where_the_class_has_it(tmp_path: Path) -> None:
    target, case = target_of(detector("sse4.2", "avx", "avx2", "vnni")), models.saturating()
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    found = check(target, model, runtime, case.golden)
    lacks = absent(["avx2", "vnni"], host_flags())
    assert found.verdict == ("fail" if lacks else "pass"), found
    assert any("this machine has no" in note for note in found.notes) == bool(lacks)


def test_seven_bit_weights_do_not_saturate(target: Target, tmp_path: Path) -> None:
    case = models.saturating(weight=63)
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    assert check(target, model, runtime, case.golden).verdict == "pass"


def test_an_operator_it_does_not_know_is_seen_on_the_cpu_provider(target: Target, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Binarizer", ["h"], ["y"], domain="ai.onnx.ml", threshold=1.0),
    ]
    model_bytes = models.serialized(nodes, (4, 4), domain="ai.onnx.ml")
    case = models.Case(model_bytes, models.ROW, (models.ROW > 1).astype(np.float32))
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    found = check(target, model, runtime, case.golden)
    assert found.verdict == "pass", found
    assert found.placement == {OPENVINO: {"Relu": 1}, CPU: {"Binarizer": 1}}
    assert f"not on {OPENVINO}: 1 Binarizer" in found.notes


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        (models.Case(b"not a model" * 9, models.ROW, models.ROW), "model-corrupt"),
        (models.unknown_operator("com.acme"), "operator-missing"),
        (models.relu(opset=99), "opset-too-new"),
        (models.Case(models.relu().model, models.ROW[:, :3], models.ROW), "inputs-refused"),
    ],
    ids=["corrupt", "operator", "opset", "inputs"],
)
def test_a_bad_artifact_is_a_named_failure(
    target: Target, tmp_path: Path, case: models.Case, failure: str
) -> None:
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    assert check(target, model, runtime, case.golden).failure == failure


@pytest.mark.parametrize("grouped", [True, False], ids=["group", "resource-limit"])
def test_a_model_larger_than_its_memory_is_out_of_memory(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    if not grouped:
        monkeypatch.setattr(emulator, "permitted", lambda: None)
    case = models.weighing(96)
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    # At some of these OpenVINO itself fails to start, at others it returns nothing and calls it success.
    for mebibytes in (8, 48, 128):
        found = check(target, model, runtime, case.golden, memory_limit_bytes=mebibytes * 2**20)
        assert found.failure == "out-of-memory", found
    assert check(target, model, runtime, case.golden, memory_limit_bytes=2**31).verdict == "pass"


def test_a_provider_that_quietly_does_not_start_is_a_failure(target: Target, tmp_path: Path) -> None:
    site, lame = targets_cache() / "amd64-openvino" / "site", tmp_path / "site"
    capi = lame / "onnxruntime" / "capi"
    capi.mkdir(parents=True)
    for there, here in (
        (site, lame),
        (site / "onnxruntime", lame / "onnxruntime"),
        (site / "onnxruntime/capi", capi),
    ):
        for entry in there.iterdir():
            if entry.name not in ("onnxruntime", "capi", "libonnxruntime_providers_openvino.so"):
                (here / entry.name).symlink_to(entry)
    case = models.relu()
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    environment = {**target.environment, "PYTHONPATH": str(lame)}
    found = check(dataclasses.replace(target, environment=environment), model, runtime, case.golden)
    assert (found.verdict, found.failure, found.providers) == ("fail", "provider-missing", (CPU,))
    assert found.advice


def test_using_the_environment_does_not_change_it(target: Target, tmp_path: Path) -> None:
    case = models.relu()
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    check(target, model, runtime, case.golden)
    assert inspect("amd64-openvino", targets_cache(), verify=True).state == "ready"


def test_the_report_is_the_same_every_time(target: Target, tmp_path: Path) -> None:
    case = models.saturating()
    model, runtime = case.write(tmp_path, providers=PROVIDERS)
    first, again = (check(target, model, runtime, case.golden).to_json() for _ in range(2))
    assert first == again
