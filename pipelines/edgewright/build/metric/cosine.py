"""Cosine: how much the outputs point where those of the fp32 model point, for embeddings and other vectors.

>>> cosines(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 0.0], [1.0, 0.0]])).round(4).tolist()
[1.0, 0.7071]
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgewright.build.metric.interval import mean
from edgewright.build.metric.score import Array, Drop, LabelScore, Score, not_finite
from edgewright.errors import BuildError

DECIMALS = 9  # of a mean cosine: two processors' sums in double precision differ far behind that


@dataclass(frozen=True)
class Cosine:
    """Mean cosine similarity, each sample's output taken as one long vector; fp32 itself has 1 by definition."""

    name: str = "cosine"

    def check(self, outputs: Array, targets: Array, what: str, labels: Sequence[str] = ()) -> None:
        """Check that the output is made of floating-point numbers; targets play no part.

        Raises:
            BuildError: it is not, or holds nothing.
        """
        if not np.issubdtype(outputs.dtype, np.floating) or outputs.size == 0:
            raise BuildError(
                f"cosine needs floating-point outputs; the first output is {outputs.dtype}"
                f"{list(outputs.shape[1:])} per sample"
            )

    def predictions(self, outputs: Array) -> None:
        """Return nothing: a vector chooses nothing."""

    def score(self, outputs: Array, targets: Array, reference: Array) -> Score:
        """Return the mean over all samples and Student's interval; targets play no part."""
        count = len(outputs)
        if np.array_equal(outputs, reference):
            return Score(1.0, 1.0, 1.0, count)
        found = cosines(outputs, reference).tolist()
        value = round(math.fsum(found) / count, DECIMALS) + 0.0
        low, high = mean(found, (-1.0, 1.0))
        return Score(value, min(low, value), max(high, value), count)

    def drop(self, outputs: Array, reference: Array, targets: Array) -> Drop:
        """Return what is missing to 1, the score of fp32: the paired loss."""
        score = self.score(outputs, targets, reference)
        value, low, high = (round(1 - end, DECIMALS) + 0.0 for end in (score.value, score.high, score.low))
        return Drop(value, low, high)

    def resolution(self, targets: Array) -> float:
        """Return 0: a cosine has no steps."""
        return 0.0

    def without_nan(self, outputs: Array, targets: Array) -> Array:
        """Return `outputs` in which a sample that is not finite points nowhere."""
        flat = outputs.reshape(len(outputs), -1)
        return np.where(not_finite(outputs)[:, None], 0, flat).astype(outputs.dtype)

    def per_label(
        self, outputs: Array, reference: Array, targets: Array, labels: Sequence[str] = ()
    ) -> dict[str, LabelScore]:
        """Return nothing: there are no labels."""
        return {}


def cosines(outputs: Array, reference: Array) -> Array:
    """Return the cosine of each sample's two vectors, in double precision.

    Two vectors of nothing agree (1); one of nothing agrees with no other (0).
    """
    left = _unit(outputs)
    right = _unit(reference)
    found = np.clip((left * right).sum(axis=1), -1.0, 1.0)
    nothing = ~left.any(axis=1), ~right.any(axis=1)
    return np.asarray(np.where(nothing[0] & nothing[1], 1.0, found))


def _unit(array: Array) -> Array:
    """Return one row of length 1 per sample; a row of nothing stays."""
    flat = array.reshape(len(array), -1).astype(np.float64)
    # By the largest value first: squares of very large or small numbers would leave the range of a double.
    largest = np.abs(flat).max(axis=1, keepdims=True)
    flat = np.divide(flat, largest, out=np.zeros_like(flat), where=largest > 0)
    length = np.sqrt((flat * flat).sum(axis=1, keepdims=True))
    return np.asarray(np.divide(flat, length, out=np.zeros_like(flat), where=length > 0))
