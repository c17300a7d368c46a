"""One agent at work on a state directory: nobody else changes it meanwhile.

>>> with at_work(config) as (ledger, store):     # doctest: +SKIP
...     ledger.commit(record)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgewright_agent.config import Config
from edgewright_agent.files import Disk
from edgewright_agent.lock import exclusive
from edgewright_agent.owner import as_owner
from edgewright_agent.record import Ledger
from edgewright_agent.store import Store

PATIENCE_S = (
    2.0  # the agent that stays holds the lock for some milliseconds now and then: that ends no command
)


@contextlib.contextmanager
def at_work(config: Config, *, patience_s: float = PATIENCE_S) -> Iterator[tuple[Ledger, Store]]:
    """Hold the lock of a state directory, as the user whose it is, and give its record and its models.

    Args:
        config: Where.
        patience_s: How long to wait for another agent.

    Raises:
        StorageError: `busy` when another agent is at work, `not-permitted`, `state-version`.
    """
    with as_owner(config.state), exclusive(config.state / "lock", patience_s=patience_s):
        disk = Disk()
        yield Ledger(config.state, disk), Store(config.state, disk)
