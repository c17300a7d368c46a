"""`rollback MODEL`: back to what ran before, or to another version that is still here.

$ edgewright-agent rollback digit-reader --to factory
digit-reader  1.0.0 is active again; the version it replaces will not be tried again
"""

from __future__ import annotations

import argparse
from typing import Any


def add(verb: Any) -> None:
    """Describe the verb."""
    added = verb("rollback", "go back to the previous version of a model", model=True)
    added.add_argument(
        "--to",
        metavar="VERSION",
        help="which of those that are here: a version, a digest (or its beginning), or `factory`",
    )
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from edgewright_agent.clock import utc_now
    from edgewright_agent.config import load
    from edgewright_agent.manual import rollback
    from edgewright_agent.work import at_work

    with at_work(load(options.config)) as (ledger, store):
        slot = rollback(ledger, store, options.model, now=utc_now(), to=options.to)
    print(f"{options.model}  {slot.version} is active again; the version it replaces will not be tried again")
    return 0
