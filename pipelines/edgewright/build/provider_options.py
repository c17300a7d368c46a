"""What a class's provider options are called in ONNX Runtime: strings by key, as a session takes them.

>>> provider_options({"providers": ["CUDAExecutionProvider"], "threads": 1, "cuda": {"tf32": False}}, "fp32")
{'CUDAExecutionProvider': {'use_tf32': '0'}}

Sources: ONNX Runtime documentation of each provider, "Configuration options". Paths are left to the device.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

TENSORRT = "TensorrtExecutionProvider"
CUDA = "CUDAExecutionProvider"
OPENVINO = "OpenVINOExecutionProvider"

_TENSORRT = {
    "fp16": "trt_fp16_enable",
    "int8": "trt_int8_enable",
    "workspace": "trt_max_workspace_size",
    "engineCache": "trt_engine_cache_enable",
    "timingCache": "trt_timing_cache_enable",
    "builderOptimizationLevel": "trt_builder_optimization_level",
    "maxPartitionIterations": "trt_max_partition_iterations",
    "minSubgraphSize": "trt_min_subgraph_size",
    "dla": "trt_dla_enable",
    "dlaCore": "trt_dla_core",
}
_CUDA = {
    "memoryLimit": "gpu_mem_limit",
    "arenaGrowth": "arena_extend_strategy",
    "convolutionSearch": "cudnn_conv_algo_search",
    "tf32": "use_tf32",
}
_GROWTH = {"power-of-two": "kNextPowerOfTwo", "as-requested": "kSameAsRequested"}


def provider_options(runtime: Mapping[str, Any], precision: str) -> dict[str, dict[str, str]]:
    """Return provider → its options, for the providers of a class that have any.

    Args:
        runtime: The `runtime` section of a class, in the words of its YAML.
        precision: Of the artifact.
    """
    told = {
        TENSORRT: _tensorrt(runtime.get("tensorrt", {}), precision),
        CUDA: _cuda(runtime.get("cuda", {})),
        OPENVINO: _openvino(runtime.get("openvino", {}), runtime["threads"]),
    }
    return {name: told[name] for name in runtime["providers"] if told.get(name)}


def _tensorrt(options: Mapping[str, Any], precision: str) -> dict[str, str]:
    # Without Q/DQ, int8 would ask for a calibration table, and there is none: int8 models carry their scales.
    wanted = {name: value for name, value in options.items() if name != "int8" or "int8" in precision}
    # The Python binding reads "True" in every version, "1" only in some.
    return {_TENSORRT[name]: str(value) for name, value in wanted.items() if value is not False}


def _cuda(options: Mapping[str, Any]) -> dict[str, str]:
    values = dict(options)
    if "arenaGrowth" in values:
        values["arenaGrowth"] = _GROWTH[values["arenaGrowth"]]
    if "convolutionSearch" in values:
        values["convolutionSearch"] = values["convolutionSearch"].upper()
    if "tf32" in values:
        values["tf32"] = int(values["tf32"])
    return {_CUDA[name]: str(value) for name, value in values.items()}


def _openvino(options: Mapping[str, Any], threads: int) -> dict[str, str]:
    device = options.get("deviceType", "CPU")
    told = {"device_type": device, "num_of_threads": str(threads)}  # unless told, it takes eight
    if precision := options.get("precision"):
        told["precision"] = precision
    if streams := options.get("numStreams"):
        told["num_streams"] = str(streams)
    if hint := options.get("performanceHint"):
        # The only way to say it: OpenVINO's own properties, by device (the mode where there are several).
        where = device.partition(":")[0].partition(".")[0]
        told["load_config"] = json.dumps({where: {"PERFORMANCE_HINT": hint}}, separators=(",", ":"))
    return told
