"""`pin MODEL`: stay with what runs, or with another version that is still here, whatever is assigned.

$ edgewright-agent pin digit-reader --version 1.0.0
digit-reader  stays with 1.0.0 until `edgewright-agent unpin digit-reader`
"""

from __future__ import annotations

import argparse
from typing import Any


def add(verb: Any) -> None:
    """Describe the verb."""
    added = verb("pin", "stay with what runs; what is assigned is verified, but not installed", model=True)
    added.add_argument(
        "--version",
        metavar="VERSION",
        help="with this one instead, which must still be here: a version or a digest (or its beginning)",
    )
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from edgewright_agent.clock import utc_now
    from edgewright_agent.config import load
    from edgewright_agent.manual import pin
    from edgewright_agent.work import at_work

    with at_work(load(options.config)) as (ledger, store):
        slot = pin(ledger, store, options.model, now=utc_now(), version=options.version)
    print(f"{options.model}  stays with {slot.version} until `edgewright-agent unpin {options.model}`")
    return 0
