"""The stages `benchmarked` and `gated` on real emulated targets."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.busy import busy_machine
from e2e.journey import MODEL, PI, Journey
from edgewright.bench.benchmark import benchmark, document
from edgewright.bench.gate import target_checks
from edgewright.bench.target.observe import Memo
from edgewright.bench.target.userland import targets_cache
from edgewright.build.layout import Layout, apply
from edgewright.build.provider_options import provider_options
from edgewright.errors import EnvironmentFault
from edgewright.plan.job import Job
from edgewright.plan.slices import dump
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from edgewright_agent.contract import FILE_DATA, FILE_MODEL, digest_of
from real import ROOT, require_target
from shared import made_once
from unit.bench.target import models

DATA = """
import numpy as np

def test():
    points = np.random.default_rng(7).normal(size=(40, 4)).astype(np.float32)
    return {"x": points}, points.argmax(axis=1)
"""
SIGNATURE = {
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4]}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 4]}],
}


def job(folder: Path, case: models.Case, *, hardware_class: str = PI, **sheet: dict[str, Any]) -> Job:
    """A lane of a small model, with keys of the class's sheet replaced."""
    code = folder / "models" / "tiny"
    code.mkdir(parents=True)
    (code / "data.py").write_text(DATA)
    hardware = dump(Sheet.of(load_fleet(ROOT).hardware[hardware_class]))
    model, runtime = case.write(folder, providers=hardware["runtime"]["providers"])
    golden = folder / "golden.json"
    golden.write_text(json.dumps(case.golden))
    spec = {
        "hardware": {**hardware, **{key: {**hardware[key], **changes} for key, changes in sheet.items()}},
        "model": {"signature": SIGNATURE, "data": {"test": "data:test"}, "metric": {"name": "accuracy"}},
    }
    files = {
        "optimized/model.onnx": model,
        "optimized/runtime.json": runtime,
        "evaluated/golden.json": golden,
    }
    out = folder / "out"
    out.mkdir()
    return Job(folder, "tiny", hardware_class, spec, files, out)


def works_on_target(document: dict[str, Any]) -> tuple[str, str]:
    check, _ = target_checks("target", document["functional"], 0.01, {})
    return check.verdict, check.detail


@pytest.fixture(autouse=True)
def _targets() -> None:
    require_target("arm64")
    require_target("amd64-qemu")


@pytest.fixture(scope="session")
def shown(run_folder: Path, built_once: Journey) -> Path:
    """What `edgewright bench` says of one lane, and what it draws."""

    def bench(folder: Path) -> None:
        folder.mkdir()
        done = built_once.edgewright("bench", MODEL, "--class", PI, "--json", "--plots", str(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "report.json").write_text(done.stdout)

    return made_once(run_folder / "bench", bench)


def elsewhere(folder: Path) -> Path:
    """Return a copy of the targets cache in a folder with a longer name."""
    copy = folder / "targets-in-a-folder-with-a-rather-long-name"
    for name in ("qemu", "arm64", "plugins"):
        shutil.copytree(targets_cache() / name, copy / name, symlinks=True)
    return copy


def test_a_gate_report_is_the_same_bytes_in_another_process_and_folder_on_a_busy_machine(
    shown: Path, built: Journey, tmp_path: Path
) -> None:
    with busy_machine():
        busy = built.edgewright(
            "bench", MODEL, "--class", PI, "--json", EDGEWRIGHT_TARGETS=str(elsewhere(tmp_path))
        )
    assert busy.stdout == (shown / "report.json").read_text()
    report = json.loads(busy.stdout)
    assert report["figures"]["benchmark"]["counts"]["perInference"]["instructions"] > 100_000


def test_bench_says_what_the_gate_of_the_last_run_said(shown: Path, built: Journey) -> None:
    gate = next(step for step in built.plan() if (step["stage"], step["hardwareClass"]) == ("gated", PI))
    report = json.loads((shown / "report.json").read_text())
    assert report["artifact"] == gate["facts"]["artifact"]
    assert report["verdict"] == gate["facts"]["verdict"]
    assert [check["name"] for check in report["checks"]] == [row["check"] for row in gate["facts"]["checks"]]


def test_bench_draws_what_dagster_shows(shown: Path) -> None:
    for name in ("latency.png", "heat.png", "headroom.png"):
        assert (shown / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "hardware_class",
    [
        "factory-gateway-gpu",
        "intel-lowpower-detector",
        "jetson-vision-standard",
        "medical-cart-cpu",
        "raspberry-pi-4",
    ],
)
def test_every_class_gets_figures_and_says_how_they_were_made(tmp_path: Path, hardware_class: str) -> None:
    asked = job(tmp_path, models.relu(), hardware_class=hardware_class)
    found = document(asked, benchmark(asked, Memo(targets_cache())))
    assert works_on_target(found) == ("pass", "")
    assert found["loadMs"] > 0
    assert found["powerCycleMs"] > found["loadMs"]
    assert found["p95Ms"] > 0
    assert found["peakMemoryBytes"] % 2**20 == 0
    accelerated = hardware_class in ("factory-gateway-gpu", "jetson-vision-standard")
    assert (found["calibration"] == "declared, not emulated") == accelerated
    provided = hardware_class == "intel-lowpower-detector"
    assert any("declared, not emulated" in note for note in found["notes"]) == (accelerated or provided)
    assert (found["provider"] is not None) == provided
    if provided:
        assert list(found["provider"]["placement"]) == ["OpenVINOExecutionProvider"]


@pytest.mark.parametrize(
    ("case", "failure"),
    [
        (models.weighing(96), "out-of-memory"),
        (models.Case(models.relu().model, models.ROW, models.ROW + np.float32(5)), "outputs-differ"),
    ],
    ids=["larger than its class's memory", "answers otherwise"],
)
def test_what_does_not_work_there_is_named_in_the_document(
    tmp_path: Path, case: models.Case, failure: str
) -> None:
    asked = job(tmp_path, case, memory={"forModels": 64 * 2**20})
    found = document(asked, benchmark(asked))
    verdict, detail = works_on_target(found)
    assert verdict == "fail"
    assert detail.startswith(f"{failure}: ")
    assert found["functional"]["advice"]
    assert str(tmp_path) not in json.dumps(found)


def test_a_processor_the_emulator_does_not_know_is_named_and_the_known_ones_are_listed(
    tmp_path: Path,
) -> None:
    asked = job(tmp_path, models.relu(), emulation={"cpu": "cortex-a27"})
    found = document(asked, benchmark(asked))
    verdict, detail = works_on_target(found)
    assert (verdict, detail.partition(":")[0]) == ("fail", "processor-unknown")
    assert "cortex-a72" in found["functional"]["advice"][0]
    assert found["p95Ms"] is None


def test_a_missing_emulator_is_an_error_with_the_command_that_mends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEWRIGHT_TARGETS", str(tmp_path / "empty"))
    for hardware_class in (PI, "medical-cart-cpu"):
        asked = job(tmp_path / hardware_class, models.relu(), hardware_class=hardware_class)
        with pytest.raises(EnvironmentFault) as fault:
            benchmark(asked)
        arch = "arm64" if hardware_class == PI else "amd64-qemu"
        assert fault.value.hint == f"edgewright targets provision --arch {arch}"


def test_a_broken_userland_is_an_error_each_time_and_no_verdict_on_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = elsewhere(tmp_path)
    for library in (broken / "arm64").glob("**/onnxruntime_pybind11_state*.so"):
        library.unlink()
    monkeypatch.setenv("EDGEWRIGHT_TARGETS", str(broken))
    asked = job(tmp_path / "lane", models.relu())
    for _ in range(2):
        with pytest.raises(EnvironmentFault, match="does not start its engine") as fault:
            benchmark(asked, Memo(broken))
        assert "edgewright targets provision" in str(fault.value.hint)


def test_what_was_seen_once_is_not_emulated_again_until_it_would_be_another_thing(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "cache")
    asked = job(tmp_path / "first", models.relu())
    first = document(asked, benchmark(asked, memo))
    entries = set(memo.folder.iterdir())
    slower = job(tmp_path / "second", models.relu(), cpu={"clock": 750.0})
    second = document(slower, benchmark(slower, memo))
    assert set(memo.folder.iterdir()) == entries
    assert second["counts"] == first["counts"]
    assert second["p95Ms"] == pytest.approx(2 * first["p95Ms"], rel=1e-3)
    other = job(tmp_path / "third", models.relu(), emulation={"cpu": "cortex-a53"})
    benchmark(other, memo)
    assert len(set(memo.folder.iterdir())) == len(entries) + 1


def test_a_damaged_memo_costs_time_and_nothing_else(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "cache")
    asked = job(tmp_path / "first", models.relu())
    first = document(asked, benchmark(asked, memo))
    for entry in memo.folder.iterdir():
        entry.write_bytes(entry.read_bytes()[:40])
    assert document(asked, benchmark(asked, memo)) == first


def test_a_lane_whose_target_is_missing_stops_the_run_and_says_what_to_fetch(
    built: Journey, tmp_path: Path
) -> None:
    done = built.edgewright("run", EDGEWRIGHT_TARGETS=str(tmp_path / "empty"))
    assert done.returncode == 3
    assert "edgewright targets provision --arch" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    plan = built.edgewright("run")
    assert plan.returncode == 0, "with the targets back, nothing is left to do"
    assert "Nothing to do" in plan.stdout


def test_what_a_class_tells_providers_that_do_not_run_here_is_declared_as_such(tmp_path: Path) -> None:
    lane = job(tmp_path, models.relu(), hardware_class="jetson-vision-standard")
    sheet = lane.spec["hardware"]["runtime"]
    runtime = lane.inputs["optimized/runtime.json"]
    told = {**json.loads(runtime.read_bytes()), "providerOptions": provider_options(sheet, "fp32")}
    runtime.write_text(json.dumps(told))
    notes = document(lane, benchmark(lane))["notes"]
    [tensorrt, cuda] = [note for note in notes if note.startswith("declared, not run here: ")]
    assert "TensorrtExecutionProvider with trt_engine_cache_enable=True, trt_fp16_enable=True" in tensorrt
    assert "CUDAExecutionProvider with arena_extend_strategy=kSameAsRequested" in cuda


def test_weights_in_a_file_of_their_own_are_part_of_what_is_measured(tmp_path: Path) -> None:
    lane = job(tmp_path, models.weighing(1))
    inside = benchmark(lane)
    files = apply(Layout((FILE_DATA,)), models.weighing(1).model)
    (tmp_path / "graph").write_bytes(files[FILE_MODEL])
    (tmp_path / "weights").write_bytes(files[FILE_DATA])
    apart = {"optimized/model.onnx": tmp_path / "graph", "optimized/model.onnx.data": tmp_path / "weights"}
    lane = dataclasses.replace(lane, inputs={**lane.inputs, **apart})
    found = benchmark(lane)
    assert found.functional.verdict == inside.functional.verdict == "pass"
    assert found.counts and inside.counts
    assert found.counts.load.instructions < inside.counts.load.instructions
    assert document(lane, found)["data"] == digest_of(files[FILE_DATA])
