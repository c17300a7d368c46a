"""Answering a registry's 401: basic credentials, or a bearer token fetched with them.

>>> parse_challenge('Bearer realm="https://auth.example/token",service="reg"')
Challenge(scheme='bearer', params={'realm': 'https://auth.example/token', 'service': 'reg'})
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlencode, urlsplit

from edgewright_agent.errors import TransportError
from edgewright_agent.transport.document import parse_json
from edgewright_agent.transport.failing import refuse_failing
from edgewright_agent.transport.host import may_carry_secrets
from edgewright_agent.transport.portal import refuse_portal
from edgewright_agent.transport.wire import Wire

IDENTITY_TOKEN = "<token>"  # noqa: S105  the user name by which credential helpers mark an identity token
_MAX_TOKEN_BYTES = 64 * 1024
_PARAM = re.compile(r'([A-Za-z0-9_-]{1,64})="([^"\\]*)"|([A-Za-z0-9_-]{1,64})=([^\s,"]+)')
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")  # RFC 6750 2.1, b64token: nothing that could end a header


@dataclass(frozen=True)
class Challenge:
    """What a `WWW-Authenticate` header asks for (RFC 9110 11.6.1); names in lower case."""

    scheme: str
    params: dict[str, str]


@dataclass(frozen=True)
class Credentials:
    """A user name and a password or access token; never printed.

    With the user name `IDENTITY_TOKEN` the password is an OAuth 2 refresh token.
    """

    username: str
    password: str = field(repr=False)

    def basic(self) -> str:
        """Return the value of a basic `Authorization` header (RFC 7617)."""
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


@dataclass(frozen=True)
class Authorization:
    """A header value that worked, and until when it may be sent again without asking (seconds of `clock`)."""

    header: str = field(repr=False)
    until_s: float


def parse_challenge(header: str) -> Challenge:
    """Parse the first challenge of a `WWW-Authenticate` header; unknown parts are ignored."""
    scheme, _, rest = header.strip().partition(" ")
    params = {
        (name or bare).lower(): value or plain for name, value, bare, plain in _PARAM.findall(rest[:8192])
    }
    return Challenge(scheme.lower(), params)


def authorize(
    challenge: Challenge,
    *,
    registry: SplitResult,
    repository: str,
    credentials: Credentials | None,
    wire: Wire,
    clock: Callable[[], float],
) -> Authorization:
    """Answer a challenge of `registry` for reading `repository`.

    Args:
        challenge: What the registry asked for.
        registry: The registry's own URL.
        repository: Full repository path, prefix included; a token is asked for this alone, and only to pull.
        credentials: What the configuration gives; None asks for an anonymous token.
        wire: Carries the request for a token.
        clock: Seconds, for the token's life.

    Raises:
        BusyError: the token service asks to be left alone for a while.
        TransportError: `denied` when credentials are missing or refused, `bad-response` for a challenge or
            token that makes no sense, `network` when the token service fails.
    """
    if challenge.scheme == "basic":
        if credentials is None:
            raise TransportError("denied", f"{registry.netloc} asks for a password; none is configured")
        if credentials.username == IDENTITY_TOKEN:
            raise TransportError(
                "denied", f"{registry.netloc} asks for a password; the helper has an identity token"
            )
        if not may_carry_secrets(registry):
            raise TransportError("denied", f"{registry.netloc} wants the password without TLS; not sent")
        return Authorization(credentials.basic(), float("inf"))
    if challenge.scheme != "bearer":
        raise TransportError("bad-response", f"{registry.netloc} asks for unknown {challenge.scheme!r}")
    return _fetch_token(challenge, registry, repository, credentials, wire, clock)


def _fetch_token(
    challenge: Challenge,
    registry: SplitResult,
    repository: str,
    credentials: Credentials | None,
    wire: Wire,
    clock: Callable[[], float],
) -> Authorization:
    realm = _checked_realm(challenge.params.get("realm", ""), registry)
    headers = {"Accept": "application/json"}
    query = {"scope": f"repository:{repository}:pull"}
    if "service" in challenge.params:
        query["service"] = challenge.params["service"]
    form = None
    if credentials is not None:
        if not _may_see_credentials(realm, registry):
            raise TransportError(
                "denied",
                f"{registry.netloc} wants the password sent to {realm.netloc}, without TLS; not sent",
            )
        if credentials.username == IDENTITY_TOKEN:
            # distribution, "OAuth2 Token Authentication": POST, so that the token stands in no URL.
            grant = {"grant_type": "refresh_token", "refresh_token": credentials.password}
            form = urlencode({**grant, "client_id": "edgewright-agent", **query}).encode()
            query = {}
        else:
            headers["Authorization"] = credentials.basic()
    whole_query = "&".join(part for part in (realm.query, urlencode(query)) if part)
    url = realm._replace(query=whole_query, fragment="").geturl()
    with wire.get(url, headers, ceiling=_MAX_TOKEN_BYTES, form=form) as response:
        refuse_portal(response, realm.netloc)
        if response.status in (401, 403):
            raise TransportError("denied", f"{realm.netloc} refuses a token for {repository}")
        refuse_failing(response.status, f"{realm.netloc}, which gives tokens", response.header("Retry-After"))
        if response.status != 200:
            raise TransportError("bad-response", f"{realm.netloc} gives {response.status}, not a token")
        body = response.body(limit=_MAX_TOKEN_BYTES)
    return _parse_token(body, realm.netloc, clock())


def _checked_realm(realm: str, registry: SplitResult) -> SplitResult:
    if not realm.isascii() or not realm.isprintable() or " " in realm:
        raise TransportError("bad-response", f"{registry.netloc} names an illegal token service")
    try:
        parts = urlsplit(realm)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in parts.netloc:
        raise TransportError("bad-response", f"{registry.netloc} names no usable token service ({realm!r})")
    if registry.scheme == "https" and parts.scheme != "https":
        raise TransportError("bad-response", f"{registry.netloc} sends us from https to {realm}")
    return parts


def _may_see_credentials(realm: SplitResult, registry: SplitResult) -> bool:
    # A registry proven by TLS could ask for the password itself, so the https token service it names may have
    # it. Without TLS anybody on the path can name one: then it does not leave this machine.
    proven = registry.scheme == "https" and realm.scheme == "https"
    return proven or (may_carry_secrets(registry) and realm.hostname == registry.hostname)


def _parse_token(body: bytes, host: str, now_s: float) -> Authorization:
    try:
        document = parse_json(body, f"the token of {host}")
    except ValueError as error:
        raise TransportError("bad-response", str(error)) from None
    fields = document if isinstance(document, dict) else {}
    token = fields.get("token") or fields.get("access_token")
    if not isinstance(token, str) or _TOKEN.fullmatch(token) is None:
        raise TransportError("bad-response", f"{host} answers without a usable token")
    life_s = fields.get("expires_in", 60)  # 60 s when not given (distribution, Token Authentication)
    if type(life_s) is not int or not 0 < life_s < 86400:
        life_s = 60
    return Authorization(f"Bearer {token}", now_s + 0.9 * life_s)
