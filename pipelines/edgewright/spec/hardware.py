"""The hardware class: what one kind of device is and can sustain, and the limits models on it must meet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from edgewright.spec.base import Document, FilePath, Line, Prose, Spec, Text
from edgewright.spec.budget import Limits
from edgewright.spec.emulation import Emulation
from edgewright.spec.provider import Cuda, OpenVino, TensorRt
from edgewright.spec.quantity import (
    IN_BASE_UNITS,
    BitsPerSecond,
    Bytes,
    BytesPerSecond,
    Megahertz,
    Milliseconds,
    Percent,
    Seconds,
    Watts,
)
from edgewright.spec.thermal import Thermal
from edgewright.spec.window import MAX_WINDOWS, WindowText
from edgewright_agent.contract import MAX_RECIPIENTS

Precision = Literal["fp32", "fp16", "int8", "int4"]
Arch = Literal["amd64", "arm64", "armv7", "riscv64"]

ISA: dict[str, tuple[str, ...]] = {
    "amd64": ("sse4.1", "sse4.2", "avx", "avx2", "f16c", "fma", "avx512", "vnni", "amx"),
    "arm64": ("neon", "asimdhp", "asimddp", "i8mm", "bf16", "sve"),
    "armv7": ("vfpv4", "neon"),
    "riscv64": ("rvv",),
}
"""Instruction set extensions that change speed or results; `vnni` is the AVX or the AVX-512 kind."""

Isa = Literal[
    "sse4.1",
    "sse4.2",
    "avx",
    "avx2",
    "f16c",
    "fma",
    "avx512",
    "vnni",
    "amx",
    "neon",
    "asimdhp",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
    "vfpv4",
    "rvv",
]

Provider = Literal[
    "TensorrtExecutionProvider",
    "NvTensorRTRTXExecutionProvider",
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "OpenVINOExecutionProvider",
    "QNNExecutionProvider",
    "VitisAIExecutionProvider",
    "RknpuExecutionProvider",
    "DnnlExecutionProvider",
    "ACLExecutionProvider",
    "XnnpackExecutionProvider",
    "CPUExecutionProvider",
]


class Cpu(Spec):
    """The processor that runs the model, or feeds the accelerator that does."""

    arch: Arch
    """Instruction set architecture, in OCI platform words."""
    model: Line
    """Core name, for example `cortex-a72`."""
    cores: int = Field(ge=1, le=512)
    """Number of cores."""
    clock: Megahertz
    """Sustained clock of one core."""
    isa: tuple[Isa, ...] = ()
    """Instruction set extensions that change speed or results."""


class Accelerator(Spec):
    """A GPU, NPU or VPU beside the processor."""

    kind: Literal["gpu", "npu", "vpu"]
    """What it is."""
    name: Line
    """Product name."""
    compute_capability: Line | None = None
    """Vendor's capability number in quotes, for example CUDA `"8.7"`."""
    memory: Bytes | None = None
    """Memory of its own; absent when it shares the system's."""


class Memory(Spec):
    """Main memory."""

    total: Bytes
    """Fitted RAM."""
    for_models: Bytes
    """What the system leaves to models."""


class Storage(Spec):
    """Where models are stored."""

    kind: Literal["sd", "emmc", "ssd", "nvme"]
    """Technology."""
    capacity: Bytes
    """Size of the device."""
    read: BytesPerSecond
    """Sequential read rate."""
    write: BytesPerSecond
    """Sequential write rate."""


class Power(Spec):
    """Power envelope."""

    budget: Watts
    """Sustained power of the whole board."""
    source: Literal["mains", "poe", "battery", "vehicle"]
    """Where it comes from."""


class Connectivity(Spec):
    """How a device reaches a registry."""

    mode: Literal["always", "intermittent", "offline"]
    """`offline` devices are updated from a bundle file."""
    downlink: BitsPerSecond | None = None
    """Usual download rate."""
    metered: bool = False
    """Whether bytes cost money."""


VersionRange = Annotated[
    str,
    Text(
        "a version range (PEP 440)",
        r"\s*(===?|~=|!=|[<>]=?)\s*[0-9A-Za-z.*+!-]+\s*(,\s*(===?|~=|!=|[<>]=?)\s*[0-9A-Za-z.*+!-]+\s*)*",
        (">=1.20,<2", "~=1.31"),
        max_length=200,
    ),
]


class Runtime(Spec):
    """The inference engine and its session settings."""

    engine: Literal["onnxruntime"] = "onnxruntime"
    """Engine."""
    versions: VersionRange
    """Versions of the engine that may run the model, as a PEP 440 range."""
    providers: tuple[Provider, ...] = Field(min_length=1)
    """ONNX Runtime execution providers in order of preference; the last is always CPUExecutionProvider."""
    threads: int = Field(default=1, ge=1, le=512)
    """Intra-op threads."""
    spinning: bool = True
    """Whether threads wait for work by spinning: answers sooner, and burns a core's power between operators."""
    arena: bool = True
    """Whether the CPU memory arena is used (faster, more memory)."""
    memory_pattern: bool = True
    """Whether memory is planned ahead from the first inference of a shape (faster, more memory)."""
    graph_optimization: Literal["disabled", "basic", "extended", "all"] = "extended"
    """ONNX Runtime graph optimization level; `extended` is the highest portable one."""
    cpu_fallback: bool | None = None
    """Whether a model that is made for the processor alone ships beside, for when the accelerator does not start."""
    swap: Literal["beside", "after-release"] | None = None
    """How applications take up an update: with both models in memory for a moment, or the old one released first, where
    requests wait meanwhile. Absent: beside where the device has the memory for it by then."""
    tensorrt: TensorRt | None = None
    """Options of TensorrtExecutionProvider."""
    cuda: Cuda | None = None
    """Options of CUDAExecutionProvider."""
    openvino: OpenVino | None = None
    """Options of OpenVINOExecutionProvider."""


class Poll(Spec):
    """How often a device asks for news."""

    interval: Seconds
    """Time between polls."""
    jitter: Percent = 20.0
    """Random share of the interval added, so that a fleet does not ask at once."""
    max_backoff: Seconds
    """Longest wait after failures."""


class Windows(Spec):
    """Times of the week at which devices may load models, and at which they may activate them."""

    download: tuple[WindowText, ...] = Field(default=(), max_length=MAX_WINDOWS)
    """When models may be loaded; none is always. Devices ask for news at any time, which is little."""
    activation: tuple[WindowText, ...] = Field(default=(), max_length=MAX_WINDOWS)
    """When a loaded model may be tried and take over; none is always."""
    time_zone: Literal["local", "utc"] = "local"
    """Whose clock: the device's own, summer time included, or UTC."""


class UpdatePolicy(Spec):
    """When and how a device of this class takes updates."""

    poll: Poll
    """Polling."""
    bandwidth: BitsPerSecond | None = None
    """Cap on downloads."""
    windows: Windows | None = None
    """When models may be loaded and activated; absent is at any time."""
    metered: Literal["metadata", "defer", "allow"] | None = None
    """On a metered link: ask for news but load no models, ask rarely as well, or load all the same.
    Absent is `allow` where `connectivity.metered` says that the class always has such a link, else `metadata`."""
    disk_reserve: Bytes
    """Space the agent never uses."""
    inode_reserve: int | None = Field(default=None, ge=0, le=10_000_000)
    """Inodes the agent never uses; absent: as each device's own configuration says."""


class DeviceBudget(Spec):
    """What a model may cost as a device itself measures it."""

    load_time: Milliseconds | None = None
    """Loading, in a process that has imported the engine."""
    latency: Milliseconds | None = None
    """One-sample inference: median of the trial, and 95th percentile of its soak."""
    peak_memory: Bytes | None = None
    """Peak resident memory over the bare engine; a model that takes twice as much is ended at once."""


class RollbackPolicy(Spec):
    """When a device gives up on a new model."""

    attempts: int = Field(default=3, ge=1, le=20)
    """Loads tried, counted durably before each, until the model is given up."""
    health_timeout: Seconds = 60.0
    """Longest that loading a model and replaying its golden inputs once may take."""
    enforce_limits: bool = False
    """Whether a device refuses a model that, as the device measures it, exceeds the class's limits (load time, p95
    latency, peak memory); figures in `budget` count instead of them."""
    budget: DeviceBudget | None = None
    """What a model may cost on a device; what is absent is not checked, unless `enforceLimits` says so."""
    inference_timeout: Seconds = 10.0
    """Longest that one inference may take during a soak; an application whose inference takes longer hangs."""
    trial_soak: Seconds | None = None
    """How long golden inputs are replayed before a model becomes active; absent: once."""
    soak: Seconds | None = None
    """How long live inference is watched after that; the last proved model is kept meanwhile; absent: not at all."""


class Encryption(Spec):
    """Who can open the weights of models for this class."""

    recipients: tuple[FilePath, ...] = Field(min_length=1, max_length=MAX_RECIPIENTS)
    """Public keys (PEM, EC P-256 or RSA of 2048 bits and more), relative to fleet.yaml: of the class or of devices."""
    default: bool = False
    """Whether weights are encrypted where a model does not say `encrypt`."""


class Sheet(Spec):
    """The part of a hardware class that decides what a model costs on it, and nothing else.

    >>> Sheet.read(dump(Sheet.of(hardware))) == Sheet.of(hardware)     # doctest: +SKIP
    True
    """

    cpu: Cpu
    """Processor."""
    accelerator: Accelerator | None = None
    """Accelerator, if any."""
    memory: Memory
    """Main memory."""
    storage: Storage
    """Storage."""
    thermal: Thermal
    """Thermal."""
    runtime: Runtime
    """Inference engine."""
    emulation: Emulation
    """Emulated target."""

    @classmethod
    def of(cls, hardware: HardwareClass) -> Sheet:
        """Return that part of a class; what is beside a model, or comes after it, costs nothing while it runs."""
        runtime = hardware.runtime.model_copy(update={"cpu_fallback": None, "swap": None})
        parts = {name: getattr(hardware, name) for name in cls.model_fields}
        return cls.model_construct(**{**parts, "runtime": runtime})

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Sheet:
        """Return a sheet that was dumped as JSON values, quantities as numbers in their base units."""
        return cls.model_validate_json(json.dumps(document), context=IN_BASE_UNITS)


class HardwareClass(Document):
    """One kind of device: `hardware/<class>.yaml`."""

    description: Prose
    """What it is and where it stands."""
    cpu: Cpu
    """Processor."""
    accelerator: Accelerator | None = None
    """Accelerator, if any."""
    memory: Memory
    """Main memory."""
    storage: Storage
    """Storage."""
    power: Power
    """Power."""
    thermal: Thermal
    """Thermal."""
    connectivity: Connectivity
    """Network."""
    runtime: Runtime
    """Inference engine."""
    precisions: tuple[Precision, ...] = Field(min_length=1)
    """Precisions the class runs well; `fp32` is always possible."""
    limits: Limits
    """Limits of every model."""
    emulation: Emulation
    """Emulated target."""
    update_policy: UpdatePolicy
    """Updates."""
    rollback_policy: RollbackPolicy = Field(default_factory=RollbackPolicy)
    """Rollback."""
    encryption: Encryption | None = None
    """Recipients of encrypted weights; absent: weights for this class cannot be encrypted."""
