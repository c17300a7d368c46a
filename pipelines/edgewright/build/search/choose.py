"""Choose: which candidate ships, by the objective, within limits and floors; pure, so a changed limit costs nothing.

The trained network in fp32 ships unless another candidate is better on the objective by `MARGIN` or more, or fp32
misses a limit. Where nothing fits, the candidate that misses least goes on to the gate, which refuses it with figures.

>>> choice = choose(candidates, Demands(limits, floor=0.97, max_drop=0.01), "latency")      # doctest: +SKIP
>>> choice.winner.name, choice.why                                                          # doctest: +SKIP
('static-int8 U8S8', 'fastest of 4 that fit: 0.38 ms, 0.94 of fp32')
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from edgewright.build.search.candidate import FP32, Candidate
from edgewright.build.search.demands import Demands, Miss, missed
from edgewright.build.search.pareto import fronts
from edgewright.plan.figures import shown

Objective = Literal["latency", "size", "memory", "balanced"]
Verdict = Literal["chosen", "fits", "refused", "dropped"]
MARGIN = 0.03
"""What a candidate must gain on the objective to take the place of fp32: predicted times and a quantizer's luck are not
finer than that."""
TIE = 0.02
"""Candidates this close on the objective are equal; the more accurate of them ships."""
_SUPERLATIVE = {
    "latency": "fastest",
    "size": "smallest",
    "memory": "least memory",
    "balanced": "best balance of latency, size and memory",
}


@dataclass(frozen=True)
class Judged:
    """A candidate with its verdict.

    Attributes:
        verdict: `chosen`; `fits`, but another is better; `refused` by a demand; `dropped` before the target.
        reason: Why.
        ratio: Its value on the objective over that of fp32; None where it was not measured.
        pareto: Whether no measured candidate beats it in everything.
    """

    candidate: Candidate
    verdict: Verdict
    reason: str
    ratio: float | None = None
    pareto: bool = False


@dataclass(frozen=True)
class Choice:
    """The decision.

    Attributes:
        winner: What ships, or goes to the gate.
        fits: Whether it meets every demand.
        why: In words.
        judged: Every candidate.
    """

    winner: Candidate
    fits: bool
    why: str
    judged: tuple[Judged, ...]


def choose(
    candidates: Sequence[Candidate], demands: Demands, objective: Objective, *, declared: bool = False
) -> Choice:
    """Return the decision.

    Args:
        candidates: fp32 of the trained network among them, with its figures on the target.
        demands: Of the lane.
        objective: What counts.
        declared: Whether an accelerator runs the model that is not emulated: times of the processor beside it tell
            nothing of it, so size stands in for an objective that needs them.
    """
    if declared and objective in ("latency", "balanced"):
        choice = choose(candidates, demands, "size")
        return replace(
            choice, why=f"{choice.why} ({objective} of an accelerator is not measured here: size decides)"
        )
    fp32 = next(one for one in candidates if one.name == FP32)
    measured = [one for one in candidates if one.cost is not None]
    demands = demands.reached_by(fp32)
    misses = {one.name: missed(one, demands) for one in measured}
    values = {one.name: value_of(one, fp32, objective) for one in measured}
    fitting = [one for one in measured if not misses[one.name]]
    pareto = pareto_names(measured)
    if fitting:
        winner, why = _best(fitting, fp32, values, misses, objective)
    else:
        winner = min(measured, key=lambda one: (*_distance(misses[one.name]), values[one.name]))
        nearest = "; ".join(miss.text for miss in misses[winner.name])
        why = f"no candidate fits this class; the nearest is {winner.name}: {nearest}"
    judged = tuple(
        _judged(one, winner, bool(fitting), misses.get(one.name), values.get(one.name), pareto)
        for one in candidates
    )
    return Choice(winner, bool(fitting), why, judged)


def _distance(misses: Sequence[Miss]) -> tuple[int, float]:
    """Return how far a candidate is from fitting: how many demands it misses, then by how much at most."""
    return len(misses), max(miss.by for miss in misses)


def _best(
    fitting: Sequence[Candidate],
    fp32: Candidate,
    values: Mapping[str, float],
    misses: Mapping[str, Sequence[Miss]],
    objective: Objective,
) -> tuple[Candidate, str]:
    """Return the best fitting candidate and why it is that."""
    least = min(values[one.name] for one in fitting)
    own = values[fp32.name]
    equal = least * (1 + TIE)
    if least <= own * (1 - MARGIN):  # a tie must not hand the place back to fp32
        equal = min(equal, own * (1 - MARGIN))
    close = [one for one in fitting if values[one.name] <= equal]
    best = min(close, key=lambda one: (round(_loss(one), 4), one.size_bytes, values[one.name], one.name))
    ratio = values[best.name] / own
    among = f"{_SUPERLATIVE[objective]} of {len(fitting)} that fit: {_figure(best, objective)}"
    if not misses[fp32.name]:
        if best is fp32 or ratio > 1 - MARGIN:
            others = (
                "" if best is fp32 else f": {best.name}, the best of them, has {ratio:.2f} of its {objective}"
            )
            return fp32, f"no candidate that fits is better than fp32 by {MARGIN:.0%} or more{others}"
        return best, f"{among}, {ratio:.2f} of fp32"
    beyond = "; ".join(miss.text for miss in misses[fp32.name])
    if ratio > 1:
        return best, f"{among}; worse than fp32 on {objective} ({ratio:.2f}), but fp32 may not ship: {beyond}"
    return best, f"{among}, {ratio:.2f} of fp32, which may not ship: {beyond}"


def _judged(
    one: Candidate,
    winner: Candidate,
    winner_fits: bool,
    misses: Sequence[Miss] | None,
    value: float | None,
    pareto: frozenset[str],
) -> Judged:
    if misses is None:
        return Judged(one, "dropped", one.stopped or "not measured on the target")
    on_front = one.name in pareto
    if one is winner and winner_fits:
        return Judged(one, "chosen", "", value, on_front)
    if misses:
        return Judged(one, "refused", "; ".join(miss.text for miss in misses), value, on_front)
    return Judged(one, "fits", "another is better", value, on_front)


def value_of(candidate: Candidate, fp32: Candidate, objective: Objective) -> float:
    """Return a measured candidate's value on the objective, as a share of that of fp32; less is better.

    `balanced` is the geometric mean of latency, size and memory: a tenth gained on one makes up for a tenth lost on
    another.

    Raises:
        ValueError: it was not measured.
    """
    one, own = candidate.cost, fp32.cost
    if one is None or own is None:
        raise ValueError(f"{candidate.name} or fp32 was not measured")
    ratios = {
        "latency": one.latency_ms["value"] / own.latency_ms["value"],
        "size": candidate.size_bytes / fp32.size_bytes,
        "memory": one.estimate_bytes / own.estimate_bytes,
    }
    if objective == "balanced":
        return math.prod(ratios.values()) ** (1 / len(ratios))
    return ratios[objective]


def pareto_names(measured: Sequence[Candidate]) -> frozenset[str]:
    """Return the names of measured candidates that no other beats in accuracy, latency, size and memory at once."""
    points = [
        (_loss(one), one.cost.latency_ms["value"], float(one.size_bytes), float(one.cost.estimate_bytes))
        for one in measured
        if one.cost is not None
    ]
    return frozenset(measured[index].name for index in fronts(points)[0]) if points else frozenset()


def _loss(candidate: Candidate) -> float:
    return candidate.drop.value if candidate.drop else 1.0


def _figure(candidate: Candidate, objective: Objective) -> str:
    cost = candidate.cost
    if cost is None:
        return "not measured"
    latency, size = shown(cost.latency_ms["value"], "ms"), shown(candidate.size_bytes, "bytes")
    memory = shown(cost.memory_bytes, "bytes")
    return {"latency": latency, "size": size, "memory": memory, "balanced": f"{latency}, {size}, {memory}"}[
        objective
    ]
