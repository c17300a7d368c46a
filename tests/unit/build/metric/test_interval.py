from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy import optimize, stats

from edgewright.build.metric.interval import area, edge, mean, student, tango, wilson

COUNTS = some.integers(1, 5000).flatmap(lambda count: some.tuples(some.integers(0, count), some.just(count)))


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_examples_of_newcombes_comparison_of_seven_methods(
    right: int, count: int, low: float, high: float
) -> None:
    # Newcombe, "Two-sided confidence intervals for the single proportion", Stat Med 17 (1998), table I, method 3.
    assert wilson(right, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(COUNTS)
def test_wilson_is_scipys(counts: tuple[int, int]) -> None:
    right, count = counts
    peer = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right, count) == (pytest.approx(peer.low, abs=6e-7), pytest.approx(peer.high, abs=6e-7))


@given(COUNTS)
def test_wilson_holds_the_share_and_stays_a_share(counts: tuple[int, int]) -> None:
    right, count = counts
    low, high = wilson(right, count)
    assert 0 <= low <= right / count <= high <= 1
    assert high > low


@given(some.integers(1, 3000), some.data())
def test_more_right_answers_never_lower_either_end(count: int, data: some.DataObject) -> None:
    right = data.draw(some.integers(0, count - 1))
    assert all(
        more >= less for more, less in zip(wilson(right + 1, count), wilson(right, count), strict=True)
    )


def score_of(difference: float, lost: int, won: int, count: int) -> float:
    """The score statistic at a supposed difference, its likelihood maximized by search instead of a formula."""
    both = count - lost - won

    def unlikelihood(share_won: float) -> float:
        parts = (
            (lost, share_won + difference),
            (won, share_won),
            (both, 1 - 2 * share_won - difference),
        )
        return -sum(n * math.log(max(p, 1e-300)) for n, p in parts if n)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = optimize.minimize_scalar(
        unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-10}
    ).x
    return float(
        (lost - won - count * difference) / math.sqrt(count * (2 * share + difference * (1 - difference)))
    )


@pytest.mark.parametrize(
    ("lost", "won", "count"), [(12, 2, 50), (1, 7, 21), (6, 16, 161), (3, 5, 400), (9, 1, 1000), (1, 1, 30)]
)
def test_the_ends_of_tango_are_where_the_score_statistic_is_one_and_96_hundredths(
    lost: int, won: int, count: int
) -> None:
    low, high = tango(lost, won, count)
    assert score_of(low, lost, won, count) == pytest.approx(1.96, abs=1e-3)
    assert score_of(high, lost, won, count) == pytest.approx(-1.96, abs=1e-3)


def test_tango_gives_the_published_interval() -> None:
    # Fagerland, Lydersen and Laake, "Recommended tests and confidence intervals for paired binomial proportions",
    # Statistics in Medicine 33 (2014): airway hyper-responsiveness before and after a transplantation, 1 and 7 of 21.
    assert tango(1, 7, 21) == (pytest.approx(-0.517, abs=5e-4), pytest.approx(-0.026, abs=5e-4))


@given(some.integers(1, 2000), some.data())
def test_tango_holds_the_difference_and_is_symmetric(count: int, data: some.DataObject) -> None:
    lost = data.draw(some.integers(0, count))
    won = data.draw(some.integers(0, count - lost))
    low, high = tango(lost, won, count)
    assert -1 <= low <= (lost - won) / count <= high <= 1
    assert high - low > 0
    other_low, other_high = tango(won, lost, count)
    assert (low, high) == (pytest.approx(-other_high, abs=1.1e-6), pytest.approx(-other_low, abs=1.1e-6))


@given(some.integers(0, 20), some.integers(0, 20), some.integers(40, 400))
def test_more_samples_with_the_same_disagreements_are_more_certain(lost: int, won: int, count: int) -> None:
    low, high = tango(lost, won, count)
    more_low, more_high = tango(lost, won, 2 * count)
    assert more_high - more_low < high - low


@given(some.integers(1, 400), some.integers(1, 400), some.data())
def test_the_interval_of_an_area_holds_it(positives: int, negatives: int, data: some.DataObject) -> None:
    value = data.draw(some.integers(0, 2 * positives * negatives)) / (2 * positives * negatives)
    low, high = area(value, positives, negatives)
    assert 0 <= low <= value <= high <= 1
    assert high > low


def test_a_perfect_area_is_not_certain() -> None:
    assert area(1.0, 20, 20)[0] == pytest.approx(0.8987, abs=1e-4)
    assert area(1.0, 2000, 2000)[0] > 0.998


def test_an_interval_of_an_area_holds_the_true_one_as_often_as_it_says() -> None:
    # Two normal distributions 1.5 apart: the true area is Phi(1.5 / sqrt 2).
    true = float(stats.norm.cdf(1.5 / math.sqrt(2)))
    dice = np.random.default_rng(0)
    within = 0
    for _ in range(400):
        positives, negatives = dice.standard_normal(40) + 1.5, dice.standard_normal(60)
        value = float((positives[:, None] > negatives[None, :]).mean())
        low, high = area(value, 40, 60)
        within += low <= true <= high
    assert 0.92 < within / 400 < 0.98


@pytest.mark.parametrize("freedom", [1, 2, 5, 10, 11, 12, 30, 100, 10_000])
def test_students_quantiles_are_scipys(freedom: int) -> None:
    assert student(freedom) == pytest.approx(float(stats.t.ppf(0.975, freedom)), abs=1e-5)


@given(some.lists(some.floats(-1, 1), min_size=2, max_size=60))
def test_the_interval_of_a_mean_is_scipys(values: list[float]) -> None:
    low, high = mean(values, (-1.0, 1.0))
    middle = math.fsum(values) / len(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    assert low == pytest.approx(max(middle - half, -1), abs=2e-5)
    assert high == pytest.approx(min(middle + half, 1), abs=2e-5)


def test_one_value_says_nothing_about_its_mean() -> None:
    assert mean([0.9], (-1.0, 1.0)) == (-1.0, 1.0)


def test_an_edge_is_found_to_the_last_digit_that_is_kept() -> None:
    assert edge(lambda value: value <= math.sqrt(0.5), 0.0, 1.0) == pytest.approx(math.sqrt(0.5), abs=1e-12)
    assert edge(lambda value: True, 0.0, 1.0) == 1.0
