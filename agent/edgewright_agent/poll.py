"""Whether anything is new: one conditional request for the TUF timestamp, or none that could tell.

>>> etag = conditional(record, fingerprint, now=now, margin_s=900)   # doctest: +SKIP
>>> unchanged = etag is not None and not ask(source, etag)           # doctest: +SKIP

Only the standard library is imported here: this is what an idle device runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from edgewright_agent.clock import from_text, later, to_text, uptime
from edgewright_agent.contract import TUF_REPOSITORY
from edgewright_agent.errors import AgentError
from edgewright_agent.factory import scrub_due
from edgewright_agent.model_state import shorten
from edgewright_agent.record import Poll, Record

if TYPE_CHECKING:
    from edgewright_agent.transport import Manifest, Source

_MAX_MIRROR_CHARS = 160
TIMESTAMP_TAG = "timestamp.json"


def conditional(record: Record, fingerprint: str, *, now: datetime, margin_s: float) -> str | None:
    """Return the ETag that may answer for everything, or None when a whole update is due.

    It is due without a successful one, under another configuration, with a trial left over, when it is time to read
    everything back (`factory.scrub_due`), and when metadata ends within `margin_s`: a source that says "not modified"
    for ever must not freeze the device (TUF 1.5.2).
    """
    if record.seen is None or record.seen.fingerprint != fingerprint:
        return None
    if any(state.trial for state in record.models.values()):
        return None
    time = trusted_now(record, now)
    if scrub_due(record, time):
        return None
    horizon = later(time, margin_s)
    if not record.expires or any(from_text(end) <= horizon for end in record.expires.values()):
        return None
    return record.seen.etag


def ask(source: Source, etag: str | None) -> Manifest | None:
    """Return the manifest of the newest timestamp, or None while it is still the one `etag` names.

    Raises:
        TransportError: as `Source.manifest`.
    """
    return source.manifest(TUF_REPOSITORY, TIMESTAMP_TAG, etag=etag)


def trusted_now(record: Record, now: datetime) -> datetime:
    """Return the clock's time, but never before a time that signed metadata proves to have come."""
    return record.lowest(uptime()).time(now) or now


@dataclass(frozen=True)
class Judged:
    """How several mirrors did.

    Attributes:
        urls: All of them.
        failed: Of those that were asked, by URL: code and sentence of what they failed with, or None.
    """

    urls: Sequence[str]
    failed: Mapping[str, str | None]


def judged(source: Source | None) -> Judged | None:
    """Return how the mirrors of a source did; None when it has none."""
    if source is None:
        return None
    from edgewright_agent.transport.mirrors import Mirrors

    if not isinstance(source, Mirrors):
        return None
    told = {url: f"{error.code}: {error}" if error else None for url, error in source.judged.items()}
    return Judged(sorted(source.urls), told)


def with_mirrors(poll: Poll, before: Poll | None, found: Judged | None) -> Poll:
    """Return the result of a poll with what is known of mirrors that fail; those not asked this time keep theirs."""
    if found is None:
        return poll
    known = {url: told for url, told in (before.mirrors if before else {}).items() if url in found.urls}
    for url, failed in found.failed.items():
        known.pop(url, None)
        if failed is not None:
            known[url] = shorten(f"{poll.at} {failed}", _MAX_MIRROR_CHARS)
    return replace(poll, mirrors=known)


def nothing_new(now: datetime) -> Poll:
    """Return the result of a poll that found nothing new."""
    return Poll(to_text(now), "not-modified", "up to date (not modified)")


def failed(error: AgentError, now: datetime) -> Poll:
    """Return the result of a poll that went wrong."""
    return Poll(to_text(now), error.code, shorten(str(error)), getattr(error, "retry_after_s", None))
