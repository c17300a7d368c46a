"""The way to the source: asked once, as a poll asks, mirror by mirror."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgewright_agent.config import Config
from edgewright_agent.contract import TUF_REPOSITORY
from edgewright_agent.doctor import FAIL, OK, WARN, Finding
from edgewright_agent.errors import AgentError
from edgewright_agent.poll import TIMESTAMP_TAG

_ADVICE = {
    "network": "check cable, DNS, firewall and source.url",
    "denied": "check source.username and source.password, or the device's certificate",
    "not-found": "check the prefix in source.url; has the fleet been released?",
    "bad-response": "is a login page or proxy in between?",
}


def source(config: Config) -> Iterator[Finding]:
    """The newest timestamp can be fetched; whether to believe it, a poll decides."""
    answered = 0
    failures = []
    for mirror in config.origin.mirrors:
        try:
            with contextlib.closing(mirror.open()) as opened:
                found = opened.manifest(TUF_REPOSITORY, TIMESTAMP_TAG)
        except AgentError as error:
            failures.append((mirror.url, error))
        else:
            answered += 1
            yield Finding("source", OK, f"{mirror.url} answers ({len(found.body) if found else 0} bytes)")
    for url, failure in failures:
        level = WARN if answered else FAIL
        yield Finding("source", level, f"{url}: {failure.code}: {failure}", _ADVICE.get(failure.code, ""))
