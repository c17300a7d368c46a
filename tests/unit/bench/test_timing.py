from __future__ import annotations

import doctest
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench import anchors, timing
from edgewright.bench.anchors import ANCHORS
from edgewright.bench.counting.counts import ClassCounts, Counts
from edgewright.bench.timing import Banded, banded, coefficients, predict, significant
from edgewright.spec.emulation import CyclesByKind, CyclesPerInstruction, Emulation, Loading
from edgewright.spec.hardware import HardwareClass
from edgewright.spec.load import load_fleet
from real import ROOT

COUNTS = Counts(
    load=ClassCounts(20_000_000, {}),
    per_inference=ClassCounts(3_000_000, {}),
    inferences=(9_000_000, 3_000_000),
    target="",
)
OWN = CyclesPerInstruction(fp32=2.0, int8=4.0)


@pytest.fixture(scope="module")
def pi() -> HardwareClass:
    """1.5 GHz Cortex-A72, 40 MB/s storage, 3 threads, nothing calibrated."""
    sheet = load_fleet(Path(ROOT)).hardware["raspberry-pi-4"]
    return sheet.model_copy(update={"emulation": Emulation(method="qemu-user", cpu="cortex-a72")})


def calibrated(sheet: HardwareClass, **figures: Any) -> HardwareClass:
    emulation = Emulation(method="qemu-user", cpu="cortex-a72")
    own = emulation.model_copy(update={"cycles_per_instruction": OWN, **figures})
    return sheet.model_copy(update={"emulation": own})


def on(sheet: HardwareClass, core: str) -> HardwareClass:
    return sheet.model_copy(update={"cpu": sheet.cpu.model_copy(update={"model": core})})


def test_latency_is_instructions_times_cycles_over_clock(pi: HardwareClass) -> None:
    timing = predict(COUNTS, calibrated(pi), 0, precision="fp32")
    assert timing.latency_ms.value == pytest.approx(3_000_000 * 2.0 / 1.5e9 * 1e3)


def test_startup_is_load_instructions_plus_bytes_from_storage(pi: HardwareClass) -> None:
    timing = predict(COUNTS, calibrated(pi), 4_000_000, precision="fp32")
    assert timing.startup_ms.value == pytest.approx(20_000_000 * 2.0 / 1.5e9 * 1e3 + 100.0)


def test_int8_and_fp32_have_cycles_of_their_own(pi: HardwareClass) -> None:
    fp32 = predict(COUNTS, calibrated(pi), 0, precision="fp32")
    int8 = predict(COUNTS, calibrated(pi), 0, precision="int8")
    assert int8.latency_ms.value == pytest.approx(2 * fp32.latency_ms.value)


def test_threads_speed_up_an_inference_but_not_a_load(pi: HardwareClass) -> None:
    one, many = predict(COUNTS, calibrated(pi), 0), predict(COUNTS, calibrated(pi, thread_speedup=2.5), 0)
    assert many.latency_ms.value == pytest.approx(one.latency_ms.value / 2.5)
    assert many.startup_ms == one.startup_ms


def test_an_undeclared_speedup_is_none_and_the_figure_says_so(pi: HardwareClass) -> None:
    assert predict(COUNTS, pi, 0).to_json()["threadSpeedup"] == 1.0
    assert "one thread of 3: the class declares no threadSpeedup" in predict(COUNTS, pi, 0).notes


@pytest.mark.parametrize(
    ("figures", "low", "high"),
    [
        ({}, 0.5, 2.0),
        ({"calibration": "declared"}, 0.5, 2.0),
        ({"calibration": "public-anchor"}, 0.75, 1.25),
        ({"calibration": "measured", "calibrated_on": "a board"}, 0.85, 1.15),
        ({"calibration": "measured", "calibrated_on": "a board", "fit_error": 4.0}, 0.85, 1.15),
        ({"calibration": "measured", "calibrated_on": "a board", "fit_error": 22.0}, 0.78, 1.22),
        ({"calibration": "measured", "calibrated_on": "a board", "fit_error": 100.0}, 0.0, 2.0),
    ],
)
def test_the_band_is_as_wide_as_its_calibration_deserves(
    pi: HardwareClass, figures: dict[str, Any], low: float, high: float
) -> None:
    timing = predict(COUNTS, calibrated(pi, **figures), 0)
    assert timing.latency_ms.low == pytest.approx(low * timing.latency_ms.value)
    assert timing.latency_ms.high == pytest.approx(high * timing.latency_ms.value)
    assert timing.calibration == figures.get("calibration", "declared")


BY_KIND = {
    "fp32": {"loads": 0.5, "loadBytes": 0.125},
    "int8": {"branchMisses": 20.0, "perInference": 1_000.0},
}
MIX = ClassCounts(
    3_000_000, {"loads": 1_000_000, "scalar": 2_000_000}, load_bytes=8_000_000, branch_misses=10_000
)
MIXED = Counts(load=ClassCounts(20_000_000, {}), per_inference=MIX, inferences=(3_000_000,), target="")


def by_kind(sheet: HardwareClass, **figures: Any) -> HardwareClass:
    """The sheet with cycles by kind, and no cycles per instruction."""
    return calibrated(
        sheet, cycles_per_instruction=None, cycles_by_kind=CyclesByKind.model_validate(BY_KIND), **figures
    )


def test_cycles_by_kind_are_a_sum_over_everything_that_is_counted(pi: HardwareClass) -> None:
    fp32, int8 = (predict(MIXED, by_kind(pi), 0, precision=precision) for precision in ("fp32", "int8"))
    assert fp32.latency_ms.value == pytest.approx((0.5 * 1e6 + 0.125 * 8e6) / 1.5e9 * 1e3)
    assert int8.latency_ms.value == pytest.approx((20 * 1e4 + 1e3) / 1.5e9 * 1e3)
    assert fp32.coefficients.cycles_per_instruction.value == pytest.approx(0.5)


def test_cycles_for_all_instructions_serve_processors_without_kinds(pi: HardwareClass) -> None:
    rates = {"instructions": 2.0, "perInference": 3e5}
    own = CyclesByKind.model_validate({"fp32": rates, "int8": rates})
    sheet = calibrated(pi, cycles_per_instruction=None, cycles_by_kind=own)
    assert predict(COUNTS, sheet, 0).latency_ms.value == pytest.approx((6e6 + 3e5) / 1.5e9 * 1e3)


def test_cycles_by_kind_are_told_in_the_document_and_others_not(pi: HardwareClass) -> None:
    measured = by_kind(pi, calibration="measured", calibrated_on="2026-03-14, a Pi", fit_error=6.1)
    timing = predict(MIXED, measured, 0)
    document = timing.to_json()
    assert document["cyclesByKind"] == BY_KIND["fp32"]
    assert document["cyclesPerInstruction"] == {"value": 0.5, "low": 0.425, "high": 0.575}
    assert timing.notes[0] == "cycles by kind of instruction measured in the class on 2026-03-14, a Pi"
    assert timing.latency_ms.high == pytest.approx(1.15 * timing.latency_ms.value)
    assert "cyclesByKind" not in predict(COUNTS, calibrated(pi), 0).to_json()


def test_loading_has_cycles_of_its_own(pi: HardwareClass) -> None:
    loading = Loading.model_validate({"cyclesPerInstruction": 0.5, "cyclesPerByte": 3.0, "once": 1.5e6})
    sheet = by_kind(pi, loading=loading)
    counts = replace(MIXED, awakening=300_000_000)
    timing = predict(counts, sheet, 4_000_000)
    processor_ms = (0.5 * 20e6 + 3.0 * 4e6 + 1.5e6) / 1.5e9 * 1e3
    assert timing.startup_ms.value == pytest.approx(processor_ms + 100.0)
    assert timing.power_cycle_ms.value == pytest.approx(timing.startup_ms.value + 0.5 * 300e6 / 1.5e9 * 1e3)


@pytest.mark.parametrize("anchor", ANCHORS.values(), ids=lambda anchor: anchor.core)
def test_a_published_core_needs_no_calibration_and_names_its_source(pi: HardwareClass, anchor: Any) -> None:
    found = coefficients(on(pi, anchor.core))
    assert found.cycles_per_instruction.value == anchor.cycles_per_instruction
    assert found.calibration == "public-anchor"
    assert any("another runtime's anchors" in note for note in found.notes)
    assert anchor.source.startswith("https://")


def test_what_a_gate_judges_of_an_unknown_core_is_slower_than_every_published_one(pi: HardwareClass) -> None:
    found = coefficients(on(pi, "cortex-q1"))
    assert found.calibration == "declared"
    assert "no published cycles per instruction of cortex-q1: assumed 1" in found.notes
    slowest = max(anchor.cycles_per_instruction for anchor in ANCHORS.values())
    assert found.cycles_per_instruction.high > slowest


def test_what_a_class_says_of_itself_wins_over_what_is_published(pi: HardwareClass) -> None:
    found = coefficients(calibrated(pi, calibration="measured", calibrated_on="2026-03-14, a Pi"), "int8")
    assert found.cycles_per_instruction.value == 4.0
    assert found.notes[0] == "cycles per instruction measured in the class on 2026-03-14, a Pi"


def test_what_stands_for_an_accelerator_is_declared_whatever_is_published_of_the_core(
    pi: HardwareClass,
) -> None:
    found = coefficients(pi.model_copy(update={"emulation": Emulation(method="declared")}))
    assert found.calibration == "declared"
    assert found.cycles_per_instruction == Banded(1.35, 0.675, 2.7)
    assert any("declared, not emulated" in note for note in found.notes)


def test_equal_counts_give_equal_bytes(pi: HardwareClass) -> None:
    assert predict(COUNTS, pi, 123).to_json() == predict(COUNTS, pi, 123).to_json()


def test_errors_of_a_sum_may_all_go_the_same_way() -> None:
    assert banded(10.0, 0.1) + banded(20.0, 0.5) == Banded(30.0, 19.0, 41.0)


def test_figures_are_rounded_to_what_they_can_mean() -> None:
    assert significant(0.310594) == 0.3106
    assert significant(28_412.7) == 28_410.0
    assert significant(0.0) == 0.0


@pytest.mark.parametrize("module", [anchors, timing])
def test_the_examples_in_the_module_are_true(module: Any) -> None:
    assert doctest.testmod(module).failed == 0
