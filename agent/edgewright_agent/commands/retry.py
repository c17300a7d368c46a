"""`retry MODEL`: what failed here may be tried again.

$ edgewright-agent retry digit-reader
digit-reader  1 failed version(s) forgotten; the next poll tries what is assigned
"""

from __future__ import annotations

import argparse
from typing import Any


def add(verb: Any) -> None:
    """Describe the verb."""
    text = "forget that versions of a model failed here, so that they are tried again"
    verb("retry", text, model=True).set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    from edgewright_agent.config import load
    from edgewright_agent.manual import retry
    from edgewright_agent.work import at_work

    with at_work(load(options.config)) as (ledger, _store):
        count = retry(ledger, options.model)
    print(f"{options.model}  {count} failed version(s) forgotten; the next poll tries what is assigned")
    return 0
