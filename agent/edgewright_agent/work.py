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


@contextlib.contextmanager
def at_work(config: Config) -> Iterator[tuple[Ledger, Store]]:
    """Hold the lock of a state directory, as the user whose it is, and give its record and its models.

    Raises:
        StorageError: `busy` when another agent is at work, `not-permitted`, `state-version`.
    """
    with as_owner(config.state), exclusive(config.state / "lock"):
        disk = Disk()
        yield Ledger(config.state, disk), Store(config.state, disk)
