"""Coefficients of counts and times: those that made them are found again."""

from __future__ import annotations

import doctest
import random

import pytest

from edgewright.bench.calibration import fit as module
from edgewright.bench.calibration.fit import MIN_SAMPLES, Sample, errors, fit, held_out, predict, solve
from edgewright.errors import BuildError

RATES = {"branchMisses": 14.0, "loads": 0.75, "perInference": 40_000.0, "scalar": 0.5}


def samples(count: int = 60, *, noise: float = 0.0, rates: dict[str, float] = RATES) -> list[Sample]:
    dice = random.Random(3)
    drawn = []
    for number in range(count):
        features = {name: 10 ** dice.uniform(4, 7) for name in rates} | {"perInference": 1.0}
        features["branchMisses"] = features.get("scalar", 1e5) * dice.uniform(0.001, 0.05)
        cycles = predict(rates, features) * (1 + dice.uniform(-noise, noise))
        drawn.append(Sample(f"net-{number:03}", features, cycles))
    return drawn


def test_coefficients_that_made_the_cycles_are_found_again() -> None:
    found = fit(samples(), "fp32")
    assert found.rates == pytest.approx(RATES, rel=1e-3)
    assert found.errors.mean < 1e-3
    assert found.errors.near == 1.0


def test_noise_moves_coefficients_by_no_more_than_itself() -> None:
    found = fit(samples(200, noise=0.1), "fp32")
    for name in ("loads", "scalar"):
        assert found.rates[name] == pytest.approx(RATES[name], rel=0.1)
    assert 0.02 < found.errors.mean < 0.1


def test_a_feature_that_would_give_time_back_costs_nothing() -> None:
    made = samples(rates={**RATES, "stores": -0.05})
    positive = [sample for sample in made if sample.cycles > 0]
    found = solve(positive)
    assert "stores" not in found
    assert all(rate > 0 for rate in found.values())


def test_random_cycles_never_give_a_negative_coefficient() -> None:
    dice = random.Random(5)
    for _ in range(20):
        drawn = [
            Sample(str(number), {name: dice.uniform(0, 1e6) for name in "abcde"}, dice.uniform(1, 1e6))
            for number in range(25)
        ]
        assert all(rate > 0 for rate in solve(drawn).values())


def test_a_feature_that_no_net_has_is_left_out() -> None:
    never = [Sample(one.name, {**one.features, "simdDot": 0.0}, one.cycles) for one in samples()]
    assert solve(never) == solve(samples())


def test_a_small_net_counts_as_much_as_a_large_one() -> None:
    """Of cost 1 and 3 for one, relative least squares say 1.2; absolute ones would say 3."""
    assert solve([Sample("small", {"x": 1.0}, 1.0), Sample("large", {"x": 1e6}, 3e6)]) == {"x": 1.2}


def test_errors_are_those_of_a_calculation_by_hand() -> None:
    found = errors({"a": (110.0, 100.0), "b": (60.0, 100.0), "c": (240.0, 200.0), "d": (50.0, 50.0)})
    assert found.mean == pytest.approx((0.1 + 0.4 + 0.2 + 0.0) / 4)
    assert (found.worst, found.worst_of) == (pytest.approx(0.4), "b")
    assert found.near == 0.75
    assert found.count == 4


def test_every_net_is_predicted_by_a_fit_that_has_not_seen_it() -> None:
    fitted: list[set[str]] = []

    def watched(some: object) -> dict[str, float]:
        fitted.append({sample.name for sample in some})  # type: ignore[attr-defined]
        return {}

    drawn = samples(25)
    found = held_out(drawn, watched)
    left_out = [{sample.name for sample in drawn} - names for names in fitted]
    assert len(left_out) == 10
    assert sorted(name for names in left_out for name in names) == [sample.name for sample in drawn]
    assert (found.mean, found.count) == (1.0, 25)  # nothing was predicted


def test_too_few_nets_are_refused_with_what_to_do() -> None:
    with pytest.raises(BuildError, match=f"{MIN_SAMPLES - 1} int8 nets are too few") as caught:
        fit(samples(MIN_SAMPLES - 1), "int8")
    assert caught.value.hint == "make the kit with more --nets"
    assert fit(samples(MIN_SAMPLES), "int8").errors.count == MIN_SAMPLES


def test_the_examples_in_the_module_are_true() -> None:
    assert doctest.testmod(module).failed == 0
