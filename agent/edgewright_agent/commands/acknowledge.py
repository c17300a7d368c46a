"""`acknowledge MODEL` or `acknowledge --all`: the evidence has been seen; its room may be used when it is needed.

$ edgewright-agent acknowledge digit-reader
1 piece(s) of evidence acknowledged
"""

from __future__ import annotations

import argparse
from typing import Any


def add(verb: Any) -> None:
    """Describe the verb."""
    added = verb("acknowledge", "say that evidence has been seen, so that its room may be used")
    which = added.add_mutually_exclusive_group(required=True)
    which.add_argument("model", nargs="?", metavar="MODEL", help="that of this model")
    which.add_argument("--all", action="store_true", help="that of every model")
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from edgewright_agent.config import load
    from edgewright_agent.evidence import Archive
    from edgewright_agent.work import at_work

    with at_work(load(options.config)) as (ledger, store):
        archive = Archive.beside(store)
        count = archive.acknowledge(archive.entries(options.model))
        if count and not ledger.record.quarantined:
            ledger.commit(ledger.record.counted(acknowledged=count))
    print(f"{count} piece(s) of evidence acknowledged")
    return 0
