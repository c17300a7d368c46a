"""Coefficients of a class from counts and times: non-negative least squares of the relative error.

>>> a = Sample("a", {"loads": 100.0, "perInference": 1.0}, cycles=250.0)
>>> b = Sample("b", {"loads": 300.0, "perInference": 1.0}, cycles=650.0)
>>> solve([a, b])
{'loads': 2.0, 'perInference': 50.0}

Relative, because a small net's error counts as much as a large one's; non-negative, because no instruction gives time
back, and a model of another mix would be told so. How good the coefficients are for nets they were not made from is
measured: ten times a tenth of the nets is left out, predicted by a fit to the others, and compared.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from edgewright.bench.timing import significant
from edgewright.errors import BuildError

FOLDS = 10
MIN_SAMPLES = 20
NEAR = 0.2
NEGLIGIBLE = 0.001  # share of what nets take, in the mean: less is what the solver leaves of nothing
Rates = dict[str, float]
Solve = Callable[[Sequence["Sample"]], Rates]


@dataclass(frozen=True)
class Sample:
    """One net: what it was counted in, and what it took.

    Attributes:
        name: Of the net.
        features: Feature → how many.
        cycles: What they took together.
    """

    name: str
    features: Mapping[str, float]
    cycles: float


@dataclass(frozen=True)
class Errors:
    """How far predictions were from what was measured, as shares.

    Attributes:
        mean: Mean absolute error.
        near: Share of predictions within 20 %.
        worst: The largest absolute error.
        worst_of: Which net's.
        count: How many predictions.
    """

    mean: float
    near: float
    worst: float
    worst_of: str
    count: int


@dataclass(frozen=True)
class Fit:
    """Coefficients and what they are worth on nets they were not made from."""

    rates: Rates
    errors: Errors


def fit(samples: Sequence[Sample], what: str) -> Fit:
    """Fit all features and measure the error on held-out nets.

    Args:
        samples: One per net.
        what: For the message: `fp32`.

    Raises:
        BuildError: there are too few nets to tell good coefficients from lucky ones.
    """
    if len(samples) < MIN_SAMPLES:
        raise BuildError(
            f"{len(samples)} {what} nets are too few to fit coefficients: at least {MIN_SAMPLES} are needed",
            hint="make the kit with more --nets",
        )
    return Fit(solve(samples), held_out(samples, solve))


def solve(samples: Sequence[Sample]) -> Rates:
    """Return feature → cycles for one of it; features that cost nothing are left out."""
    names = sorted({name for sample in samples for name in sample.features})
    measured = np.array([sample.cycles for sample in samples])
    counted = np.array([[sample.features.get(name, 0.0) for name in names] for sample in samples])
    relative = counted / measured[:, None]
    # Columns of one size, or the solver's tolerance would take a rare and costly feature for none.
    sizes = np.maximum(np.linalg.norm(relative, axis=0), np.finfo(float).tiny)
    rates, _ = nnls(relative / sizes, np.ones(len(samples)), maxiter=100 * max(10, len(names)))
    rates /= sizes
    shares = (relative * rates).mean(axis=0)
    return {
        name: significant(float(rate))
        for name, rate, share in zip(names, rates, shares, strict=True)
        if share >= NEGLIGIBLE
    }


def predict(rates: Mapping[str, float], features: Mapping[str, float]) -> float:
    """Return the cycles that coefficients say."""
    return sum(rate * features.get(name, 0.0) for name, rate in rates.items())


def held_out(samples: Sequence[Sample], solve: Solve) -> Errors:
    """Predict every net from a fit to the nets of nine other parts."""
    predicted = [0.0] * len(samples)
    folds = min(FOLDS, len(samples))
    for fold in range(folds):
        rates = solve([sample for place, sample in enumerate(samples) if place % folds != fold])
        for place in range(fold, len(samples), folds):
            predicted[place] = predict(rates, samples[place].features)
    return errors(
        {sample.name: (cycles, sample.cycles) for sample, cycles in zip(samples, predicted, strict=True)}
    )


def errors(pairs: Mapping[str, tuple[float, float]]) -> Errors:
    """Return the errors of predictions.

    Args:
        pairs: Name → predicted, measured.

    >>> errors({"a": (11.0, 10.0), "b": (7.0, 10.0)}).mean
    0.2
    """
    off = {name: abs(predicted / measured - 1) for name, (predicted, measured) in pairs.items()}
    worst_of = max(off, key=lambda name: off[name])
    return Errors(
        mean=round(statistics.fmean(off.values()), 6),
        near=sum(error <= NEAR for error in off.values()) / len(off),
        worst=off[worst_of],
        worst_of=worst_of,
        count=len(off),
    )
