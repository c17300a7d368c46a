"""Asking whether anything is new, without waiting for the answer: one request at a time, in a copy of this process.

>>> asking = Asking()                                # doctest: +SKIP
>>> asking.begin(config, polls=7, etag='"known"')    # doctest: +SKIP
>>> asking.take()                                    # doctest: +SKIP
Answer(new=False, error=None, mirrors=None)

A registry, a name server or a proxy may hold a request for minutes; nothing ends a look-up of a name but the end of its
process. Meanwhile sockets are served, the watchdog is fed and SIGTERM stops at once. The copy does nothing but ask:
every decision, and every write, is the loop's. OpenSSL and what it reads come and go with it (`aside`); what would be
imported over and over again is imported here once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from edgewright_agent.aside import Aside
from edgewright_agent.config import Config
from edgewright_agent.errors import AgentError
from edgewright_agent.poll import Judged, ask, judged
from edgewright_agent.transport.authority import Authorities

MIRRORS_WITHIN_S = 60.0  # for all of them together: hostile ones could drip for hours


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        new: Whether there is something new.
        error: What went wrong instead.
        mirrors: Of several mirrors: how those that were asked did.
    """

    new: bool = False
    error: AgentError | None = None
    mirrors: Judged | None = None


class Asking:
    """At most one request under way.

    Args:
        reset: Signals that the copy shall take as the system has it.
    """

    def __init__(self, reset: Collection[int] = ()) -> None:
        self._aside = Aside("ask", reset)
        self._authorities = Authorities()

    @property
    def busy(self) -> bool:
        """Whether there is a request whose answer has not been taken."""
        return self._aside.busy

    def begin(self, config: Config, *, polls: int, etag: str, limit_s: float) -> None:
        """Ask; SIGCHLD says that there is an answer to take.

        Args:
            config: Where.
            polls: How many polls there have been.
            etag: Of what is known already.
            limit_s: The request ends by then.

        Raises:
            OSError: there is no memory or process left at the moment.
        """
        _foresee(config)
        self._aside.begin(lambda told: self._ask(told, config, polls, etag), limit_s=limit_s)

    def take(self) -> Answer | None:
        """Return what came of it; None as long as there is no answer."""
        told = self._aside.take()
        if told is None:
            return None
        self._authorities = Authorities.parse(told.facts.get("authorities"), self._authorities)
        mirrors = told.facts.get("mirrors")
        return Answer(told.facts.get("new") is True, told.error, Judged(**mirrors) if mirrors else None)

    def stop(self) -> None:
        """Give up a request: it is ended."""
        self._aside.stop()

    def close(self) -> None:
        """End the request that is under way, if there is one."""
        self._aside.close()

    def _ask(self, told: dict[str, Any], config: Config, polls: int, etag: str) -> None:
        within_s = MIRRORS_WITHIN_S if len(config.origin.mirrors) > 1 else None
        with contextlib.closing(
            config.origin.open(polls=polls, within_s=within_s, authorities=self._authorities)
        ) as source:
            try:
                told["new"] = ask(source, etag) is not None
            finally:
                told["authorities"] = self._authorities.document()
                if within_s and (found := judged(source)):
                    told["mirrors"] = {"urls": found.urls, "failed": found.failed}


def _foresee(config: Config) -> None:
    """Import what every request needs, but for OpenSSL."""
    if not any(mirror.url.startswith("http") for mirror in config.origin.mirrors):
        return
    from edgewright_agent.transport import registry

    assert registry
    if len(config.origin.mirrors) > 1:
        from edgewright_agent.transport import mirrors

        assert mirrors
