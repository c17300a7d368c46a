"""`unpin MODEL`: follow again what is assigned.

$ edgewright-agent unpin digit-reader
digit-reader  was pinned to 1.0.0; the next poll installs what is assigned
"""

from __future__ import annotations

import argparse
from typing import Any


def add(verb: Any) -> None:
    """Describe the verb."""
    verb("unpin", "follow again what is assigned", model=True).set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from edgewright_agent.config import load
    from edgewright_agent.manual import unpin
    from edgewright_agent.work import at_work

    with at_work(load(options.config)) as (ledger, _store):
        pin = unpin(ledger, options.model)
    print(f"{options.model}  was pinned to {pin.version}; the next poll installs what is assigned")
    return 0
