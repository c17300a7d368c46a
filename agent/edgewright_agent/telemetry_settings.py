"""What a device's owner says about telemetry.

>>> Telemetry().kept, Telemetry().endpoint
(False, None)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from edgewright_agent.section import Section
from edgewright_agent.transport.host import may_carry_secrets
from edgewright_agent.transport.secret import Secret

DEFAULT_INTERVAL_S = 3600.0
DEFAULT_AGGREGATE_S = 900.0
DEFAULT_SPOOL_BYTES = (
    4 * 1024 * 1024
)  # bounds as in `spool_layout`, which the idle daemon need not import for them
MIN_SPOOL_BYTES = 256 * 1024
MAX_SPOOL_BYTES = 64 * 1024 * 1024
MAX_HEADERS = 16
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")  # RFC 9110 5.6.2, token
_OURS = re.compile(r"(?i)(host|content-.*|transfer-encoding|connection|te|trailer|upgrade|edgewright-.*)")


@dataclass(frozen=True)
class Telemetry:
    """The `telemetry` section of the configuration.

    Attributes:
        kept: Whether there is such a section: without one nothing is recorded.
        endpoint: Base URL of an OTLP/HTTP receiver, to which `/v1/logs` and `/v1/metrics` are added; None: what is
            recorded stays in the spool.
        headers: Sent with every batch; values by reference.
        interval_s: How often batches are sent, in seconds. Update statuses and errors go within two minutes.
        aggregate_s: How often the figures of live inference are summed up, in seconds.
        spool_bytes: Size of the spool.
        ca_file: PEM file of the authorities to trust instead of the system's.
        samples: Whether single samples are recorded.
    """

    kept: bool = False
    endpoint: str | None = None
    headers: Mapping[str, Secret] = field(default_factory=dict)
    interval_s: float = DEFAULT_INTERVAL_S
    aggregate_s: float = DEFAULT_AGGREGATE_S
    spool_bytes: int = DEFAULT_SPOOL_BYTES
    ca_file: Path | None = None
    samples: bool = False


def telemetry_of(top: Section, base: Path) -> Telemetry:
    """Read the section; absent: nothing is recorded or sent."""
    section = top.section("telemetry", optional=True)
    endpoint = _endpoint(section)
    headers = _headers(section, base)
    found = Telemetry(
        kept="telemetry" in top,
        endpoint=endpoint,
        headers=headers,
        interval_s=section.number("intervalS", DEFAULT_INTERVAL_S, low=10, high=7 * 86400),
        aggregate_s=section.number("aggregateS", DEFAULT_AGGREGATE_S, low=10, high=86400),
        spool_bytes=int(
            section.number("spoolBytes", DEFAULT_SPOOL_BYTES, low=MIN_SPOOL_BYTES, high=MAX_SPOOL_BYTES)
        ),
        ca_file=section.path("caFile", base),
        samples=section.switch("samples", False),
    )
    if headers and endpoint and not may_carry_secrets(urlsplit(endpoint)):
        section.problem("endpoint", "must be https://, or the headers' secrets could be read on the way")
    section.finish()
    return found


def _endpoint(section: Section) -> str | None:
    if "endpoint" not in section:
        section.text("endpoint", "")
        return None
    endpoint = section.text("endpoint").rstrip("/")
    if not endpoint:
        return None
    try:
        parts = urlsplit(endpoint)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        section.problem("endpoint", "must be an https:// (or http://) URL")
    elif "@" in parts.netloc:  # refused before it is shown: `telemetry` prints the URL
        section.problem("endpoint", "must not carry a password: say in headers where it is")
    elif parts.query or parts.fragment:
        section.problem("endpoint", "must be the base URL: /v1/logs and /v1/metrics are added")
    else:
        return endpoint
    return None


def _headers(section: Section, base: Path) -> dict[str, Secret]:
    found: dict[str, Secret] = {}
    told = section.labels("headers")
    if len(told) > MAX_HEADERS:
        section.problem("headers", f"must be at most {MAX_HEADERS}")
    for name, reference in told.items():
        if _HEADER.fullmatch(name) is None:
            section.problem("headers", f"has {name[:80]!r}, which is no name of a header")
        elif _OURS.fullmatch(name):
            section.problem("headers", f"has {name}, which the agent sets itself")
        else:
            try:
                found[name] = Secret.parse(reference, base)
            except ValueError as error:
                section.problem(f"headers.{name}", str(error))
    return found
