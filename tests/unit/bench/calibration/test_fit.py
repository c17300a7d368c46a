"""The fit: it finds what was put in, says how good it is on what it was not made from, and refuses too little."""

from __future__ import annotations

import doctest
import random
from collections.abc import Mapping

import pytest

from edgewright.bench.calibration import fit as module
from edgewright.bench.calibration.fit import Sample, errors, fit, held_out, predict, solve
from edgewright.errors import BuildError

TRUE = {"loads": 0.25, "calls": 4.0, "branchMisses": 18.0, "perInference": 5000.0}


def samples(count: int, rates: Mapping[str, float], *, noise: float = 0.0, seed: int = 1) -> list[Sample]:
    """Nets of random mixes that cost what `rates` say, give or take `noise`."""
    dice = random.Random(seed)
    made = []
    for number in range(count):
        size = 10 ** dice.uniform(4, 8)
        features = {
            "loads": size * dice.uniform(0.1, 0.5),
            "scalar": size * dice.uniform(0.1, 0.5),
            "calls": size * dice.uniform(0.0005, 0.02),
            "branchMisses": size * dice.uniform(0.0001, 0.01),
            "perInference": 1.0,
        }
        cycles = predict(rates, features) * (1 + noise * dice.uniform(-1, 1))
        made.append(Sample(f"net-{number:03}", features, cycles))
    return made


def test_known_coefficients_are_found_and_what_costs_nothing_is_left_out() -> None:
    found = solve(samples(40, TRUE))
    assert found.keys() == TRUE.keys()
    for name, rate in TRUE.items():
        assert found[name] == pytest.approx(rate, rel=0.01)


def test_noise_moves_coefficients_little_and_the_held_out_error_is_the_noise() -> None:
    found = fit(samples(150, TRUE, noise=0.1), "fp32")
    for name in ("loads", "calls", "branchMisses"):
        assert found.rates[name] == pytest.approx(TRUE[name], rel=0.25)
    assert found.errors.mean == pytest.approx(0.05, abs=0.015)  # of a uniform ± 10 %
    assert found.errors.near == 1.0
    assert found.errors.count == 150


def test_no_coefficient_is_negative() -> None:
    odd = [
        Sample(sample.name, sample.features, sample.cycles / (1 + 1e-7 * sample.features["scalar"]))
        for sample in samples(60, TRUE)
    ]
    assert min(solve(odd).values()) > 0


def test_an_error_is_measured_on_nets_that_were_left_out() -> None:
    # Each net has a feature of its own: a fit to all is perfect and knows nothing of the next one.
    lonely = [
        Sample(f"net-{n:03}", {f"only-{n}": 1.0, "perInference": 1.0}, 100.0 * (n + 1)) for n in range(30)
    ]
    inside = errors({s.name: (predict(solve(lonely), s.features), s.cycles) for s in lonely})
    assert inside.mean < 0.001
    assert held_out(lonely, solve).mean > 0.3


def test_small_nets_count_as_much_as_large_ones() -> None:
    mixed = samples(40, {"loads": 1.0})
    small = [Sample(s.name, s.features, 2 * s.cycles) if s.features["loads"] < 1e6 else s for s in mixed]
    one_rate = [Sample(s.name, {"loads": s.features["loads"]}, s.cycles) for s in small]
    assert 1.1 < solve(one_rate)["loads"] < 1.7


def test_too_few_nets_are_refused_with_what_to_do() -> None:
    with pytest.raises(BuildError, match="19 int8 nets are too few") as refused:
        fit(samples(19, TRUE), "int8")
    assert "--nets" in str(refused.value.hint)


def test_errors_tell_the_share_that_is_near_and_the_worst() -> None:
    found = errors({"a": (10.0, 10.0), "b": (12.0, 10.0), "c": (5.0, 10.0), "d": (8.0, 10.0)})
    assert found.near == 0.75
    assert (found.worst, found.worst_of, found.count) == (0.5, "c", 4)
    assert found.mean == pytest.approx(0.225)


def test_the_example_in_the_module_is_true() -> None:
    assert doctest.testmod(module).failed == 0
