"""From counted instructions to milliseconds on a device, with how far off they may be.

    latency  = instructions per inference × cycles per instruction / clock / thread speed-up
    start-up = instructions to load × cycles per instruction / clock + bytes / storage read rate
    power cycle = start-up + the same for importing the engine, and the first inference

A calibrated class has cycles by kind: its cycles per instruction depend on which instructions a model has.

>>> banded(10.0, 0.25)
Banded(value=10.0, low=7.5, high=12.5)

A figure is worth what its cycles per instruction are worth, so each carries its `calibration`:

| calibration | cycles per instruction come from | band |
|---|---|---|
| declared | the class's author, or 1 where nobody said; an accelerator stands beside the core | half to double |
| public-anchor | published figures of the core, with another runtime | ± 25 % |
| measured | this runtime on such a device | ± 15 %, or the fit's own error where that is larger |

A gate judges the upper end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from edgewright.bench.anchors import anchor_of
from edgewright.bench.counting.counts import Counts
from edgewright.bench.counting.spans import ClassCounts
from edgewright.spec.emulation import Calibration, Cycles, Loading
from edgewright.spec.hardware import Sheet

# The slowest core in the table of anchors is at 1.93: double the unknown one is slower than all of them.
UNKNOWN_CYCLES_PER_INSTRUCTION = 1.0
DECLARED_FACTOR = 2.0
PUBLIC_ANCHOR_ERROR = 0.25
MEASURED_ERROR = 0.15
STORAGE_ERROR = 0.04  # of bytes over rate against real loads from throttled storage
DIGITS = 4  # significant; more would pretend

Precision = Literal["fp32", "int8"]


@dataclass(frozen=True)
class Banded:
    """A figure and the ends of its error band, all in one unit."""

    value: float
    low: float
    high: float

    def __add__(self, other: Banded) -> Banded:
        """Add two figures whose errors may go the same way."""
        return Banded(self.value + other.value, self.low + other.low, self.high + other.high)

    def scaled(self, factor: float) -> Banded:
        """Return the figure and its band times `factor` (> 0)."""
        return Banded(self.value * factor, self.low * factor, self.high * factor)

    def to_json(self) -> dict[str, float]:
        """Return value and ends, rounded to what they can mean."""
        return {name: significant(getattr(self, name)) for name in ("value", "low", "high")}


@dataclass(frozen=True)
class Coefficients:
    """What turns a class's instructions into time.

    Attributes:
        cycles_per_instruction: Of an inference, with its band; of a class with cycles by kind, of this inference.
        clock_hz: Of one core.
        thread_speedup: How much faster the class's threads are than one.
        calibration: Where the cycles per instruction come from.
        notes: The same in sentences, and what else a reader must know.
        cycles_by_kind: What the cycles per instruction were made from; empty where they are a figure of the class.
        loading: What loading a model costs.
        band: One, with the ends that its calibration gives every figure.
    """

    cycles_per_instruction: Banded
    clock_hz: float
    thread_speedup: float
    calibration: Calibration
    notes: tuple[str, ...]
    loading: Loading
    band: Banded
    cycles_by_kind: Mapping[str, float] = field(default_factory=dict)

    def milliseconds(self, instructions: int) -> Banded:
        """Return how long `instructions` of an inference take on one thread."""
        return self.cycles_per_instruction.scaled(instructions / self.clock_hz * 1e3)

    def starting_ms(self, instructions: int) -> Banded:
        """Return how long `instructions` of the engine's own code take."""
        return self.band.scaled(self.loading.cycles_per_instruction * instructions / self.clock_hz * 1e3)

    def loading_ms(self, instructions: int, size_bytes: int) -> Banded:
        """Return how long the processor takes to load a model of `size_bytes` bytes."""
        cycles = loading_cycles(self.loading, instructions, size_bytes)
        return self.band.scaled(cycles / self.clock_hz * 1e3)


@dataclass(frozen=True)
class Timing:
    """Predicted times of one artifact on one class.

    Attributes:
        latency_ms: One-sample inference, undisturbed and unthrottled.
        startup_ms: From an empty process with the engine imported to a session that can run, artifact not cached.
        power_cycle_ms: From a process without the engine to the first answer, nothing cached; the operating system's
            own start is not part of it.
        calibration: Where the cycles per instruction come from.
        coefficients: What was used.
    """

    latency_ms: Banded
    startup_ms: Banded
    power_cycle_ms: Banded
    calibration: Calibration
    coefficients: Coefficients

    @property
    def notes(self) -> tuple[str, ...]:
        """What stands between these figures and the device, in sentences."""
        return self.coefficients.notes

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values; equal counts give equal bytes."""
        used = self.coefficients
        by_kind = {"cyclesByKind": dict(used.cycles_by_kind)} if used.cycles_by_kind else {}
        return {
            "latencyMs": self.latency_ms.to_json(),
            "startupMs": self.startup_ms.to_json(),
            "powerCycleMs": self.power_cycle_ms.to_json(),
            "calibration": self.calibration,
            "cyclesPerInstruction": used.cycles_per_instruction.to_json(),
            **by_kind,
            "clockMhz": used.clock_hz / 1e6,
            "threadSpeedup": used.thread_speedup,
            "notes": list(self.notes),
        }


def predict(counts: Counts, hardware: Sheet, storage_bytes: int, *, precision: Precision = "fp32") -> Timing:
    """Return the times of a model on a class.

    Args:
        counts: Instructions to load it and per inference, from the class's emulated processor.
        hardware: The class.
        storage_bytes: What is read from storage before the first inference.
        precision: Of the model's arithmetic, as its `runtime.json` says.
    """
    used = coefficients(hardware, precision, counts.per_inference)
    rate = hardware.storage.read
    loading_ms = used.loading_ms(counts.load.instructions, storage_bytes)
    startup_ms = loading_ms + _read_ms(storage_bytes, rate)
    return Timing(
        latency_ms=used.milliseconds(counts.per_inference.instructions).scaled(1 / used.thread_speedup),
        startup_ms=startup_ms,
        power_cycle_ms=startup_ms + used.starting_ms(counts.awakening) + _read_ms(counts.engine_bytes, rate),
        calibration=used.calibration,
        coefficients=used,
    )


def coefficients(
    hardware: Sheet, precision: Precision = "fp32", counted: ClassCounts | None = None
) -> Coefficients:
    """Return what a class says of itself, else what is published about its core, else the unknown core's.

    Args:
        hardware: The class.
        precision: Of the model's arithmetic.
        counted: Of one inference; a class with cycles by kind needs it.
    """
    emulation = hardware.emulation
    kinds = emulation.cycles_by_kind
    by_kind: Cycles | None = getattr(kinds, precision) if kinds else None
    cycles, calibration, note = _cycles(hardware, precision, by_kind, counted)
    notes = [note]
    if emulation.method == "declared":
        notes.append(
            "times are those of the processor alone, without the accelerator: declared, not emulated"
        )
    if hardware.runtime.threads > 1 and emulation.thread_speedup is None:
        notes.append(f"one thread of {hardware.runtime.threads}: the class declares no threadSpeedup")
    band = _band(calibration, emulation.fit_error)
    return Coefficients(
        cycles_per_instruction=band.scaled(cycles),
        clock_hz=hardware.cpu.clock * 1e6,
        thread_speedup=emulation.thread_speedup or 1.0,
        calibration=calibration,
        notes=tuple(notes),
        loading=emulation.loading or Loading.model_construct(cycles_per_instruction=cycles),
        band=band,
        cycles_by_kind=by_kind.model_dump(by_alias=True, exclude_defaults=True) if by_kind else {},
    )


def cycles_of(counted: ClassCounts, rates: Mapping[str, float]) -> float:
    """Return the cycles of one inference.

    >>> cycles_of(ClassCounts(30, {"loads": 10, "scalar": 20}, load_bytes=80), {"loads": 0.5, "loadBytes": 0.25})
    25.0
    """
    return sum(rate * features(counted)[name] for name, rate in rates.items())


def loading_cycles(loading: Loading, instructions: int, size_bytes: int) -> float:
    """Return the cycles of loading one model in a process that has loaded none before."""
    return loading.cycles_per_instruction * instructions + loading.cycles_per_byte * size_bytes + loading.once


def features(counted: ClassCounts) -> dict[str, float]:
    """Return everything that a class can put a price on, in the words of `emulation.cyclesByKind`."""
    return {
        "instructions": counted.instructions,
        **counted.kinds,
        "loadBytes": counted.load_bytes,
        "storeBytes": counted.store_bytes,
        "branchMisses": counted.branch_misses,
        "perInference": 1,
    }


def banded(value: float, error: float) -> Banded:
    """Return `value` ± `error`, a share below 1."""
    return Banded(value, value * (1 - error), value * (1 + error))


def significant(value: float, digits: int = DIGITS) -> float:
    """Round to significant digits.

    >>> significant(0.31059), significant(28_412.7)
    (0.3106, 28410.0)
    """
    return float(f"{value:.{digits}g}")


def _cycles(
    hardware: Sheet, precision: Precision, by_kind: Cycles | None, counted: ClassCounts | None
) -> tuple[float, Calibration, str]:
    """Return cycles per instruction, where they come from, and the same in a sentence."""
    emulation, own, anchor = (
        hardware.emulation,
        hardware.emulation.cycles_per_instruction,
        anchor_of(hardware.cpu.model),
    )
    if by_kind is not None or own is not None:
        calibration: Calibration = emulation.calibration or "declared"
        where = f" on {emulation.calibrated_on}" if emulation.calibrated_on else ""
        if by_kind is not None:
            assert counted is not None, "cycles by kind need counts"
            rates = by_kind.model_dump(by_alias=True, exclude_defaults=True)
            cycles = cycles_of(counted, rates) / counted.instructions
            return cycles, calibration, f"cycles by kind of instruction {calibration} in the class{where}"
        assert own is not None
        cycles = own.int8 if precision == "int8" else own.fp32
        return cycles, calibration, f"cycles per instruction {calibration} in the class{where}"
    if anchor is not None:
        calibration = "declared" if emulation.method == "declared" else "public-anchor"
        return anchor.cycles_per_instruction, calibration, anchor.note
    cycles = UNKNOWN_CYCLES_PER_INSTRUCTION
    return (
        cycles,
        "declared",
        f"no published cycles per instruction of {hardware.cpu.model}: assumed {cycles:g}",
    )


def _read_ms(size_bytes: int, bytes_per_s: float) -> Banded:
    return banded(size_bytes / bytes_per_s * 1e3, STORAGE_ERROR)


def _band(calibration: Calibration, fit_error_percent: float | None) -> Banded:
    if calibration == "declared":
        return Banded(1.0, 1 / DECLARED_FACTOR, DECLARED_FACTOR)
    least = PUBLIC_ANCHOR_ERROR if calibration == "public-anchor" else MEASURED_ERROR
    # an error of 100 % or more leaves no lower end
    return banded(1.0, min(max(least, (fit_error_percent or 0.0) / 100), 1.0))
