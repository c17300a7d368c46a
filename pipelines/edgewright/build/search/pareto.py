"""Pareto sets: which candidates no other one beats in everything.

>>> fronts([(1.0, 2.0), (2.0, 1.0), (2.0, 2.0)])
[[0, 1], [2]]
"""

from __future__ import annotations

from collections.abc import Sequence


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one` is nowhere worse and somewhere better; smaller is better everywhere."""
    pairs = list(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def fronts(points: Sequence[Sequence[float]]) -> list[list[int]]:
    """Return indices by non-dominated sorting: the Pareto set, then that of what is left, and so on (Deb et al., 2002).

    Args:
        points: One per candidate; smaller is better in every coordinate.
    """
    left = list(range(len(points)))
    found = []
    while left:
        front = [
            index for index in left if not any(dominates(points[other], points[index]) for other in left)
        ]
        found.append(front)
        left = [index for index in left if index not in front]
    return found
