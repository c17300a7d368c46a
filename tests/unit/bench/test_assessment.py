from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from edgewright.bench.assessment import (
    Assessment,
    alone,
    arithmetic,
    artifact_of,
    checks,
    countable,
    service_ms,
    under_load,
)
from edgewright.bench.counting.counts import ClassCounts, Counts
from edgewright.bench.functional import Functional
from edgewright.bench.target.emulator import native_target
from edgewright.bench.target.processor import choose
from edgewright.bench.timing import Timing, predict
from edgewright.errors import BuildError, EnvironmentFault
from edgewright.plan.lane import Lane
from edgewright.spec.load import Workspace, load_fleet
from real import ROOT

LANE = Lane("digit-reader", "raspberry-pi-4")
WORKS = Functional(target="some core", worst=0.0, accuracy=0.98, reference_accuracy=0.98, samples=128)


@pytest.fixture(scope="module")
def fleet() -> Workspace:
    return load_fleet(ROOT)


def costing(fleet: Workspace, instructions: int) -> Timing:
    """What that many instructions per inference, and ten times as many to load, come to on the lane's class."""
    spans = (ClassCounts(10 * instructions, {}), ClassCounts(instructions, {}))
    return predict(Counts(*spans, (instructions,), "some core"), fleet.hardware[LANE.hardware_class], 0)


def verdicts(fleet: Workspace, functional: Functional, timing: Timing | None) -> dict[str, str]:
    simulation = under_load(fleet, LANE, timing) if timing else None
    return {item.name: item.verdict for item in checks(fleet, LANE, functional, timing, simulation)}


def test_a_model_well_within_its_limits_passes_every_check(fleet: Workspace) -> None:
    assert set(verdicts(fleet, WORKS, costing(fleet, 400_000)).values()) == {"pass"}


def test_the_upper_end_of_the_band_is_what_is_judged(fleet: Workspace) -> None:
    # 20 ms at 1.5 GHz and 1.35 cycles are 22.2 million instructions, 17.8 million with a quarter more
    assert verdicts(fleet, WORKS, costing(fleet, 17_000_000))["latency-p95"] == "pass"
    assert verdicts(fleet, WORKS, costing(fleet, 18_500_000))["latency-p95"] == "fail"
    assert costing(fleet, 18_500_000).latency_ms.value < 20.0


def test_an_accuracy_below_the_floor_on_the_targets_own_path_fails(fleet: Workspace) -> None:
    worse = Functional(target="some core", accuracy=0.79, samples=128)
    assert verdicts(fleet, worse, costing(fleet, 400_000))["accuracy-floor"] == "fail"


def test_what_does_not_run_fails_every_check_for_want_of_figures(fleet: Workspace) -> None:
    broken = Functional(target="some core", failure="model-corrupt", message="no graph")
    assert set(verdicts(fleet, broken, None).values()) == {"fail"}


def test_every_check_names_the_line_that_set_its_limit(fleet: Workspace) -> None:
    sources = {item.name: item.source for item in checks(fleet, LANE, WORKS, None, None)}
    assert sources["load-time"] == "hardware/raspberry-pi-4.yaml#limits.loadTime"
    assert sources["latency-p95"].startswith("models/digit-reader/model.yaml#overrides.0.")


def test_percentiles_are_those_of_the_hottest_air(fleet: Workspace) -> None:
    simulation = under_load(fleet, LANE, costing(fleet, 400_000))
    assert simulation is not None
    hot = next(case for case in simulation.document()["cases"] if case["name"] == "hot")
    assert service_ms(simulation) == hot["serviceMs"]


def test_without_a_workload_nothing_is_simulated(fleet: Workspace) -> None:
    model = fleet.models[LANE.model].model_copy(update={"workload": None})
    without = Workspace(fleet.root, fleet.fleet, fleet.hardware, {LANE.model: model}, fleet.sources)
    assert under_load(without, LANE, costing(fleet, 400_000)) is None
    assert service_ms(None) is None


def test_the_document_of_equal_figures_is_equal(fleet: Workspace) -> None:
    def document() -> dict[str, object]:
        timing = costing(fleet, 400_000)
        simulation = under_load(fleet, LANE, timing)
        judged = checks(fleet, LANE, WORKS, timing, simulation)
        return Assessment(LANE, "int8", WORKS, None, timing, simulation, judged, ()).to_json()

    assert document() == document()
    assert document()["verdict"] == "pass"
    assert document()["calibration"] == "public-anchor"


def test_an_artifact_that_answers_wrongly_fails_even_within_its_limits(fleet: Workspace) -> None:
    timing = costing(fleet, 400_000)
    wrong = Functional(target="some core", failure="outputs-differ", worst=5.0, accuracy=0.98)
    judged = checks(fleet, LANE, wrong, timing, None)
    assert Assessment(LANE, "int8", wrong, None, timing, None, judged, ()).verdict == "fail"


def test_a_class_without_emulator_here_is_counted_on_the_nearest_one_or_says_what_to_fetch(
    fleet: Workspace, tmp_path: Path
) -> None:
    cart = fleet.hardware["medical-cart-cpu"]
    with pytest.raises(EnvironmentFault) as fault:
        countable(native_target(choose(cart)), cart, tmp_path)
    assert fault.value.hint == "edgewright targets provision --arch amd64-qemu"


@pytest.mark.parametrize(
    ("precision", "priced_as"), [("int8", "int8"), ("int4", "int8"), ("fp32", "fp32"), ("fp16", "fp32")]
)
def test_every_precision_is_priced_with_one_of_two_coefficients(precision: str, priced_as: str) -> None:
    assert arithmetic(precision) == priced_as


def test_a_lane_without_a_file_says_which(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no optimized/runtime.json"):
        artifact_of({"optimized/model.onnx": tmp_path / "model.onnx"})


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
