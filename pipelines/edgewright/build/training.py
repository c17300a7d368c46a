"""A training run on request: new weights for a model, and what they are worth on the held-out samples.

>>> training = train(root / "models" / "digit-reader", model)
>>> training.score.value, training.sha256
(0.9889, '3a25cc…')
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from edgewright.build.checkpoint import restore, trained
from edgewright.build.entry import ModelCode
from edgewright.build.metric import Score, check_finite, metric
from edgewright.build.samples import load
from edgewright.build.torch_mode import repeatable
from edgewright.errors import BuildError


@dataclass(frozen=True)
class Training:
    """What a training run gave.

    Attributes:
        weights: The safetensors file; the same bytes for the same weights.
        metric: What the model is measured by.
        score: What fp32 torch is worth on the held-out samples; 1 by definition when the metric compares with it.
        recall: Share of right answers per label, where the metric has labels; None where no sample has it.
    """

    weights: bytes
    parameters: int
    seconds: float
    metric: str
    score: Score
    recall: Mapping[str, float | None]

    @property
    def sha256(self) -> str:
        """Digest of `weights`, as `checkpoint.sha256` wants it."""
        return hashlib.sha256(self.weights).hexdigest()


def train(folder: Path, model: Mapping[str, Any], *, seed: int | None = None) -> Training:
    """Train the network of `model` and evaluate it on its test samples.

    Args:
        folder: The model's folder.
        model: The model's spec in the words of the YAML. Without a `train` section, `train:fit` in the folder
            is called with seed 0.
        seed: Another seed than the spec's.

    Raises:
        BuildError: the network, its training or its data fail, or contradict the signature.
    """
    code = ModelCode(folder)
    run = dict(model.get("train") or {"entry": "train:fit"})
    if seed is not None:
        run["seed"] = seed
    started = time.perf_counter()
    weights = trained(code, model["network"], run)
    seconds = time.perf_counter() - started
    network = restore(code, model["network"], weights)
    samples = load(code, model["data"]["test"], model["signature"])
    names = [tensor["name"] for tensor in model["signature"]["inputs"]]
    with repeatable(seed=0), torch.no_grad():
        given = network(*(torch.from_numpy(samples.inputs[name]) for name in names))
    scores = (given[0] if isinstance(given, tuple) else given).numpy()
    if scores.ndim == 0 or len(scores) != len(samples):
        raise BuildError(
            f"the network gives {list(scores.shape)} for {len(samples)} samples; expected one row each"
        )
    check_finite(scores, "the network's first output")
    measured, labels = metric(model["metric"]["name"]), list(model.get("labels", ()))
    measured.check(scores, samples.targets, samples.entry, labels)
    per_label = measured.per_label(scores, scores, samples.targets, labels)
    return Training(
        weights=weights,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        seconds=seconds,
        metric=measured.name,
        score=measured.score(scores, samples.targets, scores),
        recall={name: entry.recall for name, entry in per_label.items()},
    )
