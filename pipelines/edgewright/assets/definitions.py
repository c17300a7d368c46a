"""The definitions Dagster loads: `dagster dev -m edgewright.assets.definitions`, in a fleet's folder.

A class added by YAML appears when the code location is reloaded (the UI's "Reload" button).
"""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from edgewright.assets.factory import Watch, make_asset
from edgewright.plan.cache import open_cache
from edgewright.plan.resolve import order
from edgewright.spec.load import Workspace, load_fleet


def build_assets(workspace: Workspace, watch: Watch | None = None) -> list[dg.AssetsDefinition]:
    """Return one asset per step of the fleet."""
    cache = open_cache(workspace.root)
    return [make_asset(workspace, cache, step, watch) for step in order(workspace)]


def build_definitions(root: Path) -> dg.Definitions:
    """Return everything Dagster shows for the fleet at `root`.

    Raises:
        InvalidSpec: the YAML is wrong; Dagster shows the message where the graph would be.
    """
    return dg.Definitions(assets=build_assets(load_fleet(root)), executor=dg.in_process_executor)


@dg.definitions
def defs() -> dg.Definitions:
    """Return the definitions of the fleet at `EDGEWRIGHT_ROOT` (the current folder when unset)."""
    return build_definitions(Path(os.environ.get("EDGEWRIGHT_ROOT", ".")).resolve())
