"""On this machine's own processor; tests/e2e/test_targets.py does it on emulated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgewright.bench.functional import Functional, check, difference
from edgewright.bench.sample import Comparison, Sample, sample_of
from edgewright.bench.target import emulator
from edgewright.bench.target.emulator import Target, emulated_target, native_target
from edgewright.bench.target.processor import Core
from edgewright.build.canonical import to_bytes
from edgewright.build.layout import Layout, apply
from edgewright.build.metric import metric
from edgewright.build.samples import Samples
from edgewright.errors import BuildError, EnvironmentFault
from edgewright_agent.contract import FILE_DATA, FILE_MODEL, canonical_json
from unit.bench.target import models


@pytest.fixture(scope="module")
def target() -> Target:
    return native_target(Core("amd64", None, "this machine", 1))


def tried(target: Target, case: models.Case, folder: Path, **options: Any) -> Functional:
    model, runtime = case.write(folder)
    return check(target, model, runtime, case.golden, **options)


def test_a_sound_artifact_passes(target: Target, tmp_path: Path) -> None:
    found = tried(target, models.relu(), tmp_path)
    assert (found.verdict, found.failure, found.worst) == ("pass", None, 0.0)
    assert found.providers == ("CPUExecutionProvider",)
    assert found.placement == {"CPUExecutionProvider": {"Relu": 1}}


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        (models.Case(b"not a model" * 9, models.ROW, models.ROW), "model-corrupt"),
        (models.Case(b"", models.ROW, models.ROW), "model-corrupt"),
        (models.Case(models.relu().model[:40], models.ROW, models.ROW), "model-corrupt"),
        (models.unknown_operator(), "operator-missing"),
        (models.unknown_operator("com.acme"), "operator-missing"),
        (models.relu(opset=99), "opset-too-new"),
        (models.Case(models.relu().model, models.ROW[:, :3], models.ROW), "inputs-refused"),
    ],
    ids=["text", "empty", "truncated", "operator", "custom-operator", "opset", "inputs"],
)
def test_a_bad_artifact_is_a_named_failure_with_advice(
    target: Target, tmp_path: Path, case: models.Case, failure: str
) -> None:
    found = tried(target, case, tmp_path)
    assert (found.verdict, found.failure) == ("fail", failure)
    assert found.message and found.advice
    assert "Traceback" not in found.message and str(tmp_path) not in found.message


def test_a_model_larger_than_the_memory_of_its_class_is_out_of_memory(target: Target, tmp_path: Path) -> None:
    case = models.weighing(96)
    assert tried(target, case, tmp_path, memory_limit_bytes=64 * 2**20).failure == "out-of-memory"
    assert tried(target, case, tmp_path, memory_limit_bytes=1024 * 2**20).verdict == "pass"


@pytest.mark.parametrize("grouped", [True, False], ids=["group", "resource-limit"])
def test_every_way_to_limit_memory_says_the_same(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grouped: bool
) -> None:
    if not grouped:
        monkeypatch.setattr(emulator, "permitted", lambda: None)
    case, limit_bytes = models.weighing(96), 64 * 2**20
    over = tried(target, case, tmp_path, memory_limit_bytes=limit_bytes)
    assert (over.failure, over.message) == (
        "out-of-memory",
        "it needs more than 67108864 bytes over the bare engine",
    )
    assert over.engine and over.advice
    assert tried(target, case, tmp_path, memory_limit_bytes=1024 * 2**20).verdict == "pass"


def test_what_fails_without_a_limit_too_keeps_its_name(target: Target, tmp_path: Path) -> None:
    found = tried(target, models.unknown_operator(), tmp_path, memory_limit_bytes=2**30)
    assert found.failure == "operator-missing"


def test_too_slow_is_a_named_failure(target: Target, tmp_path: Path) -> None:
    assert tried(target, models.relu(), tmp_path, timeout_s=0.0).failure == "timed-out"


def test_other_outputs_are_told_with_their_distance(target: Target, tmp_path: Path) -> None:
    case = models.relu()
    found = tried(target, models.Case(case.model, case.x, case.y + np.float32(0.5)), tmp_path)
    assert (found.failure, found.worst) == ("outputs-differ", 0.5)
    assert "processor" in found.advice[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_never_agrees(bad: float) -> None:
    case = models.relu()
    assert difference({"y": np.full_like(case.y, bad)}, case.golden) == (np.inf, np.inf)


def test_the_share_of_the_tolerance_is_that_of_the_value_that_uses_most_of_it() -> None:
    golden = {**models.relu().golden, "atol": 0.5, "rtol": 0.25}
    y = models.relu().y.copy()
    y[0, 0] += 0.25  # of 0 ± 0.5
    y[0, 3] += 0.25  # of 3 ± 1.25
    assert difference({"y": y}, golden) == (0.25, 0.5)
    exact = {**golden, "atol": 0.0, "rtol": 0.0}
    assert difference({"y": models.relu().y}, exact) == (0.0, 0.0)
    assert difference({"y": y}, exact) == (0.25, np.inf)


def test_an_accelerator_that_is_not_here_is_said_and_not_claimed(target: Target, tmp_path: Path) -> None:
    case = models.relu()
    model, runtime = case.write(tmp_path, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    found = check(target, model, runtime, case.golden)
    assert found.verdict == "pass"
    assert found.notes == (
        "CUDAExecutionProvider is not in this target: its operators ran on CPUExecutionProvider",
    )


def test_another_engine_than_the_classs_is_said(target: Target, tmp_path: Path) -> None:
    case = models.relu()
    model, runtime = case.write(tmp_path, versions=">=9")
    assert "the class runs >=9" in check(target, model, runtime, case.golden).notes[0]


def test_accuracy_is_that_of_the_targets_own_path(target: Target, tmp_path: Path) -> None:
    case = models.relu()
    inputs = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 3]]
    samples = Samples("data:test", {"x": inputs}, np.array([0, 1, 2, 3, 0]))
    sample = sample_of(samples, case.model, metric("accuracy"))
    found = tried(target, case, tmp_path, sample=sample)
    assert found.compared == Comparison("accuracy", 0.8, 0.8, 0.0, 0.2, 1.0)
    document = found.to_json()
    assert (document["samples"], document["value"], document["drop"]) == (5, 0.8, 0.0)


def test_an_area_is_compared_by_its_own_metric_and_has_no_answers_to_agree_on() -> None:
    targets, here = np.array([0, 0, 1, 1]), np.array([[0.1], [0.4], [0.6], [0.9]], np.float32)
    sample = Sample({}, targets, here, metric("auc"))
    assert sample.compared(here) == Comparison("auc", 1.0, 1.0, 0.0, 0.25, None)
    assert sample.compared(here[[0, 2, 1, 3]]) == Comparison("auc", 0.75, 1.0, 0.25, 0.25, None)


def test_embeddings_are_compared_with_those_of_this_machine() -> None:
    here = np.eye(4, dtype=np.float32)
    sample = Sample({}, np.zeros(4, int), here, metric("cosine"))
    assert sample.compared(2 * here) == Comparison("cosine", 1.0, 1.0, 0.0, 0.0, None)
    assert sample.compared(here[[1, 0, 2, 3]]).drop == 0.5


@pytest.mark.parametrize(
    ("name", "here", "lost"),
    [("accuracy", np.eye(4), 0.25), ("auc", np.array([0.0, 1, 2, 3]), 0.5), ("cosine", np.eye(4), 0.25)],
)
def test_an_answer_that_is_not_finite_is_a_wrong_one(name: str, here: np.ndarray, lost: float) -> None:
    targets = np.array([0, 0, 1, 1]) if name == "auc" else np.arange(4)
    there = here.copy()
    there[3] = np.nan
    assert Sample({}, targets, here, metric(name)).compared(there).drop == lost


def test_a_sample_that_the_metric_cannot_measure_is_refused() -> None:
    held_out = Samples("data:test", {"x": np.eye(4, dtype=np.float32)}, np.array([0, 1, 0, 1]))
    with pytest.raises(BuildError, match="auc needs one score per sample"):
        sample_of(held_out, models.relu().model, metric("auc"))


def test_a_sample_takes_all_labels_in_turn() -> None:
    inputs = np.zeros((9, 4), np.float32)
    held_out = Samples("data:test", {"x": inputs}, np.array([0, 0, 0, 0, 0, 0, 1, 1, 2]))
    sample = sample_of(held_out, models.relu().model, metric("accuracy"), 5)
    assert sorted(sample.targets.tolist()) == [0, 0, 1, 1, 2]


def test_the_report_is_the_same_every_time(target: Target, tmp_path: Path) -> None:
    first, again = (tried(target, models.saturating(), tmp_path).to_json() for _ in range(2))
    assert canonical_json(first) == canonical_json(again)


def test_a_missing_userland_names_the_command_that_mends_it(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFault, match="the riscv64 userland is not on this machine") as raised:
        emulated_target(Core("riscv64", "rv64", "u74", 4), tmp_path)
    assert raised.value.hint == "edgewright targets provision --arch riscv64"


def test_instructions_are_never_counted_natively(target: Target, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="under an emulator only"):
        target.run([], timeout_s=1, plugin=tmp_path / "plugin.so")


def test_weights_in_a_file_of_their_own_are_found_wherever_the_two_files_lie(
    target: Target, tmp_path: Path
) -> None:
    case = models.weighing(2)
    files = apply(Layout((FILE_DATA,)), to_bytes(onnx.load_model_from_string(case.model)))
    model, runtime = case.write(tmp_path)
    model.write_bytes(files[FILE_MODEL])
    data = tmp_path / "digest-of-the-weights"
    data.write_bytes(files[FILE_DATA])
    assert check(target, model, runtime, case.golden, data=data).verdict == "pass"
    assert check(target, model, runtime, case.golden).failure == "model-invalid"
