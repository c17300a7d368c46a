"""The Dagster instance of a fleet: `DAGSTER_HOME`, or `.edgewright/dagster` in the fleet's folder."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path


def prepare_home(root: Path) -> Path:
    """Return the instance's folder, made with the local settings when it is new, and export it."""
    home = Path(os.environ.get("DAGSTER_HOME") or root / ".edgewright" / "dagster").resolve()
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists():
        settings.write_text((resources.files("edgewright.assets") / "dagster.yaml").read_text())
    os.environ["DAGSTER_HOME"] = str(home)
    return home
