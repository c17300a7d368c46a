"""`runtime.json`: all that a device needs to open a model, the same bytes on any machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgewright.build.layout import Layout
from edgewright.build.manifest import Expected, runtime_manifest, session_config
from edgewright.build.provider_options import CUDA, OPENVINO, TENSORRT, provider_options
from edgewright_agent.contract import FILE_DATA
from edgewright_agent.settings import SWAPS, parse
from unit.build.tiny import RUNTIME, SIGNATURE


def runtime(*providers: str, **changes: Any) -> dict[str, Any]:
    return {**RUNTIME, "providers": [*providers, "CPUExecutionProvider"], **changes}


def test_a_plain_class_gets_a_plain_manifest() -> None:
    assert runtime_manifest(RUNTIME, SIGNATURE, "int8") == {
        "version": 1,
        "precision": "int8",
        "signature": SIGNATURE,
        "memoryPattern": True,
        **RUNTIME,
    }


def test_what_is_expected_says_how_it_was_got() -> None:
    expected = Expected(12.5, 2**23, "counted", "estimated")
    assert runtime_manifest(RUNTIME, SIGNATURE, "fp32", expected=expected)["expected"] == {
        "loadMs": 12.5,
        "loadFrom": "counted",
        "memoryBytes": 2**23,
        "memoryFrom": "estimated",
    }
    assert "expected" not in runtime_manifest(RUNTIME, SIGNATURE, "fp32", expected=Expected())


def test_how_applications_take_it_up_is_told_where_the_class_says_it() -> None:
    for swap in SWAPS:
        told = runtime_manifest(RUNTIME, SIGNATURE, "fp32", swap=swap)
        assert (told["swap"], parse(told).swap) == (swap, swap)
    assert "swap" not in runtime_manifest(RUNTIME, SIGNATURE, "fp32")


def test_weights_in_a_second_file_are_told() -> None:
    document = runtime_manifest(RUNTIME, SIGNATURE, "fp32", layout=Layout(external_data=(FILE_DATA,)))
    assert document["externalData"] == ["model.onnx.data"]


@pytest.mark.parametrize(("threads", "told"), [(1, {}), (4, {"session.intra_op.allow_spinning": "0"})])
def test_threads_that_must_not_spin_are_told_so_where_there_are_some(
    threads: int, told: dict[str, str]
) -> None:
    assert session_config({"threads": threads, "spinning": False}) == told
    assert session_config({"threads": threads}) == {}


def test_tensorrt_options_have_the_names_onnx_runtime_knows() -> None:
    section = {
        "fp16": True, "int8": True, "workspace": 2**28, "engineCache": True, "timingCache": True, "dla": True,
        "builderOptimizationLevel": 4, "maxPartitionIterations": 10, "minSubgraphSize": 5, "dlaCore": 1,
    }  # fmt: skip
    assert provider_options(runtime(TENSORRT, tensorrt=section), "int8")[TENSORRT] == {
        "trt_fp16_enable": "True",
        "trt_int8_enable": "True",
        "trt_max_workspace_size": "268435456",
        "trt_engine_cache_enable": "True",
        "trt_timing_cache_enable": "True",
        "trt_dla_enable": "True",
        "trt_builder_optimization_level": "4",
        "trt_max_partition_iterations": "10",
        "trt_min_subgraph_size": "5",
        "trt_dla_core": "1",
    }


def test_tensorrt_takes_int8_only_from_a_model_that_carries_its_scales() -> None:
    told = runtime(TENSORRT, tensorrt={"int8": True, "fp16": False, "dla": False})
    assert provider_options(told, "fp32") == {}
    assert provider_options(told, "mixed-int8") == {TENSORRT: {"trt_int8_enable": "True"}}


def test_cuda_options_have_the_names_onnx_runtime_knows() -> None:
    section = {
        "memoryLimit": 2**30,
        "arenaGrowth": "as-requested",
        "convolutionSearch": "heuristic",
        "tf32": True,
    }
    assert provider_options(runtime(CUDA, cuda=section), "fp32")[CUDA] == {
        "gpu_mem_limit": "1073741824",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "use_tf32": "1",
    }


def test_openvino_gets_the_threads_of_the_class_and_not_its_own_eight() -> None:
    assert provider_options(runtime(OPENVINO, threads=2), "fp32") == {
        OPENVINO: {"device_type": "CPU", "num_of_threads": "2"}
    }
    section = {"deviceType": "GPU.0", "precision": "FP16", "numStreams": 2, "performanceHint": "THROUGHPUT"}
    told = provider_options(runtime(OPENVINO, openvino=section), "fp32")[OPENVINO]
    assert json.loads(told.pop("load_config")) == {"GPU": {"PERFORMANCE_HINT": "THROUGHPUT"}}
    assert told == {"device_type": "GPU.0", "precision": "FP16", "num_streams": "2", "num_of_threads": "1"}


def test_options_of_a_provider_the_class_has_not_are_left_out() -> None:
    assert provider_options(runtime(tensorrt={"fp16": True}), "fp32") == {}


def test_the_agent_reads_what_the_pipeline_writes() -> None:
    told = runtime(
        TENSORRT, CUDA, tensorrt={"fp16": True}, cuda={"memoryLimit": 2**30}, threads=4, spinning=False
    )
    expected = Expected(3.5, 2**24, "counted", "estimated")
    settings = parse(
        json.loads(json.dumps(runtime_manifest(told, SIGNATURE, "fp32", expected=expected, layout=Layout())))
    )
    assert settings.providers == (TENSORRT, CUDA, "CPUExecutionProvider")
    assert settings.options == {TENSORRT: {"trt_fp16_enable": "True"}, CUDA: {"gpu_mem_limit": "1073741824"}}
    assert settings.config == {"session.intra_op.allow_spinning": "0"}
    assert settings.expected == {"loadMs": 3.5, "memoryBytes": 2**24}
