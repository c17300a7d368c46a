"""Distillation: a smaller network taught by the trained one, and the same network without a teacher beside
it.

A student often learns from its samples alone what it seems to learn from its teacher (FACTS: compare with
training from scratch over seeds). So both are trained over the same seeds by the same entry, with
`teacher=None` for the latter, and the gain counts only when the worst taught student beats the best untaught
one: with three seeds each, chance does that once in twenty times.

>>> network, facts = distill(origin, student, {"entry": "train:distil", "seed": 0})
>>> facts["gain"], facts["beyondSpread"]
(0.011, True)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from edgewright.build.checkpoint import make_network
from edgewright.build.torch_mode import repeatable
from edgewright.build.variants.origin import Origin, size_of

SEEDS = 3


def distill(
    origin: Origin,
    student: Mapping[str, Any],
    run: Mapping[str, Any],
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Return the student taught with the seed of `run`, and how taught and untaught students compare.

    Args:
        origin: The trained network, which teaches.
        student: `{factory, arguments}` of the untrained student.
        run: `{entry, seed, arguments}`, called as `entry(student, seed, teacher=teacher, **arguments)`.
        progress: Told of every student.

    Raises:
        BuildError: the student's factory or the entry fails.
    """
    first = int(run.get("seed", 0))
    seeds = [(first + step) % 2**32 for step in range(SEEDS)]
    chosen: torch.nn.Module | None = None
    scores: dict[str, list[float]] = {"taught": [], "untaught": []}
    for seed in seeds:
        for kind in scores:
            progress(f"{kind} student, seed {seed}")
            network = _fresh(origin, student, seed)
            teacher = origin.network().requires_grad_(requires_grad=False) if kind == "taught" else None
            origin.train(network, {**run, "seed": seed}, teacher=teacher)
            scores[kind].append(origin.score(network))
            if kind == "taught" and chosen is None:
                chosen = network
    if chosen is None:  # pragma: no cover  (there is always a first seed)
        raise AssertionError("no student was trained")
    taught, untaught = scores["taught"], scores["untaught"]
    beyond = min(taught) > max(untaught)
    return chosen, {
        "seeds": seeds,
        "distilled": _spread(taught),
        "scratch": _spread(untaught),
        "gain": round(sum(taught) / SEEDS - sum(untaught) / SEEDS, 6),
        "beyondSpread": beyond,
        "teacherParameters": size_of(origin.network()),
        **({} if beyond else {"note": "the teacher's part is within the spread of training from scratch"}),
    }


def _fresh(origin: Origin, student: Mapping[str, Any], seed: int) -> torch.nn.Module:
    with repeatable(seed):
        network: torch.nn.Module = make_network(origin.code, student)
    return network


def _spread(scores: Sequence[float]) -> dict[str, float]:
    return {"mean": round(sum(scores) / len(scores), 6), "min": min(scores), "max": max(scores)}
