"""A registry over HTTP(S): the pull side of OCI distribution-spec 1.1, standard library only.

One connection is kept open; a poll that finds nothing new is one request answered by 304.

>>> registry = RegistrySource("https://registry.example/acme")   # doctest: +SKIP
>>> registry.manifest("digit-reader", "1.0.0").digest              # doctest: +SKIP
'sha256:…'
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin, urlsplit

from edgewright_agent.contract import (
    MAX_LISTED_REFERRERS,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
    TUF_REPOSITORY,
    fallback_tag,
)
from edgewright_agent.errors import ConfigError, TransportError
from edgewright_agent.transport import Manifest, check_reference, check_repository
from edgewright_agent.transport.auth import Authorization, Credentials, authorize, parse_challenge
from edgewright_agent.transport.document import check_body, referrer_list
from edgewright_agent.transport.failing import refuse_failing
from edgewright_agent.transport.host import may_carry_secrets, origin
from edgewright_agent.transport.pace import Pace, Patience
from edgewright_agent.transport.portal import refuse_portal
from edgewright_agent.transport.wire import ClientIdentity, Response, Wire

if TYPE_CHECKING:
    from edgewright_agent.transport.allowance import Allowance
    from edgewright_agent.transport.authority import Authorities
    from edgewright_agent.transport.proxy import Route

_ACCEPT = f"{OCI_MANIFEST}, {OCI_INDEX}"  # without it docker-registry answers 404 to OCI manifests
_MAX_REDIRECTS = 5
_MAX_PAGES = 8  # of a list of referrers: a registry that gives few at a time, but not one that never ends
_CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")
# distribution-spec 1.1, "Listing Referrers": the next page is the same list with other parameters.
_NEXT_PAGE = re.compile(r'<([^<>\s"]{1,2000})>\s*;\s*rel="?next"?')
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]{0,200}"')  # RFC 9110 8.8.3, ASCII only


class RegistrySource:
    """A `Source` over HTTP(S).

    Args:
        url: `http(s)://host[:port][/prefix]`; repositories live under the prefix.
        username: For basic or token authentication.
        password: Belongs to `username`.
        credential_helper: Instead of both: see `transport.helper`; it is asked only when the registry wants a log-in.
        ca_file: PEM file of the certificate authorities to trust instead of the system's.
        client: PEM files of certificate and key; shown to the registry itself, never to where it redirects.
        timeout_s: Longest silence of the server, in seconds.
        pace: Least transfer rate.
        allowance: What blobs may take of the link.
        proxy: What stands between us and servers; see `transport.proxy`.
        within_s: How long all requests together may take; None is for ever.
        authorities: Who vouched for servers before, of many that are trusted.

    Raises:
        ConfigError: `bad-source`, `bad-ca-file`, `bad-identity`.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        credential_helper: str | None = None,
        ca_file: str | None = None,
        client: tuple[str, str] | None = None,
        timeout_s: float = 20.0,
        pace: Pace | None = None,
        allowance: Allowance | None = None,
        proxy: Route | None = None,
        within_s: float | None = None,
        authorities: Authorities | None = None,
    ) -> None:
        self._url = _registry_url(url)
        self._prefix = self._url.path.strip("/")
        if self._prefix:
            try:
                check_repository(self._prefix)
            except TransportError as error:
                raise ConfigError("bad-source", f"the path of {url}: {error}") from None
        if (username is None) != (password is None):
            raise ConfigError("bad-source", f"{url} needs both a user name and a password, or neither")
        self._credentials = Credentials(username, password) if username and password else None
        self._helper = credential_helper
        if (self._credentials or self._helper) and not may_carry_secrets(self._url):
            raise ConfigError("bad-source", f"{self._url.netloc}: a password is sent over https only")
        own = ClientIdentity(origin(self._url), *client) if client else None
        self._wire = Wire(
            timeout_s=timeout_s,
            ca_file=ca_file,
            identity=own,
            pace=pace,
            proxy=proxy,
            patience=None if within_s is None else Patience(within_s),
            authorities=authorities,
        )
        self._authorizations: dict[str, Authorization] = {}
        self._allowance = allowance

    def manifest(
        self, repository: str, reference: str, *, limit: int = MAX_MANIFEST_BYTES, etag: str | None = None
    ) -> Manifest | None:
        """See `Source.manifest`; a registry without ETags is compared by digest instead."""
        check_reference(reference)
        headers = {"Accept": _ACCEPT}
        if etag is not None and _ETAG.fullmatch(etag):
            headers["If-None-Match"] = etag
        with self._get(repository, f"manifests/{reference}", headers, ceiling=limit) as response:
            if response.status == 304 and "If-None-Match" in headers:
                return None
            self._expect(response, {200}, repository, reference)
            media_type = (response.header("Content-Type") or "").partition(";")[0].strip().lower()
            if media_type not in (OCI_MANIFEST, OCI_INDEX):
                raise TransportError(
                    "bad-response",
                    f"{self._url.netloc} answers {media_type or 'something'!r} instead of a manifest for "
                    f"{repository}:{reference}; is a proxy in between?",
                )
            body = response.body(limit=limit)
            given = response.header("ETag")
        digest = check_body(body, repository, reference)
        if etag == f'"{digest}"':
            return None
        usable = given is not None and _ETAG.fullmatch(given) is not None
        return Manifest(digest, media_type, body, given if usable else f'"{digest}"')

    def blob(self, repository: str, digest: str, *, size: int, offset: int = 0) -> Iterator[bytes]:
        """See `Source.blob`; resumes with a Range request, or skips when the registry knows no ranges.

        Raises:
            LinkClosedError: the allowance ends, between two chunks.
        """
        check_reference(digest)
        if offset >= size:
            return
        headers = {"Range": f"bytes={offset}-{size - 1}"} if offset else {}
        # Metadata comes as blobs as well: it is what a closed link must still let through.
        allowance = None if repository == TUF_REPOSITORY else self._allowance
        if allowance:
            allowance.permit()
        with self._get(repository, f"blobs/{digest}", headers, ceiling=size, allowance=allowance) as response:
            if offset and response.status == 416:
                raise TransportError("truncated", f"{repository}@{digest} is shorter than {size} bytes")
            self._expect(response, {200, 206} if offset else {200}, repository, digest)
            start = self._start_of(response, offset, size, f"{repository}@{digest}")
            for chunk in response.chunks(size - start):
                skipped = min(offset - start, len(chunk))
                start += len(chunk)
                if skipped < len(chunk):
                    offset += len(chunk) - skipped
                    yield chunk[skipped:]

    def referrers(self, repository: str, digest: str) -> list[dict[str, Any]]:
        """See `Source.referrers`; of a list in pages at most `_MAX_PAGES` are read."""
        check_reference(digest)
        what = f"the referrers of {repository}@{digest}"
        found: list[dict[str, Any]] = []
        path = f"referrers/{digest}"
        query: str | None = ""
        for _ in range(_MAX_PAGES):
            if query is None or len(found) >= MAX_LISTED_REFERRERS:
                break
            with self._get(
                repository, path, {"Accept": OCI_INDEX}, ceiling=MAX_MANIFEST_BYTES, query=query
            ) as response:
                if response.status == 404 and not query:
                    response.discard()
                    return self._fallback_referrers(repository, digest, what)
                self._expect(response, {200}, repository, path)
                found += referrer_list(response.body(limit=MAX_MANIFEST_BYTES), what)
                query = _next_page(response.header("Link"))
        return found[:MAX_LISTED_REFERRERS]

    def _fallback_referrers(self, repository: str, digest: str, what: str) -> list[dict[str, Any]]:
        try:
            listed = self.manifest(repository, fallback_tag(digest))
        except TransportError as error:
            if error.code == "not-found":
                return []
            raise
        return referrer_list(listed.body, what) if listed is not None else []

    def close(self) -> None:
        """Close the kept connection."""
        self._wire.close()

    def _get(
        self,
        repository: str,
        path: str,
        headers: dict[str, str],
        *,
        ceiling: int,
        query: str = "",
        allowance: Allowance | None = None,
    ) -> Response:
        check_repository(repository)
        full = f"{self._prefix}/{repository}" if self._prefix else repository
        url = self._url._replace(path=f"/v2/{full}/{path}", query=query).geturl()
        response = self._follow(url, full, headers, ceiling, allowance)
        if response.status != 401:
            return response
        challenge = response.header("WWW-Authenticate")
        with response:
            response.discard()
            if challenge is None:
                raise TransportError("denied", f"{self._url.netloc} refuses {repository} without a reason")
        known = self._authorizations.pop(full, None)
        if known is not None and known.header.startswith("Basic "):
            raise TransportError("denied", f"{self._url.netloc} refuses the password for {repository}")
        self._authorizations[full] = authorize(
            parse_challenge(challenge),
            registry=self._url,
            repository=full,
            credentials=self._login(),
            wire=self._wire,
            clock=time.monotonic,
        )
        return self._follow(url, full, headers, ceiling, allowance)

    def _login(self) -> Credentials | None:
        if self._credentials is None and self._helper is not None:
            from edgewright_agent.transport.helper import ask

            told = ask(self._helper, self._url.netloc)
            self._credentials = Credentials(*told) if told else None
        return self._credentials

    def _follow(
        self, url: str, full: str, headers: dict[str, str], ceiling: int, allowance: Allowance | None
    ) -> Response:
        for _ in range(_MAX_REDIRECTS + 1):
            # Credentials and tokens go to the registry's own scheme, host and port, never to a redirect's.
            own = origin(urlsplit(url)) == origin(self._url)
            authorization = self._authorizations.get(full) if own else None
            sent = dict(headers)
            if authorization is not None and authorization.until_s > time.monotonic():
                sent["Authorization"] = authorization.header
            response = self._wire.get(url, sent, ceiling=ceiling, allowance=allowance)
            if response.status == 401 and not own:
                with response:
                    raise TransportError("denied", f"{urlsplit(url).netloc}, redirected to, wants a password")
            if response.status not in (301, 302, 303, 307, 308):
                return response
            with response:
                url = _redirect_target(url, response.header("Location"))
                response.discard()
        raise TransportError("bad-response", f"{self._url.netloc} redirects more than {_MAX_REDIRECTS} times")

    def _expect(self, response: Response, allowed: set[int], repository: str, reference: str) -> None:
        refuse_portal(response, self._url.netloc)
        status, place = response.status, f"{self._url.netloc} for {repository} {reference}"
        if status in allowed:
            return
        retry_after = response.header("Retry-After")
        response.discard()
        if status == 404:
            raise TransportError("not-found", f"{self._url.netloc} does not have {repository} {reference}")
        if status in (401, 403):
            raise TransportError("denied", f"access denied by {place}; are user name and password right?")
        if status == 407:
            raise TransportError(
                "denied", "the proxy wants a log-in; say in proxyUsername and proxyPassword where it is"
            )
        refuse_failing(status, place, retry_after)
        raise TransportError("bad-response", f"unexpected {status} from {place}")

    def _start_of(self, response: Response, offset: int, size: int, what: str) -> int:
        """Return the position in the blob of the first byte of the body."""
        if response.status == 206:
            found = _CONTENT_RANGE.fullmatch(response.header("Content-Range") or "")
            if found is None or int(found[1]) != offset or int(found[2]) != size - 1:
                raise TransportError("bad-response", f"{self._url.netloc} sends a wrong part of {what}")
            if found[3] not in ("*", str(size)):
                raise TransportError("bad-response", f"{what} has {found[3]} bytes, not {size}")
            return offset
        if response.length is not None and response.length > size:
            raise TransportError("too-large", f"{what} has {response.length} bytes, not {size}")
        if response.length is not None and response.length < size:
            raise TransportError("truncated", f"{what} has {response.length} bytes, not {size}")
        return 0


def _registry_url(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = (
            bool(parts.hostname)
            and parts.port != 0
            and url.isascii()
            and url.isprintable()
            and " " not in url
        )
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise ConfigError("bad-source", f"{url!r} is not https://HOST[:PORT][/PREFIX]")
    if "@" in parts.netloc:
        raise ConfigError("bad-source", "the registry's password belongs into a file, not into its URL")
    return parts


def _next_page(link: str | None) -> str | None:
    """Return the parameters that lead to a list's next page, from its Link header (RFC 8288); None at its end.

    Nothing else of it is taken: where the list is, we know.
    """
    found = _NEXT_PAGE.search(link) if link and link.isascii() and link.isprintable() else None
    return (found[1].partition("?")[2].partition("#")[0] or None) if found else None


def _is_plain(url: str) -> bool:
    return url.isascii() and url.isprintable() and " " not in url


def _redirect_target(url: str, location: str | None) -> str:
    if location is None or not _is_plain(location):
        raise TransportError("bad-response", f"{urlsplit(url).netloc} redirects to nowhere")
    try:
        target = urljoin(url, location)
        parts = urlsplit(target)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc:
        raise TransportError(
            "bad-response", f"{urlsplit(url).netloc} redirects to {_without_query(location)!r}"
        )
    if url.startswith("https:") and parts.scheme != "https":
        raise TransportError(
            "bad-response", f"{urlsplit(url).netloc} redirects from https to {_without_query(target)}"
        )
    return target


def _without_query(url: str) -> str:
    """Return what logs and telemetry may tell of a URL: a store's query may be a signature that lets one fetch."""
    return url.partition("?")[0]
