"""A figure with its interval, and what every metric can say.

>>> Score(0.95, 0.93, 0.97, 800).document()
{'value': 0.95, 'low': 0.93, 'high': 0.97}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edgewright.errors import BuildError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Score:
    """What outputs are worth.

    Attributes:
        value: The metric on these samples.
        low: Lower end of the two-sided 95 % interval, never above `value`.
        high: Its upper end, never below `value`.
        samples: How many samples that is.
    """

    value: float
    low: float
    high: float
    samples: int

    def document(self) -> dict[str, float]:
        """Return value and interval as JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Drop:
    """What was lost against fp32 on the same samples; negative where the optimized model is better.

    Attributes:
        value: The score of fp32 less that of the optimized model.
        low: Lower end of the two-sided 95 % interval of that difference.
        high: Its upper end.
    """

    value: float
    low: float
    high: float

    def document(self) -> dict[str, float]:
        """Return value and interval as JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class LabelScore:
    """How often the samples of one label are recognized.

    Attributes:
        samples: How many samples have this label.
        recall: Share of them that got it; None where there is none, so that nothing can be said.
        fp32: The same for the fp32 model.
        drop: `fp32` less `recall`, one division of whole numbers.
    """

    samples: int
    recall: float | None
    fp32: float | None
    drop: float | None

    def document(self) -> dict[str, float | int | None]:
        """Return it as JSON values."""
        return {"samples": self.samples, "recall": self.recall, "fp32": self.fp32, "drop": self.drop}


class Metric(Protocol):
    """What `metric.name` of a model names. First dimension of every array: samples.

    `outputs` is the first output of the model in question, `reference` that of fp32 on the same samples.
    """

    @property
    def name(self) -> str:
        """The word of the YAML."""
        ...

    def check(self, outputs: Array, targets: Array, what: str, labels: Sequence[str] = ()) -> None:
        """Check that outputs, targets and labels can be measured together.

        Args:
            outputs: First output.
            targets: One whole number per sample.
            what: Where the samples come from, for messages.
            labels: Names of the classes, if the model names them.

        Raises:
            BuildError: says what was expected and what was found.
        """
        ...

    def score(self, outputs: Array, targets: Array, reference: Array) -> Score:
        """Return the metric and its 95 % interval."""
        ...

    def drop(self, outputs: Array, reference: Array, targets: Array) -> Drop:
        """Return the loss against `reference` on the same samples, and its 95 % interval, paired by sample."""
        ...

    def per_label(
        self, outputs: Array, reference: Array, targets: Array, labels: Sequence[str] = ()
    ) -> dict[str, LabelScore]:
        """Return the figures of each label by its name (its number where it has none); nothing without labels."""
        ...

    def resolution(self, targets: Array) -> float:
        """Return the smallest loss these samples can show: what one of them, or one pair, is worth."""
        ...

    def without_nan(self, outputs: Array, targets: Array) -> Array:
        """Return `outputs` with a wrong answer in place of every sample that holds NaN or infinity."""
        ...

    def predictions(self, outputs: Array) -> Array | None:
        """Return the class chosen for each sample; None where the metric chooses nothing."""
        ...


def check_finite(array: Array, what: str) -> None:
    """Check that no sample holds NaN or infinity; whole numbers never do.

    Args:
        array: First dimension: samples.
        what: What it is, for the message.

    Raises:
        BuildError: says in how many samples.
    """
    if bad := int(np.count_nonzero(not_finite(array))):
        raise BuildError(f"{what} holds NaN or infinity in {bad} of {len(array)} samples")


def not_finite(array: Array) -> Array:
    """Return for each sample whether it holds NaN or infinity."""
    return np.asarray(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
