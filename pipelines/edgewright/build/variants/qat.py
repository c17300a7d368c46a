"""Quantization-aware training: the network is tuned while its numbers are rounded as onnxruntime will round
them.

Weights: per output channel, symmetric, -127 to 127. Inputs of every convolution and linear layer: per tensor,
0 to 255, over the range seen in training. Gradients pass through the rounding (Bengio et al., "Estimating or
Propagating Gradients Through Stochastic Neurons", 2013). What is exported are the weights behind the
rounding; the static int8 recipe of the search rounds them for each class. A normalization that export folds
into a layer scales whole output channels, which does not move a symmetric grid per channel, so nothing has to
be folded here.

>>> network, facts = tune(origin, {"entry": "train:finetune", "seed": 0})
>>> facts["roundedMetric"]
0.9889
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn.utils import parametrize

from edgewright.build.variants.origin import DoesNotApply, Origin

WEIGHT_MAX = 127
ACTIVATION_MAX = 255
KEPT = 0.9  # of the range seen so far, with each batch; ten batches forget a start that was far off

_LAYERS = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)


class WeightGrid(torch.nn.Module):  # type: ignore[misc]
    """Rounds a weight to int8, symmetric, per output channel (its first dimension)."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the rounded weight; gradients pass through."""
        largest = weight.detach().abs().flatten(1).amax(dim=1)
        scale = torch.where(largest > 0, largest / WEIGHT_MAX, torch.ones_like(largest))
        zero = torch.zeros(len(scale), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -WEIGHT_MAX, WEIGHT_MAX)


class ActivationGrid:
    """A hook before a layer: rounds its input to uint8 over the range seen in training, which always holds zero."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0
        self._seen = False

    def __call__(self, layer: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the layer's inputs, the first one rounded."""
        value = given[0]
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return given
        if layer.training or not self._seen:
            low, high = (float(bound) for bound in torch.aminmax(value.detach()))
            keep = KEPT if self._seen else 0.0
            self.low = min(keep * self.low + (1 - keep) * low, 0.0)
            self.high = max(keep * self.high + (1 - keep) * high, 0.0)
            self._seen = True
        scale = (self.high - self.low) / ACTIVATION_MAX or 1.0
        zero = min(ACTIVATION_MAX, max(0, round(-self.low / scale)))
        return (torch.fake_quantize_per_tensor_affine(value, scale, zero, 0, ACTIVATION_MAX), *given[1:])


def tune(origin: Origin, run: Mapping[str, Any]) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the trained network tuned under rounding, and what it is worth with rounding.

    Args:
        origin: The trained network.
        run: The fine-tuning, `{entry, seed, arguments}`.

    Raises:
        DoesNotApply: the network has neither convolutions nor linear layers of its own weights.
    """
    network = origin.network()
    layers = _layers(network)
    if not layers:
        raise DoesNotApply("the network has neither convolutions nor linear layers")
    hooks = []
    for layer in layers.values():
        parametrize.register_parametrization(layer, "weight", WeightGrid())
        hooks.append(layer.register_forward_pre_hook(ActivationGrid()))
    try:
        origin.train(network, run)
        rounded = origin.score(network)
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers.values():
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    return network, {"roundedLayers": list(layers), "roundedMetric": rounded}


def _layers(network: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return the layers to round; a weight that two modules share cannot be rounded in one of them only."""
    owners: dict[int, int] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, _LAYERS) and owners[id(module.weight)] == 1
    }
