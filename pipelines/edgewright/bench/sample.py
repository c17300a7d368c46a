"""A few test samples to be tried in a target, and what this machine's own run of the artifact makes of them.

>>> sample = sample_of(held_out, model_bytes, metric("accuracy"))          # doctest: +SKIP
>>> sample.compared(outputs_there)                                           # doctest: +SKIP
Comparison(metric='accuracy', value=0.96875, reference=0.96875, drop=0.0, resolution=0.0078125, agreement=1.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgewright.build.golden import decoded, encoded
from edgewright.build.metric import Metric, stratified
from edgewright.build.samples import Arrays, Network, Samples

# An emulated inference takes 100 to 1,000 times its own time, so a large model gets fewer samples: most models of
# that size then stay under a minute. By the size of the file, so that the choice is the same everywhere.
SAMPLES_BY_SIZE = ((1_000_000, 128), (16_000_000, 32), (None, 8))


@dataclass(frozen=True)
class Sample:
    """Test samples to be tried in a target.

    Attributes:
        inputs: By name, first dimension = samples.
        targets: Of the test data.
        reference: First output of this machine's own run of the same artifact.
        metric: What the model is measured by.
    """

    inputs: Arrays
    targets: np.ndarray
    reference: np.ndarray
    metric: Metric

    def __len__(self) -> int:
        return len(self.targets)

    def compared(self, outputs: np.ndarray) -> Comparison:
        """Return what the outputs of another execution path are worth beside those of this machine.

        With `cosine`, which compares outputs instead of judging them, they are compared with this machine's: the
        artifact is the same, so whatever is missing to 1 is the path's doing.

        Args:
            outputs: First output, there; a sample that is not finite counts as wrong.
        """
        outputs = self.metric.without_nan(outputs, self.targets)
        chosen, here = self.metric.predictions(outputs), self.metric.predictions(self.reference)
        return Comparison(
            metric=self.metric.name,
            value=self.metric.score(outputs, self.targets, self.reference).value,
            reference=self.metric.score(self.reference, self.targets, self.reference).value,
            drop=self.metric.drop(outputs, self.reference, self.targets).value,
            resolution=self.metric.resolution(self.targets),
            agreement=None
            if chosen is None or here is None
            else int(np.count_nonzero(chosen == here)) / len(self),
        )


@dataclass(frozen=True)
class Comparison:
    """The same samples on two execution paths.

    Attributes:
        metric: What the model is measured by.
        value: Of the other path.
        reference: Of this machine's.
        drop: What is lost there.
        resolution: The smallest loss the sample can show.
        agreement: Share of samples for which both chose the same; None where the metric chooses nothing.
    """

    metric: str
    value: float
    reference: float
    drop: float
    resolution: float
    agreement: float | None


def sample_of(held_out: Samples, model: bytes, measured: Metric, count: int | None = None) -> Sample:
    """Return samples spread evenly over the labels, and what this machine's own run of the artifact makes of them.

    Args:
        held_out: All test samples.
        model: The serialized artifact.
        measured: The model's metric.
        count: How many; by the size of the model when None.

    Raises:
        BuildError: onnxruntime cannot load or run the model here, or its outputs do not fit the metric.
    """
    if count is None:
        count = next(n for limit, n in SAMPLES_BY_SIZE if limit is None or len(model) <= limit)
    rows = stratified(held_out.targets, count)
    inputs = {name: array[rows] for name, array in held_out.inputs.items()}
    network = Network(model)
    outputs, targets = network.run(inputs, batch=1)[network.outputs[0]], held_out.targets[rows]
    measured.check(outputs, targets, held_out.entry)
    return Sample(inputs, targets, measured.without_nan(outputs, targets), measured)


def joined(golden_inputs: Mapping[str, Any], sample: Sample | None) -> dict[str, Any]:
    """Return the golden inputs with the sample's behind them: one process answers for both."""
    if sample is None:
        return dict(golden_inputs)
    return {
        name: encoded(np.concatenate([decoded(value), sample.inputs[name]]))
        for name, value in golden_inputs.items()
    }
