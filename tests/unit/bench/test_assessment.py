from __future__ import annotations

import fcntl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgewright.bench.assessment import (
    Assessment,
    Subject,
    alone,
    arithmetic,
    countable,
    under_load,
    worst_dropped,
    worst_service_ms,
)
from edgewright.bench.counting.counts import Counts
from edgewright.bench.counting.spans import ClassCounts
from edgewright.bench.functional import Functional
from edgewright.bench.sample import Comparison
from edgewright.bench.target.emulator import native_target
from edgewright.bench.target.processor import choose
from edgewright.bench.timing import Timing, predict
from edgewright.bench.virtual.simulate import Simulation
from edgewright.errors import EnvironmentFault
from edgewright.plan.lane import Lane
from edgewright.plan.slices import dump
from edgewright.spec.hardware import Sheet
from edgewright.spec.load import Workspace, load_fleet
from real import ROOT

LANE = Lane("digit-reader", "raspberry-pi-4")
WORKS = Functional(
    target="some core",
    worst=0.0,
    tolerance_used=0.0,
    compared=Comparison("accuracy", 0.98, 0.98, 0.0, 1 / 128, 1.0),
    samples=128,
)


@pytest.fixture(scope="module")
def fleet() -> Workspace:
    return load_fleet(ROOT)


def costing(fleet: Workspace, instructions: int) -> Timing:
    """What that many instructions per inference, and ten times as many to load, come to on the lane's class."""
    spans = (ClassCounts(10 * instructions, {}), ClassCounts(instructions, {}))
    return predict(
        Counts(*spans, (instructions,), "some core"), Sheet.of(fleet.hardware[LANE.hardware_class]), 0
    )


def subject(fleet: Workspace, **spec: Any) -> Subject:
    nowhere = Path("nowhere")
    declared = {"workload": dump(fleet.models[LANE.model].workload), **spec}
    sheet = Sheet.of(fleet.hardware[LANE.hardware_class])
    return Subject(LANE, sheet, declared, nowhere, nowhere, nowhere, nowhere)


def assessed(fleet: Workspace, instructions: int) -> Assessment:
    timing = costing(fleet, instructions)
    return Assessment(
        LANE, "int8", WORKS, None, timing, under_load(subject(fleet), timing), peak_memory_bytes=2**20
    )


def test_figures_are_the_upper_ends_of_their_bands(fleet: Workspace) -> None:
    found = assessed(fleet, 17_000_000)
    assert found.timing is not None
    # at 1.5 GHz and 1.35 cycles, a quarter more
    assert found.figures()["p95Ms"] == pytest.approx(17 / 1.5 * 1.35 * 1.25, rel=1e-3)
    assert found.figures()["loadMs"] == pytest.approx(found.timing.startup_ms.high, rel=1e-3)
    assert found.figures()["peakMemoryBytes"] == 2**20


def test_what_does_not_run_has_no_figures() -> None:
    broken = Functional(target="some core", failure="model-corrupt", message="no graph")
    found = Assessment(LANE, "int8", broken)
    assert set(found.figures().values()) == {None}
    assert found.calibration == "none"


def test_times_beside_an_accelerator_are_declared_and_not_emulated(fleet: Workspace) -> None:
    assert replace(assessed(fleet, 400_000), declared=True).calibration == "declared, not emulated"


def hot_box(fleet: Workspace, **workload: Any) -> Simulation:
    """The lane's model, heavy enough to throttle its class after hours."""
    simulation = under_load(subject(fleet, workload=workload), costing(fleet, 200_000_000))
    assert simulation is not None
    return simulation


def test_percentiles_are_those_of_the_worst_case_and_not_of_a_cold_start(fleet: Workspace) -> None:
    simulation = hot_box(fleet, arrival="periodic", rate=3.0, queue=2)
    cases = {case["name"]: case for case in simulation.document()["cases"]}
    assert cases["hot-settled"]["serviceMs"]["p95"] > cases["room"]["serviceMs"]["p95"]
    assert worst_service_ms(simulation)["p95"] == cases["hot-settled"]["serviceMs"]["p95"]


def test_requests_that_find_no_place_are_told_of_the_worst_case(fleet: Workspace) -> None:
    simulation = hot_box(fleet, arrival="poisson", rate=40.0, queue=1)
    shares = [case["droppedShare"] for case in simulation.document()["cases"]]
    assert worst_dropped(simulation) == max(shares) > 0.5


def test_requests_too_rare_to_be_seen_are_priced_at_the_clock_of_their_case(fleet: Workspace) -> None:
    simulation = hot_box(fleet, arrival="periodic", rate=0.0001, queue=1)
    assert all(case["served"] == 0 for case in simulation.document()["cases"])
    assert worst_service_ms(simulation)["p99"] == simulation.document()["latencyMs"]


def test_without_a_workload_percentiles_are_the_latency_itself(fleet: Workspace) -> None:
    assert under_load(subject(fleet, workload=None), costing(fleet, 400_000)) is None
    found = replace(assessed(fleet, 400_000), simulation=None)
    assert found.timing is not None
    assert found.figures()["p99Ms"] == found.timing.latency_ms.to_json()["high"]


def test_the_document_of_equal_figures_is_equal(fleet: Workspace) -> None:
    assert assessed(fleet, 400_000).to_json() == assessed(fleet, 400_000).to_json()
    assert assessed(fleet, 400_000).to_json()["calibration"] == "public-anchor"


def test_a_class_without_emulator_here_is_counted_on_the_nearest_one_or_says_what_to_fetch(
    fleet: Workspace, tmp_path: Path
) -> None:
    cart = Sheet.of(fleet.hardware["medical-cart-cpu"])
    with pytest.raises(EnvironmentFault) as fault:
        countable(native_target(choose(cart)), cart, tmp_path)
    assert fault.value.hint == "edgewright targets provision --arch amd64-qemu"


@pytest.mark.parametrize(
    ("precision", "priced_as"), [("int8", "int8"), ("int4", "int8"), ("fp32", "fp32"), ("fp16", "fp32")]
)
def test_every_precision_is_priced_with_one_of_two_coefficients(precision: str, priced_as: str) -> None:
    assert arithmetic(precision) == priced_as


def test_a_second_benchmark_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    said: list[str] = []
    with (tmp_path / "bench.lock").open("w") as first:
        fcntl.flock(first, fcntl.LOCK_EX)

        def tell(message: str) -> None:
            said.append(message)
            fcntl.flock(first, fcntl.LOCK_UN)

        with alone(tmp_path, tell):
            pass
    assert said == ["waiting for another benchmark on this machine"]


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFault, match="cannot write"), alone(tmp_path / "file"):
        pass
