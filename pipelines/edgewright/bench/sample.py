"""A few test samples to be tried in a target, and what this machine's own run of the artifact makes of them.

>>> sample = sample_of(held_out, model_bytes)                              # doctest: +SKIP
>>> len(sample), sample.reference[:4]                                        # doctest: +SKIP
(128, array([3, 0, 7, 7]))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgewright.build.golden import decoded, encoded
from edgewright.build.metric import stratified
from edgewright.build.samples import Arrays, Network, Samples

# An emulated inference takes 100 to 1,000 times its own time, so a large model gets fewer samples: most models of
# that size then stay under a minute. By the size of the file, so that the choice is the same everywhere.
SAMPLES_BY_SIZE = ((1_000_000, 128), (16_000_000, 32), (None, 8))


@dataclass(frozen=True)
class Sample:
    """Test samples to be tried in a target.

    Attributes:
        inputs: By name, first dimension = samples.
        targets: True classes.
        reference: Classes the evaluator's own run of the same artifact chose.
    """

    inputs: Arrays
    targets: np.ndarray
    reference: np.ndarray

    def __len__(self) -> int:
        return len(self.targets)


def sample_of(held_out: Samples, model: bytes, count: int | None = None) -> Sample:
    """Return samples spread evenly over the labels, and what this machine's own run of the artifact makes of them.

    Args:
        held_out: All test samples.
        model: The serialized artifact.
        count: How many; by the size of the model when None.

    Raises:
        BuildError: onnxruntime cannot load or run the model here.
    """
    if count is None:
        count = next(n for limit, n in SAMPLES_BY_SIZE if limit is None or len(model) <= limit)
    rows = stratified(held_out.targets, count)
    inputs = {name: array[rows] for name, array in held_out.inputs.items()}
    network = Network(model)
    scores = network.run(inputs, batch=1)[network.outputs[0]]
    return Sample(inputs, held_out.targets[rows], scores.argmax(axis=1))


def joined(golden_inputs: Mapping[str, Any], sample: Sample | None) -> dict[str, Any]:
    """Return the golden inputs with the sample's behind them: one process answers for both."""
    if sample is None:
        return dict(golden_inputs)
    return {
        name: encoded(np.concatenate([decoded(value), sample.inputs[name]]))
        for name, value in golden_inputs.items()
    }
