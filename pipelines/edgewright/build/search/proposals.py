"""Which candidates a lane has: every recipe that applies, in the settings that may pay, most promising first.

>>> found = propose({"trained": graph_facts(model)}, class_facts, ["static-int8", "fp16"], rows=400)
>>> [proposal.name for proposal in found.proposals]                              # doctest: +SKIP
['fp32', 'static-int8 U8S8', 'static-int8 U8S8, compute only']
>>> found.skipped                                                                # doctest: +SKIP
{'fp16': 'the hardware class lists no fp16'}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgewright.build.passes.facts import COMPUTE, ClassFacts, GraphFacts
from edgewright.build.passes.recipe import RECIPES
from edgewright.build.search.candidate import FP32, TRAINED, Proposal

MIXED = "mixed-int8"

# Seconds, measured on one core of a server of 2023; they decide what a time budget leaves out, so they are constants:
# a budget by the clock would give another artifact on a busy machine.
BUILD_S, BUILD_S_PER_MB = 0.05, 0.05
MACS_PER_S = 3e9
EMULATED_MACS_PER_S = 4e7
PROCESS_S = 2.5
"""Starting an emulated engine once and a native one three times."""
CONVERSION = 6.0
"""What converting one element between fp32 and int8 costs, in multiply-adds."""


@dataclass(frozen=True)
class Proposals:
    """What may be tried.

    Attributes:
        proposals: The most promising first; fp32 of the trained network always leads.
        skipped: Recipe (with its base, where that is a variant) → why it does not apply.
    """

    proposals: tuple[Proposal, ...]
    skipped: Mapping[str, str]


def propose(
    graphs: Mapping[str, GraphFacts], class_facts: ClassFacts, recipes: Sequence[str], *, rows: int
) -> Proposals:
    """Return what may be tried.

    Args:
        graphs: Base → facts of its cleaned graph; `TRAINED` first.
        class_facts: Of the hardware class.
        recipes: Names that the model allows, in any order.
        rows: Selection samples, for the estimate.
    """
    first: list[Proposal] = []
    later: list[Proposal] = []
    skipped: dict[str, str] = {}
    unit = effort(graphs[TRAINED], FP32, {}, class_facts)
    for base, graph in graphs.items():
        first.append(_proposal(base, FP32, FP32, {}, "", graph, class_facts, rows, unit))
        for name, recipe in RECIPES.items():
            if name not in recipes:
                continue
            if why := recipe.refuses(class_facts, graph):
                skipped[name if base == TRAINED else f"{base} + {name}"] = why
                continue
            for index, settings in enumerate(recipe.settings(class_facts, graph)):
                made = _proposal(
                    base,
                    name,
                    recipe.precision,
                    settings,
                    recipe.text(settings),
                    graph,
                    class_facts,
                    rows,
                    unit,
                )
                (first if index == 0 else later).append(made)
    return Proposals((*first, *later), skipped)


def _proposal(
    base: str,
    recipe: str,
    precision: str,
    settings: Mapping[str, Any],
    text: str,
    graph: GraphFacts,
    class_facts: ClassFacts,
    rows: int,
    unit: float,
) -> Proposal:
    megabytes = sum(graph.weighted.values()) / 1e6
    estimate_s = BUILD_S + BUILD_S_PER_MB * megabytes + rows * graph.total_macs / MACS_PER_S
    speed = effort(graph, recipe, settings, class_facts) / unit
    return Proposal(base, recipe, precision, settings, text, round(estimate_s, 3), round(speed, 4))


def effort(
    graph: GraphFacts, recipe: str, settings: Mapping[str, Any], class_facts: ClassFacts, kept: float = 0.0
) -> float:
    """Return roughly what one inference costs, in fp32 multiply-adds; it ranks, and no figure is made of it.

    Args:
        kept: Share of the compute nodes that stay in fp32.
    """
    gain = class_facts.int8_gain
    every = sum(graph.macs.get(operator, 0) for operator in COMPUTE)
    products = graph.macs.get("MatMul", 0) + graph.macs.get("Gemm", 0)
    match recipe:
        case "static-int8" | "mixed-int8":
            conversions = 1.0 if settings.get("operators") == "all" else CONVERSION
            return every * (gain + (1 - gain) * kept) + graph.elements * conversions
        case "dynamic-int8":
            return every - products * (1 - gain) + graph.elements * CONVERSION / 2
        case "weight-int8" | "weight-int4":
            return every - products * (1 - max(gain, 0.6)) + graph.elements * CONVERSION / 2
        case _:
            return every + graph.elements * 1.0


def target_estimate_s(graph: GraphFacts, speed: float) -> float:
    """Return roughly what measuring a candidate on an emulated target takes."""
    return PROCESS_S + 6 * speed * graph.total_macs / EMULATED_MACS_PER_S


def within_budget(
    proposals: Sequence[Proposal], target_s: Mapping[str, float], budget_s: float, finalists: int
) -> tuple[tuple[Proposal, ...], tuple[Proposal, ...]]:
    """Split proposals into those that fit a time budget and those that do not; the first always fits.

    Target figures are reckoned for as many candidates as may reach the target, at the price of the dearest.
    """
    kept: list[Proposal] = []
    left: list[Proposal] = []
    spent_s = 0.0
    reserve: list[float] = []
    for proposal in proposals:
        target = sorted([*reserve, target_s[proposal.base] * max(proposal.speed, 0.1)], reverse=True)[
            :finalists
        ]
        if kept and spent_s + proposal.estimate_s + sum(target) > budget_s:
            left.append(proposal)
            continue
        kept.append(proposal)
        spent_s += proposal.estimate_s
        reserve = target
    return tuple(kept), tuple(left)
