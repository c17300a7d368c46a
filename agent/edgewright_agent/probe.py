"""What the health endpoint says: whether every model runs as it should, and everything known about them.

>>> health(status, record, live)["status"]      # doctest: +SKIP
'ok'

A *reason* is something about a model that keeps applications from getting its answers as they should: the probe fails.
A *warning* is everything else that somebody should look at: a registry that cannot be reached, metadata that has ended,
a version that was not taken. Restarting the device for that would help nobody.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgewright_agent.degrade import RUNGS, worst
from edgewright_agent.status import AS_ASSIGNED

if TYPE_CHECKING:
    from edgewright_agent.record import Record
    from edgewright_agent.status import ModelStatus, Status

Totals = Mapping[str, Mapping[str, Any]]
MODEL_RUNGS = RUNGS[RUNGS.index("next-provider") :]  # those before are about the device


def health(status: Status, record: Record, live: Totals) -> dict[str, Any]:
    """Return the health document.

    Args:
        status: The device's.
        record: Its record, for the rungs.
        live: `Live.totals()`.
    """
    reasons = [entry for model in status.models for entry in _reasons(model, record, live)]
    warnings = [entry for model in status.models for entry in _warnings(model)]
    if status.state not in ("ok", "degraded"):
        message = status.poll.message if status.poll and status.state == "failing" else _STATES[status.state]
        code = status.poll.code if status.poll and status.state == "failing" else status.state
        warnings.insert(0, {"code": code, "message": message})
    warnings += [
        {"code": rung.code or name, "message": rung.reason or name} for name, rung in record.rungs.items()
    ]
    return {
        "status": "failing" if reasons else "ok",
        "reasons": reasons,
        "warnings": warnings,
        "models": {model.name: _vital(model, record, live) for model in status.models},
    }


def models(status: Status, record: Record, live: Totals) -> dict[str, Any]:
    """Return everything known about each model: what is installed, and what its sessions do."""
    found = {model.name: dict(model.document()) for model in status.models}
    for name, totals in live.items():
        found.setdefault(name, {"state": "absent", "active": None, "version": None})["live"] = totals
    for name, document in found.items():
        document["rung"] = rung_of(name, record, live)
        document.setdefault("live", None)
    return found


def rung_of(model: str, record: Record, live: Totals) -> str:
    """Return where a model stands: the lower of what the device and what its sessions say."""
    rung = record.model(model).rung
    return worst([rung.name if rung else "normal", live.get(model, {}).get("rung", "normal")])


def _reasons(model: ModelStatus, record: Record, live: Totals) -> list[dict[str, Any]]:
    found = []
    sessions = live.get(model.name, {})
    if model.active is None:
        found.append((model.state, model.reason or "nothing is active"))
    rung = rung_of(model.name, record, live)
    if rung in MODEL_RUNGS:
        codes = ", ".join(sessions.get("codes", ()))
        state = record.model(model.name).rung
        told = state.reason if state and state.name == rung else codes
        found.append((rung, told or "it stands on this rung of the degraded-mode ladder"))
    if sessions.get("hung"):
        found.append(
            ("hung", f"{sessions['hung']} of {sessions['sessions']} sessions have an inference that hangs")
        )
    return [{"model": model.name, "code": code, "message": message} for code, message in found]


def _warnings(model: ModelStatus) -> list[dict[str, Any]]:
    if model.active is None or model.state in AS_ASSIGNED:
        return []
    return [{"model": model.name, "code": model.state, "message": model.reason or model.state}]


def _vital(model: ModelStatus, record: Record, live: Totals) -> dict[str, Any]:
    sessions = live.get(model.name, {})
    return {
        "state": model.state,
        "version": model.version,
        "digest": model.active,
        "rung": rung_of(model.name, record, live),
        "sessions": sessions.get("sessions", 0),
        "hung": sessions.get("hung", 0),
        "sinceSuccessS": sessions.get("sinceSuccessS"),
    }


_STATES = {
    "stale": "signed metadata has ended: running goes on, installing stops, until newer metadata is verified",
    "damaged": "both copies of the record are damaged: nothing is installed until `edgewright-agent reanchor`",
    "missing": "there is no record: nothing is installed until `edgewright-agent anchor` or `reanchor`",
    "new": "it has never polled",
}
