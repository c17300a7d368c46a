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


def run_steps(workspace: Workspace, steps: Sequence[StepId], watch: Watch) -> bool:
    """Materialize `steps`; whether all of them succeeded.

    The index of a model comes in a run of its own: within one run Dagster skips everything below a blocked lane, but a
    version is the index over the lanes that passed.
    """
    prepare_home(workspace.root)
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    assets = build_assets(workspace, watch)
    succeeded = True
    with dg.DagsterInstance.get() as instance:
        for phase in ([s for s in steps if s.stage != "index"], [s for s in steps if s.stage == "index"]):
            if phase:
                result = dg.materialize(
                    assets,
                    selection=dg.AssetSelection.assets(*map(key_of, phase)),
                    instance=instance,
                    raise_on_error=False,
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                )
                succeeded = succeeded and result.success
    return succeeded
