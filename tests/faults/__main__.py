"""`python -m faults`: devices in bad weather, seed by seed, and a table of what they met and what came of it.

    $ PYTHONPATH=tests:pipelines:agent python -m faults --seed 1 --runs 20
    fault      met  polls that failed after it ...

Ends with 1 when anything wrong ran, a poll hung, or a device did not arrive by itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from attacks.fleet import Fleet
from faults.fault import KINDS
from faults.journey import Grounds, Journey, travel
from faults.proxy import REQUESTS
from real import Registry, require


def main() -> int:
    """Run the journeys; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m faults", description="Send devices through bad weather.")
    parser.add_argument("--seed", type=int, default=1, help="of the first run (default: 1)")
    parser.add_argument("--runs", type=int, default=10, help="each with the next seed (default: 10)")
    parser.add_argument("--polls", type=int, default=6, help="in bad weather, of each run (default: 6)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgewright-faults-") as scratch:
        folder = Path(scratch)
        registry = Registry(require("docker-registry"), folder / "registry", quiet=True)
        registry.start()
        try:
            grounds = Grounds.build(Fleet.build(folder, registry), folder / "grounds")
            journeys = []
            for seed in range(options.seed, options.seed + options.runs):
                journey = travel(grounds, seed=seed, polls=options.polls, folder=folder)
                journeys.append(journey)
                for text in journey.wrong:
                    print(f"seed {seed}: {text}", file=sys.stderr)
        finally:
            registry.stop()
    print(table(journeys))
    return 0 if all(journey.arrived and not journey.wrong for journey in journeys) else 1


def table(journeys: list[Journey]) -> str:
    """Return faults by kind and request, how polls ended, and the sum of it."""
    met = Counter((fault.kind, what) for journey in journeys for what, fault in journey.met)
    lines = [f"{'fault':10}" + "".join(f"{what:>11}" for what in REQUESTS)]
    lines += [f"{kind:10}" + "".join(f"{met[kind, what]:>11}" for what in REQUESTS) for kind in KINDS]
    ends = Counter(f"{code} ({exit_code})" for journey in journeys for exit_code, code in journey.polls)
    lines += ["", "polls ended with  " + ", ".join(f"{end} × {count}" for end, count in ends.most_common())]
    arrived, wrong = (
        sum(journey.arrived for journey in journeys),
        sum(len(journey.wrong) for journey in journeys),
    )
    polls = sum(len(journey.polls) for journey in journeys)
    lines.append(
        f"{len(journeys)} devices, {polls} polls, {sum(met.values())} faults: "
        f"{arrived} arrived by themselves, {wrong} wrong"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
