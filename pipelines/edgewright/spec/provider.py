"""What a class may tell its execution providers: options of TensorRT, CUDA and OpenVINO in the words their users know.

>>> TensorRt.model_validate_json('{"fp16": true, "engineCache": true}').fp16
True

How they are called in ONNX Runtime is `edgewright.build.provider_options`'s knowledge. Paths are not among them: where
an engine is kept is the device's own affair.

Sources: ONNX Runtime documentation, "TensorRT Execution Provider", "CUDA Execution Provider", "OpenVINO Execution
Provider" (configuration options).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from edgewright.spec.base import Spec, Text
from edgewright.spec.quantity import Bytes


class TensorRt(Spec):
    """Options of TensorrtExecutionProvider; what is absent is left to ONNX Runtime."""

    fp16: bool = False
    """Compute in half precision where it is faster; the class must list `fp16`."""
    int8: bool = False
    """Take the scales of int8 models (Q/DQ); has no effect on others. The class must list `int8`."""
    workspace: Bytes | None = None
    """Most scratch memory a layer may use while the engine is built and run."""
    engine_cache: bool = False
    """Keep the built engine on the device, so that only the first load builds it; the agent fixes where."""
    timing_cache: bool = False
    """Keep the measured speed of layers, so that the next engine is built faster; the agent fixes where."""
    builder_optimization_level: int | None = Field(default=None, ge=0, le=5)
    """How long the builder searches: 0 (short) to 5; below 3 engines may be slow."""
    max_partition_iterations: int | None = Field(default=None, ge=1, le=100_000)
    """Attempts to cut the graph into parts that TensorRT takes."""
    min_subgraph_size: int | None = Field(default=None, ge=1, le=100_000)
    """Parts with fewer nodes go to the next provider."""
    dla: bool = False
    """Use the deep learning accelerator of Xavier and Orin modules that have one."""
    dla_core: int | None = Field(default=None, ge=0, le=7)
    """Which one; needs `dla: true`."""


class Cuda(Spec):
    """Options of CUDAExecutionProvider; what is absent is left to ONNX Runtime."""

    memory_limit: Bytes | None = None
    """Most memory of the provider's arena; CUDA and cuDNN take some more."""
    arena_growth: Literal["power-of-two", "as-requested"] | None = None
    """How the arena grows: `as-requested` takes less memory and more time."""
    convolution_search: Literal["exhaustive", "heuristic", "default"] | None = None
    """How cuDNN's algorithm is chosen: `exhaustive` measures all at the first inference."""
    tf32: bool | None = None
    """Whether matrix products may round to TensorFloat-32 (Ampere and newer)."""


DeviceType = Annotated[
    str,
    Text(
        "CPU, GPU, GPU.0, NPU, or AUTO, HETERO or MULTI with at least two of them",
        r"(CPU|NPU|GPU(\.[0-9])?)|(AUTO|HETERO|MULTI):(CPU|NPU|GPU(\.[0-9])?)(,(CPU|NPU|GPU(\.[0-9])?))+",
        ("CPU", "AUTO:GPU,CPU"),
        max_length=64,
    ),
]


class OpenVino(Spec):
    """Options of OpenVINOExecutionProvider; its threads are `runtime.threads`."""

    device_type: DeviceType = "CPU"
    """Which of its devices computes."""
    precision: Literal["FP32", "FP16", "ACCURACY"] | None = None
    """Precision of the arithmetic; `ACCURACY` keeps the model's own. A CPU takes FP32 and ACCURACY, an NPU FP16."""
    num_streams: int | None = Field(default=None, ge=1, le=64)
    """Inferences at the same time; 1 has the lowest latency."""
    performance_hint: Literal["LATENCY", "THROUGHPUT"] | None = None
    """What OpenVINO's own choices aim at; needs ONNX Runtime 1.23."""
