from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench import anchors, timing
from edgewright.bench.anchors import ANCHORS
from edgewright.bench.counting.counts import ClassCounts, Counts
from edgewright.bench.timing import Banded, banded, coefficients, predict, significant
from edgewright.spec.emulation import Cycles, CyclesByKind, CyclesPerInstruction, Emulation, Loading
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


PRICES = {"loads": 2.0, "loadBytes": 0.25, "branchMisses": 10.0, "perInference": 500_000.0}
BY_KIND = CyclesByKind(
    fp32=Cycles.model_validate(PRICES),
    int8=Cycles(scalar=1.0),
)
OF_KINDS = Counts(
    load=ClassCounts(20_000_000, {}),
    per_inference=ClassCounts(3_000_000, {"loads": 1_000_000, "scalar": 2_000_000}, 4_000_000, 0, 50_000),
    inferences=(3_000_000,),
    target="",
)


def by_kind(sheet: HardwareClass, **figures: Any) -> HardwareClass:
    return calibrated(sheet, cycles_per_instruction=None, cycles_by_kind=BY_KIND, **figures)


def test_latency_of_a_class_with_cycles_by_kind_is_the_sum_of_its_prices(pi: HardwareClass) -> None:
    found = predict(OF_KINDS, by_kind(pi), 0)
    cycles = 2_000_000 + 1_000_000 + 500_000 + 500_000
    assert found.latency_ms.value == pytest.approx(cycles / 1.5e9 * 1e3)
    assert found.coefficients.cycles_per_instruction.value == pytest.approx(cycles / 3_000_000)
    int8 = predict(OF_KINDS, by_kind(pi), 0, precision="int8")
    assert int8.latency_ms.value == pytest.approx(2_000_000 / 1.5e9 * 1e3)


def test_a_report_names_the_prices_that_were_used_and_no_others(pi: HardwareClass) -> None:
    found = predict(OF_KINDS, by_kind(pi, calibration="measured", calibrated_on="a Pi"), 0)
    assert found.to_json()["cyclesByKind"] == PRICES
    assert found.notes[0] == "cycles by kind of instruction measured in the class on a Pi"
    assert "cyclesByKind" not in predict(OF_KINDS, calibrated(pi), 0).to_json()


def test_a_price_for_instructions_needs_no_kinds(pi: HardwareClass) -> None:
    one = Cycles.model_validate({"instructions": 1.5, "perInference": 1000.0})
    sheet = calibrated(pi, cycles_per_instruction=None, cycles_by_kind=CyclesByKind(fp32=one, int8=one))
    assert predict(COUNTS, sheet, 0).latency_ms.value == pytest.approx(4_501_000 / 1.5e9 * 1e3)


def test_loading_has_a_price_of_its_own(pi: HardwareClass) -> None:
    loading = Loading.model_validate({"cyclesPerInstruction": 0.5, "cyclesPerByte": 2.0, "once": 1e6})
    found = predict(COUNTS, calibrated(pi, loading=loading), 4_000_000)
    cycles = 0.5 * 20_000_000 + 2.0 * 4_000_000 + 1_000_000
    assert found.startup_ms.value == pytest.approx(cycles / 1.5e9 * 1e3 + 100.0)
    assert found.latency_ms == predict(COUNTS, calibrated(pi), 0).latency_ms


def test_loading_without_a_price_costs_as_an_inference_does(pi: HardwareClass) -> None:
    found = predict(OF_KINDS, by_kind(pi), 0)
    assert found.startup_ms.value == pytest.approx(20_000_000 * (4 / 3) / 1.5e9 * 1e3)


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
