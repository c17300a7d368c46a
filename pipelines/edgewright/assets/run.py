"""Runs the changed steps of a plan as Dagster runs in this process, so that the UI shows them afterwards."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import dagster as dg
from sqlalchemy.exc import SQLAlchemyError

from edgewright.assets.definitions import build_assets
from edgewright.assets.factory import Watch, key_of
from edgewright.assets.instance import prepare_home
from edgewright.errors import EnvironmentFault
from edgewright.plan.lane import StepId
from edgewright.spec.load import Workspace


def run_steps(workspace: Workspace, steps: Sequence[StepId], watch: Watch) -> None:
    """Materialize `steps` in one Dagster run; `watch` is told of each result and failure.

    Raises:
        EnvironmentFault: Dagster cannot write its own records (disk full, not writable, damaged).
    """
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    home = workspace.root
    try:
        home = prepare_home(workspace.root)
        with dg.DagsterInstance.get() as instance:
            dg.materialize(
                build_assets(workspace, watch),
                selection=dg.AssetSelection.assets(*map(key_of, steps)),
                instance=instance,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
    except (OSError, SQLAlchemyError) as error:
        reason = getattr(error, "orig", None) or getattr(error, "strerror", None) or error
        raise EnvironmentFault(
            f"Dagster cannot keep its records in {home}: {reason}",
            hint="free space, or set DAGSTER_HOME to a folder on another disk",
        ) from error
