"""The hardware class: what one kind of device is and can sustain, and the limits models on it must meet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from edgewright.spec.base import Document, Line, Prose, Spec, Text, camel_case
from edgewright.spec.quantity import (
    IN_BASE_UNITS,
    BitsPerSecond,
    Bytes,
    BytesPerSecond,
    Celsius,
    Count,
    Megahertz,
    Milliseconds,
    Percent,
    Quantity,
    Seconds,
    Watts,
)

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

Calibration = Literal["declared", "public-anchor", "measured"]

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


KelvinPerWatt = Annotated[
    float, Quantity("a thermal resistance", {"K/W": (1, 1)}, "K/W", ("7.3K/W", "0.9K/W"))
]
"""How much warmer than the air one watt makes a die; read as K/W."""
JoulesPerKelvin = Annotated[float, Quantity("a heat capacity", {"J/K": (1, 1)}, "J/K", ("80J/K", "630J/K"))]
"""Heat that warms die and heat sink by one kelvin; read as J/K."""
Kelvin = Annotated[float, Quantity("a temperature difference", {"K": (1, 1)}, "K", ("2K",), near={"c": "K"})]
"""A difference of temperatures; read as kelvin."""


class ThermalStep(Spec):
    """A slower clock and the temperature that calls for it."""

    clock: Megahertz
    """Clock of one core at this step; an accelerator is taken to slow down in the same ratio to `cpu.clock`."""
    at: Celsius
    """Die temperature from which this step holds."""
    power_active: Watts | None = None
    """Power while inferring at this step; absent: the part over `powerIdle` shrinks as the clock does."""


class Thermal(Spec):
    """Thermal envelope; the keys from `resistance` on let throttling be simulated: all but `hysteresis`, or none."""

    cooling: Literal["passive", "active"]
    """How heat leaves."""
    ambient_max: Celsius
    """Hottest declared surroundings."""
    throttle_at: Celsius
    """Die temperature at which the clock drops."""
    resistance: KelvinPerWatt | None = None
    """From the die to the surrounding air, over the heat sink."""
    capacitance: JoulesPerKelvin | None = None
    """Of everything that warms up with the die: its heat sink above all."""
    power_idle: Watts | None = None
    """What heats the die while nothing is inferred."""
    power_active: Watts | None = None
    """What heats the die during an inference on all of `runtime.threads`."""
    steps: tuple[ThermalStep, ...] | None = Field(default=None, min_length=1)
    """Slower clocks, each with a higher temperature than the one before; the first begins at `throttleAt`."""
    hysteresis: Kelvin | None = None
    """How far below its temperature a step is left again; absent: 2 K, as in most Linux device trees."""

    @model_validator(mode="after")
    def _can_be_simulated(self) -> Thermal:
        """Check what no single key can know.

        Raises:
            PydanticCustomError: keys of the simulation are missing, or contradict each other.
        """
        wanted = ("resistance", "capacitance", "power_idle", "power_active", "steps")
        absent = [camel_case(key) for key in wanted if getattr(self, key) is None]
        if len(absent) == len(wanted) and self.hysteresis is None:
            return self
        if absent:
            raise _contradiction(f"throttling is simulated from {len(wanted)} keys; add {', '.join(absent)}")
        assert self.steps and self.power_idle is not None and self.power_active is not None
        if self.power_active < self.power_idle:
            raise _contradiction("powerActive is below powerIdle")
        if self.steps[0].at != self.throttle_at:
            raise _contradiction("the first of 'steps' must begin at throttleAt")
        for earlier, later in zip(self.steps, self.steps[1:], strict=False):
            if later.at <= earlier.at or later.clock >= earlier.clock:
                raise _contradiction("each of 'steps' must be hotter and slower than the one before")
        powers = [
            self.power_active,
            *(step.power_active for step in self.steps if step.power_active is not None),
        ]
        if sorted(powers, reverse=True) != powers or powers[-1] < self.power_idle:
            raise _contradiction(
                "powerActive of 'steps' must fall from step to step and stay above powerIdle"
            )
        return self


def _contradiction(message: str) -> PydanticCustomError:
    return PydanticCustomError("contradiction", "{message}", {"message": message})


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
    arena: bool = True
    """Whether the CPU memory arena is used (faster, more memory)."""
    graph_optimization: Literal["disabled", "basic", "extended", "all"] = "extended"
    """ONNX Runtime graph optimization level; `extended` is the highest portable one."""


class Latency(Spec):
    """Latency percentiles of a one-sample inference."""

    p95: Milliseconds
    """95th percentile."""
    p99: Milliseconds
    """99th percentile."""


class InstructionLimits(Spec):
    """Budget of guest instructions."""

    load: Count | None = None
    """From the imported engine to a session that can run."""
    inference: Count | None = None
    """One-sample inference."""


class Limits(Spec):
    """What every model on this class must meet; a model may narrow a limit for itself, never widen it."""

    artifact_size: Bytes
    """Sum of all layers of the artifact."""
    load_time: Milliseconds
    """From an empty process with the engine imported to a session that can run."""
    power_cycle: Milliseconds | None = None
    """From a process without the engine to the first answer, nothing cached, as after the power was cut; the operating
    system's own start is not part of it; absent: not limited."""
    latency: Latency
    """One-sample inference."""
    peak_memory: Bytes
    """Peak resident memory over the bare engine."""
    instructions: InstructionLimits | None = None
    """Budget of guest instructions on the emulated processor, one thread; absent: no budget."""
    regression: Percent = 1.0
    """How much the instructions may grow over those in `baselines/<model>.yaml`, each of load and inference."""


class CyclesPerInstruction(Spec):
    """Processor cycles per executed instruction, one thread; the runtime's own loops, so apart by precision."""

    fp32: float = Field(gt=0, le=100)
    """In fp32 and fp16 models."""
    int8: float = Field(gt=0, le=100)
    """In int8 and int4 models."""


Rate = Annotated[float, Field(ge=0, le=1_000_000)]
"""Processor cycles for one of something."""


class Cycles(Spec):
    """Processor cycles for one of each thing that an inference on an emulated processor is counted in; absent: none.

    Either `instructions` or kinds of them, of which armv7 and riscv64 have none.
    """

    instructions: Rate = 0.0
    """An instruction of any kind."""
    loads: Rate = 0.0
    """A move from memory."""
    stores: Rate = 0.0
    """A move to memory."""
    branches: Rate = 0.0
    """A jump, taken or not."""
    calls: Rate = 0.0
    """A call or a return."""
    simd_fma: Rate = 0.0
    """A floating-point multiply-add."""
    simd_fp: Rate = 0.0
    """Another floating-point operation."""
    simd_dot: Rate = 0.0
    """A dot product of bytes."""
    simd_int: Rate = 0.0
    """Another vector operation."""
    scalar: Rate = 0.0
    """An instruction of no other kind."""
    load_bytes: Rate = 0.0
    """A byte read by whatever instruction."""
    store_bytes: Rate = 0.0
    """A byte written by whatever instruction."""
    branch_misses: Rate = 0.0
    """A conditional branch that a simple predictor guesses wrong."""
    per_inference: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    """An inference, whatever is in it."""

    @model_validator(mode="after")
    def _adds_up(self) -> Cycles:
        """Check what no single key can know.

        Raises:
            PydanticCustomError: instructions would be paid for twice, or nothing costs anything.
        """
        kinds = {name for name in self.model_fields_set - {"instructions", "per_inference"}}
        if self.instructions and kinds:
            raise _contradiction(f"'instructions' are all of them; with it no {camel_case(min(kinds))}")
        if not any(getattr(self, name) for name in ("instructions", *kinds)):
            raise _contradiction("nothing costs anything; give at least one rate above 0")
        return self


class CyclesByKind(Spec):
    """What the things cost that are counted of an inference, as `edgewright calibrate` fits it; one thread."""

    fp32: Cycles
    """In fp32 and fp16 models."""
    int8: Cycles
    """In int8 and int4 models."""


class Loading(Spec):
    """What loading a model costs the processor; reading its bytes from storage comes on top."""

    cycles_per_instruction: float = Field(gt=0, le=100)
    """For every instruction; not that of inferences: this is the engine's own code."""
    cycles_per_byte: float = Field(default=0.0, ge=0, le=100_000)
    """For every byte of the artifact: memory that is touched for the first time."""
    once: float = Field(default=0.0, ge=0, le=1e12)
    """Cycles for the first model of a process, whatever it is."""


class Emulation(Spec):
    """How this class is represented where the hardware is absent."""

    method: Literal["native", "qemu-user", "declared"]
    """`native`: this machine; `qemu-user`: an emulated CPU; `declared`: cannot be emulated (GPU, NPU)."""
    cpu: Line | None = None
    """CPU model for the emulator, for example `cortex-a72`."""
    cycles_per_instruction: CyclesPerInstruction | None = None
    """What instructions cost on this core, all kinds alike; absent, as `cyclesByKind`: a published figure, or 1."""
    cycles_by_kind: CyclesByKind | None = None
    """The same by kind, more exact; from `edgewright calibrate`. Instead of `cyclesPerInstruction`."""
    loading: Loading | None = None
    """What loading a model costs; absent: as many cycles per instruction as an inference."""
    thread_speedup: float | None = Field(default=None, ge=1, le=512)
    """How much faster `runtime.threads` threads are than one; absent: small models gain nothing, so 1."""
    calibration: Calibration | None = None
    """Where these figures come from: `declared`, `public-anchor` or `measured`; decides how far off they may be."""
    calibrated_on: Line | None = None
    """Where and when they were measured, for example `2026-03-14, onnxruntime 1.31.1, Raspberry Pi 4 rev 1.5`."""
    fit_error: Percent | None = None
    """Mean error of the fit on nets it was not made from: of fp32, int8 and loading the largest."""


class Poll(Spec):
    """How often a device asks for news."""

    interval: Seconds
    """Time between polls."""
    jitter: Percent = 20.0
    """Random share of the interval added, so that a fleet does not ask at once."""
    max_backoff: Seconds
    """Longest wait after failures."""


class UpdatePolicy(Spec):
    """When and how a device of this class takes updates."""

    poll: Poll
    """Polling."""
    bandwidth: BitsPerSecond | None = None
    """Cap on downloads."""
    disk_reserve: Bytes
    """Space the agent never uses."""


class RollbackPolicy(Spec):
    """When a device gives up on a new model."""

    attempts: int = Field(default=3, ge=1, le=20)
    """Loads tried, counted durably before each, until the model is given up."""
    health_timeout: Seconds = 60.0
    """Longest a golden inference may take."""


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
        """Return that part of a class."""
        return cls.model_construct(**{name: getattr(hardware, name) for name in cls.model_fields})

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
