"""What a probe is told of a runtime manifest, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path

from edgewright.bench.target.emulator import native_target
from edgewright.bench.target.processor import Core, host_arch
from edgewright.bench.target.provider import OPENVINO, OPTIONS
from edgewright.bench.target.session import merged, not_run_here, session_of
from unit.bench.lane import RUNTIME
from unit.bench.target import models

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
SETTINGS = {
    **RUNTIME,
    "providers": [TENSORRT, CUDA, CPU],
    "providerOptions": {TENSORRT: {"trt_fp16_enable": "True", "trt_max_workspace_size": "9"}},
    "memoryPattern": False,
    "sessionConfig": {"session.intra_op.allow_spinning": "0"},
}


def test_all_that_opens_a_session_is_told() -> None:
    assert session_of(SETTINGS) == {
        "providers": [TENSORRT, CUDA, CPU],
        "providerOptions": SETTINGS["providerOptions"],
        "arena": True,
        "memoryPattern": False,
        "graphOptimization": "extended",
        "sessionConfig": {"session.intra_op.allow_spinning": "0"},
    }


def test_other_providers_do_not_get_its_options() -> None:
    assert session_of(SETTINGS, [CPU])["providerOptions"] == {}


def test_a_target_holds_a_provider_to_what_it_can_do() -> None:
    told = {OPENVINO: {"device_type": "CPU", "num_of_threads": "2", "num_streams": "1"}}
    assert merged(told, OPTIONS)[OPENVINO] == {
        "device_type": "CPU", "num_of_threads": "1", "num_streams": "1", "precision": "FP32",
    }  # fmt: skip


def test_options_of_a_device_that_is_not_here_are_not_given_to_another() -> None:
    told = {OPENVINO: {"device_type": "GPU", "load_config": '{"GPU":{"PERFORMANCE_HINT":"LATENCY"}}'}}
    assert merged(told, OPTIONS) == OPTIONS


def test_what_was_not_run_is_told_with_its_options() -> None:
    assert not_run_here(SETTINGS, {CPU}, {}) == [
        f"declared, not run here: {TENSORRT} with trt_fp16_enable=True, trt_max_workspace_size=9",
        f"declared, not run here: {CUDA}",
    ]


def test_what_was_run_otherwise_is_told() -> None:
    settings = {
        "providers": [OPENVINO, CPU],
        "providerOptions": {OPENVINO: {"device_type": "CPU", "num_of_threads": "2", "num_streams": "1"}},
    }
    assert not_run_here(settings, {OPENVINO, CPU}, OPTIONS) == [
        f"declared, not run here: {OPENVINO} with num_of_threads=2 (ran with 1)"
    ]


def test_the_probe_opens_a_session_with_all_of_it(tmp_path: Path) -> None:
    from edgewright.bench.functional import check

    case = models.relu()
    told = {name: SETTINGS[name] for name in ("memoryPattern", "sessionConfig")}
    model, runtime = case.write(tmp_path, **told)
    target = native_target(Core(host_arch(), None, "this machine", 1))
    assert check(target, model, runtime, case.golden).verdict == "pass"
