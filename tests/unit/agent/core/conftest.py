"""Fixtures of the agent's core tests."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from unit.agent.core.idle import Unchanged
from unit.agent.core.running import Running


@pytest.fixture
def unchanged() -> Iterator[tuple[str, list[str | None]]]:
    """URL of a registry without news, and the ETags it was asked with."""
    asked: list[str | None] = []
    handler = type("Handler", (Unchanged,), {"asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/acme", asked
        server.shutdown()
        thread.join()


@pytest.fixture
def daemons() -> Iterator[list[Running]]:
    """Daemons to be ended whatever happens."""
    started: list[Running] = []
    yield started
    for running in started:
        running.end()
