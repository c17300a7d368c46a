"""A calibration: a class, what its device measured, what its emulated processor counted, and the coefficients of both.

>>> kit = make_kit("raspberry-pi-4", sheet)                                              # doctest: +SKIP
>>> counts = count_nets(counting_target(sheet, cache), kit.nets, …)                      # doctest: +SKIP
>>> found = calibrate(sheet, kit, read(Path("measured.json")), counts, target.label)     # doctest: +SKIP
>>> found.figures["fitError"], found.fits["int8"].errors.near                            # doctest: +SKIP
(6.1, 0.97)
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgewright.bench.assessment import countable
from edgewright.bench.calibration.batch import NetCounts
from edgewright.bench.calibration.fit import Errors, Fit, Sample, fit, held_out, solve
from edgewright.bench.calibration.kit import Kit, describe
from edgewright.bench.calibration.measured import Measured
from edgewright.bench.calibration.nets import Recipe, make
from edgewright.bench.target.emulator import Target, open_target
from edgewright.bench.target.processor import HOST_ARCH
from edgewright.bench.timing import features, significant
from edgewright.build.passes.facts import saturates
from edgewright.errors import BuildError, SpecError
from edgewright.spec.base import Spec, camel_case
from edgewright.spec.emulation import Cycles, Loading
from edgewright.spec.hardware import Sheet

PRECISIONS = ("fp32", "int8")
CALIBRATED_ON = "{date}, {engine}, {processor}"


@dataclass(frozen=True)
class Calibration:
    """What was found of one class.

    Attributes:
        measured: By the device.
        clock_mhz: Of the class: what its cycles are cycles of, whatever the device's own clock was.
        target: The emulated processor on which instructions were counted.
        fits: `fp32`, `int8`: cycles by kind; `loading`: its cycles.
        roofline: Precision → errors of a rate of multiply-adds fitted to the same nets, left out in the same way.
        thread_speedup: Of the class's threads over one, in the median; None for a class with one thread.
        figures: What goes into the sheet, in its words.
    """

    measured: Measured
    clock_mhz: float
    target: str
    fits: Mapping[str, Fit]
    roofline: Mapping[str, Errors]
    thread_speedup: float | None
    figures: Mapping[str, Any]


def check_class(hardware_class: str, sheet: Sheet) -> None:
    """Check that a class is one whose processor runs its models.

    Raises:
        SpecError: an accelerator does.
    """
    if sheet.emulation.method == "declared":
        raise SpecError(
            f"{hardware_class} runs models on an accelerator, which is not emulated: nothing of it can be counted",
            hint="only classes with emulation.method native or qemu-user are calibrated",
        )


def recipe_of(sheet: Sheet, nets: int) -> Recipe:
    """Return how the nets of a class are made: with weights of 7 bits where models for it have them."""
    return Recipe(nets=nets, reduce_range=saturates(sheet.cpu.arch, sheet.cpu.isa))


def make_kit(
    hardware_class: str, sheet: Sheet, recipe: Recipe, progress: Callable[[int, int], None] = lambda *_: None
) -> Kit:
    """Make the nets of a class."""
    return describe(hardware_class, sheet, recipe, list(make(recipe, progress)))


def counting_target(sheet: Sheet, cache: Path) -> Target:
    """Return the emulated processor on which a class's instructions are counted.

    Raises:
        EnvironmentFault: it is not on this machine; names the command that mends it.
    """
    return countable(open_target(sheet, cache), sheet, cache)


def check_measured(hardware_class: str, sheet: Sheet, measured: Measured) -> None:
    """Check that a document is about this class, before its kit is made again.

    Raises:
        BuildError: it is about another class, or was made on another architecture.
    """
    if measured.hardware_class != hardware_class:
        raise BuildError(
            f"this was measured for {measured.hardware_class}, not for {hardware_class}",
            hint=f"edgewright calibrate {measured.hardware_class} --measured FILE",
        )
    arch = HOST_ARCH.get(measured.machine, measured.machine)
    if arch != sheet.cpu.arch:
        raise BuildError(
            f"{measured.processor} is {arch} and {hardware_class} is {sheet.cpu.arch}: it cannot stand for it"
        )


def check_kit(kit: Kit, measured: Measured) -> None:
    """Check that a document speaks of these very nets.

    Raises:
        BuildError: it does not.
    """
    if kit.digest != measured.kit:
        raise BuildError(
            "the kit that was measured cannot be made again: the class's runtime, or this program, has changed since",
            hint=f"edgewright calibrate {measured.hardware_class} --kit kit.zip, and measure that",
        )


def calibrate(
    sheet: Sheet, kit: Kit, measured: Measured, counts: Mapping[str, NetCounts], target: str
) -> Calibration:
    """Fit a class's coefficients.

    Args:
        sheet: The class; cycles are those of its `cpu.clock`.
        kit: The nets.
        measured: What they took.
        counts: What they cost.
        target: Where that was counted.

    Raises:
        BuildError: too few nets were measured.
    """
    clock_khz = sheet.cpu.clock * 1e3
    names = sorted(set(measured.nets) & set(counts))  # by family, so that every tenth is a mixture
    nets = {net.name: net for net in kit.nets}
    fits: dict[str, Fit] = {}
    roofline: dict[str, Errors] = {}
    for precision in PRECISIONS:
        chosen = [name for name in names if nets[name].precision == precision]
        cycles = {name: measured.nets[name].cpu_ms * clock_khz for name in chosen}
        fits[precision] = fit(
            [Sample(name, _counted(counts[name]), cycles[name]) for name in chosen], precision
        )
        macs = [Sample(name, {"macs": float(nets[name].macs)}, cycles[name]) for name in chosen]
        roofline[precision] = held_out(macs, solve)
    fits["loading"] = fit(
        [
            Sample(
                name,
                {
                    "cyclesPerInstruction": counts[name].load,
                    "cyclesPerByte": len(nets[name].model),
                    "once": 1.0,
                },
                measured.nets[name].load_ms * clock_khz,
            )
            for name in names
        ],
        "loading",
    )
    speedup = thread_speedup(measured, sheet.runtime.threads)
    return Calibration(
        measured=measured,
        clock_mhz=sheet.cpu.clock,
        target=target,
        fits=fits,
        roofline=roofline,
        thread_speedup=speedup,
        figures=_figures(fits, measured, speedup),
    )


def thread_speedup(measured: Measured, threads: int) -> float | None:
    """Return how much faster the class's threads are than one, in the median of all nets; never below 1."""
    ratios = [
        times.wall_ms / times.threads_ms for times in measured.nets.values() if times.threads_ms is not None
    ]
    if threads == 1 or not ratios:
        return None
    return min(float(threads), max(1.0, significant(statistics.median(ratios), 3)))


def _counted(counts: NetCounts) -> dict[str, float]:
    """Return what a net is priced by: kinds where they are known, else instructions."""
    counted = features(counts.per_inference)
    if counts.per_inference.kinds:
        del counted["instructions"]
        return counted
    return {name: counted[name] for name in ("instructions", "perInference")}


def _figures(fits: Mapping[str, Fit], measured: Measured, speedup: float | None) -> dict[str, Any]:
    """Return what goes into the sheet.

    Raises:
        BuildError: loading has no cycles per instruction, which no quiet device shows.
    """
    loading = fits["loading"].rates
    if "cyclesPerInstruction" not in loading:
        raise BuildError(
            "what loading took does not grow with its instructions: the device was busy, or its clock changed",
            hint="measure again, with more --rounds",
        )
    worst = max(found.errors.mean for found in fits.values())
    return {
        "cyclesByKind": {precision: in_order(fits[precision].rates, Cycles) for precision in PRECISIONS},
        "loading": in_order(loading, Loading),
        **({} if speedup is None else {"threadSpeedup": speedup}),
        "calibration": "measured",
        "calibratedOn": CALIBRATED_ON.format(
            date=measured.date, engine=measured.engine, processor=measured.processor
        )[:200].strip(),
        "fitError": min(100.0, round(100 * worst, 1)),
    }


def in_order(rates: Mapping[str, float], spec: type[Spec]) -> dict[str, float]:
    """Return rates in the order in which a part of the sheet lists them."""
    return {name: rates[name] for name in map(camel_case, spec.model_fields) if name in rates}
