from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.measure import WORKER, ask, host_cores, merged, notes_on
from edgewright.errors import BuildError
from edgewright_agent.contract import digest_of
from unit.bench.lane import RUNTIME, Lane

MEASURE = "edgewright.bench.measure"


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def answer(**changes: Any) -> dict[str, Any]:
    base = {
        "loadMs": 3.0,
        "p50Ms": 1.0,
        "p95Ms": 2.0,
        "p99Ms": 3.0,
        "samples": 10,
        "barePeakBytes": 100,
        "peakBytes": 300,
    }
    return {**base, "providers": ["CPUExecutionProvider"], "engine": "onnxruntime 1", **changes}


def test_a_real_model_is_measured_in_real_processes(tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    document = json.loads(lane.run(MEASURE)["benchmark.json"].read_bytes())
    assert document["model"] == digest_of(lane.model)
    assert document["runtime"] == digest_of(lane.inputs["optimized/runtime.json"].read_bytes())
    assert document["calibration"] == "none, this host"
    assert document["providers"] == ["CPUExecutionProvider"]
    assert document["engine"].startswith("onnxruntime ")
    assert 0 < document["p50Ms"] <= document["p95Ms"] <= document["p99Ms"]
    assert document["loadMs"] > 0
    assert 0 < document["peakMemoryBytes"] < 2**30
    assert document["samples"] >= 60


def test_the_worker_imports_nothing_of_the_pipeline_s_weight() -> None:
    script = "import sys, edgewright.bench.worker; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = ask_text(script)
    for heavy in ("torch", "onnx'", "dagster", "pydantic", "matplotlib", "sklearn", "yaml"):
        assert f"'{heavy.rstrip(chr(39))}'" not in loaded


def ask_text(script: str) -> str:
    import subprocess

    return subprocess.run(python(script), capture_output=True, text=True, check=True).stdout


def test_least_times_and_most_memory_are_reported() -> None:
    figures = merged([answer(p95Ms=2.0, peakBytes=300), answer(p95Ms=5.0, peakBytes=900), answer(p95Ms=4.0)])
    assert (figures["p95Ms"], figures["peakMemoryBytes"], figures["samples"]) == (2.0, 800, 30)


def test_a_provider_this_host_lacks_is_replaced_by_the_cpu_and_said(tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    lane.put_json(
        "optimized/runtime.json", {**RUNTIME, "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
    )
    made = lane.run(MEASURE, emulation={"method": "declared"})
    document = json.loads(made["benchmark.json"].read_bytes())
    assert document["providers"] == ["CPUExecutionProvider"]
    assert document["notes"] == [
        "CUDAExecutionProvider is not on this host; measured on CPUExecutionProvider",
        "the class's accelerator cannot be emulated; its speed is not claimed",
    ]


def test_more_threads_than_this_host_has_are_not_pretended(tmp_path: Path) -> None:
    lane = Lane(tmp_path)
    lane.put_json("optimized/runtime.json", {**RUNTIME, "threads": 512})
    document = json.loads(lane.run(MEASURE)["benchmark.json"].read_bytes())
    assert document["threads"] == host_cores()
    assert document["notes"] == [
        f"the class runs 512 threads; measured with {host_cores()}, the cores of this host"
    ]


def test_an_emulated_class_says_it_was_not_emulated() -> None:
    assert notes_on(RUNTIME, ["CPUExecutionProvider"], 1, {"method": "qemu-user"}) == [
        "measured natively, not on the class's emulated processor"
    ]
    assert notes_on(RUNTIME, ["CPUExecutionProvider"], 1, {"method": "native"}) == []


def test_a_killed_worker_is_a_build_error_with_its_last_words() -> None:
    script = "import os, sys; print('half way', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    with pytest.raises(BuildError, match=r"was killed by SIGKILL:\n  half way"):
        ask({}, command=python(script))


def test_a_crashing_worker_shows_its_last_lines_only() -> None:
    script = "import sys; [print(f'line {i}', file=sys.stderr) for i in range(50)]; sys.exit(3)"
    with pytest.raises(BuildError, match=r"failed with exit code 3:\n  line 45") as caught:
        ask({}, command=python(script))
    assert "line 44" not in str(caught.value)


def test_a_worker_that_hangs_is_ended() -> None:
    with pytest.raises(BuildError, match=r"did not end within 0\.2 s"):
        ask({}, command=python("import time; time.sleep(600)"), timeout_s=0.2)


def test_a_worker_that_answers_nonsense_is_a_build_error() -> None:
    with pytest.raises(BuildError, match="not JSON: b'hello"):
        ask({}, command=python("print('hello')"))


def test_a_model_onnxruntime_cannot_load_is_a_build_error_in_its_words(tmp_path: Path) -> None:
    lane = Lane(tmp_path, model=b"not a model")
    with pytest.raises(BuildError, match=r"(?s)failed with exit code 1:.*[Pp]rotobuf"):
        lane.run(MEASURE)


def test_the_worker_is_the_module_that_can_be_run_by_hand() -> None:
    assert WORKER[1:] == ("-m", "edgewright.bench.worker")
