"""The trained network that variants are made from, and what a network made from it is worth.

>>> origin = Origin(code, network, weights, signature, selection, "accuracy")
>>> origin.score(origin.network())
0.9926
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from edgewright.build.checkpoint import restore
from edgewright.build.entry import ModelCode
from edgewright.build.metric import metric
from edgewright.build.samples import Samples
from edgewright.build.torch_mode import repeatable
from edgewright.errors import BuildError

BATCH = 256  # samples per forward pass where nothing depends on it


class DoesNotApply(Exception):
    """A recipe has nothing to do on this network; says why in words for a person. No error: the build goes on."""


@dataclass(frozen=True)
class Origin:
    """A trained network, and the samples by which its variants are compared.

    Attributes:
        code: The model's folder.
        spec: `{factory, arguments}` of the network.
        weights: Its trained weights, as safetensors.
        signature: As in `model.yaml`.
        selection: Samples no weight was fitted to and no published figure comes from.
        metric: Name of the metric.
    """

    code: ModelCode
    spec: Mapping[str, Any]
    weights: bytes
    signature: Mapping[str, Any]
    selection: Samples
    metric: str

    def network(self) -> torch.nn.Module:
        """Return the trained network, a new copy on every call, in evaluation mode."""
        network: torch.nn.Module = restore(self.code, self.spec, self.weights)
        return network

    def train(self, network: torch.nn.Module, run: Mapping[str, Any], **more: Any) -> torch.nn.Module:
        """Train `network` in place by `run` (`{entry, seed, arguments}`); return it in evaluation mode.

        Raises:
            BuildError: the entry fails, or leaves weights that are not finite.
        """
        seed = int(run.get("seed", 0))
        with repeatable(seed):
            self.code.call(run["entry"], network, seed, **more, **run.get("arguments", {}))
        broken = [name for name, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
        if broken:
            raise BuildError(
                f"{run['entry']} leaves NaN or infinity in {', '.join(broken[:4])}",
                hint="a lower learning rate, or gradients cut at a norm of 1",
            )
        return network.eval()

    def outputs(self, network: torch.nn.Module) -> np.ndarray:
        """Return the first output of `network` for every sample of the selection."""
        names = [tensor["name"] for tensor in self.signature["inputs"]]
        parts = []
        with repeatable(seed=0), torch.no_grad():
            for start in range(0, len(self.selection), BATCH):
                feed = (
                    torch.from_numpy(self.selection.inputs[name][start : start + BATCH]) for name in names
                )
                given = network(*feed)
                parts.append((given[0] if isinstance(given, tuple) else given).numpy())
        return np.concatenate(parts)

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """The first output of the trained network for every sample of the selection."""
        outputs = self.outputs(self.network())
        metric(self.metric).check(outputs, self.selection.targets, self.selection.entry)
        return outputs

    def score(self, network: torch.nn.Module) -> float:
        """Return what `network` is worth on the selection, six decimals.

        Raises:
            BuildError: its output is not finite, or is nothing the metric could judge.
        """
        outputs, targets = self.outputs(network), self.selection.targets
        if not np.isfinite(outputs).all():
            raise BuildError("the network gives NaN or infinity on the selection data")
        return round(metric(self.metric).score(outputs, targets, self.reference).value, 6)

    @functools.cached_property
    def fp32(self) -> float:
        """What the trained network itself is worth."""
        return self.score(self.network())


def size_of(network: torch.nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())
