from __future__ import annotations

import itertools
import math
import random

import pytest

from edgewright.bench.virtual.workload import NS_PER_S, Workload, exponential, seed_of
from edgewright.errors import SpecError


def first(load: Workload, count: int, seed: str = "test") -> list[int]:
    return list(itertools.islice(load.arrivals_ns(seed), count))


def gaps(times_ns: list[int]) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise([0, *times_ns])]


def test_periodic_arrivals_come_like_a_clock_whatever_the_seed() -> None:
    load = Workload("periodic", 8.0, queue=0)
    assert first(load, 3, "a") == first(load, 3, "b") == [125_000_000, 250_000_000, 375_000_000]


@pytest.mark.parametrize("arrival", ["poisson", "burst"])
def test_random_arrivals_depend_on_the_seed_and_on_nothing_else(arrival: str) -> None:
    load = Workload(arrival, 8.0, queue=0, burst=1 if arrival == "poisson" else 4)  # type: ignore[arg-type]
    assert first(load, 50, "a") == first(load, 50, "a") != first(load, 50, "b")


def test_the_stream_of_a_seed_is_pinned_because_every_published_percentile_hangs_on_it() -> None:
    # The first eight bytes that `printf "…" | sha256sum` gives
    assert seed_of("digit-reader on raspberry-pi-4") == 12680792144416121041
    assert first(Workload("poisson", 20.0, queue=0), 4) == [39812659, 53404709, 94195086, 117581838]


def test_exponential_variates_have_the_distribution_they_should() -> None:
    uniform = random.Random(1).random
    count = 40_000
    drawn = sorted(exponential(uniform) for _ in range(count))
    assert sum(drawn) / count == pytest.approx(1.0, abs=0.02)
    # Kolmogorov-Smirnov: 1.63 / sqrt(n) is exceeded by chance once in a hundred seeds; this one is fixed.
    distance = max(abs(rank / count - (1 - math.exp(-value))) for rank, value in enumerate(drawn))
    assert distance < 1.63 / math.sqrt(count)


def test_poisson_arrivals_have_the_declared_rate_and_as_much_spread_as_mean() -> None:
    times_ns = first(Workload("poisson", 50.0, queue=0), 30_000)
    assert len(times_ns) * NS_PER_S / times_ns[-1] == pytest.approx(50.0, rel=0.02)
    waits_s = [gap / NS_PER_S for gap in gaps(times_ns)]
    mean = sum(waits_s) / len(waits_s)
    deviation = math.sqrt(sum((wait - mean) ** 2 for wait in waits_s) / len(waits_s))
    assert deviation == pytest.approx(mean, rel=0.03)


def test_bursts_come_together_and_keep_the_declared_rate() -> None:
    times_ns = first(Workload("burst", 50.0, queue=0, burst=10), 30_000)
    assert {len(list(group)) for _, group in itertools.groupby(times_ns)} == {10}
    assert len(times_ns) * NS_PER_S / times_ns[-1] == pytest.approx(50.0, rel=0.05)


def test_the_words_of_the_yaml_are_understood() -> None:
    spec = {"arrival": "burst", "rate": 5.0, "queue": 20, "burst": 10}
    assert Workload.from_spec(spec) == Workload("burst", 5.0, 20, 10)
    assert Workload.from_spec({"arrival": "periodic", "rate": 5.0, "queue": 0}).burst == 1


@pytest.mark.parametrize("wrong", [{"rate_per_s": 0.0}, {"queue": -1}, {"burst": 0}])
def test_a_workload_that_asks_for_nothing_or_less_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(SpecError):
        Workload(**{"arrival": "poisson", "rate_per_s": 1.0, "queue": 1, **wrong})  # type: ignore[arg-type]
