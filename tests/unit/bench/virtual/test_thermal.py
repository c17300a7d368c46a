"""The closed forms a one-node RC network must meet."""

from __future__ import annotations

import math
from typing import Any

import pytest

from edgewright.bench.virtual.thermal import NO_HEAT, SHIFT, Die, celsius_nk, later
from edgewright.errors import SpecError
from unit.bench.virtual.sheets import CLOCK_MHZ, SHEET_WITHOUT_HEAT, THERMAL

W = 1_000_000
C = 1_000_000_000
S = 1_000_000_000


def die(**changed: Any) -> Die:
    return Die.from_spec({**THERMAL, **changed}, CLOCK_MHZ)


def test_a_die_settles_at_ambient_plus_resistance_times_power() -> None:
    assert die().steady_nk(4 * W, celsius_nk(25)) == (25 + 10 * 4) * C
    assert die().steady_nk(0, celsius_nk(-40)) == -40 * C


def test_the_time_constant_is_resistance_times_capacitance() -> None:
    assert die().time_constant_ns == 100 * S


def test_after_one_time_constant_63_percent_of_the_way_is_done() -> None:
    warm_nk = later(20 * C, 60 * C, die().decay(100 * S))
    assert warm_nk / C == pytest.approx(60 - 40 / math.e, abs=1e-8)


def test_a_thousand_short_steps_and_one_long_one_come_to_the_same() -> None:
    model, short_nk = die(), 20 * C
    for _ in range(1000):
        short_nk = later(short_nk, 60 * C, model.decay(S // 10))
    assert short_nk == pytest.approx(later(20 * C, 60 * C, model.decay(100 * S)), abs=1000)  # a microkelvin


def test_a_hot_die_cools_down_and_never_below_the_air() -> None:
    temperature_nk = 90 * C
    for _ in range(5000):
        cooler_nk = later(temperature_nk, 25 * C, die().decay(S))
        assert 25 * C - 1 <= cooler_nk <= temperature_nk
        temperature_nk = cooler_nk
    assert temperature_nk == pytest.approx(25 * C, abs=10)


def test_the_decay_is_the_exponential_to_the_last_bit_that_is_kept() -> None:
    # exp(-0.001) to 30 digits (any table of e^x), not to the 16 of math.exp
    assert die().decay(S // 10) == 999000499833374991668055357169 * 2**SHIFT // 10**30


def test_the_time_to_the_trip_solves_the_same_equation() -> None:
    # 30 °C to 80 °C on the way to 90 °C: 100 s · ln(60 / 10)
    reached_ns = die().time_to_trip_ns(6 * W, celsius_nk(30), celsius_nk(30))
    assert reached_ns is not None
    assert reached_ns / S == pytest.approx(100 * math.log(6), abs=1e-6)


def test_a_die_that_settles_below_or_exactly_at_the_trip_has_no_time_to_it() -> None:
    assert die().time_to_trip_ns(5 * W, celsius_nk(30), celsius_nk(30)) is None
    assert die().time_to_trip_ns(4 * W, celsius_nk(30), celsius_nk(30)) is None
    assert die().time_to_trip_ns(4 * W, celsius_nk(81), celsius_nk(30)) == 0


def test_power_lies_between_idle_and_active_by_the_share_of_time_spent_inferring() -> None:
    assert [die().power_uw(0, busy, 4) for busy in (0, 1, 4)] == [1 * W, 2 * W, 5 * W]


def test_a_slower_clock_saves_the_dynamic_part_of_the_power_in_proportion() -> None:
    assert die().active_uw == (5 * W, 3 * W, 2 * W)


def test_a_step_that_declares_its_own_power_keeps_it() -> None:
    steps = [{"clock": 500.0, "at": 80.0, "powerActive": 2.5}, {"clock": 250.0, "at": 90.0}]
    assert die(steps=steps).active_uw == (5 * W, 5 * W // 2, 2 * W)


def test_the_clock_drops_at_the_trip_and_not_a_nanokelvin_before() -> None:
    assert die().step_at(80 * C - 1, 0) == 0
    assert die().step_at(80 * C, 0) == 1


def test_the_clock_rises_again_only_below_the_trip_by_more_than_the_hysteresis() -> None:
    assert die().step_at(80 * C - 1, 1) == 1
    assert die().step_at(75 * C, 1) == 1
    assert die().step_at(75 * C - 1, 1) == 0


def test_steps_are_taken_and_left_one_after_the_other_or_all_at_once() -> None:
    assert die().step_at(95 * C, 0) == 2
    assert die().step_at(86 * C, 2) == 2
    assert die().step_at(84 * C, 2) == 1
    assert die().step_at(40 * C, 2) == 0


def test_without_a_word_about_it_hysteresis_is_two_kelvin() -> None:
    sheet = {key: value for key, value in THERMAL.items() if key != "hysteresis"}
    assert Die.from_spec(sheet, CLOCK_MHZ).hysteresis_nk == 2 * C


@pytest.mark.parametrize(
    ("busy", "ambient_c", "temperature_c", "step"),
    [
        (0, 50, 60, 0),  # idle: 50 + 10 K/W · 1 W
        (1, 25, 75, 0),  # always busy: 25 + 10 · 5
        (1, 52, 82, 1),  # 102 at full clock; 52 + 10 · 3 at half of it, within the hysteresis of the trip
        (1, 40, 80, 1),  # 90 at full clock, 70 at half: back and forth, beginning at the trip
        (1, 75, 95, 2),  # 105 at half clock, 95 at a quarter
    ],
)
def test_a_load_of_hours_settles_on_the_fastest_clock_it_can_keep(
    busy: int, ambient_c: int, temperature_c: int, step: int
) -> None:
    assert die().settled(busy, 1, celsius_nk(ambient_c)) == (temperature_c * C, step)


def test_a_slower_clock_is_busy_longer_with_the_same_load() -> None:
    # A quarter busy at full clock is half busy at half: 1 W + 1/2 · (3 W - 1 W) = 2 W.
    temperature_nk, step = die(steps=[{"clock": 500.0, "at": 55.0}], throttleAt=55.0).settled(
        1, 4, celsius_nk(35)
    )
    assert (temperature_nk, step) == (55 * C, 1)


def test_a_sheet_without_resistance_has_a_die_that_stays_as_cool_as_the_air() -> None:
    cold = Die.from_spec(SHEET_WITHOUT_HEAT, CLOCK_MHZ)
    assert cold is NO_HEAT
    assert cold.settled(1, 1, celsius_nk(50)) == (50 * C, 0)
    assert cold.time_to_trip_ns(0, celsius_nk(50), celsius_nk(50)) is None


def test_a_step_as_fast_as_the_full_clock_is_refused() -> None:
    with pytest.raises(SpecError, match="not slower than cpu.clock"):
        die(steps=[{"clock": 1000.0, "at": 80.0}])
