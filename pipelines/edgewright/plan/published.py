"""Which lanes of a plan are published, and which a gate holds back: what a release promotes and must explain.

>>> published_lanes(workspace, plan)["digit-reader"]["raspberry-pi-4"]["digest"]     # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

import json
from typing import Any

from edgewright.plan.cache import open_cache
from edgewright.plan.resolve import Plan
from edgewright.spec.load import Workspace


def published_lanes(workspace: Workspace, plan: Plan) -> dict[str, dict[str, dict[str, Any]]]:
    """Return model → hardware class → `{digest, size, repository, modelVersion}` of every published lane.

    Lanes that a gate holds back, or that have not been built for the current specs, are absent.
    """
    cache = open_cache(workspace.root)
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for step, record in plan.records.items():
        if step.stage == "published" and step.hardware_class is not None:
            published = json.loads(cache.verified(record.files["published.json"]).read_bytes())
            found.setdefault(step.model, {})[step.hardware_class] = {
                "digest": published["digest"],
                "size": published["size"],
                "repository": published["repository"],
                "modelVersion": workspace.models[step.model].model_version,
            }
    return found


def blocked_lanes(plan: Plan) -> dict[tuple[str, str], str]:
    """Return (model, hardware class) → why a gate holds the lane back."""
    return {
        (step.id.model, step.id.hardware_class): step.cause
        for step in plan.steps
        if step.state == "blocked" and step.id.hardware_class is not None
    }
