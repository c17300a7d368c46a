"""What a search would try and roughly what it takes: from the bases' graphs, before anything is built.

>>> planned = plan(shop, class_facts, recipes, budget_s=600)         # doctest: +SKIP
>>> len(planned.proposals), round(planned.estimate_s)               # doctest: +SKIP
(7, 17)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgewright.build.passes.facts import ClassFacts, GraphFacts
from edgewright.build.search.candidate import Proposal
from edgewright.build.search.proposals import MACS_PER_S, MIXED, propose, target_estimate_s, within_budget
from edgewright.build.search.workshop import Workshop
from edgewright.errors import BuildError

FINALISTS = 6
"""Candidates that reach the target, fp32 among them."""


@dataclass(frozen=True)
class Plan:
    """What a search would try: the proposals within the time budget, those beyond, and the facts of every base."""

    graphs: Mapping[str, GraphFacts]
    proposals: tuple[Proposal, ...]
    left: tuple[Proposal, ...]
    skipped: Mapping[str, str]
    target_s: Mapping[str, float]

    @property
    def estimate_s(self) -> float:
        """Roughly how long it takes on one core."""
        dearest = sorted((self.target_of(one) for one in self.proposals), reverse=True)[:FINALISTS]
        return sum(one.estimate_s for one in self.proposals) + sum(dearest)

    def target_of(self, proposal: Proposal) -> float:
        """Return roughly what measuring one proposal on the target takes, in seconds."""
        return self.target_s[proposal.base] * max(proposal.speed, 0.1)


def plan(shop: Workshop, class_facts: ClassFacts, recipes: Sequence[str], budget_s: float) -> Plan:
    """Return what a search would try.

    Raises:
        BuildError: a base cannot be cleaned up.
    """
    graphs = {}
    for base in shop.bases:
        try:
            graphs[base] = shop.facts(base)
        except BuildError as error:
            raise BuildError(f"{base}: {error}", hint=error.hint) from error
    found = propose(graphs, class_facts, recipes, rows=len(shop.selection))
    rows = len(shop.selection) * (len(shop.conditions) + 1 if shop.conditions else 0)  # each clean once more
    target_s = {
        base: target_estimate_s(graph, 1.0) + rows * graph.total_macs / MACS_PER_S
        for base, graph in graphs.items()
    }
    kept, left = within_budget(found.proposals, target_s, budget_s, FINALISTS)
    skipped = dict(found.skipped)
    if MIXED in recipes and "static-int8" not in {one.recipe for one in kept}:
        skipped[MIXED] = "it mends static-int8, which is not tried"
    return Plan(graphs, kept, left, skipped, target_s)
