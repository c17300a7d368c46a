"""Several sources of the same content, of which any may lie, stall or be stale without hiding an honest one.

>>> source = Mirrors({"https://near.example/acme": near, "https://origin.example/acme": origin})    # doctest: +SKIP
>>> source.manifest("digit-reader", digest)                        # from the first that has it  # doctest: +SKIP
>>> desired = freshest(source, lambda place: trust.refresh(place, floor=floor, now=now))       # doctest: +SKIP
>>> in_turn(source, lambda place: trust.verify(place, "digit-reader", digest))                 # doctest: +SKIP

What is named by its digest may come from any mirror. What is named by a tag (metadata, lists of signatures) is
believed only after verification, which is why the caller verifies one mirror at a time: `in_turn` and `freshest`.

One mirror alone cannot be caught withholding news: it shows a state that is old but has not expired. So every
`THOROUGH_EVERY`-th poll asks all of them. Such a mirror delays a release by that many polls at most, and the others
cost `1 + (mirrors - 1) / THOROUGH_EVERY` requests per poll on average.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from edgewright_agent.contract import MAX_MANIFEST_BYTES, TUF_REPOSITORY, is_digest
from edgewright_agent.errors import AgentError, LinkClosedError, TransportError, TrustError
from edgewright_agent.transport import Manifest, Source

THOROUGH_EVERY = 8  # polls: two hours at the default interval of a quarter
_TIMESTAMP = "timestamp.json"
_POLL_BYTES = 16 * 1024  # of a manifest with a single layer
_WHOLE_BYTES = 1024 * 1024  # content up to this size is checked before any of it is handed on
# From the least to the most telling when several mirrors failed; what is not listed says more than all of these.
_TELLING = (
    *(
        "network",
        "captive-portal",
        "truncated",
        "too-slow",
        "busy",
        "not-found",
        "denied",
        "too-large",
        "bad-response",
    ),
    *("digest-mismatch", "unsigned", "expired-metadata", "metadata-rollback"),
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class _Answer:
    """What a mirror gave last as the timestamp: the digest we computed, and what to send it next time."""

    digest: str
    etag: str | None


class _Mirror:
    """One mirror; remembers the timestamp it gave last, whoever asked."""

    def __init__(self, url: str, source: Source) -> None:
        self.url, self._source = url, source
        self.answer: _Answer | None = None

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """As `Source.manifest`."""
        found = self._source.manifest(repository, reference, limit=limit, etag=etag)
        if found is not None and (repository, reference) == (TUF_REPOSITORY, _TIMESTAMP):
            self.answer = _Answer(found.digest, found.etag)
        return found

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """As `Source.blob`."""
        return self._source.blob(repository, digest, size=size, offset=offset)

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """As `Source.referrers`."""
        return self._source.referrers(repository, digest)

    def close(self) -> None:
        """As `Source.close`."""
        self._source.close()


class Mirrors:
    """A `Source` over several, in order of preference. One that fails is asked last for the rest of the session.

    Args:
        sources: By URL, the preferred one first. Each has credentials of its own or none.
        thorough: Ask all of them what is new, not only until one answers; see `is_thorough`.

    Attributes:
        judged: Of every mirror that was asked, by URL: what it failed with last, or None when it did not.
    """

    def __init__(self, sources: Mapping[str, Source], *, thorough: bool = True) -> None:
        self._mirrors = [_Mirror(url, source) for url, source in sources.items()]
        self._order = list(self._mirrors)
        self.thorough = thorough
        self._accepted: str | None = None  # digest of the timestamp that was verified
        self.judged: dict[str, AgentError | None] = {}

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """See `Source.manifest`. With an `etag` it is a poll; see `_poll`."""
        if etag is not None and (seen := _Seen.parse(etag)) is not None:
            return self._poll(repository, reference, limit, seen)
        found = in_turn(self, lambda place: place.manifest(repository, reference, limit=limit))
        return Manifest(found.digest, found.media_type, found.body, self._etag()) if found else None

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """See `Source.blob`. Small content is checked here, so that the next mirror is asked for what is wrong.

        Large content is passed on as it comes, and goes on from the next mirror where one breaks off. The caller
        hashes it, and fetches it `in_turn` to find out which mirror was wrong.
        """
        if offset or size > _WHOLE_BYTES:
            yield from self._stream(repository, digest, size, offset)
            return

        def whole(place: Source) -> bytes:
            data = b"".join(place.blob(repository, digest, size=size))
            if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
                raise TransportError("digest-mismatch", f"{repository}@{digest} has other bytes")
            return data

        yield in_turn(self, whole)

    def _stream(self, repository: str, digest: str, size: int, offset: int) -> Iterator[bytes]:
        errors: list[tuple[str, AgentError]] = []
        for place in self.order:
            try:
                for chunk in place.blob(repository, digest, size=size, offset=offset):
                    offset += len(chunk)
                    yield chunk
            except TransportError as error:
                errors.append((place.url, error))
                self.demote(place, error)
            else:
                self.praise(place)
                return
        raise _most_telling(errors)

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """See `Source.referrers`: the list of the first mirror that has one. What verifies asks `in_turn`."""
        return in_turn(self, lambda place: place.referrers(repository, digest))

    def close(self) -> None:
        """See `Source.close`."""
        for mirror in self._mirrors:
            mirror.close()

    @property
    def urls(self) -> frozenset[str]:
        """Their URLs."""
        return frozenset(mirror.url for mirror in self._mirrors)

    @property
    def order(self) -> tuple[_Mirror, ...]:
        """The mirrors, in the order in which they are asked."""
        return tuple(self._order)

    def demote(self, place: _Mirror, error: AgentError) -> None:
        """Ask a mirror last from now on: it failed."""
        if not isinstance(error, LinkClosedError):  # which says nothing about the mirror
            self.judged[place.url] = error
        self._order.remove(place)
        self._order.append(place)

    def praise(self, place: _Mirror) -> None:
        """Note that a mirror did what was asked of it; a failure before it in this session still counts."""
        self.judged.setdefault(place.url, None)

    def accept(self, place: _Mirror) -> None:
        """Note that what this mirror showed as desired state has been verified."""
        self._accepted = place.answer.digest if place.answer else None

    def is_known(self, place: _Mirror) -> bool:
        """Whether a mirror shows the very timestamp that has been verified already; asks it."""
        found = place.manifest(TUF_REPOSITORY, _TIMESTAMP)
        return found is not None and found.digest == self._accepted

    def remember(self) -> str | None:
        """Return what the next poll should be given as `etag`; None when nothing was verified."""
        return self._etag() if self._accepted else None

    def _etag(self) -> str:
        answers = {mirror.url: mirror.answer for mirror in self._mirrors if mirror.answer is not None}
        return _Seen(self._accepted or "", answers).text()

    def _poll(self, repository: str, reference: str, limit: int, seen: _Seen) -> Manifest | None:
        """Return the first timestamp that is neither verified nor known to be refused; None when all is quiet.

        A mirror that shows what was verified last settles it, usually the first by one conditional request. One
        that showed something else, and still does, is lying or late: it is passed over. One that cannot be asked
        is passed over too, unless none can.
        """
        settled = False
        news: list[tuple[_Mirror, Manifest]] = []
        errors: list[tuple[str, AgentError]] = []
        self._accepted = seen.accepted
        for mirror in self._mirrors:
            mirror.answer = seen.answers.get(mirror.url)
        for mirror in self._mirrors:
            before = mirror.answer
            try:
                found = mirror.manifest(
                    repository,
                    reference,
                    limit=min(limit, _POLL_BYTES),  # what drips may not keep the others waiting
                    etag=before.etag if before else None,
                )
            except TransportError as error:
                errors.append((mirror.url, error))
                self.judged[mirror.url] = error
                continue
            self.praise(mirror)
            shown = found.digest if found is not None else before.digest if before is not None else None
            if shown == seen.accepted:
                settled = True
            elif found is not None and (before is None or shown != before.digest):
                news.append((mirror, found))
            if (settled or news) and not self.thorough:
                break
        if news:
            # What is new is verified first, or an old state that is still valid would be found good enough.
            fresh = [mirror for mirror, _ in news]
            self._order = [*fresh, *(mirror for mirror in self._order if mirror not in fresh)]
            new = news[0][1]
            return Manifest(new.digest, new.media_type, new.body, self._etag())
        if not settled and errors:
            raise _most_telling(errors)
        return None


def is_thorough(polls: int) -> bool:
    """Whether a poll asks every mirror, by the number of polls there have been."""
    return polls % THOROUGH_EVERY == 0


def in_turn(source: Source, action: Callable[[Source], _T]) -> _T:
    """Return what `action` makes of the first mirror it succeeds with; of any other source, what it makes of it.

    Raises:
        TransportError, TrustError: it succeeds with none; of several reasons the most telling one.
    """
    if not isinstance(source, Mirrors):
        return action(source)
    errors: list[tuple[str, AgentError]] = []
    for place in source.order:
        try:
            done = action(place)
        except (TransportError, TrustError) as error:
            errors.append((place.url, error))
            source.demote(place, error)
        else:
            source.praise(place)
            return done
    raise _most_telling(errors)


def freshest(source: Source, refresh: Callable[[Source], _T]) -> _T:
    """Return the verified desired state, the newest that any mirror shows where all are to be asked.

    Args:
        source: Where to look.
        refresh: Verifies what one mirror shows, never taking an older state than it took before.

    Raises:
        TransportError, TrustError: as `in_turn`.
    """
    if not isinstance(source, Mirrors):
        return refresh(source)
    best: list[_T] = []
    errors: list[tuple[str, AgentError]] = []
    for place in source.order:
        if best and not source.thorough:
            break
        try:
            if best and source.is_known(place):
                continue
            best[:] = [refresh(place)]
            source.accept(place)
            source.praise(place)
        except (TransportError, TrustError) as error:
            errors.append((place.url, error))
            source.demote(place, error)
    if not best:
        raise _most_telling(errors)
    return best[0]


def next_etag(source: Source, manifest: Manifest) -> str | None:
    """Return what the next poll should send, after the desired state of `source` has been verified."""
    return source.remember() if isinstance(source, Mirrors) else manifest.etag


@dataclass(frozen=True)
class _Seen:
    """What polls of several mirrors are compared with, as one string."""

    accepted: str
    answers: Mapping[str, _Answer]

    def text(self) -> str:
        answers = {url: [answer.digest, answer.etag] for url, answer in self.answers.items()}
        return json.dumps([self.accepted, answers])

    @classmethod
    def parse(cls, text: str) -> _Seen | None:
        """Read our own `text`; None for anything else, such as the ETag of a time with a single source."""
        try:
            accepted, answers = json.loads(text)
            read = {
                url: _Answer(str(digest), etag if isinstance(etag, str) else None)
                for url, (digest, etag) in answers.items()
            }
        except (ValueError, TypeError, AttributeError):
            return None
        return cls(accepted, read) if is_digest(accepted) else None


def _most_telling(errors: list[tuple[str, AgentError]]) -> AgentError:
    def weight(told: tuple[str, AgentError]) -> int:
        code = told[1].code
        return _TELLING.index(code) if code in _TELLING else len(_TELLING)

    url, chosen = max(errors, key=weight)  # the first of equals
    if isinstance(chosen, LinkClosedError):
        return chosen
    others = [f"{other}: {error.code}" for other, error in errors if error is not chosen]
    chosen.args = (f"{chosen} (from {url}; also tried {', '.join(others)})" if others else str(chosen),)
    return chosen
