"""Runs the changed steps of a plan as Dagster runs in this process, so that the UI shows them afterwards."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import dagster as dg

from edgewright.assets.definitions import build_assets
from edgewright.assets.factory import Watch, key_of
from edgewright.assets.instance import prepare_home
from edgewright.plan.lane import StepId
from edgewright.spec.load import Workspace


def run_steps(workspace: Workspace, steps: Sequence[StepId], watch: Watch) -> None:
    """Materialize `steps` in one Dagster run; `watch` is told of each result and failure."""
    prepare_home(workspace.root)
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with dg.DagsterInstance.get() as instance:
        dg.materialize(
            build_assets(workspace, watch),
            selection=dg.AssetSelection.assets(*map(key_of, steps)),
            instance=instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
