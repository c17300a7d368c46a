"""Accuracy: the share of samples whose largest score is that of the true class.

>>> Accuracy().predictions(np.array([[0.1, 0.9], [0.7, 0.3]]))
array([1, 0])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgewright.build.metric.interval import tango, wilson
from edgewright.build.metric.score import Array, Drop, LabelScore, Score, not_finite
from edgewright.errors import BuildError


@dataclass(frozen=True)
class Accuracy:
    """Scores [samples, classes] against true classes; a tie goes to the class with the smaller number."""

    name: str = "accuracy"

    def check(self, outputs: Array, targets: Array, what: str, labels: Sequence[str] = ()) -> None:
        """Check that there is one score per class, and that labels and targets speak of those classes.

        Raises:
            BuildError: says which does not.
        """
        if outputs.ndim != 2:
            raise BuildError(
                f"accuracy needs one score per class; the first output is {list(outputs.shape[1:])} per sample",
                hint="metric.name auc takes one score per sample, cosine any vector",
            )
        classes = outputs.shape[1]
        if classes < 2:
            raise BuildError(
                "accuracy needs two classes or more; with one, every answer is right",
                hint="metric.name auc takes one score per sample",
            )
        if labels and len(labels) != classes:
            raise BuildError(f"the model has {classes} classes; model.yaml names {len(labels)} labels")
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            raise BuildError(
                f"{what} has targets {low} to {high}; the model's classes are 0 to {classes - 1}"
            )

    def predictions(self, outputs: Array) -> Array:
        """Return the class with the largest score, per sample."""
        return np.asarray(outputs.argmax(axis=1))

    def score(self, outputs: Array, targets: Array, reference: Array) -> Score:
        """Return the share of right answers and Wilson's interval; `reference` plays no part."""
        right, count = int(np.count_nonzero(self.predictions(outputs) == targets)), len(targets)
        return Score(right / count, *wilson(right, count), count)

    def drop(self, outputs: Array, reference: Array, targets: Array) -> Drop:
        """Return the loss of right answers over all samples, and Tango's interval from those where the two disagree."""
        now, before = self.predictions(outputs) == targets, self.predictions(reference) == targets
        lost, won = int(np.count_nonzero(before & ~now)), int(np.count_nonzero(now & ~before))
        # One division of whole numbers: a drop of exactly the limit must not fail by a rounding error.
        return Drop((lost - won) / len(targets), *tango(lost, won, len(targets)))

    def resolution(self, targets: Array) -> float:
        """Return what one sample is worth."""
        return 1 / len(targets)

    def without_nan(self, outputs: Array, targets: Array) -> Array:
        """Return `outputs` in which a sample that is not finite chooses the class after the true one."""
        # The largest of scores with NaN among them would be the NaN, which may stand at the right place.
        wrong = np.eye(outputs.shape[1], dtype=outputs.dtype)[(targets + 1) % outputs.shape[1]]
        return np.where(not_finite(outputs)[:, None], wrong, outputs)

    def per_label(
        self, outputs: Array, reference: Array, targets: Array, labels: Sequence[str] = ()
    ) -> dict[str, LabelScore]:
        """Return recall of both models per label, and the loss between them."""
        now, before = self.predictions(outputs) == targets, self.predictions(reference) == targets
        found = {}
        for index in range(outputs.shape[1]):
            of_label = targets == index
            count = int(np.count_nonzero(of_label))
            right, right_fp32 = int(now[of_label].sum()), int(before[of_label].sum())
            found[labels[index] if labels else str(index)] = (
                LabelScore(count, right / count, right_fp32 / count, (right_fp32 - right) / count)
                if count
                else LabelScore(0, None, None, None)
            )
        return found
