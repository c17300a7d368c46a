"""Unstructured pruning: the smallest weights of the whole network become zero and stay zero while it is
tuned.

No engine computes faster for it; what shrinks is the compressed transfer (FACTS of this repository's
benchmarks: 11.2 MB become 0.5 MB together with int8). Magnitudes are compared across layers, as in Han et
al., "Learning both Weights and Connections" (NeurIPS 2015).

>>> network, facts = sparsify(origin, 0.8, {"entry": "train:finetune", "seed": 0})
>>> facts["zeros"]
0.8
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import onnx
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from edgewright.build.torch_mode import repeatable
from edgewright.build.variants.origin import DoesNotApply, Origin
from edgewright.errors import BuildError


def sparsify(origin: Origin, ratio: float, run: Mapping[str, Any]) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the trained network with a share of zeros, tuned, and what was done.

    Args:
        origin: The trained network.
        ratio: Share of the weights (biases and normalizations not counted) that become zero.
        run: The fine-tuning, `{entry, seed, arguments}`.

    Raises:
        DoesNotApply: the network has no weight matrices.
    """
    network = origin.network()
    with repeatable(seed=0):
        masks = _masks(network, ratio)

    def hold(*_: Any) -> None:
        with torch.no_grad():
            for weight, mask in masks:
                weight.mul_(mask)

    hold()
    # After every step of whatever optimizer the author chose: no layer is replaced, so this also holds for recurrent
    # layers, which keep their weights in lists of their own.
    handle = register_optimizer_step_post_hook(hold)
    try:
        origin.train(network, run)
    finally:
        handle.remove()
    hold()
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    lost = [names[id(weight)] for weight, mask in masks if not mask.any()]
    zeros = sum(int((weight == 0).sum()) for weight, _ in masks) / sum(weight.numel() for weight, _ in masks)
    return network, {
        "zeros": round(zeros, 6),
        "zerosPerLayer": {
            names[id(weight)]: round(1 - float(mask.float().mean()), 3) for weight, mask in masks
        },
        **({"emptied": lost} if lost else {}),
    }


def check_zeros(model: onnx.ModelProto, ratio: float) -> float:
    """Return the share of zeros among the weight matrices of an exported model.

    Raises:
        BuildError: it is lower than `ratio`: the export has undone the pruning.
    """
    zeros, count = 0, 0
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) > 1:
            values = onnx.numpy_helper.to_array(tensor)
            zeros, count = zeros + int((values == 0).sum()), count + values.size
    share = zeros / count if count else 0.0
    if share < ratio - 0.001:
        raise BuildError(f"{share:.1%} of the exported weights are zero; {ratio:.1%} were made so")
    return round(share, 6)


def _masks(network: torch.nn.Module, ratio: float) -> list[tuple[torch.nn.Parameter, torch.Tensor]]:
    """Return every weight matrix with ones where its values stay: exactly the smallest share of all goes."""
    weights = list(_weights(network))
    if not weights:
        raise DoesNotApply("the network has no weight matrices")
    sizes = torch.cat([weight.detach().abs().flatten() for weight in weights])
    kept = torch.ones_like(sizes)
    kept[torch.argsort(sizes, stable=True)[: round(ratio * len(sizes))]] = 0.0
    parts = kept.split([weight.numel() for weight in weights])
    return [(weight, part.view_as(weight)) for weight, part in zip(weights, parts, strict=True)]


def _weights(network: torch.nn.Module) -> Iterator[torch.nn.Parameter]:
    yield from (parameter for parameter in network.parameters() if parameter.ndim > 1)
