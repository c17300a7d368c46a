"""The degraded-mode ladder: its rungs, in the order in which a device goes down.

>>> worst(["stale", "previous"])
'previous'
"""

from __future__ import annotations

from collections.abc import Iterable

# `stale` and `no-space` are about the device; from `next-provider` on about one model.
RUNGS = (
    "normal",
    "stale",
    "no-space",
    "next-provider",
    "cpu-model",
    "previous",
    "factory",
    "safe-output",
)


def worst(rungs: Iterable[str]) -> str:
    """Return the lowest rung of those given; `normal` for none."""
    return max(rungs, key=RUNGS.index, default="normal")
