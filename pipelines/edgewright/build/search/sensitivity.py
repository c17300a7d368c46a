"""Which nodes an int8 model must keep in fp32: found by quantizing one at a time and measuring what that does.

Ranked by the signal-to-quantization-noise ratio of the output (a lower one means more harm), then the worst are kept in
fp32, some at a time, until what was lost is back. Measured rather than derived: differences between a model's tensors
and their quantized selves say little about its output.

>>> order = harm(shop, "trained", {"activations": "u8", "weights": "s8"}, nodes)      # worst first    # doctest: +SKIP
>>> kept_counts(len(order))
(1, 2, 3, 4, 6, 8, 12)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgewright.build.metric import stratified
from edgewright.build.passes.facts import GraphFacts
from edgewright.build.search.candidate import Candidate, Proposal
from edgewright.build.search.proposals import BUILD_S, BUILD_S_PER_MB, MACS_PER_S, MIXED
from edgewright.build.search.workshop import Workshop
from edgewright.errors import BuildError

ROWS = 64
MOST_GROUPS = 32
"""Nodes are tried alone up to this many; more are tried in runs of neighbours."""
RESTORED = 0.0005
"""A loss this small is none: fewer nodes in fp32 would then be a gain, more would not."""


def mixed(
    shop: Workshop, best: Candidate, nodes: Sequence[str], tell: Callable[[str], None]
) -> Iterator[tuple[Proposal, bytes]]:
    """Yield candidates with more and more nodes in fp32, until `RESTORED` says so or half of them are.

    Args:
        shop: Builds and scores.
        best: The static int8 candidate to mend.
        nodes: Compute nodes of its base, in the order of the graph.
        tell: Told what goes on.
    """
    settings = dict(best.proposal.settings)
    groups = grouped(nodes)
    tell(f"quantizing {len(groups)} parts of {best.proposal.base} one at a time")
    order = harm(shop, best.proposal.base, settings, groups)
    scopes = ["all", "compute"]
    for count in kept_counts(len(order)):
        keep = sorted({node for group in order[:count] for node in group}, key=list(nodes).index)
        lost: dict[str, float] = {}
        for operators in tuple(scopes):
            chosen = {**settings, "operators": operators, "keep": keep}
            text = f"{len(keep)} of {len(nodes)} nodes fp32" + (
                ", compute only" if operators == "compute" else ""
            )
            proposal = replace(best.proposal, recipe=MIXED, settings=chosen, text=text, precision="int8")
            try:
                model = shop.build(proposal)
            except BuildError:  # nothing is left to quantize: more nodes in fp32 would leave less
                return
            yield proposal, model
            drop = shop.scored(Candidate(proposal), model, None).drop
            lost[operators] = drop.value if drop else math.inf
        if min(lost.values()) <= RESTORED:
            return
        if (
            len(lost) == 2 and lost["all"] > 2 * lost["compute"]
        ):  # then it is not these nodes that do the harm
            scopes.remove("all")


def grouped(nodes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return nodes alone, or in at most `MOST_GROUPS` runs of neighbours.

    >>> grouped(["a", "b"])
    [('a',), ('b',)]
    """
    size = max(1, -(-len(nodes) // MOST_GROUPS))
    return [tuple(nodes[start : start + size]) for start in range(0, len(nodes), size)]


def kept_counts(groups: int) -> tuple[int, ...]:
    """Return how many groups stay in fp32, step by step: finely at first, never more than half (but one at least)."""
    steps = [1, 2, 3, 4]
    while steps[-1] < groups:
        steps.append(steps[-1] * 3 // 2)
    return tuple(step for step in steps if step <= max(1, groups // 2))


def ranking_estimate_s(graph: GraphFacts) -> float:
    """Return roughly what ranking the nodes of a base by `harm` takes, in seconds."""
    megabytes = sum(graph.weighted.values()) / 1e6
    each_s = BUILD_S + BUILD_S_PER_MB * megabytes + ROWS * graph.total_macs / MACS_PER_S
    return len(grouped(graph.compute)) * each_s


def harm(
    shop: Workshop, base: str, settings: Mapping[str, Any], groups: Sequence[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Return the groups of nodes, the one whose quantization harms the output most first; ties by place.

    Raises:
        BuildError: the base does not run.
    """
    rows = stratified(shop.selection.targets, ROWS)
    reference = shop.outputs(shop.bases[base], rows)
    ratios = []
    for group in groups:
        alone = {key: value for key, value in settings.items() if key != "keep"} | {
            "nodes": list(group),
            "operators": "compute",
        }
        try:
            noisy = shop.outputs(shop.build(Proposal(base, MIXED, "int8", alone)), rows)
            ratios.append(signal_to_noise_db(reference, noisy))
        except BuildError:  # NaN, or a node that cannot be quantized: it stays fp32 before all others
            ratios.append(-math.inf)
    return [groups[index] for index in sorted(range(len(groups)), key=lambda index: (ratios[index], index))]


def signal_to_noise_db(signal: np.ndarray, noisy: np.ndarray) -> float:
    """Return the power of `signal` over that of its difference to `noisy`, in dB to one decimal; inf without any.

    One decimal, because more would make the order of two equal nodes depend on the processor.
    """
    noise = float(np.square(noisy.astype(np.float64) - signal).sum())
    power = float(np.square(signal.astype(np.float64)).sum())
    if noise == 0.0:
        return math.inf
    return round(10 * math.log10(max(power, 1e-300) / noise), 1)
