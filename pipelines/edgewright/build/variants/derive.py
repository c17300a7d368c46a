"""One variant: made by its recipe and exported, or read from the file that is pinned in Git.

>>> run = {"entry": "train:finetune"}
>>> derived = derive(origin, {"name": "pruned-50", "recipe": "prune", "ratio": 50.0, "train": run})
>>> derived.facts["parameters"], derived.facts["metric"]["value"], derived.facts["metric"]["fp32"]
(6890, 0.9889, 0.9926)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from edgewright.build.canonical import to_bytes
from edgewright.build.export import check_parity, export
from edgewright.build.torch_mode import repeatable
from edgewright.build.variants import written
from edgewright.build.variants.distill import distill
from edgewright.build.variants.origin import DoesNotApply, Origin, size_of
from edgewright.build.variants.prune import prune
from edgewright.build.variants.qat import tune
from edgewright.build.variants.sparsify import check_zeros, sparsify
from edgewright.errors import BuildError


@dataclass(frozen=True)
class Derived:
    """What became of one variant.

    Attributes:
        model: The ONNX file; None where the recipe does not apply.
        facts: JSON values, the same on every run: `name`, `recipe`, and `reason`, or `file`, `sha256`, `sizeBytes`,
            `parameters`, `source` and what the recipe has to tell.
        seconds: How long it took.
    """

    model: bytes | None
    facts: Mapping[str, Any]
    seconds: float = field(default=0.0, compare=False)


def derive(
    origin: Origin, variant: Mapping[str, Any], progress: Callable[[str], None] = lambda _: None
) -> Derived:
    """Make a variant by training code.

    Args:
        origin: The trained network.
        variant: Its spec in the words of the YAML.
        progress: Told of every long step.

    Raises:
        BuildError: the training code fails, or the result cannot be exported.
    """
    name, recipe = variant["name"], variant["recipe"]
    started = time.perf_counter()
    head = {"name": name, "recipe": recipe}
    try:
        network, told = _made(origin, variant, lambda text: progress(f"{name}: {text}"))
    except DoesNotApply as error:
        return Derived(None, {**head, "reason": str(error)}, time.perf_counter() - started)
    progress(f"{name}: exporting")
    with repeatable(seed=0):
        model = export(network, origin.signature, origin.code.folder)
        check_parity(network, model, origin.signature, origin.code.folder)
    if recipe == "sparsify":
        told["zerosExported"] = check_zeros(model, _share(variant))
    facts = {
        **head,
        **written(name, data := to_bytes(model)),
        "parameters": size_of(network),
        "source": f"trained by {variant['train']['entry']}, seed {variant['train'].get('seed', 0)}",
        "metric": {
            "name": origin.metric,
            "value": origin.score(network),
            "fp32": origin.fp32,
            "samples": len(origin.selection),
        },
        **told,
    }
    return Derived(data, facts, time.perf_counter() - started)


def _made(
    origin: Origin, variant: Mapping[str, Any], progress: Callable[[str], None]
) -> tuple[torch.nn.Module, dict[str, Any]]:
    name, recipe, run = variant["name"], variant["recipe"], variant.get("train")
    if run is None:
        raise BuildError(
            f"variant {name!r} is neither pinned nor trained", hint="name its `train` entry in model.yaml"
        )
    if recipe == "distill":
        return distill(origin, variant["student"], run, progress)
    if recipe == "prune":
        progress(f"removing {_share(variant):.0%} of the channels")
        network, facts = prune(origin, _share(variant))
        progress(f"tuning {size_of(network):,} parameters with {run['entry']}")
        return origin.train(network.train(), run), facts
    progress(f"tuning with {run['entry']}")
    if recipe == "sparsify":
        return sparsify(origin, _share(variant), run)
    return tune(origin, run)


def _share(variant: Mapping[str, Any]) -> float:
    return float(variant["ratio"]) / 100
