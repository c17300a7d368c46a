"""What a user of Olive writes: how to read the samples, and metrics that Olive does not have.

Runs inside Olive's environment and imports nothing of this repository. Olive's configuration has metrics of the type
`custom` for this, but 0.13.0 drops their `user_config`, which names the function, when it copies the configuration
(and before that fails on their missing `backend`). So the two metrics stand in its registry of accuracy metrics
instead, in places of metrics that nothing here uses.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from olive.data.registry import Registry
from olive.evaluator.accuracy import AccuracyBase


class Rows(torch.utils.data.Dataset):
    """The samples of one npz file, one at a time: arrays `input:<name>` and `targets`."""

    def __init__(self, path: str) -> None:
        with np.load(path) as stored:
            names = [name for name in stored if name.startswith("input:")]
            self.inputs = {name.removeprefix("input:"): stored[name] for name in names}
            self.targets = stored["targets"]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        return {name: array[row] for name, array in self.inputs.items()}, self.targets[row]


@Registry.register_dataset()
def rows(path: str, **_: object) -> Rows:
    return Rows(path)


@Registry.register_post_process()
def highest(output: torch.Tensor, **_: object) -> torch.Tensor:
    """Return the class with the highest score."""
    return output.argmax(1)


class RankedAuc(AccuracyBase):
    """The area under the ROC curve. Olive's own `auroc` puts scores outside [0, 1] through a float32 sigmoid,
    which makes ties of high ones."""

    name = "recall"

    @classmethod
    def _default_config(cls) -> dict:
        return {}

    def measure(self, model_output, target) -> float:
        scores = model_output.preds.reshape(len(target)).double().numpy()
        # A model that gives NaN is not an error here but a bad candidate.
        return float(roc_auc_score(target.numpy(), scores)) if np.isfinite(scores).all() else 0.0


class Cosine(AccuracyBase):
    """The mean cosine similarity to the fp32 model's outputs, which stand where targets usually do."""

    name = "f1_score"

    @classmethod
    def _default_config(cls) -> dict:
        return {}

    def measure(self, model_output, target) -> float:
        found, wanted = (side.reshape(len(target), -1).double() for side in (model_output.preds, target))
        mean = float(torch.nn.functional.cosine_similarity(found, wanted).mean())
        return mean if np.isfinite(mean) else 0.0


METRICS = {"accuracy": "accuracy_score", "auc": RankedAuc.name, "cosine": Cosine.name}
