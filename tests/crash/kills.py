"""A real agent process, killed at every single operation of every story, and started again.

    $ PYTHONPATH=tests:pipelines:agent python -m crash.kills
    story                kills  broken    lost   stuck
    first boot              77       0       0       0

Each process is forked from this one, which has imported all there is to import: a kill costs a few milliseconds.
What the kernel holds survives a kill, so this shows what the model of the disk does not: that nothing in the process
itself (a handler, a `finally`, a buffer) is needed on the way out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path

from crash.counted import Counted
from crash.invariants import BROKEN, LOST, STUCK, check
from crash.model_check import memory
from crash.recording import empty
from crash.stories import STORIES, named
from crash.story import Story
from crash.volume import read_state


def kill_all(story: Story, folder: Path) -> tuple[int, list[str], Counter[str]]:
    """Kill a process at every operation of a story; return how many died, what was wrong, and how often."""
    folder.mkdir()
    story.prepare(folder)
    prepared = read_state(folder)
    whole = Counted()
    whole.know(story.device(folder).ledger)
    story.act(story.device(folder, whole))
    faults, count = list[str](), Counter[str]()
    for number in range(1, whole.count + 1):
        empty(folder)
        prepared.write_to(folder)
        if (ended := _run_and_die(story, folder, number)) != -signal.SIGKILL:
            raise RuntimeError(f"{story.name}: the process ended with {ended} instead of dying at {number}")
        found = check(story, folder, whole.acknowledged_by(number - 1))
        count.update(fault.kind for fault in found)
        faults += [f"{story.name}, killed at operation {number} of {whole.count}: {fault}" for fault in found]
    return whole.count, faults, count


def _run_and_die(story: Story, folder: Path, number: int) -> int:
    child = os.fork()
    if child == 0:
        try:
            story.act(story.device(folder, Counted(number, end=lambda: os.kill(os.getpid(), signal.SIGKILL))))
        finally:
            os._exit(0)  # only a process that was not killed gets here
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    """Play the stories; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m crash.kills", description="Kill the agent at every operation."
    )
    parser.add_argument("stories", nargs="*", help="names (default: all)", metavar="STORY")
    parser.add_argument("--json", action="store_true", help="one line for machines per story")
    options = parser.parse_args()
    bad = False
    if not options.json:
        print(f"{'story':18}{'kills':>8}{'broken':>8}{'lost':>8}{'stuck':>8}", flush=True)
    for story in [named(name) for name in options.stories] or STORIES:
        with tempfile.TemporaryDirectory(prefix="edgewright-kills-", dir=memory()) as place:
            kills, faults, count = kill_all(story, Path(place).resolve() / "device")
        bad = bad or bool(faults)
        if options.json:
            print(json.dumps({"story": story.name, "points": kills, **count, "faults": faults}), flush=True)
            continue
        print(
            f"{story.name:18}{kills:>8}" + "".join(f"{count[kind]:>8}" for kind in (BROKEN, LOST, STUCK)),
            flush=True,
        )
        for fault in faults[:5]:
            print(f"    {fault}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
