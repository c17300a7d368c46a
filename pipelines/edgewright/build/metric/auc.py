"""AUC: how often a sample with target 1 has a higher score than one with target 0.

>>> auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([1, 1, 0, 0]))
0.875
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from edgewright.build.metric.interval import area, normal
from edgewright.build.metric.score import Array, Drop, LabelScore, Score, not_finite
from edgewright.errors import BuildError


@dataclass(frozen=True)
class Auc:
    """One score per sample, [samples] or [samples, 1], against targets 0 and 1; a higher score says 1."""

    name: str = "auc"

    def check(self, outputs: Array, targets: Array, what: str, labels: Sequence[str] = ()) -> None:
        """Check that there is one score per sample, and that targets are 0 and 1, both of them.

        Raises:
            BuildError: says what there is.
        """
        if outputs.size != len(outputs) or outputs.ndim > 2:
            raise BuildError(
                f"auc needs one score per sample; the first output is {list(outputs.shape[1:])} per sample",
                hint="metric.name accuracy takes one score per class",
            )
        found = [int(value) for value in np.unique(targets)]
        if not set(found) <= {0, 1}:
            raise BuildError(f"{what} has targets {found[0]} to {found[-1]}; auc takes 0 and 1")
        if len(found) < 2:
            raise BuildError(f"{what} has only samples with target {found[0]}; auc compares those of 0 and 1")

    def predictions(self, outputs: Array) -> None:
        """Return nothing: without a threshold nothing is chosen."""

    def score(self, outputs: Array, targets: Array, reference: Array) -> Score:
        """Return the area under the ROC curve and Newcombe's interval; `reference` plays no part."""
        value = auc(outputs, targets)
        positives = int(np.count_nonzero(targets == 1))
        return Score(value, *area(value, positives, len(targets) - positives), len(targets))

    def drop(self, outputs: Array, reference: Array, targets: Array) -> Drop:
        """Return the loss of area, and its interval by the paired variance of DeLong, DeLong and Clarke-Pearson.

        "Comparing the areas under two or more correlated receiver operating characteristic curves", Biometrics 44
        (1988). Scores of the same order give an interval of no width: there is nothing they disagree on. With only
        one sample of a target there is no variance, and the interval is all that is possible.
        """
        won, rivals = wins(outputs, targets), wins(reference, targets)
        lost = [before - now for now, before in zip(won, rivals, strict=True)]
        positives, negatives = len(lost[0]), len(lost[1])
        value = int(lost[0].sum()) / (2 * positives * negatives)
        if min(positives, negatives) < 2:
            return Drop(value, -1.0, 1.0)
        variance = _variance_of_mean(lost[0]) / (2 * negatives) ** 2
        variance += _variance_of_mean(lost[1]) / (2 * positives) ** 2
        return Drop(value, *normal(value, variance))

    def resolution(self, targets: Array) -> float:
        """Return what one pair of samples is worth."""
        positives = int(np.count_nonzero(targets == 1))
        return 1 / (positives * (len(targets) - positives))

    def without_nan(self, outputs: Array, targets: Array) -> Array:
        """Return `outputs` in which a sample that is not finite loses against all others."""
        worst = np.where(targets == 1, -np.inf, np.inf).astype(outputs.dtype)
        return np.where(not_finite(outputs), worst, outputs.reshape(len(targets)))

    def per_label(
        self, outputs: Array, reference: Array, targets: Array, labels: Sequence[str] = ()
    ) -> dict[str, LabelScore]:
        """Return nothing: an area belongs to both targets at once."""
        return {}


def auc(scores: Array, targets: Array) -> float:
    """Return the area under the ROC curve, ties counted half: one division of whole numbers."""
    of_positives, of_negatives = wins(scores, targets)
    return int(of_positives.sum()) / (2 * len(of_positives) * len(of_negatives))


def wins(scores: Array, targets: Array) -> tuple[Array, Array]:
    """Return for each sample with target 1 how many with target 0 it beats, and the other way, in halves.

    Two for a pair in the right order, one for a tie, so that sums stay whole. These are DeLong's structural
    components times twice the number of rivals.
    """
    flat = scores.reshape(len(targets))
    positives, negatives = flat[targets == 1], flat[targets == 0]
    sorted_positives, sorted_negatives = np.sort(positives), np.sort(negatives)
    below = np.searchsorted(sorted_negatives, positives, "left")
    below += np.searchsorted(sorted_negatives, positives, "right")
    above = 2 * len(positives) - np.searchsorted(sorted_positives, negatives, "left")
    above -= np.searchsorted(sorted_positives, negatives, "right")
    return below.astype(np.int64), above.astype(np.int64)


def _variance_of_mean(values: Array) -> Fraction:
    """Return the variance of the mean of whole numbers, exactly."""
    count, total, squares = len(values), int(values.sum()), sum(int(value) ** 2 for value in values)
    return Fraction(count * squares - total * total, count * count * (count - 1))
