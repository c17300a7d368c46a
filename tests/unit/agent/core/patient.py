"""A real agent process that polls once with the real health check: `python -m unit.agent.core.patient DIR FILES`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

from edgewright_agent import health
from unit.agent.core.workbench import Bench, Made, make_artifact

VERSION = "2.0.0"


def patient(folder: Path) -> Made:
    """Return the artifact that the files of a folder make."""
    return make_artifact(VERSION, files={file.name: file.read_bytes() for file in sorted(folder.iterdir())})


def main(folder: str, files: str, policy: str) -> int:
    """Run one poll of a device to which these files are assigned."""
    bench = Bench(Path(folder))
    bench.publish(make_artifact("1.0.0"))  # as it was when the device installed that
    bench.publish(patient(Path(files)), attempts=2, policy={"healthTimeoutS": 60, **json.loads(policy)})
    bench.doctor = cast("Any", health.check)
    report = bench.once()
    print(report.text())
    return report.exit_code


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
