"""Confidence intervals, two-sided, 95 %: closed forms and bisections that need nothing but square roots.

IEEE 754 rounds those correctly on every processor, so the same counts give the same interval everywhere. Ends are
rounded to six decimals: a millionth is far below what any test set can tell.

>>> wilson(0, 20)
(0.0, 0.161125)
>>> tango(lost=0, won=0, count=100)
(-0.036993, 0.036993)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

Interval = tuple[float, float]

Z = 1.959963984540054  # 97.5 % quantile of the normal distribution
DECIMALS = 6
BISECTIONS = 60  # halvings of an interval no wider than 2: below the last bit of a double near 1

# 97.5 % quantiles of Student's t for 1, 2, … degrees of freedom (Abramowitz and Stegun 1964, table 26.10), beyond
# which the expansion in `student` is good to six digits.
_STUDENT = (
    12.7062047, 4.3026527, 3.1824463, 2.7764451, 2.5705818, 2.4469119, 2.3646243, 2.3060041, 2.2621572, 2.2281389,
)  # fmt: skip


def wilson(right: int, count: int) -> Interval:
    """Return the score interval of a share of right answers.

    Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927). Unlike the
    interval by the standard error it stays within 0 and 1, and says something where every answer is right.
    """
    share, z2 = right / count, Z * Z
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count * count))
    return rounded(centre - half, centre + half, share, (0.0, 1.0))


def tango(lost: int, won: int, count: int) -> Interval:
    """Return the score interval of a difference of two shares of right answers on the same samples.

    Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    Statistics in Medicine 17 (1998). Only samples on which the two disagree count, and a difference of nothing still
    has a width, unlike with the standard error of McNemar's test.

    Args:
        lost: Samples that only the first got right.
        won: Samples that only the second got right.
        count: All samples.

    Returns:
        Ends of the interval of (`lost` - `won`) / `count`.
    """

    def possible(difference: float) -> bool:
        # The share of samples won, if this were the difference: the likelihood's maximum (Tango, section 3).
        linear = (2 * count - lost + won) * difference - lost - won
        square = linear * linear + 8 * count * won * difference * (1 - difference)
        share = (math.sqrt(max(square, 0.0)) - linear) / (4 * count)
        apart = lost - won - count * difference
        return apart * apart <= Z * Z * count * (2 * share + difference * (1 - difference))

    middle = (lost - won) / count
    return rounded(edge(possible, middle, -1.0), edge(possible, middle, 1.0), middle, (-1.0, 1.0))


def area(value: float, positives: int, negatives: int) -> Interval:
    """Return the interval of an area under the ROC curve.

    Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic. Part 2", Statistics
    in Medicine 25 (2006), method 5: all areas from which the one seen is no further than 1.96 standard errors, by the
    variance of Hanley and McNeil, Radiology 143 (1982), at that area. As with Wilson's, an area of 1 has a width.
    """
    size = (positives + negatives) / 2 - 1

    def possible(true: float) -> bool:
        spread = 1 + size * ((1 - true) / (2 - true) + true / (1 + true))
        variance = true * (1 - true) * spread / (positives * negatives)
        return (value - true) * (value - true) <= Z * Z * variance

    return rounded(edge(possible, value, 0.0), edge(possible, value, 1.0), value, (0.0, 1.0))


def mean(values: Sequence[float], within: Interval) -> Interval:
    """Return Student's interval of the mean of `values`; all of `within` when there is only one.

    Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    count = len(values)
    middle = math.fsum(values) / count
    if count < 2:
        return within
    variance = math.fsum((value - middle) ** 2 for value in values) / (count - 1)
    half = student(count - 1) * math.sqrt(variance / count)
    return rounded(middle - half, middle + half, middle, within)


def normal(value: float, variance: Fraction) -> Interval:
    """Return the interval of a difference of two areas or shares, by its own standard error."""
    half = Z * math.sqrt(variance)
    return rounded(value - half, value + half, value, (-1.0, 1.0))


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (Abramowitz and Stegun 1964, 26.7.5)."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    z2, t = Z * Z, Z
    t += Z * (z2 + 1) / (4 * freedom)
    t += Z * ((5 * z2 + 16) * z2 + 3) / (96 * freedom**2)
    t += Z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * freedom**3)
    t += Z * ((((79 * z2 + 776) * z2 + 1482) * z2 - 1920) * z2 - 945) / (92160 * freedom**4)
    return t


def edge(possible: Callable[[float], bool], inside: float, outside: float) -> float:
    """Return how far from `inside`, which is possible, towards `outside` values are possible, by bisection."""
    if possible(outside):
        return outside
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        if possible(middle):
            inside = middle
        else:
            outside = middle
    return inside


def rounded(low: float, high: float, value: float, within: Interval) -> Interval:
    """Round both ends to six decimals; neither leaves `within` nor passes `value`."""
    low, high = round(low, DECIMALS) + 0.0, round(high, DECIMALS) + 0.0  # + 0.0: no minus zero
    return min(max(low, within[0]), value), max(min(high, within[1]), value)
