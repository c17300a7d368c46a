"""From counts and times to the figures of a sheet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edgewright.bench.calibration.calibrate import (
    Calibration,
    calibrate,
    check_class,
    check_kit,
    check_measured,
    recipe_of,
    thread_speedup,
)
from edgewright.bench.calibration.nets import Recipe
from edgewright.bench.calibration.table import table
from edgewright.errors import BuildError, SpecError
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import load_fleet
from real import ROOT
from unit.bench.calibration.documents import CLASS, LOADING, World

RATES = {
    "fp32": {"loads": 1.5, "loadBytes": 0.25, "branchMisses": 12.0},
    "int8": {"scalar": 0.75, "branchMisses": 20.0, "perInference": 40_000.0},
}


@pytest.fixture(scope="module")
def world() -> World:
    return World.of(RATES)


@pytest.fixture(scope="module")
def found(world: World) -> Calibration:
    return calibrate(world.sheet, world.kit, world.measured(), world.counts, "some core")


def approximately(rates: dict[str, float]) -> Any:
    return pytest.approx(rates, rel=0.01)


def test_a_device_of_known_coefficients_is_found_again(found: Calibration) -> None:
    assert found.figures["cyclesByKind"] == {
        precision: approximately(rates) for precision, rates in RATES.items()
    }
    assert found.figures["loading"] == approximately(LOADING)
    assert found.figures["fitError"] < 0.5


def test_figures_say_when_with_what_and_on_which_device(found: Calibration) -> None:
    assert found.figures["calibration"] == "measured"
    assert found.figures["calibratedOn"] == "2026-03-14, onnxruntime 1.31.1, Raspberry Pi 4 Model B Rev 1.5"


def test_cycles_are_those_of_the_declared_clock(world: World) -> None:
    half = world.sheet.model_copy(update={"cpu": world.sheet.cpu.model_copy(update={"clock": 750.0})})
    slower = calibrate(half, world.kit, world.measured(), world.counts, "some core")
    assert slower.figures["cyclesByKind"]["fp32"]["loads"] == pytest.approx(0.75, rel=0.01)


def test_a_processor_without_kinds_gets_cycles_for_all_instructions() -> None:
    rates = {"fp32": {"instructions": 1.25, "perInference": 30_000.0}, "int8": {"instructions": 2.0}}
    world = World.of(rates, kinds=False)
    found = calibrate(world.sheet, world.kit, world.measured(), world.counts, "some core")
    assert found.figures["cyclesByKind"] == {
        precision: approximately(expected) for precision, expected in rates.items()
    }


def test_a_roofline_is_fitted_to_the_same_nets_and_left_out_in_the_same_way(found: Calibration) -> None:
    # Multiply-adds are as many as instructions here; kinds, bytes and misses are not in proportion to them.
    assert found.roofline["fp32"].count == found.fits["fp32"].errors.count == 40
    assert found.roofline["fp32"].mean > 10 * found.fits["fp32"].errors.mean


def test_nets_that_could_not_be_run_are_left_out(world: World) -> None:
    nets = {**world.document["nets"], "net-000-fp32": {"failure": "no kernel"}}
    found = calibrate(world.sheet, world.kit, world.measured(nets=nets), world.counts, "some core")
    assert found.fits["fp32"].errors.count == 39
    assert "not run there" in table(found)


def test_too_few_nets_are_an_error(world: World) -> None:
    nets = dict(list(world.document["nets"].items())[:20])
    with pytest.raises(BuildError, match="10 fp32 nets are too few"):
        calibrate(world.sheet, world.kit, world.measured(nets=nets), world.counts, "some core")


def test_the_speed_up_is_the_median_and_between_one_and_the_threads(world: World) -> None:
    assert thread_speedup(world.measured(), 3) == pytest.approx(1.05 / 0.7, rel=0.01)
    slower = {
        name: {**times, "threadsMs": [2 * value for value in times["wallMs"]]}
        for name, times in world.document["nets"].items()
    }
    assert thread_speedup(world.measured(nets=slower), 3) == 1.0
    faster = {
        name: {**times, "threadsMs": [value / 9 for value in times["wallMs"]]}
        for name, times in world.document["nets"].items()
    }
    assert thread_speedup(world.measured(nets=faster), 3) == 3.0
    assert thread_speedup(world.measured(), 1) is None


def test_a_device_whose_loading_does_not_follow_its_instructions_is_refused(world: World) -> None:
    flat = {name: {**times, "loadCpuMs": [10.0]} for name, times in world.document["nets"].items()}
    with pytest.raises(BuildError, match="does not grow with its instructions") as refused:
        calibrate(world.sheet, world.kit, world.measured(nets=flat), world.counts, "some core")
    assert "--rounds" in str(refused.value.hint)


def test_a_class_whose_models_run_on_an_accelerator_is_not_calibrated() -> None:
    with pytest.raises(SpecError, match="runs models on an accelerator"):
        check_class("jetson", Sheet.of(load_fleet(ROOT).hardware["jetson-vision-standard"]))


def test_a_document_must_be_of_this_class_and_architecture(world: World) -> None:
    check_measured(CLASS, world.sheet, world.measured())
    with pytest.raises(BuildError, match=f"measured for {CLASS}, not for medical-cart-cpu"):
        check_measured("medical-cart-cpu", world.sheet, world.measured())
    with pytest.raises(BuildError, match="is amd64 and raspberry-pi-4 is arm64"):
        check_measured(CLASS, world.sheet, world.measured(machine="x86_64"))


def test_a_document_must_speak_of_these_very_nets(world: World) -> None:
    check_kit(world.kit, world.measured())
    with pytest.raises(BuildError, match="cannot be made again"):
        check_kit(world.kit, replace(world.measured(), kit="sha256:" + 64 * "0"))


def test_classes_without_vnni_are_calibrated_with_the_weights_their_models_have() -> None:
    fleet = load_fleet(ROOT).hardware
    recipes = {name: recipe_of(Sheet.of(sheet), 150) for name, sheet in fleet.items()}
    assert recipes["intel-lowpower-detector"] == Recipe(nets=150, reduce_range=True)
    assert not recipes["medical-cart-cpu"].reduce_range
    assert not recipes[CLASS].reduce_range


def test_the_table_shows_errors_beside_a_roofline_and_every_coefficient(found: Calibration) -> None:
    lines = [" ".join(line.split()) for line in table(found).splitlines()]
    assert lines[0].startswith(
        "measured Raspberry Pi 4 Model B Rev 1.5, onnxruntime 1.31.1, 2026-03-14: 80 nets, 2 rounds"
    )
    assert "on nets left out fp32 int8 loading" in lines
    assert "nets 40 40 80" in lines
    assert "branchMisses 12 20" in lines
    assert "perInference – 4e+04" in lines
    assert "threads 3 are 1.5 × as fast as one" in lines
    assert "a roofline of MACs" in lines
