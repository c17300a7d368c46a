"""A real agent process that dies at its n-th operation on the disk: `python -m unit.agent.core.victim STORY DIR N`."""

from __future__ import annotations

import sys
from pathlib import Path

from edgewright_agent.errors import HealthError
from edgewright_agent.files import Calls
from unit.agent.core.workbench import Bench, DyingCalls, kill_this_process, make_artifact

ONE, TWO, THREE = (make_artifact(f"{n}.0.0", size=60_000) for n in (1, 2, 3))
STORIES = ("first boot", "update", "rollback")


def begin(story: str, folder: Path) -> Bench:
    """Prepare a device up to the update that will be cut."""
    bench = Bench(folder)
    if story != "first boot":
        bench.publish(ONE)
        bench.once()
        bench.publish(TWO)
        bench.once()
    return bench


def go_on(story: str, folder: Path, calls: Calls | None) -> Bench:
    """Open the device again as a new process finds it, with the release that the update is about."""
    bench = Bench(folder, calls=calls)
    for made in (ONE,) if story == "first boot" else (ONE, TWO, THREE):
        bench.publish(made)
    if story == "rollback":
        bench.doctor.verdicts["3.0.0"] = HealthError("health-crash", "died of SIGSEGV")
    return bench


def main(story: str, folder: str, dies_at: str) -> None:
    """Run one poll and die in it."""
    go_on(story, Path(folder), DyingCalls(int(dies_at), die=kill_this_process)).once()


if __name__ == "__main__":
    main(*sys.argv[1:])
