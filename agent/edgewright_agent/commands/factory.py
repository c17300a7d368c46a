"""`edgewright-agent factory MODEL`: what runs now is what a device falls back on when nothing newer is whole."""

from __future__ import annotations

import argparse
from collections.abc import Callable


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Describe the verb."""
    added = verb("factory", "keep the active version of a model for good, to fall back on", model=True)
    added.add_argument("--clear", action="store_true", help="keep none any more")
    added.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Mark or clear; returns the exit code."""
    from edgewright_agent.clock import utc_now
    from edgewright_agent.config import load
    from edgewright_agent.factory import clear, mark
    from edgewright_agent.work import at_work

    with at_work(load(options.config)) as (ledger, store):
        if options.clear:
            slot = clear(ledger, store, options.model)
            told = (
                f"{slot.version} is not the factory model any more; unless it runs, the next poll removes it"
            )
        else:
            slot = mark(ledger, store, options.model, now=utc_now())
            told = f"{slot.version} is the factory model: it stays, and runs when nothing newer is whole"
    print(f"{options.model}  {told}")
    return 0
