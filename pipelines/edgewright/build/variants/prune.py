"""Structured pruning: whole channels go, so the network becomes smaller and faster in any engine.

torch-pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023) finds which layers share
their channels and which of those matter least by magnitude. It follows gradients, not meaning: it would prune
an output head, and does not see sizes that Python code took down. So every group of coupled layers is first
pruned alone, on a copy; one whose removal breaks the network or changes its output keeps its channels, and
the reason is reported.

>>> network, facts = prune(origin, 0.5)
>>> facts["kept"]
{'9': 'it makes an output'}
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_map

from edgewright.build.export import example
from edgewright.build.fault import silent
from edgewright.build.torch_mode import repeatable
from edgewright.build.variants.origin import DoesNotApply, Origin, size_of

ROUND_TO = 8  # what SIMD kernels like: 8 floats in an AVX register, two NEON registers
NEAR = 0.05  # rounding may move the share of channels that go by five points, not more

_UNFOLLOWED = (torch.nn.RNNBase, torch.nn.MultiheadAttention, torch.nn.RNNCellBase)
"""Modules whose weights belong to sizes that torch-pruning does not know."""


def prune(origin: Origin, ratio: float) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the trained network without its least important channels, and what was done.

    Args:
        origin: The trained network.
        ratio: Share of channels to remove, of every layer that may lose some.

    Raises:
        DoesNotApply: no layer may lose channels.
    """
    with repeatable(seed=0), silent():
        network = origin.network()
        before = size_of(network)
        inputs = example(origin.signature, batch=2, seed=0)
        groups = _groups(network, inputs)
        kept = {
            name: why
            for group in groups
            if (why := _objection(network, inputs, group, groups, ratio))
            for name in group
        }
        free = [name for group in groups for name in group if name not in kept]
        if not free:
            kept |= _not_reached(network, kept)
            reasons = "; ".join(f"{name or 'the network'}: {why}" for name, why in kept.items())
            raise DoesNotApply(
                f"no layer can lose channels ({reasons or 'it has neither convolutions nor linear layers'})"
            )
        widths = {name: _width(network.get_submodule(name)) for name in free}
        step = rounding(list(widths.values()), ratio)
        _pruned(network, inputs, list(kept), ratio, step)
        after = {name: _width(network.get_submodule(name)) for name in free}
    if after == widths:
        raise DoesNotApply(f"its layers are too narrow to lose {ratio:.0%} of their channels")
    kept |= _not_reached(network, {**kept, **widths})
    return network, {
        "channels": {name: [widths[name], after[name]] for name in free},
        "roundedTo": step,
        "kept": kept,
        "parametersBefore": before,
    }


def rounding(widths: Sequence[int], ratio: float) -> int:
    """Return of what number the remaining channels are multiples: the largest that stays near what was asked for.

    >>> rounding([64, 128], 0.5), rounding([12, 24], 0.5)
    (8, 2)
    """
    for step in (ROUND_TO, 4, 2):
        if all(abs(remaining(width, ratio, step) - width * (1 - ratio)) <= NEAR * width for width in widths):
            return step
    return 1


def remaining(width: int, ratio: float, step: int) -> int:
    """Return how many channels of `width` remain: the multiple of `step` nearest to the ratio, at least one step.

    >>> remaining(24, 0.67, 8)
    8
    """
    return min(width, max(step, int(width * (1 - ratio) / step + 0.5) * step))


def _groups(network: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[list[str]]:
    """Return the names of layers that can only lose the same channels, group by group, in the network's order."""
    import torch_pruning as tp

    names = {module: name for name, module in network.named_modules()}
    order = {name: index for index, name in enumerate(names.values())}
    with _opaque(network):
        graph = tp.DependencyGraph().build_dependency(network, inputs, ignored_params=_unfollowed(network))
    found = []
    for group in graph.get_all_groups(root_module_types=_roots()):
        layers = {
            names[dep.target.module]
            for dep, _ in group
            if isinstance(dep.target.module, tuple(_roots()))
            and dep.target.module in names
            and graph.is_out_channel_pruning_fn(dep.handler)
        }
        found.append(sorted(layers, key=order.__getitem__))
    return sorted(found, key=lambda layers: order[layers[0]])


def _not_reached(network: torch.nn.Module, known: Mapping[str, Any]) -> dict[str, str]:
    """Return the layers that no group holds: what comes from them only passes through modules that are not followed."""
    cells = " and ".join(
        sorted({type(module).__name__ for module in network.modules() if isinstance(module, _UNFOLLOWED)})
    )
    return {
        name: f"{cells or 'what is'} behind it cannot be followed"
        for name, module in network.named_modules()
        if isinstance(module, tuple(_roots())) and name not in known
    }


def _objection(
    network: torch.nn.Module,
    inputs: tuple[torch.Tensor, ...],
    group: Sequence[str],
    groups: Sequence[Sequence[str]],
    ratio: float,
) -> str | None:
    """Return why a group must keep its channels, found by pruning it alone; None when it need not."""
    trial = copy.deepcopy(network)
    others = [name for other in groups if other is not group for name in other]
    frozen = {name: parameter.shape for name, parameter in _unfollowed_names(trial)}
    with torch.no_grad():
        wanted = _shapes(trial(*inputs))
    try:
        _pruned(trial, inputs, others, ratio, 1)
        with torch.no_grad():
            found = _shapes(trial(*inputs))
    except Exception as error:  # noqa: BLE001  (whatever the author's code raises when sizes change)
        cells = sorted(
            {type(module).__name__ for module in trial.modules() if isinstance(module, _UNFOLLOWED)}
        )
        if cells:
            return f"{' and '.join(cells)} behind it cannot be followed"
        said = (str(error) or type(error).__name__).strip().splitlines()[0]
        return f"the network fails without some of its channels: {said}"
    if found != wanted:
        return "it makes an output"
    if any(parameter.shape != frozen[name] for name, parameter in _unfollowed_names(trial)):
        return "a recurrent or attention layer behind it cannot be followed"
    return None


def _pruned(
    network: torch.nn.Module, inputs: tuple[torch.Tensor, ...], kept: Sequence[str], ratio: float, step: int
) -> None:
    """Remove channels in place."""
    import torch_pruning as tp

    # A share of its own for every layer: torch-pruning rounds what remains down only, 67 % of 24 channels to 7.
    shares = {}
    for name, layer in network.named_modules():
        if isinstance(layer, tuple(_roots())) and name not in kept:
            width = _width(layer)
            shares[layer] = max(0.0, 1 - (remaining(width, ratio, step) + 0.01) / width)
    with _opaque(network):
        pruner = tp.pruner.BasePruner(
            network,
            inputs,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[*(network.get_submodule(name) for name in kept), *_unfollowed(network)],
            root_module_types=_roots(),
            pruning_ratio_dict=shares,
        )
    pruner.step()
    network.eval()


@contextlib.contextmanager
def _opaque(network: torch.nn.Module) -> Iterator[None]:
    """Cut the gradients that are followed at modules that cannot be: what only leads through one keeps its channels."""

    def cut(_module: torch.nn.Module, _given: Any, result: Any) -> Any:
        return tree_map(lambda value: value.detach() if isinstance(value, torch.Tensor) else value, result)

    hooks = [
        module.register_forward_hook(cut) for module in network.modules() if isinstance(module, _UNFOLLOWED)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _roots() -> list[type[torch.nn.Module]]:
    return [torch.nn.modules.conv._ConvNd, torch.nn.Linear]


def _unfollowed_names(network: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    return [
        (f"{name}.{inner}", parameter)
        for name, module in network.named_modules()
        if isinstance(module, _UNFOLLOWED)
        for inner, parameter in module.named_parameters()
    ]


def _unfollowed(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [parameter for _, parameter in _unfollowed_names(network)]


def _width(layer: torch.nn.Module) -> int:
    width = layer.out_features if isinstance(layer, torch.nn.Linear) else layer.out_channels
    return int(width)


def _shapes(given: Any) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in (given if isinstance(given, tuple) else (given,))]
