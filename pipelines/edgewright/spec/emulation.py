"""How a hardware class is represented where the hardware is absent, and what instructions cost on it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edgewright.spec.base import Line, Spec, camel_case, contradiction
from edgewright.spec.quantity import Percent

Calibration = Literal["declared", "public-anchor", "measured"]


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
            raise contradiction(f"'instructions' are all of them; with it no {camel_case(min(kinds))}")
        if not any(getattr(self, name) for name in ("instructions", *kinds)):
            raise contradiction("nothing costs anything; give at least one rate above 0")
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
