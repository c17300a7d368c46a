"""Power cuts in every story, and a table of what came of them.

    $ PYTHONPATH=tests:pipelines:agent python -m crash --states 20000 --seed 7

Ends with 1 when something was broken, lost or stuck.
"""

from __future__ import annotations

import argparse
import sys
import time

from crash.model_check import explore
from crash.stories import STORIES, named, share


def main() -> int:
    """Play the stories; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m crash", description="Cut the power in every story of the agent."
    )
    parser.add_argument("stories", nargs="*", help="names (default: all)", metavar="STORY")
    parser.add_argument("--states", type=int, default=10_000, help="over all stories (default: 10000)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if unknown := sorted(set(options.stories) - {story.name for story in STORIES}):
        parser.error(f"no story {unknown[0]!r}; there are {', '.join(story.name for story in STORIES)}")
    stories = [named(name) for name in options.stories] or list(STORIES)
    print(
        f"{'story':18}{'operations':>11}{'states':>9}{'broken':>8}{'lost':>8}{'stuck':>8}{'CPU':>9}",
        flush=True,
    )
    begun, faults, trees = time.process_time(), list[str](), set[bytes]()
    for story in stories:
        before = time.process_time()
        explored = explore(story, states=share(story, options.states, stories), seed=options.seed)
        print(f"{explored.row()}{time.process_time() - before:>7.1f} s", flush=True)
        faults += explored.faults
        trees |= explored.trees.keys()
    print(f"{len(trees):,} different states in {time.process_time() - begun:.0f} s of processor time")
    for fault in faults:
        print(f"    {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
