"""The search in words and pictures: a table of candidates, the Pareto plot, and what the gate report keeps of it.

>>> rows(choice)[0]["candidate"], rows(choice)[0]["verdict"]           # doctest: +SKIP
('fp32', 'fits')
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from edgewright.build.search.choose import Choice, Judged
from edgewright.build.search.pareto import fronts
from edgewright.plan.figures import shown

MOST_ROWS = 40
"""Candidates that a gate report carries: devices read it, so its size is bounded."""


def document(choice: Choice, objective: str, skipped: Mapping[str, str], beyond: list[str]) -> dict[str, Any]:
    """Return `search.json`: the decision and the figures behind it, compact enough for a gate report."""
    ranked = sorted(
        choice.judged, key=lambda one: ("chosen", "refused", "fits", "dropped").index(one.verdict)
    )
    return {
        "version": 1,
        "model": choice.winner.digest,
        "objective": objective,
        "chosen": choice.winner.name,
        "fits": choice.fits,
        "why": choice.why,
        "candidates": [_compact(one) for one in ranked[:MOST_ROWS]],
        "notApplicable": dict(skipped),
        "beyondBudget": beyond,
    }


def _compact(judged: Judged) -> dict[str, Any]:
    one = judged.candidate
    cost = one.cost
    return {
        "name": one.name,
        "verdict": judged.verdict,
        "reason": judged.reason,
        "pareto": judged.pareto,
        "score": one.score.document() if one.score else None,
        "drop": one.drop.value if one.drop else None,
        "sizeBytes": one.size_bytes,
        "latencyMs": cost.latency_ms["value"] if cost else None,
        "memoryBytes": cost.memory_bytes if cost else None,
        "ratio": round(judged.ratio, 4) if judged.ratio is not None else None,
    }


def rows(search: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the table of `search.json`, one row per candidate, as people read it."""
    return [
        {
            "candidate": one["name"],
            "score": interval(one["score"]),
            "drop": f"{one['drop']:+.4f}" if one["drop"] is not None else "–",
            "size": shown(one["sizeBytes"], "bytes") if one["sizeBytes"] else "–",
            "latency": shown(one["latencyMs"], "ms") if one["latencyMs"] is not None else "–",
            "memory": shown(one["memoryBytes"], "bytes") if one["memoryBytes"] is not None else "–",
            "of fp32": f"{one['ratio']:.2f}" if one["ratio"] is not None else "–",
            "verdict": one["verdict"] + (" *" if one["pareto"] else ""),
            "reason": one["reason"],
        }
        for one in search["candidates"]
    ]


def interval(score: Mapping[str, float] | None) -> str:
    """Return a score with its interval."""
    return f"{score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}]" if score else "–"


def pareto_png(search: Mapping[str, Any], title: str, floor: float) -> bytes:
    """Return a plot: score with its interval over latency and over size, the best of each joined, the choice marked.

    Args:
        search: `search.json`.
        title: Model and class.
        floor: Least score.
    """
    from matplotlib.figure import Figure

    measured = [one for one in search["candidates"] if one["latencyMs"] is not None]
    figure = Figure(figsize=(10, 4.2), dpi=100, layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, label in zip(panels, ("latencyMs", "sizeBytes"), ("latency, ms", "size, kB"), strict=True):
        _panel(axes, measured, key, 1e-3 if key == "sizeBytes" else 1.0, search["chosen"])
        axes.set_xlabel(label)
        axes.grid(alpha=0.2)
    lowest = min(one["score"]["low"] for one in measured)
    panels[0].set_ylim(lowest - 0.1 * (1.0 - lowest) - 0.002, 1.0 + 0.05 * (1.0 - lowest) + 0.001)
    if floor > lowest:
        for axes in panels:
            axes.axhline(floor, color="#b00020", linewidth=0.8, linestyle=":", label=f"floor {floor:g}")
    panels[0].set_ylabel("score on the selection data, 95 %")
    panels[1].legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, frameon=False)
    figure.suptitle(f"{title}: {search['chosen']}, by {search['objective']}")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _panel(axes: Any, measured: list[dict[str, Any]], key: str, scale: float, chosen: str) -> None:
    best = fronts([(one[key], -one["score"]["value"]) for one in measured])[0]  # of what this panel shows
    front = sorted((measured[index] for index in best), key=lambda one: one[key])
    axes.plot(
        [one[key] * scale for one in front],
        [one["score"]["value"] for one in front],
        color="#bbbbbb",
        zorder=1,
    )
    for number, one in enumerate(measured):
        score = one["score"]
        refused = one["verdict"] == "refused"
        axes.errorbar(
            one[key] * scale,
            score["value"],
            yerr=[[score["value"] - score["low"]], [score["high"] - score["value"]]],
            fmt="*" if one["name"] == chosen else "x" if refused else "o",
            markersize=14 if one["name"] == chosen else 7,
            color=f"C{number % 10}",
            capsize=2,
            linewidth=0.8,
            label=one["name"],
            zorder=3 if one["name"] == chosen else 2,
        )
