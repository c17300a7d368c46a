"""What a verified statement says, in the few words a table has room for.

>>> said("gate-report", {"verdict": "pass", "checks": [{"name": "latency-p95", "headroom": 0.375}]})
'pass, 1 check; tightest: latency-p95, 38 % left'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgewright_agent.contract import BUILDER_LOCAL

_MAX_WORDS = 160


def said(attestation: str, predicate: Mapping[str, Any]) -> str:
    """Return what a statement says; its shape is not trusted, and nothing in it can steer a terminal."""
    words = {"gate-report": _gate, "provenance": _provenance, "bom": _bom}.get(attestation)
    try:
        text = (
            words(predicate) if words else "vouches for this manifest" if attestation == "signature" else ""
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        text = "it is not in the form this command knows"
    return printable(text)


def printable(text: str, limit: int = _MAX_WORDS) -> str:
    """Return one line that is safe on a terminal."""
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def _gate(report: Mapping[str, Any]) -> str:
    checks = report["checks"]
    count = f"{report['verdict']}, {len(checks)} check{'' if len(checks) == 1 else 's'}"
    failed = [str(check["name"]) for check in checks if check.get("verdict", "pass") != "pass"]
    if failed:
        return f"{count}; failed: {', '.join(failed)}"
    # A budget of nothing is met exactly or missed: it says nothing of how close the others are.
    known = [
        check for check in checks if isinstance(check.get("headroom"), int | float) and check.get("limit", 1)
    ]
    if not known:
        return count
    tightest = min(known, key=lambda check: float(check["headroom"]))
    return f"{count}; tightest: {tightest['name']}, {100 * tightest['headroom']:.0f} % left"


def _provenance(predicate: Mapping[str, Any]) -> str:
    definition = predicate["buildDefinition"]
    parameters, builder = definition["externalParameters"], str(predicate["runDetails"]["builder"]["id"])
    commit = str(parameters.get("commit", ""))[:12]
    place = str(parameters.get("repository", "")).removeprefix("https://")
    source = f"commit {commit}" if commit else "no commit"
    if place:
        source += f" of {place}"
    state = {
        "modified": ", with changes that are not committed",
        "unversioned": ", not from a Git repository",
    }
    by = "a machine of no platform" if builder == BUILDER_LOCAL else builder.removeprefix("https://")
    return f"{source}{state.get(str(parameters.get('worktree')), '')}; built by {by}"


def _bom(document: Mapping[str, Any]) -> str:
    model = document["metadata"]["component"]
    licenses = ", ".join(_license(entry) for entry in model.get("licenses", ())) or "no licence"
    parts = [f"CycloneDX {document['specVersion']}", licenses]
    sets = [entry for entry in document.get("components", ()) if entry.get("type") == "data"]
    named = [entry for entry in sets if str(entry.get("bom-ref", "")).startswith("dataset:")]
    shown = [
        f"{entry['name']} ({', '.join(map(_license, entry['licenses']))})"
        if entry.get("licenses")
        else entry["name"]
        for entry in named
    ]
    parts.append(f"data: {', '.join(shown)}" if shown else "data sets not named")
    card = model.get("modelCard", {})
    for metric in list(card.get("quantitativeAnalysis", {}).get("performanceMetrics", ()))[:1]:
        interval = metric.get("confidenceInterval", {})
        bounds = f" [{_short(interval['lowerBound'])}, {_short(interval['upperBound'])}]" if interval else ""
        parts.append(f"{metric['type']} {_short(metric['value'])}{bounds}")
    return "; ".join(parts)


def _license(entry: Mapping[str, Any]) -> str:
    inner = entry.get("license", {})
    return str(entry.get("expression") or inner.get("id") or inner.get("name"))


def _short(number: object) -> str:
    return f"{float(str(number)):.3f}"
