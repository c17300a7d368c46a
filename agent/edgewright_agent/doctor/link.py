"""The link: what counts for it, where telemetry goes, and the source, asked once, mirror by mirror, as a poll asks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgewright_agent.clock import utc_now
from edgewright_agent.config import Config
from edgewright_agent.contract import TUF_REPOSITORY
from edgewright_agent.doctor import FAIL, OK, WARN, Finding
from edgewright_agent.doctor.installation import IN_UNIT
from edgewright_agent.errors import AgentError
from edgewright_agent.files import Disk
from edgewright_agent.poll import TIMESTAMP_TAG
from edgewright_agent.record import Ledger

_ADVICE = {
    "network": "check cable, DNS, firewall and source.url",
    "denied": "check source.username and source.password, or the device's certificate",
    "not-found": "check the prefix in source.url; has the fleet been released?",
    "bad-response": "is a login page or proxy in between?",
}


def policy(config: Config) -> Iterator[Finding]:
    """When models may be loaded and tried, and what they may take of the link."""
    from edgewright_agent.schedule import activation_wait, bandwidth_bits_per_s, link_wait, polling

    record, now = Ledger(config.state, Disk()).record, utc_now()
    told = [f"polls every {polling(config, record).interval_s:,.0f} s"]
    if cap := bandwidth_bits_per_s(config, record):
        told.append(f"models take at most {cap / 1e6:g} Mbit/s")
    if wait := link_wait(config, record, now):
        told.append(f"a new model {wait.message}")
    if wait := activation_wait(config, record, now):
        told.append(f"a new model {wait.message}")
    yield Finding("link", OK, "; ".join(told))


def telemetry(config: Config) -> Iterator[Finding]:
    """What happens here reaches somebody."""
    if not config.telemetry.kept:
        return
    from edgewright_agent.spool import fill

    if config.telemetry.endpoint is None:
        remedy = "name an OTLP/HTTP receiver in telemetry.endpoint"
        yield Finding("telemetry", WARN, "what is recorded stays here: there is no endpoint", remedy)
        return
    where, found = config.telemetry.endpoint, fill(config.state)
    delivery = found["delivery"] if found else {"triedAt": None}
    if not delivery["triedAt"]:
        yield Finding("telemetry", OK, f"{where}; nothing was sent yet")
    elif delivery["outcome"] == "ok":
        yield Finding("telemetry", OK, f"{where}; last sent {delivery['triedAt']}")
    else:
        yield Finding(
            "telemetry", WARN, f"{where}: {delivery['outcome']}: {delivery['message']}",
            "edgewright-agent telemetry --send",
        )  # fmt: skip


def source(config: Config) -> Iterator[Finding]:
    """The newest timestamp can be fetched; whether to believe it, a poll decides."""
    answered = 0
    failures = []
    for mirror in config.origin.mirrors:
        if mirror.held_by_unit():
            answered += 1  # as far as anybody can tell from here
            yield Finding(
                "source", WARN, f"{mirror.url} is not asked here: its log-in is the unit's", IN_UNIT
            )
            continue
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
