from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgewright.bench.virtual.played import percentile
from edgewright.bench.virtual.simulate import simulate
from edgewright.bench.virtual.workload import NS_PER_S
from edgewright.errors import SpecError
from edgewright.plan.slices import dump
from edgewright.spec.load import load_fleet
from unit.bench.virtual.sheets import THERMAL, simulated

ROOT = Path(__file__).resolve().parents[4]
CASES = ["room", "hot", "hot-settled"]


def mean_wait_ms(load: float, arrival: str = "poisson", **more: int) -> float:
    played = simulated(load, arrival=arrival, duration_s=6_000, **more).cases[0]
    waits_ns = sum(played.sojourns_ns) - sum(played.services_ns)
    return waits_ns / len(played.sojourns_ns) / 1e6


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.8])
def test_poisson_arrivals_wait_as_long_as_pollaczek_and_khinchine_say(load: float) -> None:
    # M/D/1: mean wait = ρ / (2 (1 - ρ)) services (Pollaczek 1930, Khinchine 1932)
    expected_ms = 20.0 * load / (2 * (1 - load))
    assert mean_wait_ms(load) == pytest.approx(expected_ms, rel=0.03)


def test_a_burst_waits_for_itself_and_for_those_before() -> None:
    # M[X]/D/1 with groups of k: ρ / (2 (1 - ρ)) services for single arrivals, and (k - 1) / (2 (1 - ρ)) for
    # the company (Gross et al., Fundamentals of Queueing Theory, 3.1, with constant group size)
    load, size = 0.5, 8
    expected_ms = 20.0 * (load + size - 1) / (2 * (1 - load))
    assert mean_wait_ms(load, "burst", burst=size) == pytest.approx(expected_ms, rel=0.03)


def test_periodic_arrivals_below_capacity_never_wait() -> None:
    played = simulated(0.999, arrival="periodic", queue=0).cases[0]
    assert set(played.sojourns_ns) == {20_000_000}
    assert played.dropped == 0


def test_a_load_above_one_fills_the_queue_and_drops_the_rest() -> None:
    simulation = simulated(1.25, arrival="periodic", queue=10)
    played = simulation.cases[0]
    assert simulation.offered_load == 1.25
    assert played.document()["utilization"] == pytest.approx(1.0, abs=1e-4)
    assert played.dropped / played.requests == pytest.approx(1 - 1 / 1.25, abs=0.001)
    # Whoever gets in has ten before it, or nine and a rest.
    assert percentile(played.sojourns_ns, 50) > 10 * 20_000_000
    assert played.sojourns_ns[-1] <= 11 * 20_000_000


def test_nothing_is_lost_or_made_up() -> None:
    for load in (0.2, 0.9, 2.0):
        played = simulated(load, queue=3).cases[0]
        assert played.requests == len(played.sojourns_ns) + played.dropped + played.pending
        assert sum(tick.served for tick in played.ticks) == len(played.sojourns_ns)


def test_utilization_is_the_offered_load_while_nothing_is_dropped() -> None:
    assert simulated(0.4, duration_s=6_000).cases[0].document()["utilization"] == pytest.approx(0.4, rel=0.02)


def test_a_busy_die_ends_at_ambient_plus_resistance_times_power() -> None:
    # A load of 2 is always busy: 5 W. After 12 time constants nothing is left to be seen of the beginning.
    played = simulated(2.0, queue=5, thermal=THERMAL, duration_s=1200).case("room")
    assert played.ticks[-1].temperature_nk / 1e9 == pytest.approx(25 + 10 * 5, abs=0.01)
    assert played.document()["meanPowerW"] == pytest.approx(5.0, abs=0.001)


def test_a_partly_busy_die_ends_at_its_mean_power() -> None:
    played = simulated(0.5, arrival="periodic", thermal=THERMAL, duration_s=1200).case("room")
    assert played.ticks[-1].temperature_nk / 1e9 == pytest.approx(25 + 10 * (1 + 0.5 * 4), abs=0.05)


def test_there_is_no_throttling_below_the_trip_point() -> None:
    played = simulated(2.0, queue=5, thermal=THERMAL).case("room")  # settles at 75 °C; the trip is at 80
    assert {tick.step for tick in played.ticks} == {0}
    assert (played.throttled_at_ns, played.throttled_ns, played.projected_ns) == (None, 0, None)
    assert set(played.services_ns) == {20_000_000}


def test_throttling_begins_when_the_closed_form_says() -> None:
    # From an idle 60 °C to 80 °C on the way to 100 °C: 100 s · ln 2.
    played = simulated(2.0, queue=5, thermal=THERMAL).case("hot")
    assert played.throttled_at_ns is not None
    assert played.projected_ns is not None
    assert played.projected_ns / NS_PER_S == pytest.approx(100 * math.log(2), abs=1e-6)
    assert played.throttled_at_ns / NS_PER_S == pytest.approx(100 * math.log(2), abs=0.2)  # two looks
    assert played.document()["projectedTimeToThrottleS"] == 69.3


def test_a_throttled_die_goes_back_and_forth_within_its_hysteresis() -> None:
    thermal = {**THERMAL, "ambientMax": 40.0}  # 90 °C at full clock, 70 °C at half
    played = simulated(2.0, queue=5, thermal=thermal, duration_s=1200).case("hot-settled")
    later = [tick.temperature_nk / 1e9 for tick in played.ticks]
    assert max(later) == pytest.approx(80.0, abs=0.1)
    assert min(later) == pytest.approx(75.0, abs=0.1)
    steps = [tick.step for tick in played.ticks]
    changes = sum(now != then for now, then in zip(steps, steps[1:], strict=False))
    # Cooling 80 → 75 towards 70 takes 100·ln 2 s, warming 75 → 80 towards 90 takes 100·ln 1.5 s.
    round_s = 100 * (math.log(2) + math.log(1.5))
    assert changes == pytest.approx(2 * 1200 / round_s, abs=2)
    slow = math.log(2) / (math.log(2) + math.log(1.5))
    assert played.document()["throttledShare"] == pytest.approx(slow, abs=0.03)


def test_the_sustained_rate_is_what_the_rounds_leave_of_the_full_clock() -> None:
    thermal = {**THERMAL, "ambientMax": 40.0}
    slow = math.log(2) / (math.log(2) + math.log(1.5))
    played = simulated(0.01, thermal=thermal, duration_s=10).case("hot")
    assert played.sustained_per_s == pytest.approx(50.0 * (1 - slow / 2), rel=0.04)
    assert simulated(0.01, thermal=THERMAL, duration_s=10).case("room").sustained_per_s == 50.0


def test_a_step_that_is_hot_enough_to_stay_halves_the_rate_for_good() -> None:
    thermal = {**THERMAL, "ambientMax": 52.0}  # 82 °C at half clock
    played = simulated(2.0, queue=5, thermal=thermal).case("hot-settled")
    assert played.document()["throttledShare"] == 1.0
    assert set(played.services_ns) == {40_000_000}
    assert played.sustained_per_s == 25.0
    assert played.document()["servedPerS"] == pytest.approx(25.0, abs=0.05)


def test_throttling_can_push_a_load_that_fits_over_the_edge() -> None:
    """The case a benchmark of a cold device never shows."""
    thermal = {**THERMAL, "ambientMax": 55.0}
    simulation = simulated(0.8, arrival="periodic", queue=4, thermal=thermal)
    assert simulation.case("room").dropped == 0
    assert simulation.case("hot-settled").dropped > 0


def test_hotter_air_never_helps() -> None:
    for load in (0.3, 0.7, 0.95):
        simulation = simulated(load, queue=20, thermal=THERMAL)
        room, hot, settled = (simulation.case(name) for name in CASES)
        # Between two looks a die may pass its trip by what full power adds: (100 °C - 80 °C) · 0.1 s / 100 s.
        assert room.peak_nk < hot.peak_nk <= settled.peak_nk + 20_000_000
        assert room.dropped <= hot.dropped <= settled.dropped
        assert percentile(room.sojourns_ns, 99) <= percentile(hot.sojourns_ns, 99)


def test_cases_differ_in_heat_and_not_in_what_is_asked() -> None:
    simulation = simulated(0.5, thermal=THERMAL)
    assert [played.case.name for played in simulation.cases] == CASES
    assert len({played.requests for played in simulation.cases}) == 1


def test_a_sheet_without_heat_is_played_at_full_clock_and_says_so() -> None:
    document = simulated(0.5).document()
    assert document["calibration"] == {"latency": "declared", "thermal": "none"}
    (case,) = document["cases"]
    assert case["name"] == "full-clock"
    assert "peakTemperatureC" not in case


def test_every_figure_says_how_it_was_calibrated() -> None:
    assert simulated(0.5, thermal=THERMAL).document()["calibration"] == {
        "latency": "declared",
        "thermal": "declared",
    }


def test_a_time_without_requests_has_no_percentiles_instead_of_wrong_ones() -> None:
    case = simulated(0.00001, arrival="periodic", duration_s=1).document()["cases"][0]
    assert (case["requests"], case["sojournMs"], case["droppedShare"]) == (0, None, 0.0)


@pytest.mark.parametrize(("count", "share", "rank"), [(1, 99, 1), (100, 95, 95), (101, 95, 96), (20, 50, 10)])
def test_percentiles_are_figures_that_occurred(count: int, share: int, rank: int) -> None:
    assert percentile(list(range(1, count + 1)), share) == rank


@pytest.mark.parametrize("wrong", [{"latency_ms": 0.0}, {"latency_ms": math.nan}, {"duration_s": 0}])
def test_a_latency_that_is_none_is_refused(wrong: dict[str, float]) -> None:
    asked = {"latency_ms": 1.0, "duration_s": 10, **wrong}
    workload = {"arrival": "periodic", "rate": 1.0, "queue": 1}
    with pytest.raises(SpecError):
        simulate(workload, None, 1000.0, calibration="declared", seed="x", **asked)  # type: ignore[arg-type]


PROGRAM = """
import sys
sys.path[:0] = sys.argv[1:]
from unit.bench.virtual.sheets import THERMAL, simulated
for arrival, more in (("poisson", {}), ("burst", {"burst": 5}), ("periodic", {})):
    sys.stdout.buffer.write(simulated(0.9, arrival=arrival, queue=8, thermal=THERMAL, **more).to_json())
"""


def test_processes_with_other_hash_seeds_and_locales_write_the_same_bytes() -> None:
    written = {
        subprocess.run(
            [sys.executable, *options, "-c", PROGRAM, *sys.path],
            capture_output=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C", "TZ": zone},
        ).stdout
        for seed, zone, options in (
            ("0", "UTC", []),
            ("1", "Asia/Tokyo", ["-O"]),
            ("random", "UTC", ["-X", "dev"]),
        )
    }
    assert len(written) == 1
    assert len(written.pop()) > 1000


def test_no_figure_touches_a_function_of_the_c_library_whose_last_bit_may_differ() -> None:
    """Only +, -, ×, ÷ and Decimal: `math`, numpy and powers have no place in what is signed."""
    for name in ("workload", "server", "thermal", "played", "simulate"):
        tree = ast.parse((ROOT / "pipelines/edgewright/bench/virtual" / f"{name}.py").read_text())
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Pow), name
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not imported & {"math", "cmath", "numpy", "statistics"}, name


def test_the_document_is_pinned_to_the_byte() -> None:
    """A change here changes every gate report that quotes a simulation: raise `VERSION` with it."""
    document = simulated(0.9, arrival="burst", burst=5, queue=8, thermal=THERMAL).to_json()
    assert hashlib.sha256(document).hexdigest() == (
        "bf630db4980e15a1c146ebd6eab4fa707dd5e1dd5556d7d1b3a6687bd9bf556f"
    )


FLEET = load_fleet(ROOT)


@pytest.mark.parametrize("model", sorted(FLEET.models))
@pytest.mark.parametrize("hardware", sorted(FLEET.hardware))
def test_every_lane_of_this_repository_can_be_simulated(model: str, hardware: str) -> None:
    sheet, asked = FLEET.hardware[hardware], FLEET.models[model]
    simulation = simulate(
        dump(asked.workload),
        dump(sheet.thermal),
        sheet.cpu.clock,
        latency_ms=sheet.limits.latency.p95 / 2,
        calibration="declared",
        seed=f"{model} on {hardware}",
    )
    document = json.loads(simulation.to_json())
    assert [case["name"] for case in document["cases"]] == CASES
    for case in document["cases"]:
        assert case["requests"] > 0
        assert case["ambientC"] < case["peakTemperatureC"] < 110


@pytest.mark.parametrize("hardware", sorted(FLEET.hardware))
def test_every_sheet_of_this_repository_declares_powers_its_board_can_have(hardware: str) -> None:
    sheet = FLEET.hardware[hardware]
    assert sheet.thermal.power_active is not None
    assert sheet.thermal.power_active <= sheet.power.budget


@pytest.mark.parametrize("hardware", sorted(FLEET.hardware))
def test_every_sheet_of_this_repository_idles_in_its_hottest_air_without_throttling(hardware: str) -> None:
    thermal = FLEET.hardware[hardware].thermal
    assert thermal.resistance is not None
    assert thermal.power_idle is not None
    assert thermal.ambient_max + thermal.resistance * thermal.power_idle < thermal.throttle_at
